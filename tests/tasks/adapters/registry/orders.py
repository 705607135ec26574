"""Requests and accepted executions to test with, and what another process does with them."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Barrier
from typing import Any, TypeVar

from sqlalchemy import func, select

from tasks.adapters.registry import Accepted, Registry, migrate
from tasks.adapters.registry.schema import metadata
from tasks.domain.pipeline import Status, Step, Verb
from tasks.domain.request import SiteRequest

T = TypeVar("T")


def a_request(requirements: str = "A site for a bakery", email: str = "ana@example.com") -> SiteRequest:
    return SiteRequest(requirements=requirements, email=email, phone="+4915112345678")


def an_execution(registry: Registry, key: str = "first") -> Accepted:
    """Accepted, and begun by flow run ``flow-{key}``."""
    accepted = registry.accept(a_request(), key)
    registry.adopt_run(accepted.execution_id, Verb.FULL_BUILD, f"flow-{key}")
    registry.begin_step(accepted.run_id, Step.CREATE_USER)
    return accepted


def a_finished_execution(registry: Registry, key: str = "first") -> Accepted:
    accepted = an_execution(registry, key)
    for step in Step:
        registry.begin_step(accepted.run_id, step)
        registry.finish_step(accepted.run_id, step, {})
    registry.set_status(accepted.execution_id, Status.COMPLETED)
    return accepted


def counts(registry: Registry) -> dict[str, int]:
    """How many rows each table has; empty ones are left out."""
    with registry.engine.connect() as connection:
        found = {
            name: connection.execute(select(func.count()).select_from(table)).scalar_one()
            for name, table in metadata.tables.items()
        }
    return {name: count for name, count in found.items() if count}


def kinds(registry: Registry, execution_id: str) -> list[str]:
    return [event.kind for event in registry.events(execution_id, limit=1000)]


def at_once(calls: Sequence[Callable[[], T]]) -> list[T | Exception]:
    """What each call gave or raised, all of them let go in the same moment."""
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[], T]) -> T | Exception:
        gate.wait(30)
        try:
            return call()
        except Exception as error:  # noqa: BLE001  # handed to the test
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def deliver(url: str, gate: Barrier, keys: list[str]) -> list[tuple[Any, ...]]:
    """In a process of its own: deliver every key once, eight at a time."""
    registry = Registry.open(url)
    gate.wait(60)
    try:
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda key: registry.accept(a_request(email=f"{key}@example.com"), key), keys))
        return [(each.user_id, each.session_id, each.execution_id, each.run_id, each.site_name) for each in found]
    finally:
        registry.close()


def migrate_at(url: str, gate: Barrier, _nothing: Any = None) -> str:
    """In a process of its own: migrate when the others do."""
    gate.wait(60)
    migrate(url)
    return "migrated"
