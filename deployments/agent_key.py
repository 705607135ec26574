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

from pydantic import SecretStr, ValidationError

from blocks.coding_agent import CodingAgent
from deployments.configuration import Service, ServiceRefused
from tasks.adapters.agents.claude import own_login

NAME = "default"
ROOT = Path(__file__).resolve().parent.parent
KEY, ADDRESS = "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL"


async def keep_key(environment: Mapping[str, str]) -> str:
    """Save the shell's key in the block, and say in a line what is used. Raises ServiceRefused where there is none.

    Called in a process that belongs to the service: Prefect's settings lead to its server.
    """
    block = cast("CodingAgent", await CodingAgent.aload(NAME))  # Prefect types it as the coroutine
    key, address = environment.get(KEY, ""), environment.get(ADDRESS, "")
    if not key and not block.api_key.get_secret_value():
        if own_login() is None:
            raise ServiceRefused(
                f"AGENT=claude needs a key or a login: set {KEY} (and {ADDRESS} for a gateway), or run claude and "
                "/login; without either leave AGENT away, and the offline agent builds"
            )
        if not block.own_login:
            block.own_login = True
            await block.asave(NAME, overwrite=True)
        return (
            "Claude Code works with your own login, which its sandbox can read: only for requests that you write "
            f"yourself; for others', give the block coding-agent/{NAME} a key"
        )
    if not key:
        return f"Claude Code works with the key of the block coding-agent/{NAME}"
    try:
        changed = CodingAgent.model_validate(
            {**block.model_dump(), "api_key": SecretStr(key), **({"api_url": address.rstrip("/")} if address else {})}
        )
    except ValidationError as error:
        raise ServiceRefused(f"{ADDRESS}: {error.errors()[0]['msg']}; such as https://gateway.example") from None
    await changed.asave(NAME, overwrite=True)
    return f"Claude Code works with the key in {KEY}, asked at {changed.api_url}; it is kept in coding-agent/{NAME}"


def prepare(service: Service) -> str:
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
    if done.returncode:
        raise ServiceRefused((done.stderr.strip().splitlines() or ["the block of the agent could not be written"])[-1])
    return done.stdout.strip()


if __name__ == "__main__":
    try:
        sys.stdout.write(asyncio.run(keep_key(os.environ)) + "\n")
    except ServiceRefused as refused:
        sys.exit(str(refused))
