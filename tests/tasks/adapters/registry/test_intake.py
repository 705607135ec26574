"""One way in: whatever is delivered, however often, there is one set of rows or none."""

import os
import signal
import threading
import uuid
from datetime import UTC, datetime
from functools import partial

import pytest
from sqlalchemy import event, select, text

from tasks.adapters.registry import Registry, migrate
from tasks.adapters.registry.database import engine_for, parse
from tasks.adapters.registry.schema import deliveries, users
from tasks.domain.errors import DeliveryConflict, RequestRefused, UnknownExecution
from tasks.domain.ids import EXECUTION_ID, SITE_NAME
from tasks.domain.pipeline import Status, Verb
from tests.tasks.adapters.registry.orders import a_request, at_once, counts, deliver
from tests.tasks.adapters.registry.processes import forked, in_processes

ONE_ACCEPTED = {
    "users": 1, "sessions": 1, "executions": 1, "runs": 1, "sites": 1, "leases": 1, "deliveries": 1, "events": 1,
}  # fmt: skip


def test_an_accepted_request_has_all_its_ids_and_waits_for_the_dispatcher(registry: Registry) -> None:
    accepted = registry.accept(a_request(), "k")
    assert accepted.created
    assert EXECUTION_ID.fullmatch(accepted.execution_id)
    assert SITE_NAME.fullmatch(accepted.site_name)
    assert accepted.execution_id == f"{accepted.user_id[:8]}_{accepted.session_id}"
    assert [run.run_id for run in registry.undispatched()] == [accepted.run_id]
    execution = registry.execution(accepted.execution_id)
    assert execution.request == a_request()
    assert (execution.status, execution.site_name) == (Status.PENDING, accepted.site_name)
    assert counts(registry) == ONE_ACCEPTED


def test_a_run_that_brings_its_flow_run_does_not_wait_for_the_dispatcher(registry: Registry) -> None:
    accepted = registry.accept(a_request(), "k", "flow-1")
    assert registry.undispatched() == []
    assert [run.run_id for run in registry.runs_of("flow-1")] == [accepted.run_id]


def test_the_same_delivery_again_gives_the_same_ids_and_no_row(registry: Registry) -> None:
    first = registry.accept(a_request(), "k")
    before = counts(registry)
    again = registry.accept(a_request(), "k")
    assert not again.created
    assert (again.user_id, again.session_id, again.execution_id, again.run_id, again.site_name) == (
        first.user_id, first.session_id, first.execution_id, first.run_id, first.site_name,
    )  # fmt: skip
    assert counts(registry) == before


def test_the_same_key_with_another_body_is_a_conflict_and_changes_nothing(registry: Registry) -> None:
    registry.accept(a_request(), "k")
    before = counts(registry)
    with pytest.raises(DeliveryConflict, match="'k'"):
        registry.accept(a_request("Something else"), "k")
    assert counts(registry) == before


def test_two_spellings_of_an_address_are_one_user_with_the_last_phone_number(registry: Registry) -> None:
    first = registry.accept(a_request(email="Ana@Example.com"), "a")
    other = a_request(email="ana@example.COM").model_copy(update={"phone": "+4915112345679"})
    second = registry.accept(other, "b")
    assert first.user_id == second.user_id
    assert first.session_id != second.session_id
    with registry.engine.connect() as connection:
        assert connection.execute(select(users.c.email, users.c.phone)).all() == [("ana@example.com", other.phone)]


def test_fifty_threads_that_deliver_one_request_make_one_set_of_rows(registry: Registry) -> None:
    found = at_once([lambda: registry.accept(a_request(), "k")] * 50)
    assert len({getattr(each, "execution_id", each) for each in found}) == 1
    assert sum(getattr(each, "created", False) for each in found) == 1
    assert counts(registry) == ONE_ACCEPTED


def test_fifty_requests_of_one_second_get_fifty_sessions(registry_url: str) -> None:
    moment = datetime(2026, 1, 24, 14, 30, 22, tzinfo=UTC)
    registry = Registry(engine_for(parse(registry_url)), clock=lambda: moment)
    try:
        found = at_once(
            [lambda n=n: registry.accept(a_request(email=f"u{n % 7}@example.com"), f"k{n}") for n in range(50)]
        )
        expected = {"sess20260124143022"} | {f"sess20260124143022-{n}" for n in range(2, 51)}
        assert {getattr(each, "session_id", each) for each in found} == expected
        assert counts(registry)["users"] == 7
    finally:
        registry.close()


def test_two_users_whose_ids_begin_alike_get_different_executions(registry_url: str) -> None:
    def minted(*beginnings: str) -> list[uuid.UUID]:
        return [uuid.UUID(beginning + str(uuid.uuid4())[8:]) for beginning in beginnings]

    # In the order of use: run, user, site; then run, user, a site whose name is taken, a site whose name is free.
    ids = [*minted("00000001", "a1b2c3d4", "99999999"), *minted("00000002", "a1b2c3d4", "99999999", "77777777")]
    registry = Registry(
        engine_for(parse(registry_url)),
        clock=lambda: datetime(2026, 1, 24, 14, 30, 22, tzinfo=UTC),
        mint=iter(ids).__next__,
    )
    try:
        first = registry.accept(a_request(email="a@example.com"), "a")
        second = registry.accept(a_request(email="b@example.com"), "b")
    finally:
        registry.close()
    assert first.user_id != second.user_id
    assert [first.execution_id, second.execution_id] == [
        "a1b2c3d4_sess20260124143022",
        "a1b2c3d4_sess20260124143022-2",
    ]
    assert [first.site_name, second.site_name] == ["tmux-a1b2c3d4-99999999", "tmux-a1b2c3d4-77777777"]


def test_two_processes_that_deliver_the_same_hundred_requests_make_a_hundred_executions(registry_url: str) -> None:
    keys = [f"event{n}" for n in range(100)]
    one, other = in_processes(deliver, registry_url, [keys, keys[::-1]])
    assert one == other[::-1]
    registry = Registry.open(registry_url)
    try:
        assert counts(registry) == dict.fromkeys(ONE_ACCEPTED, 100)
        assert len({execution_id for _user, _session, execution_id, _run, _site in one}) == 100
        assert len(registry.undispatched()) == 100
    finally:
        registry.close()


def test_a_kill_at_any_statement_of_an_acceptance_leaves_nothing(registry_url: str) -> None:
    """The process is killed before its first statement, its second, and so on, and right before the commit."""

    def killed_at(fatal: int) -> None:
        registry = Registry.open(registry_url)
        seen = 0

        def count(*_: object) -> None:
            nonlocal seen
            if seen == fatal:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

        event.listen(registry.engine, "before_cursor_execute", count)
        event.listen(registry.engine, "commit", count)
        registry.accept(a_request(), "k")

    registry = Registry.open(registry_url)
    try:
        fatal = 0
        while (ended := forked(partial(killed_at, fatal))) == -signal.SIGKILL:
            assert counts(registry) == {}
            fatal += 1
        assert ended == 0
        assert fatal > 8, "the kills hit the acceptance"
        assert counts(registry) == ONE_ACCEPTED
        assert not registry.accept(a_request(), "k").created
    finally:
        registry.close()


def test_a_refusal_is_kept_with_its_reason_and_starts_nothing(registry: Registry) -> None:
    assert registry.refuse("k", {"email": "nobody", "note": "\x00\ud800"}, "email: 'nobody' is not an address")
    kept = registry.delivery("k")
    assert kept is not None
    assert (kept.run_id, kept.refusal) == (None, "email: 'nobody' is not an address")
    assert counts(registry) == {"deliveries": 1, "events": 1}
    [refused] = registry.events(None)
    assert (refused.kind, refused.data) == ("refused", {"delivery_key": "k"})
    with registry.engine.connect() as connection:
        assert connection.execute(select(deliveries.c.refused_body)).scalar() == {"email": "nobody", "note": ""}


def test_a_refused_delivery_may_come_again_mended(registry: Registry) -> None:
    registry.refuse("k", "not json", "no JSON")
    accepted = registry.accept(a_request(), "k")
    assert accepted.created
    kept = registry.delivery("k")
    assert kept is not None
    assert (kept.run_id, kept.execution_id, kept.refusal) == (accepted.run_id, accepted.execution_id, None)


def test_a_refusal_does_not_undo_what_was_accepted(registry: Registry) -> None:
    accepted = registry.accept(a_request(), "k")
    before = counts(registry)
    assert not registry.refuse("k", {}, "too late")
    assert counts(registry) == before
    assert registry.accept(a_request(), "k").run_id == accepted.run_id


@pytest.mark.parametrize("key", ["", "x" * 201, "a\x00b", "a\nb"])
def test_a_delivery_key_that_cannot_be_kept_is_refused(registry: Registry, key: str) -> None:
    with pytest.raises(RequestRefused, match="delivery key"):
        registry.accept(a_request(), key)
    assert counts(registry) == {}


def test_asking_for_a_run_twice_by_one_key_asks_once(registry: Registry) -> None:
    accepted = registry.accept(a_request(), "k", "flow-1")
    found = at_once([lambda: registry.request_run(accepted.execution_id, Verb.REDEPLOY, "again")] * 20)
    assert len(set(map(str, found))) == 1
    assert counts(registry)["runs"] == 2
    with pytest.raises(DeliveryConflict):
        registry.request_run(accepted.execution_id, Verb.REVERIFY, "again")
    with pytest.raises(DeliveryConflict):
        registry.request_run(accepted.execution_id, Verb.REDEPLOY, "k")


def test_asking_twice_before_it_is_dispatched_asks_for_one_run(registry: Registry) -> None:
    accepted = registry.accept(a_request(), "k", "flow-1")
    first = registry.request_run(accepted.execution_id, Verb.REDEPLOY, "a")
    assert registry.request_run(accepted.execution_id, Verb.REDEPLOY, "b") == first
    assert registry.request_run(accepted.execution_id, Verb.REVERIFY, "c") != first
    registry.mark_dispatched(first, "flow-2")
    assert registry.request_run(accepted.execution_id, Verb.REDEPLOY, "d") != first
    assert registry.request_run(accepted.execution_id, Verb.REDEPLOY, "b") == first


@pytest.mark.parametrize("name", ["a1b2c3d4_sess20260124143022", "", "x\x00y", "' OR 1=1 --", "a" * 10_000])
def test_an_execution_that_is_not_there_is_named_in_the_error(registry: Registry, name: str) -> None:
    for ask in (
        lambda: registry.request_run(name, Verb.REDEPLOY, "k"),
        lambda: registry.adopt_run(name, Verb.REDEPLOY, "flow"),
        lambda: registry.progress(name),
        lambda: registry.execution(name),
        lambda: registry.set_status(name, Status.FAILED),
    ):
        with pytest.raises(UnknownExecution):
            ask()
    assert counts(registry) == {}


def test_the_dispatcher_wakes_at_once_on_postgresql(postgres_database: str) -> None:
    migrate(postgres_database)
    registry = Registry.open(postgres_database)
    try:
        registry.wait_for_work(60)  # the first call only starts to listen
        threading.Timer(0.1, lambda: registry.accept(a_request(), "k")).start()
        before = datetime.now(UTC)
        registry.wait_for_work(60)
        assert (datetime.now(UTC) - before).total_seconds() < 30
        [run] = registry.undispatched()
        registry.mark_dispatched(run.run_id, "flow")
        registry.request_run(run.execution_id, Verb.REDEPLOY, "r")  # rings between two calls
        registry.wait_for_work(60)
        assert len(registry.undispatched()) == 1
        registry.accept(a_request(), "ui", "flow-2")
        before = datetime.now(UTC)
        registry.wait_for_work(0.2)  # nothing to dispatch, no bell
        assert (datetime.now(UTC) - before).total_seconds() >= 0.2
    finally:
        registry.close()


def test_a_dispatcher_whose_connection_dies_listens_again(postgres_database: str) -> None:
    migrate(postgres_database)
    registry = Registry.open(postgres_database)
    try:
        registry.wait_for_work(60)
        with registry.engine.connect() as connection:
            listeners = (
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%dispatcher'"
            )
            assert connection.execute(text(listeners)).scalar()
        with pytest.raises(ConnectionError, match="stopped ringing"):
            registry.wait_for_work(60)
        registry.wait_for_work(60)
        registry.accept(a_request(), "k")
        registry.wait_for_work(60)
    finally:
        registry.close()
