"""An order over HTTP, and kill -9 between the row that it leaves and the flow run that it becomes."""

import secrets
import signal
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import FlowRun

from deployments.front.scopes import Scope
from deployments.front.tokens import KEY, mint, sha256_of
from tasks.domain.pipeline import Status
from tests.support.faults import TEXT, Battered, fault
from tests.support.service import until

pytestmark = pytest.mark.timeout(300)

IDS = ("user_id", "session_id", "execution_id")

_HELD_AT = {
    "accepting": ("INSERT", "executions", "true"),
    "noting": ("UPDATE", "runs", "OLD.flow_run_id IS NULL AND NEW.flow_run_id IS NOT NULL"),
}
"""Moments that the database can hold: an order's row that is not committed, a flow run that is not noted."""


@contextmanager
def held(service: Battered, moment: str) -> Iterator[Any]:
    """Whoever comes there waits, until it is killed or this ends. Gives a function that waits for somebody to come."""
    verb, table, condition = _HELD_AT[moment]
    key, name = secrets.randbelow(2**30), f"held_{secrets.token_hex(4)}"
    with service.database() as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (key,))
        connection.execute(
            f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
            f"IF {condition} THEN PERFORM pg_advisory_xact_lock({key}); END IF; RETURN NEW; END $$"
        )
        connection.execute(f"CREATE TRIGGER {name} BEFORE {verb} ON {table} FOR EACH ROW EXECUTE FUNCTION {name}()")
        waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid::bigint = %s AND NOT granted"

        def somebody() -> None:
            until(lambda: None if connection.execute(waiting, (key,)).fetchone() else f"nobody is {moment}", 60)

        try:
            yield somebody
        finally:
            connection.execute("SELECT pg_advisory_unlock(%s)", (key,))
            until(lambda: "it is still held" if connection.execute(waiting, (key,)).fetchone() else None, 30)
            connection.execute(f"DROP FUNCTION {name} CASCADE")


@contextmanager
def stopped(service: Battered, program: str) -> Iterator[None]:
    """SIGSTOP, and SIGCONT where it lives in the end."""
    process = service.process(program)
    process.send(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send(signal.SIGCONT)


@dataclass
class Ordering:
    """One order of one operator, as often as it is sent."""

    service: Battered
    name: str = field(default_factory=lambda: f"fault-{uuid.uuid4()}")

    def __post_init__(self) -> None:
        key = mint(KEY)
        self.key_id = self.service.record.add_key(self.name, sha256_of(key), tuple(Scope)).key_id
        self.url = f"http://127.0.0.1:{self.service.told['TMUX_BUILDER_WEB_PORT']}"
        self.headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": self.name}
        self.body = {"email": f"{self.name}@example.com", "phone": "+4915112345678", "requirements": TEXT}

    def send(self) -> httpx.Response:
        return httpx.post(
            f"{self.url}/api/create-user", json=self.body, headers=self.headers, timeout=60, trust_env=False
        )

    def sent(self) -> dict[str, Any]:
        """What is answered when the front door is there."""
        found: list[httpx.Response] = []

        def complaint() -> str | None:
            try:
                found.append(self.send())
            except httpx.TransportError as error:
                return f"the front door does not answer: {error}"
            return None if found[-1].status_code == 202 else found[-1].text

        until(complaint, 60)
        answer: dict[str, Any] = found[-1].json()
        return answer

    @property
    def run_id(self) -> str | None:
        """Of the row that the order left; None where it has left none."""
        kept = self.service.record.delivery(f"api:key {self.key_id}:{self.name}")
        return kept.run_id if kept else None

    def left_a_row(self) -> str:
        until(lambda: None if self.run_id else "the order left no row", 60)
        assert self.run_id is not None
        return self.run_id


def flow_runs_of(service: Battered, execution_id: str) -> list[FlowRun]:
    with service.prefect() as client:
        tagged = FlowRunFilter(tags=FlowRunFilterTags(all_=[f"ExecutionID:{execution_id}"]))
        return client.read_flow_runs(flow_run_filter=tagged)


def assert_started_once(ordering: Ordering, first: dict[str, Any] | None) -> None:
    """One flow run, with the key that makes it one; the same order again gets the same ids, and starts nothing."""
    service, run_id = ordering.service, ordering.left_a_row()
    service.flow_run(run_id)
    again = ordering.sent()
    assert first is None or [again[name] for name in IDS] == [first[name] for name in IDS]
    until(lambda: None if service.steps_begun(run_id) else "no step began", 60)
    assert service.run_of(run_id).execution_id == again["execution_id"]
    (flow_run,) = flow_runs_of(service, again["execution_id"])
    assert (str(flow_run.id), flow_run.idempotency_key) == (service.run_of(run_id).flow_run_id, f"full-build:{run_id}")
    with service.record.engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT count(*) FROM runs WHERE execution_id = %s", (again["execution_id"],)
        ).scalar_one()
    assert rows == 1
    cancelled = httpx.post(
        f"{ordering.url}/api/executions/{again['execution_id']}/cancel", headers=ordering.headers, trust_env=False
    )
    assert cancelled.status_code == 202, cancelled.text
    service.becomes(run_id, Status.CANCELLED, 60)


def answer_of(future: "Future[httpx.Response]") -> dict[str, Any] | None:
    """None where the front door died before it could say anything."""
    try:
        response = future.result(60)
    except httpx.TransportError:
        return None
    assert response.status_code == 202, response.text
    told: dict[str, Any] = response.json()
    return told


@fault(
    "an order over HTTP; kill -9 of the front door as soon as the order's row is there, before there is a flow run",
    "the sweeper starts it once; the same Idempotency-Key afterwards gets the same ids",
    sampled=True,
)
def test_an_order_whose_front_door_is_killed_is_started_once(battered: Battered) -> None:
    ordering = Ordering(battered)
    with stopped(battered, "dispatcher"), ThreadPoolExecutor(1) as pool:
        sending = pool.submit(ordering.send)
        run_id = ordering.left_a_row()
        front = battered.kill("web")
        first = answer_of(sending)
        assert battered.run_of(run_id).flow_run_id is None
        battered.is_back("web", front)
    assert_started_once(ordering, first)


@fault(
    "an order over HTTP; kill -9 of the front door before the order's row is committed",
    "nothing was ordered; the same Idempotency-Key afterwards orders once",
)
def test_an_order_that_was_not_committed_is_none(battered: Battered) -> None:
    ordering = Ordering(battered)
    with held(battered, "accepting") as somebody, ThreadPoolExecutor(1) as pool:
        sending = pool.submit(ordering.send)
        somebody()
        front = battered.kill("web")
        assert answer_of(sending) is None
    battered.is_back("web", front)
    assert ordering.run_id is None
    assert_started_once(ordering, ordering.sent())


@fault(
    "an order over HTTP; kill -9 of the dispatcher before it has seen the order's row",
    "started once when it is back; the same Idempotency-Key gets the same ids",
)
def test_an_order_that_the_dispatcher_never_saw_is_started_once(battered: Battered) -> None:
    ordering = Ordering(battered)
    with stopped(battered, "dispatcher"):
        first = ordering.sent()
        assert battered.run_of(ordering.left_a_row()).flow_run_id is None
        dispatcher = battered.kill("dispatcher")
    battered.is_back("dispatcher", dispatcher)
    assert_started_once(ordering, first)


@fault(
    "an order over HTTP; kill -9 of the dispatcher when the flow run is there and not noted in the order's row",
    "the same flow run is found again by its idempotency key, and noted; there is no second one",
)
def test_an_order_whose_flow_run_was_not_noted_is_started_once(battered: Battered) -> None:
    ordering = Ordering(battered)
    with held(battered, "noting") as somebody:
        first = ordering.sent()
        somebody()
        (before,) = flow_runs_of(battered, first["execution_id"])
        dispatcher = battered.kill("dispatcher")
    battered.is_back("dispatcher", dispatcher)
    assert_started_once(ordering, first)
    (after,) = flow_runs_of(battered, first["execution_id"])
    assert after.id == before.id
