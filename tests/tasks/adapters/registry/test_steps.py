"""Steps are the truth for resuming; statuses follow the table; progress counts what is done."""

from itertools import product

import pytest

from tasks.adapters.registry import Registry, RunEnded, Superseded
from tasks.domain.pipeline import Failure, Status, Step, Verb, Verdict, can_follow
from tests.tasks.adapters.registry.orders import a_finished_execution, a_request, an_execution, at_once, kinds

ROADS = {
    Status.PENDING: [],
    Status.RUNNING: [Status.RUNNING],
    Status.WAITING_INPUT: [Status.RUNNING, Status.WAITING_INPUT],
    Status.COMPLETED: [Status.RUNNING, Status.COMPLETED],
    Status.FAILED: [Status.FAILED],
    Status.CANCELLED: [Status.CANCELLED],
}


def test_a_step_that_is_done_hands_out_its_outcome_and_is_not_begun_again(registry: Registry) -> None:
    accepted = an_execution(registry)
    outcome = {"user_id": "ü", "nested": {"list": [1, None, True, 1.5]}, "empty": {}}
    assert registry.stored_outcome(accepted.run_id, Step.CREATE_USER) is None
    registry.finish_step(accepted.run_id, Step.CREATE_USER, outcome)
    assert registry.stored_outcome(accepted.run_id, Step.CREATE_USER) == outcome
    assert registry.begin_step(accepted.run_id, Step.CREATE_USER) == outcome
    assert kinds(registry, accepted.execution_id).count("step_began") == 1


def test_an_empty_outcome_is_an_outcome(registry: Registry) -> None:
    accepted = an_execution(registry)
    registry.finish_step(accepted.run_id, Step.CREATE_USER, {})
    assert registry.begin_step(accepted.run_id, Step.CREATE_USER) == {}


def test_finishing_a_step_begins_the_next_one_in_the_same_breath(registry: Registry) -> None:
    accepted = an_execution(registry)
    assert registry.finish_step(accepted.run_id, Step.CREATE_USER, {}, Step.CREATE_SESSION) is None
    assert registry.progress(accepted.execution_id).current_step == Step.CREATE_SESSION
    registry.finish_step(accepted.run_id, Step.CREATE_SESSION, {"done": "before"})
    assert registry.finish_step(accepted.run_id, Step.CREATE_USER, {}, Step.CREATE_SESSION) == {"done": "before"}


def test_a_cancelled_run_keeps_what_it_finished_and_begins_nothing(registry: Registry) -> None:
    accepted = an_execution(registry)
    registry.set_status(accepted.execution_id, Status.CANCELLED)
    with pytest.raises(RunEnded):
        registry.finish_step(accepted.run_id, Step.CREATE_USER, {"kept": 1}, Step.CREATE_SESSION)
    assert registry.stored_outcome(accepted.run_id, Step.CREATE_USER) == {"kept": 1}
    assert registry.progress(accepted.execution_id).current_step == Step.CREATE_USER


def test_a_failed_step_may_be_tried_again(registry: Registry) -> None:
    accepted = an_execution(registry)
    registry.fail_step(accepted.run_id, Step.CREATE_USER, "disk full")
    assert registry.failure_of(accepted.run_id) == Failure(step=1, step_name="create_user", message="disk full")
    assert registry.progress(accepted.execution_id).status is Status.RUNNING, "the run itself goes on"
    assert registry.begin_step(accepted.run_id, Step.CREATE_USER) is None
    assert registry.failure_of(accepted.run_id) is None
    attempts = [event.data["attempt"] for event in registry.events(accepted.execution_id) if event.kind == "step_began"]
    assert attempts == [1, 2]


def test_a_failure_that_comes_late_does_not_undo_a_step_that_is_done(registry: Registry) -> None:
    accepted = an_execution(registry)
    registry.finish_step(accepted.run_id, Step.CREATE_USER, {"id": 1})
    registry.fail_step(accepted.run_id, Step.CREATE_USER, "cancelled")
    assert registry.stored_outcome(accepted.run_id, Step.CREATE_USER) == {"id": 1}
    assert registry.failure_of(accepted.run_id) is None


def test_the_steps_of_one_run_are_not_those_of_another(registry: Registry) -> None:
    accepted = a_finished_execution(registry)
    redeploy = registry.adopt_run(accepted.execution_id, Verb.REDEPLOY, "flow-2")
    assert registry.begin_step(redeploy.run_id, Step.DEPLOY) is None


def test_two_workers_that_begin_one_step_are_counted_both(registry: Registry) -> None:
    accepted = an_execution(registry)
    assert at_once([lambda: registry.begin_step(accepted.run_id, Step.CREATE_SESSION)] * 10) == [None] * 10
    attempts = [
        event.data["attempt"] for event in registry.events(accepted.execution_id) if event.data.get("step") == 2
    ]
    assert attempts == list(range(1, 11))


def test_percent_counts_steps_that_are_done(registry: Registry) -> None:
    accepted = registry.accept(a_request(), "k")
    seen = [registry.progress(accepted.execution_id).percent_complete]
    for step in Step:
        registry.begin_step(accepted.run_id, step)
        assert registry.progress(accepted.execution_id).percent_complete == seen[-1], "begun is not done"
        registry.finish_step(accepted.run_id, step, {})
        seen.append(registry.progress(accepted.execution_id).percent_complete)
    assert seen == [0, 11, 22, 33, 44, 55, 66, 77, 88, 100]


def test_progress_of_a_waiting_execution_names_no_step(registry: Registry) -> None:
    accepted = registry.accept(a_request(), "k")
    progress = registry.progress(accepted.execution_id)
    assert progress.model_dump() == {
        "execution_id": accepted.execution_id,
        "status": "pending",
        "current_step": 0,
        "current_step_name": "",
        "total_steps": 9,
        "percent_complete": 0,
        "deployed_url": None,
        "last_deployed": None,
        "verdict": None,
        "error": None,
        "queue_position": 1,
    }


def test_a_failure_stands_in_progress_and_in_its_event(registry: Registry) -> None:
    accepted = an_execution(registry)
    failure = Failure(step=1, step_name="create_user", message="no \x00 room \ud83d left")
    assert registry.set_status(accepted.execution_id, Status.FAILED, failure)
    progress = registry.progress(accepted.execution_id)
    assert progress.status is Status.FAILED
    assert progress.error == Failure(step=1, step_name="create_user", message="no  room  left")
    assert registry.events(accepted.execution_id)[-1].data["error"]["message"] == "no  room  left"


def test_a_status_changes_where_the_table_allows_and_nowhere_else(registry: Registry) -> None:
    for old, new in product(Status, Status):
        accepted = registry.accept(a_request(), f"{old}-{new}")
        for status in ROADS[old]:
            assert registry.set_status(accepted.execution_id, status)
        before = kinds(registry, accepted.execution_id)
        assert registry.set_status(accepted.execution_id, new) == can_follow(old, new), (old, new)
        expected = new if can_follow(old, new) else old
        assert registry.progress(accepted.execution_id).status is expected
        assert kinds(registry, accepted.execution_id) == before + ["status"] * can_follow(old, new)


def test_of_two_final_statuses_at_once_one_stands(registry: Registry) -> None:
    accepted = an_execution(registry)
    finals = [Status.COMPLETED, Status.FAILED, Status.CANCELLED] * 5
    found = at_once([lambda status=status: registry.set_status(accepted.execution_id, status) for status in finals])
    assert found.count(True) == 1
    assert registry.progress(accepted.execution_id).status is finals[found.index(True)]


def test_an_answered_question_lets_the_run_go_on(registry: Registry) -> None:
    accepted = an_execution(registry)
    assert registry.set_status(accepted.execution_id, Status.WAITING_INPUT)
    assert registry.progress(accepted.execution_id).status is Status.WAITING_INPUT
    registry.begin_step(accepted.run_id, Step.CREATE_SESSION)
    assert registry.progress(accepted.execution_id).status is Status.RUNNING


def test_a_verdict_is_kept_beside_the_status(registry: Registry) -> None:
    accepted = an_execution(registry)
    assert registry.set_verdict(accepted.execution_id, Verdict.PASSED)
    assert not registry.set_verdict(accepted.execution_id, Verdict.PASSED)
    registry.set_status(accepted.execution_id, Status.COMPLETED, verdict=Verdict.FAILED_CHECKS)
    assert registry.progress(accepted.execution_id).verdict is Verdict.FAILED_CHECKS
    registry.adopt_run(accepted.execution_id, Verb.REDEPLOY, "flow-2")
    assert registry.progress(accepted.execution_id).verdict is Verdict.FAILED_CHECKS, "it is of what is live"


def test_an_engine_that_was_given_up_for_dead_writes_nothing(registry: Registry) -> None:
    accepted = an_execution(registry)
    registry.adopt_run(accepted.execution_id, Verb.FULL_BUILD, "flow-first", attempt=2)
    for late in (
        lambda: registry.begin_step(accepted.run_id, Step.CREATE_SESSION, 1),
        lambda: registry.finish_step(accepted.run_id, Step.CREATE_USER, {"stale": True}, attempt=1),
        lambda: registry.fail_step(accepted.run_id, Step.CREATE_USER, "stale", 1),
    ):
        with pytest.raises(Superseded, match="attempt 2 has begun"):
            late()
    assert registry.stored_outcome(accepted.run_id, Step.CREATE_USER) is None
    assert registry.failure_of(accepted.run_id) is None
    assert registry.finish_step(accepted.run_id, Step.CREATE_USER, {"fresh": True}, attempt=2) is None
    assert registry.stored_outcome(accepted.run_id, Step.CREATE_USER) == {"fresh": True}


def test_steps_whose_work_was_taken_back_are_done_again(registry: Registry) -> None:
    accepted = an_execution(registry)
    for step in (Step.CREATE_USER, Step.DEPLOY, Step.HEALTH_CHECK):
        registry.finish_step(accepted.run_id, step, {})
    assert registry.undo_steps(accepted.run_id, Step.DEPLOY) == [Step.DEPLOY, Step.HEALTH_CHECK]
    assert registry.undo_steps(accepted.run_id, Step.DEPLOY) == []
    assert registry.begin_step(accepted.run_id, Step.DEPLOY) is None
    assert registry.begin_step(accepted.run_id, Step.CREATE_USER) == {}
    assert kinds(registry, accepted.execution_id).count("step_undone") == 2


@pytest.mark.parametrize("end", [Status.FAILED, Status.CANCELLED])
def test_another_build_of_an_execution_goes_on_where_the_one_before_failed(registry: Registry, end: Status) -> None:
    accepted = an_execution(registry)
    for step in (Step.CREATE_USER, Step.CREATE_SESSION, Step.GATHER_REQUIREMENTS, Step.CREATE_PLAN):
        registry.finish_step(accepted.run_id, step, {"of": step.task_name})
    registry.fail_step(accepted.run_id, Step.GENERATE_CODE, "it went wrong")
    registry.set_status(accepted.execution_id, end)
    run = registry.adopt_run(accepted.execution_id, Verb.FULL_BUILD, "flow-again")
    assert run.run_id != accepted.run_id
    assert registry.begin_step(run.run_id, Step.CREATE_USER) is None, "who the run is, it says itself"
    assert registry.begin_step(run.run_id, Step.GATHER_REQUIREMENTS) == {"of": "gather_requirements"}
    assert registry.begin_step(run.run_id, Step.CREATE_PLAN) == {"of": "create_plan"}
    assert registry.begin_step(run.run_id, Step.GENERATE_CODE) is None
    assert registry.failure_of(run.run_id) is None


def test_another_build_after_one_that_went_well_begins_anew(registry: Registry) -> None:
    accepted = a_finished_execution(registry)
    run = registry.adopt_run(accepted.execution_id, Verb.FULL_BUILD, "flow-again")
    assert registry.begin_step(run.run_id, Step.CREATE_PLAN) is None


def test_a_crash_is_counted_once_whoever_sees_it(registry: Registry) -> None:
    accepted = an_execution(registry)
    assert registry.note_crash(accepted.run_id, "state-1") == (1, True)
    assert registry.note_crash(accepted.run_id, "state-1") == (1, False)
    assert registry.note_crash(accepted.run_id, "state-2") == (2, True)
    found = at_once([lambda: registry.note_crash(accepted.run_id, "state-3")] * 8)
    assert sorted(str(each) for each in found) == ["(3, False)"] * 7 + ["(3, True)"]
