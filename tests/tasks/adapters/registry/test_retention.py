"""What is old goes, what is needed stays, and a dry run says the same as the real one."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import exc, text

from tasks.adapters.registry import Registry
from tasks.adapters.registry.schema import events, metadata
from tasks.domain.check import Check, Outcome
from tasks.domain.pipeline import Status, Verb
from tests.tasks.adapters.registry.lives import a_life
from tests.tasks.adapters.registry.orders import a_finished_execution, an_execution, counts

MOMENTS = {
    "users": ("created_at",),
    "executions": ("updated_at", "created_at"),
    "checks": ("recorded_at",),
    "messages": ("created_at",),
    "questions": ("asked_at",),
    "notices": ("created_at",),
    "deliveries": ("received_at",),
    "resources": ("planned_at",),
}


def age(registry: Registry, days: float) -> None:
    """Everything in the record happened so many days earlier. Events refuse it; they are made again, older."""
    by = timedelta(days=days)
    with registry.engine.begin() as connection:
        for name, columns in MOMENTS.items():
            table = metadata.tables[name]
            for row in connection.execute(table.select()).all():
                same = [column == row._mapping[column.name] for column in table.primary_key]
                connection.execute(
                    table.update().where(*same).values({column: row._mapping[column] - by for column in columns})
                )
        old = datetime.now(UTC) - by
        for row in connection.execute(events.select()).all():
            values = {column: value for column, value in row._mapping.items() if column != "seq"}
            connection.execute(events.insert().values({**values, "at": old}))


def test_a_dry_run_counts_what_the_real_one_removes(registry: Registry) -> None:
    accepted = a_life(registry)
    registry.refuse("bad", {"x": 1}, "no")
    assert sum(registry.prune_history(30, apply=True).values()) == 0
    age(registry, 40)
    before = counts(registry)
    told = registry.prune_history(30)
    assert counts(registry) == before
    assert registry.prune_history(30, apply=True) == told
    assert told["events"] > 5
    assert (told["messages"], told["questions"], told["deliveries"], told["checks"]) == (1, 1, 1, 0)
    assert told["notices"] == 6, "of the question and of the end, on three channels"
    assert sum(registry.prune_history(30, apply=True).values()) == 0
    assert registry.execution(accepted.execution_id).status is Status.FAILED
    assert registry.delivery("life") is not None
    after = counts(registry)
    assert {name: after[name] for name in ("users", "runs", "steps", "releases", "sites", "checks")} == {
        name: before[name] for name in ("users", "runs", "steps", "releases", "sites", "checks")
    }


def test_what_is_at_work_keeps_its_history(registry: Registry) -> None:
    accepted = an_execution(registry)
    registry.post_message(accepted.execution_id, "user", "hello")
    age(registry, 400)
    assert sum(registry.prune_history(1).values()) == 0
    registry.set_status(accepted.execution_id, Status.CANCELLED, run_id=accepted.run_id)
    lease = registry.acquire_lease(accepted.site_name, "somebody", 60)
    assert sum(registry.prune_history(1).values()) == 0
    registry.release_lease(lease)
    assert registry.prune_history(1)["messages"] == 1


def test_of_checks_the_last_of_each_stays(registry: Registry) -> None:
    accepted = a_finished_execution(registry)
    for number in range(3):
        run = registry.adopt_run(accepted.execution_id, Verb.REVERIFY, f"look-{number}")
        registry.record_check(run.run_id, Check(name="health_check", outcome=Outcome.PASSED, seconds=number))
        registry.set_status(accepted.execution_id, Status.RUNNING, run_id=run.run_id)
        registry.set_status(accepted.execution_id, Status.COMPLETED, run_id=run.run_id)
        age(registry, 10)
    assert registry.prune_history(5, apply=True)["checks"] == 2
    [kept] = registry.checks(accepted.execution_id)
    assert kept.seconds == 2


def test_many_events_go_in_pages(registry: Registry) -> None:
    accepted = a_finished_execution(registry)
    old = datetime.now(UTC) - timedelta(days=100)
    row = {"execution_id": accepted.execution_id, "kind": "check", "data": {}, "at": old}
    with registry.engine.begin() as connection:
        connection.execute(events.insert(), [row] * 2500)
    assert registry.prune_history(90, apply=True)["events"] == 2500
    assert registry.events(accepted.execution_id)
    with pytest.raises(exc.IntegrityError, match="only ever added"), registry.engine.begin() as connection:
        connection.execute(text("DELETE FROM events"))


def test_ended_executions_are_listed_when_nothing_has_happened_for_long(registry: Registry) -> None:
    old, busy = a_finished_execution(registry, "old"), an_execution(registry, "busy")
    age(registry, 31)
    new = a_finished_execution(registry, "new")
    [ended] = registry.ended(30)
    assert ended.execution_id == old.execution_id
    assert not ended.at_work
    assert not ended.served
    assert ended.idle_s == pytest.approx(31 * 86_400, abs=60)
    registry.request_run(old.execution_id, Verb.REDEPLOY, "again")
    assert registry.ended(30) == []
    assert {new.execution_id, busy.execution_id} & {owner.execution_id for owner in registry.ended(30)} == set()


def test_owners_are_found_by_each_of_their_names(registry: Registry) -> None:
    one, other = a_finished_execution(registry, "one"), an_execution(registry, "other")
    [by_id] = registry.owners(execution_ids=[one.execution_id, "00000000_sess20260101000000"])
    [by_session] = registry.owners(session_ids=[one.session_id])
    [by_site] = registry.owners(site_names=[other.site_name])
    assert by_id.execution_id == by_session.execution_id == one.execution_id
    assert (by_id.at_work, by_site.at_work) == (False, True)
    assert by_site.execution_id == other.execution_id
    assert len(registry.owners(execution_ids=[f"{n:08x}_sess20260101000000" for n in range(1200)])) == 0


def test_a_resource_that_was_only_planned_is_found_when_its_run_is_over(registry: Registry) -> None:
    accepted = an_execution(registry)
    registry.plan_resource(accepted.execution_id, "site", accepted.site_name)
    age(registry, 1)
    assert registry.planned_resources(600) == []
    registry.set_status(accepted.execution_id, Status.CANCELLED, run_id=accepted.run_id)
    [planned] = registry.planned_resources(600)
    assert (planned.execution_id, planned.kind, planned.name) == (accepted.execution_id, "site", accepted.site_name)
    assert registry.planned_resources(2 * 86_400) == []
    registry.resource_created(accepted.execution_id, "site", accepted.site_name)
    assert registry.planned_resources(600) == []


def test_an_empty_record_is_known_as_such(registry: Registry) -> None:
    assert not registry.holds_executions()
    a_finished_execution(registry)
    assert registry.holds_executions()
