"""Puts the model's key, as the shell has it, into the block that builds with Claude Code use.

`make demo AGENT=claude` reads ANTHROPIC_API_KEY and, for a gateway, ANTHROPIC_BASE_URL, as Claude Code itself does.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from prefect.blocks.core import Block
from pydantic import SecretStr, ValidationError

from blocks.coding_agent import CodingAgent
from deployments.configuration import Service, ServiceRefused
from tasks.adapters.agents.claude import own_login

NAME, OWN, SLUG = "default", "own-login", "coding-agent"
ANTHROPIC = str(CodingAgent.model_fields["api_url"].default)
_FIELDS = frozenset(CodingAgent.model_fields) - frozenset(Block.model_fields)
ROOT = Path(__file__).resolve().parent.parent
REFUSED = 2
KEY, ADDRESS = "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"


async def keep_key(environment: Mapping[str, str]) -> tuple[str, str]:
    """Save the shell's key in the block; the block's name, and in a line what is used. Raises ServiceRefused.

    A person's own login is for a block of its own, which only the demo names: strangers' builds never get it. Called in
    a process that belongs to the service: Prefect's settings lead to its server.
    """
    block = cast("CodingAgent", await CodingAgent.aload(NAME))  # Prefect types it as the coroutine
    key, address = environment.get(KEY, ""), environment.get(ADDRESS, "").rstrip("/")
    if key:
        given = {"api_key": SecretStr(key), "api_url": address or ANTHROPIC, "own_login": False}
        await _with(block, given).asave(NAME, overwrite=True)
        return (
            NAME,
            f"Claude Code works with the key in {KEY}, asked at {given['api_url']}; it is kept in {SLUG}/{NAME}",
        )
    if block.api_key.get_secret_value():
        return NAME, f"Claude Code works with the key of the block {SLUG}/{NAME}"
    if own_login() is None:
        raise ServiceRefused(
            f"AGENT=claude needs a key or a login: set {KEY} (and {ADDRESS} for a gateway), or run claude and "
            "/login; without either leave AGENT away, and the offline agent builds"
        )
    await _with(block, {"own_login": True}).asave(OWN, overwrite=True)
    return OWN, (
        f"Claude Code works with your own login, by the block {SLUG}/{OWN}; its sandbox can read it: only for requests "
        f"that you write yourself; for others', give the block {SLUG}/{NAME} a key"
    )


def _with(block: CodingAgent, changes: Mapping[str, object]) -> CodingAgent:
    try:
        return CodingAgent.model_validate({**{name: getattr(block, name) for name in _FIELDS}, **changes})
    except ValidationError as error:
        raise ServiceRefused(f"{ADDRESS}: {error.errors()[0]['msg']}; such as https://gateway.example") from None


def prepare(service: Service) -> tuple[str, str]:
    """`keep_key` in a process of its own, with the service's settings. Raises ServiceRefused."""
    done = subprocess.run(
        [sys.executable, "-m", "deployments.agent_key"],
        cwd=ROOT,
        env={**os.environ, **service.client_environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode == REFUSED:
        raise ServiceRefused(done.stdout.strip())
    if done.returncode:
        raise ServiceRefused(f"the block of the agent could not be written:\n{done.stderr.strip()[-2000:]}")
    name, _, words = done.stdout.strip().partition("\n")
    return f"{SLUG}/{name}", words


if __name__ == "__main__":
    try:
        sys.stdout.write("\n".join(asyncio.run(keep_key(os.environ))) + "\n")
    except ServiceRefused as refused:
        sys.stdout.write(f"{refused}\n")  # others write to stderr at their end
        sys.exit(REFUSED)
