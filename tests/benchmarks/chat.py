"""From ``POST /api/chat`` to the agent's own word that it has the message, on a whole service with Claude Code.

The model is a script; the agent waits for a person, as it does after a question or at the end of a turn.
"""

import secrets
import statistics
import time
from typing import Any

import httpx

from tasks.adapters.registry import Registry
from tests.support.claude_stage import KEY
from tests.support.messages_api import messages_api, text
from tests.support.service import ServiceUnderTest, dispose, new_service, until

ORDER = {
    "email": "bench@example.com",
    "phone": "+4915112345678",
    "host_provider": "local",
    "site_type": "static",
    "requirements": "A light website for a bakery",
    "agent": "claude",
}


def measure(messages: int) -> dict[str, Any]:
    service = new_service()
    try:
        with messages_api(lambda _asked: [text("I wait for what you say.")]) as api:
            started = service.make("up")
            if started.returncode:
                raise RuntimeError(started.stdout + started.stderr)
            agent = {**service.environment, "ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": api.url}
            keyed = service.run("deployments.agent_key", environment=agent)
            made = service.run("deployments.front.keys", "create", "bench")
            if keyed.returncode or made.returncode:
                raise RuntimeError(keyed.stdout + keyed.stderr + made.stderr)
            return _measured(service, made.stdout.strip().splitlines()[-1], messages)
    finally:
        dispose(service)


def _measured(service: ServiceUnderTest, key: str, messages: int) -> dict[str, Any]:
    address = f"http://127.0.0.1:{service.told['TMUX_BUILDER_WEB_PORT']}"
    registry = service.registry()
    taken = []
    try:
        with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {key}"}, timeout=30) as client:
            ordered = client.post("/api/create-user", json=ORDER).raise_for_status().json()
            execution_id = ordered["execution_id"]
            until(lambda: None if _waits(client, execution_id) else "the agent does not wait yet", 120)
            for number in range(messages):
                until(lambda: None if _waits(client, execution_id) else "the agent does not wait again", 60)
                # Its state is told once a second at most; and in no step with its looks.
                time.sleep(1.5 + secrets.randbelow(300) / 1000)
                began = time.time()
                client.post(f"/api/chat/{execution_id}", json={"message": f"number {number}"}).raise_for_status()
                taken.append(1000 * (_delivered(registry, execution_id, f"number {number}") - began))
            client.post(f"/api/executions/{execution_id}/cancel").raise_for_status()
    finally:
        registry.close()
    ordered_ms = sorted(taken)
    return {
        "messages": messages,
        "median_ms": round(statistics.median(ordered_ms), 1),
        "p95_ms": round(ordered_ms[int(0.95 * messages)], 1),
        "max_ms": round(ordered_ms[-1], 1),
    }


def _waits(client: httpx.Client, execution_id: str) -> bool:
    found: str = client.get(f"/api/executions/{execution_id}").raise_for_status().json()["status"]
    return found == "waiting_input"


def _delivered(registry: Registry, execution_id: str, words: str) -> float:
    """When the message was taken, in seconds since the epoch."""
    moments: list[float] = []

    def complaint() -> str | None:
        said = [message for message in registry.last_messages(execution_id) if message.body == words]
        moments[:] = [message.delivered_at.timestamp() for message in said if message.delivered_at]
        return None if moments else f"{words!r} was not taken"

    until(complaint, 60)
    return moments[0]
