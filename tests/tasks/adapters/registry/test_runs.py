"""Which run does what, and which run an execution shows."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from tasks.adapters.registry import Registry, RunEnded, migrate, schema
from tasks.domain.errors import UnknownExecution
from tasks.domain.pipeline import Failure, Status, Step, Verb
from tests.tasks.adapters.registry.orders import a_finished_execution, a_request, an_execution, at_once, counts, kinds


def test_a_dispatched_run_is_found_by_its_flow_run(registry: Registry) -> None:
    accepted = registry.accept(a_request(), "k")
    assert registry.mark_dispatched(accepted.run_id, "flow-1")
    assert registry.undispatched() == []
    run = registry.adopt_run(accepted.execution_id, Verb.FULL_BUILD, "flow-1")
    assert (run.run_id, run.attempt, run.leads) == (accepted.run_id, 1, True)
    assert registry.adopt_run(accepted.execution_id, Verb.FULL_BUILD, "flow-1") == run
    assert [active.run_id for active in registry.active_runs()] == [accepted.run_id]


def test_a_flow_run_that_is_faster_than_its_dispatcher_takes_the_waiting_run(registry: Registry) -> None:
    accepted = registry.accept(a_request(), "k")
    run = registry.adopt_run(accepted.execution_id, Verb.FULL_BUILD, "flow-1")
    assert run.run_id == accepted.run_id
    assert registry.mark_dispatched(accepted.run_id, "flow-1"), "the dispatcher is late, and right"
    assert not registry.mark_dispatched(accepted.run_id, "flow-2")
    assert counts(registry)["runs"] == 1


def test_a_run_from_the_prefect_ui_becomes_a_run_of_its_own(registry: Registry) -> None:
    accepted = a_finished_execution(registry)
    run = registry.adopt_run(accepted.execution_id, Verb.REDEPLOY, "from-the-ui")
    assert run.run_id != accepted.run_id
    assert (run.verb, run.leads, run.status) == (Verb.REDEPLOY, True, Status.PENDING)
    assert registry.progress(accepted.execution_id).status is Status.PENDING


def test_two_workers_that_start_one_flow_run_adopt_one_run(registry: Registry) -> None:
    accepted = a_finished_execution(registry)
    found = at_once([lambda: registry.adopt_run(accepted.execution_id, Verb.REDEPLOY, "flow-2")] * 10)
    assert len({getattr(run, "run_id", run) for run in found}) == 1


def test_one_flow_run_reverifies_many_executions(registry: Registry) -> None:
    ids = [a_finished_execution(registry, key).execution_id for key in ("a", "b")]
    runs = [registry.adopt_run(each, Verb.REVERIFY, "nightly") for each in ids]
    assert [run.execution_id for run in registry.runs_of("nightly")] == ids
    assert [run.run_id for run in registry.active_runs()] == [run.run_id for run in runs]
    for run in runs:
        registry.begin_step(run.run_id, Step.HEALTH_CHECK)
        registry.set_status(run.execution_id, Status.COMPLETED, run_id=run.run_id)
    assert registry.active_runs() == []


def test_a_reverification_never_changes_an_executions_status(registry: Registry) -> None:
    accepted = a_finished_execution(registry)
    before = registry.progress(accepted.execution_id)
    run = registry.adopt_run(accepted.execution_id, Verb.REVERIFY, "nightly")
    registry.begin_step(run.run_id, Step.HEALTH_CHECK)
    registry.fail_step(run.run_id, Step.HEALTH_CHECK, "HTTP 503")
    failure = Failure(step=7, step_name="health_check", message="HTTP 503")
    assert registry.set_status(accepted.execution_id, Status.FAILED, failure, run_id=run.run_id)
    assert registry.progress(accepted.execution_id) == before
    assert registry.failure_of(run.run_id) == failure


def test_a_redeploy_shows_itself_and_counts_what_it_builds_on(registry: Registry) -> None:
    accepted = a_finished_execution(registry)
    run_id = registry.request_run(accepted.execution_id, Verb.REDEPLOY, "again")
    waiting = registry.progress(accepted.execution_id)
    assert (waiting.status, waiting.current_step, waiting.percent_complete) == (Status.PENDING, 0, 55)
    registry.adopt_run(accepted.execution_id, Verb.REDEPLOY, "flow-2")
    registry.begin_step(run_id, Step.DEPLOY)
    registry.finish_step(run_id, Step.DEPLOY, {})
    going = registry.progress(accepted.execution_id)
    assert (going.status, going.current_step_name, going.percent_complete) == (Status.RUNNING, "deploy", 66)


def test_a_second_run_does_not_speak_for_the_execution_while_the_first_goes_on(registry: Registry) -> None:
    accepted = an_execution(registry)
    second = registry.adopt_run(accepted.execution_id, Verb.REDEPLOY, "flow-2")
    registry.begin_step(second.run_id, Step.DEPLOY)
    busy = Failure(step=6, step_name="deploy", message="the site is busy")
    registry.set_status(accepted.execution_id, Status.FAILED, busy, run_id=second.run_id)
    progress = registry.progress(accepted.execution_id)
    assert (progress.status, progress.current_step, progress.error) == (Status.RUNNING, Step.CREATE_USER, None)


def test_a_second_run_is_shown_from_its_next_step_on_once_the_first_is_over(registry: Registry) -> None:
    accepted = an_execution(registry)
    second = registry.adopt_run(accepted.execution_id, Verb.REDEPLOY, "flow-2")
    registry.begin_step(second.run_id, Step.DEPLOY)
    registry.set_status(accepted.execution_id, Status.COMPLETED, run_id=accepted.run_id)
    assert registry.progress(accepted.execution_id).status is Status.COMPLETED
    registry.begin_step(second.run_id, Step.HEALTH_CHECK)
    progress = registry.progress(accepted.execution_id)
    assert (progress.status, progress.current_step) == (Status.RUNNING, Step.HEALTH_CHECK)


def test_what_comes_late_does_not_revive_a_cancelled_run(registry: Registry) -> None:
    accepted = an_execution(registry)
    registry.set_status(accepted.execution_id, Status.CANCELLED)
    for late in (Status.RUNNING, Status.COMPLETED, Status.FAILED, Status.WAITING_INPUT, Status.PENDING):
        assert not registry.set_status(accepted.execution_id, late)
    with pytest.raises(RunEnded, match="is cancelled"):
        registry.begin_step(accepted.run_id, Step.CREATE_SESSION)
    registry.adopt_run(accepted.execution_id, Verb.FULL_BUILD, "flow-first", 1)
    assert registry.progress(accepted.execution_id).status is Status.CANCELLED


def test_a_run_that_was_cancelled_before_its_dispatch_stays_so(registry: Registry) -> None:
    accepted = registry.accept(a_request(), "k")
    registry.set_status(accepted.execution_id, Status.CANCELLED)
    assert registry.undispatched() == []
    run = registry.adopt_run(accepted.execution_id, Verb.FULL_BUILD, "flow-1", run_id=accepted.run_id)
    assert (run.run_id, run.status) == (accepted.run_id, Status.CANCELLED)
    with pytest.raises(RunEnded):
        registry.begin_step(run.run_id, Step.CREATE_USER)


def test_a_late_dispatch_of_a_cancelled_run_is_not_marked_twice(registry: Registry) -> None:
    accepted = registry.accept(a_request(), "k")
    registry.set_status(accepted.execution_id, Status.CANCELLED)
    registry.adopt_run(accepted.execution_id, Verb.FULL_BUILD, "flow-1")  # it does not know which run it was made for
    assert not registry.mark_dispatched(accepted.run_id, "flow-1")


def test_a_retried_flow_run_goes_on_in_the_same_run(registry: Registry) -> None:
    accepted = an_execution(registry)
    registry.finish_step(accepted.run_id, Step.CREATE_USER, {"user_id": "u"})
    failure = Failure(step=2, step_name="create_session", message="disk full")
    registry.set_status(accepted.execution_id, Status.FAILED, failure)
    run = registry.adopt_run(accepted.execution_id, Verb.FULL_BUILD, "flow-first", 2)
    assert (run.run_id, run.attempt, run.status) == (accepted.run_id, 2, Status.PENDING)
    progress = registry.progress(accepted.execution_id)
    assert (progress.status, progress.error, progress.percent_complete) == (Status.PENDING, None, 11)
    assert registry.begin_step(run.run_id, Step.CREATE_USER) == {"user_id": "u"}
    assert registry.begin_step(run.run_id, Step.CREATE_SESSION) is None
    assert registry.progress(accepted.execution_id).status is Status.RUNNING


def test_a_retry_does_not_take_the_lead_from_a_run_that_goes_on(registry: Registry) -> None:
    accepted = an_execution(registry)
    registry.set_status(accepted.execution_id, Status.FAILED)
    redeploy = registry.adopt_run(accepted.execution_id, Verb.REDEPLOY, "flow-2")
    registry.begin_step(redeploy.run_id, Step.DEPLOY)
    retried = registry.adopt_run(accepted.execution_id, Verb.FULL_BUILD, "flow-first", 2)
    assert not retried.leads
    assert registry.progress(accepted.execution_id).current_step == Step.DEPLOY


def test_every_change_of_status_is_an_event_that_tells_from_and_to(registry: Registry) -> None:
    accepted = a_finished_execution(registry)
    registry.set_status(accepted.execution_id, Status.COMPLETED)
    registry.request_run(accepted.execution_id, Verb.REDEPLOY, "again")
    changes = [event.data for event in registry.events(accepted.execution_id) if event.kind == "status"]
    assert [(change["old"], change["new"]) for change in changes] == [
        ("pending", "running"),
        ("running", "completed"),
        ("completed", "pending"),
    ]


def test_events_are_numbered_in_the_order_in_which_things_happened(registry: Registry) -> None:
    accepted = an_execution(registry)
    at_once([lambda n=n: registry.begin_step(accepted.run_id, Step(n)) for n in range(1, 10)] * 3)
    found = registry.events(accepted.execution_id, limit=1000)
    assert [event.seq for event in found] == sorted(event.seq for event in found)
    assert [event.at for event in found] == sorted(event.at for event in found)
    assert kinds(registry, accepted.execution_id)[:4] == ["accepted", "dispatched", "status", "step_began"]
    middle = found[len(found) // 2].seq
    assert (
        registry.events(accepted.execution_id, after_seq=middle, limit=2)
        == [event for event in found if event.seq > middle][:2]
    )


def test_a_run_that_is_not_there_is_an_error(registry: Registry) -> None:
    accepted = registry.accept(a_request(), "k")
    with pytest.raises(LookupError, match="no run 'nobody'"):
        registry.begin_step("nobody", Step.DEPLOY)
    with pytest.raises(LookupError, match="no run 'nobody'"):
        registry.set_status(accepted.execution_id, Status.FAILED, run_id="nobody")
    with pytest.raises(UnknownExecution):
        registry.adopt_run("a1b2c3d4_sess20260124143022", Verb.REDEPLOY, "flow")


def test_a_step_that_begins_while_its_run_is_being_cancelled_is_refused(postgres_database: str) -> None:
    """The step's transaction starts first to look, and ends after the cancellation has been committed."""
    migrate(postgres_database)
    registry = Registry.open(postgres_database)
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    try:
        accepted = an_execution(registry)
        with ThreadPoolExecutor(1) as pool, registry.engine.connect() as onlooker:
            with registry._write() as connection:
                registry._lock_execution(connection, accepted.execution_id)
                begun = pool.submit(registry.begin_step, accepted.run_id, Step.CREATE_SESSION)
                end = time.monotonic() + 20
                while onlooker.execute(waiting).scalar() == 0:
                    assert time.monotonic() < end, "the step did not wait"
                    onlooker.rollback()  # the next look is at new statistics
                for table in (schema.runs, schema.executions):
                    values = {"status": "cancelled"} | ({"ended_at": schema.db_clock()} if table is schema.runs else {})
                    connection.execute(table.update().values(**values))
            with pytest.raises(RunEnded):
                begun.result(20)
        assert registry.progress(accepted.execution_id).status is Status.CANCELLED
        assert registry.progress(accepted.execution_id).current_step == Step.CREATE_USER
    finally:
        registry.close()
