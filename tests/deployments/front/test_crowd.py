"""Many at once, on both databases: nothing is lost, nothing is doubled."""

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from deployments.front.scopes import Scope
from deployments.front.tokens import KEY, mint, sha256_of
from tasks.adapters.registry import Registry
from tasks.domain.pipeline import Status
from tests.deployments.front.test_hooks import NEW, signed
from tests.support.databases import a_registry_url
from tests.support.front import ORDER, Door, a_running_execution, bearer, opened, serving
from tests.tasks.adapters.registry.orders import counts

EVENTS, ROOM, BEYOND = 100, 170, 30


@dataclass
class House:
    """The front door as a process of its own."""

    url: str
    registry: Registry

    def key(self) -> dict[str, str]:
        key = mint(KEY)
        self.registry.add_key("crowd", sha256_of(key), tuple(Scope))
        return bearer(key)

    def made(self) -> dict[str, int]:
        found = counts(self.registry)
        return {name: found.get(name, 0) for name in ("executions", "runs", "deliveries", "sites", "sessions")}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    home = tmp_path_factory.mktemp("home")
    limits = {"WEB_RATE_IP": "100000", "WEB_RATE_KEY": "100000", "WEB_RATE_USER": "100000"}
    limits |= {"MAX_QUEUE": str(ROOM), "MAX_PER_USER_DAY": "1000", "HOOK_SECRETS": NEW}
    with a_registry_url(request, home) as database, serving(home, database, **limits) as (_process, url):
        registry = Registry.open(database)
        yield House(url, registry)
        registry.close()


async def all_at_once(url: str, requests: list[dict[str, Any]]) -> list[httpx.Response]:
    """Each on a connection of its own."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False, limits=limits) as client:
        return await asyncio.gather(*(client.post(**request) for request in requests))


def test_two_hundred_deliveries_of_a_hundred_events_are_a_hundred_orders(house: House) -> None:
    before = house.made()
    raw = [json.dumps({**ORDER, "email": f"user{number}@example.com"}).encode() for number in range(EVENTS)]
    requests = [
        {"url": "/hooks/form", "content": raw[number], "headers": signed(raw[number], f"msg_{number}")}
        for number in [*range(EVENTS)] * 2
    ]
    answers = asyncio.run(all_at_once(house.url, requests))
    assert Counter(each.status_code for each in answers) == {202: 2 * EVENTS}
    ids = [each.json()["execution_id"] for each in answers]
    assert len(set(ids)) == EVENTS
    assert ids[:EVENTS] == ids[EVENTS:], "an event is one order, whichever of its deliveries was first"
    assert house.made() == {name: count + EVENTS for name, count in before.items()}
    assert set(ids) <= {run.execution_id for run in house.registry.undispatched()}


def test_a_hundred_orders_at_once_are_taken_or_turned_away(house: House) -> None:
    """After the deliveries there is room for seventy."""
    before, key = house.made(), house.key()
    room = ROOM - house.registry.count_runs().get(Status.PENDING, 0)
    requests = [
        {
            "url": "/api/create-user",
            "json": {**ORDER, "email": f"user{number % 40}@example.com"},
            "headers": {**key, "Idempotency-Key": f"order-{number}"},
        }
        for number in range(room + BEYOND)
    ]
    assert len(requests) >= 100
    first = asyncio.run(all_at_once(house.url, requests))
    assert Counter(each.status_code for each in first) == {202: room, 503: BEYOND}
    assert all(each.headers["retry-after"] for each in first if each.status_code == 503)
    ids = [each.json()["execution_id"] for each in first if each.status_code == 202]
    assert len(set(ids)) == room
    assert set(ids) <= {run.execution_id for run in house.registry.undispatched()}
    again = asyncio.run(all_at_once(house.url, requests))
    assert [each.status_code for each in again] == [each.status_code for each in first], "a repeat needs no room"
    assert [each.json().get("execution_id") for each in again] == [each.json().get("execution_id") for each in first]
    made = house.made()
    assert made == {name: count + room for name, count in before.items()}


@pytest.fixture
def door(registry: Registry, tmp_path: Path) -> Iterator[Door]:
    with opened(registry, tmp_path) as found:
        yield found


def test_one_plan_is_answered_by_one(door: Door) -> None:
    accepted = a_running_execution(door.registry)
    question = door.registry.ask_question(accepted.run_id, "plan", 1, "Shall this be built?", 60)
    path = f"/api/executions/{accepted.execution_id}/questions/{question.question_id}/answer"
    bodies = [{"decision": "change", "changes": f"as number {number}"} for number in range(20)]
    answers = asyncio.run(
        all_at_once(door.url, [{"url": path, "json": each, "headers": door.key()} for each in bodies])
    )
    assert Counter(each.status_code for each in answers) == {200: 1, 409: 19}
    (kept,) = door.registry.questions(accepted.execution_id, "plan")
    (winner,) = [number for number, each in enumerate(answers) if each.status_code == 200]
    assert kept.answer == bodies[winner]
