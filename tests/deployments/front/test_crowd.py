"""Many at once, on both databases: nothing is lost, nothing is doubled."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from tasks.adapters.registry import Registry
from tests.deployments.front.test_hooks import NEW, signed
from tests.support.front import ORDER, Door, a_running_execution, opened
from tests.tasks.adapters.registry.orders import counts

CROWD = 100


@pytest.fixture
def door(registry: Registry, tmp_path: Path) -> Iterator[Door]:
    room = {"max_queue": 70, "max_per_user_day": 1000, "hook_secrets": SecretStr(NEW)}
    with opened(registry, tmp_path, **room) as found:
        yield found


async def all_at_once(door: Door, requests: list[dict[str, Any]]) -> list[httpx.Response]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=door.url, timeout=60, trust_env=False, limits=limits) as client:
        return await asyncio.gather(*(client.post(**request) for request in requests))


def test_a_hundred_orders_at_once_are_taken_or_turned_away(door: Door) -> None:
    key = door.key()
    requests = [
        {
            "url": "/api/create-user",
            "json": {**ORDER, "email": f"user{number % 40}@example.com"},
            "headers": {**key, "Idempotency-Key": f"order-{number}"},
        }
        for number in range(CROWD)
    ]
    first = asyncio.run(all_at_once(door, requests))
    assert Counter(each.status_code for each in first) == {202: 70, 503: 30}
    ids = [each.json()["execution_id"] for each in first if each.status_code == 202]
    assert len(set(ids)) == 70
    assert {run.execution_id for run in door.registry.undispatched()} == set(ids)
    again = asyncio.run(all_at_once(door, requests))
    assert [each.status_code for each in again] == [each.status_code for each in first], "a repeat needs no room"
    assert [each.json().get("execution_id") for each in again] == [each.json().get("execution_id") for each in first]
    found = counts(door.registry)
    assert (found["executions"], found["runs"], found["deliveries"], found["sites"]) == (70, 70, 70, 70)


def test_two_hundred_deliveries_of_fifty_events_are_fifty_orders(door: Door) -> None:
    raw = [json.dumps({**ORDER, "email": f"user{number}@example.com"}).encode() for number in range(50)]
    requests = [
        {"url": "/hooks/form", "content": raw[number], "headers": signed(raw[number], f"msg_{number}")}
        for number in [*range(50)] * 4
    ]
    answers = asyncio.run(all_at_once(door, requests))
    assert Counter(each.status_code for each in answers) == {202: 200}
    assert len({each.json()["execution_id"] for each in answers}) == 50
    assert counts(door.registry)["executions"] == 50


def test_one_plan_is_answered_by_one(door: Door) -> None:
    accepted = a_running_execution(door.registry)
    question = door.registry.ask_question(accepted.run_id, "plan", 1, "Shall this be built?", 60)
    path = f"/api/executions/{accepted.execution_id}/questions/{question.question_id}/answer"
    bodies = [{"decision": "change", "changes": f"as number {number}"} for number in range(20)]
    answers = asyncio.run(all_at_once(door, [{"url": path, "json": each, "headers": door.key()} for each in bodies]))
    assert Counter(each.status_code for each in answers) == {200: 1, 409: 19}
    (kept,) = door.registry.questions(accepted.execution_id, "plan")
    (winner,) = [number for number, each in enumerate(answers) if each.status_code == 200]
    assert kept.answer == bodies[winner]
