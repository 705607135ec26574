"""Notices in the record: written with what they tell, once, and one sender's at a time."""

import time
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import IntegrityError

from tasks.adapters.registry import Accepted, Notice, Registry
from tasks.adapters.registry.schema import notices
from tasks.domain.notice import Channel, NoticeState, Occasion
from tasks.domain.pipeline import Failure, Status, Step, Verb, Verdict
from tests.tasks.adapters.registry.orders import a_finished_execution, a_request, an_execution, at_once

LEASE_S = 60.0


def told(registry: Registry, accepted: Accepted, channel: Channel = Channel.EMAIL) -> list[Notice]:
    return registry.notices(accepted.execution_id, [channel])


def occasions(registry: Registry, accepted: Accepted, channel: Channel = Channel.EMAIL) -> list[Occasion]:
    return [notice.occasion for notice in told(registry, accepted, channel)]


def test_what_waits_is_done_or_has_failed_is_told_of_on_each_channel(registry: Registry) -> None:
    done = a_finished_execution(registry, "done")
    failed = an_execution(registry, "failed")
    error = Failure(step=1, step_name="create_user", message="no room; make some")
    registry.set_status(failed.execution_id, Status.FAILED, error)
    (notice,) = told(registry, failed)
    assert (notice.occasion, notice.state, notice.attempts) == (Occasion.FAILED, NoticeState.PENDING, 0)
    assert notice.details["error"] == error.model_dump()
    paused = an_execution(registry, "paused")
    registry.set_status(paused.execution_id, Status.WAITING_INPUT)
    for channel in Channel:
        assert occasions(registry, done, channel) == [Occasion.COMPLETED]
        assert occasions(registry, failed, channel) == [Occasion.FAILED]
        assert occasions(registry, paused, channel) == [Occasion.WAITING_INPUT]


def test_what_is_no_news_is_not_told(quick_registry: Registry) -> None:
    accepted = an_execution(quick_registry)
    assert not quick_registry.set_status(accepted.execution_id, Status.RUNNING)
    quick_registry.set_status(accepted.execution_id, Status.CANCELLED)
    assert not quick_registry.set_status(accepted.execution_id, Status.FAILED), "it is over"
    look = quick_registry.adopt_run(accepted.execution_id, Verb.REVERIFY, "look")
    quick_registry.set_status(accepted.execution_id, Status.FAILED, run_id=look.run_id)
    assert occasions(quick_registry, accepted) == []


def test_each_question_is_told_of_once_also_while_the_run_stays_waiting(registry: Registry) -> None:
    accepted = an_execution(registry)
    for number in (1, 1, 2):
        registry.close_questions(accepted.run_id, "the next one")
        registry.ask_question(accepted.run_id, "agent", number, f"Dark or light? {number}", 600)
        registry.set_status(accepted.execution_id, Status.WAITING_INPUT)
    asked = registry.questions(accepted.execution_id, "agent")
    assert [notice.question_id for notice in told(registry, accepted)] == [each.question_id for each in asked]
    assert len(asked) == 2
    again = {"notice_id": "n", "execution_id": accepted.execution_id, "run_id": accepted.run_id, "details": {}}
    about = {"occasion": "waiting_input", "channel": "email", "question_id": asked[0].question_id}
    with pytest.raises(IntegrityError), registry.engine.begin() as connection:
        connection.execute(notices.insert().values(**again, **about))


def test_a_notice_is_there_exactly_when_the_status_is(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    accepted = an_execution(registry)

    def killed(*_anything: object, **_more: object) -> None:
        raise KeyboardInterrupt

    for part in ("_note", "_announce"):
        monkeypatch.setattr(registry, part, killed)
        with pytest.raises(KeyboardInterrupt):
            registry.set_status(accepted.execution_id, Status.FAILED)
        monkeypatch.undo()
        assert occasions(registry, accepted) == []
        assert registry.execution(accepted.execution_id).status is Status.RUNNING
    registry.set_status(accepted.execution_id, Status.FAILED)
    assert occasions(registry, accepted) == [Occasion.FAILED]


def test_an_attempt_that_fails_again_is_told_again_and_says_what_was_done(quick_registry: Registry) -> None:
    accepted = an_execution(quick_registry)
    quick_registry.set_status(accepted.execution_id, Status.FAILED)
    quick_registry.adopt_run(accepted.execution_id, Verb.FULL_BUILD, "flow-first", attempt=2)
    for step in Step:
        quick_registry.finish_step(accepted.run_id, step, {}, begin_next=Step(step + 1) if step < 9 else None)
    quick_registry.set_status(accepted.execution_id, Status.COMPLETED, verdict=Verdict.FAILED_CHECKS)
    redeploy = quick_registry.adopt_run(accepted.execution_id, Verb.REDEPLOY, "again")
    quick_registry.begin_step(redeploy.run_id, Step.DEPLOY)
    quick_registry.set_status(accepted.execution_id, Status.COMPLETED, run_id=redeploy.run_id)
    failed, completed, again = told(quick_registry, accepted)
    assert (failed.occasion, completed.occasion, again.occasion) == ("failed", "completed", "completed")
    assert completed.details["verdict"] == Verdict.FAILED_CHECKS
    assert [notice.details["verb"] for notice in (completed, again)] == [Verb.FULL_BUILD, Verb.REDEPLOY]


def test_an_order_is_told_of_only_where_that_is_asked_and_only_to_the_requester(quick_registry: Registry) -> None:
    quiet = quick_registry.accept(a_request(), "quiet")
    assert quick_registry.notices(quiet.execution_id) == []
    for link in ("first", "second"):
        accepted = quick_registry.accept(a_request(), "form", announce=True, first_link_sha256=link)
    (notice,) = quick_registry.notices(accepted.execution_id)
    assert (notice.occasion, notice.channel) == (Occasion.ACCEPTED, Channel.EMAIL)
    assert quick_registry.linked_execution("first") == accepted.execution_id
    assert quick_registry.linked_execution("second") is None, "the delivery came before"


def test_of_ten_senders_at_once_one_gets_the_notice(registry: Registry) -> None:
    accepted = a_finished_execution(registry)
    found = at_once([lambda: registry.claim_notice(Channel.EMAIL, LEASE_S)] * 10)
    assert not [each for each in found if isinstance(each, Exception)], found
    (mine,) = [each for each in found if isinstance(each, Notice)]
    assert (mine.execution_id, mine.attempts, mine.channel) == (accepted.execution_id, 1, Channel.EMAIL)


def test_of_five_notices_five_senders_at_once_get_one_each(registry: Registry) -> None:
    for key in "abcde":
        a_finished_execution(registry, key)
    got: list[str] = []
    for _round in range(5):  # SKIP LOCKED may leave one behind for who comes next
        found = at_once([lambda: registry.claim_notice(Channel.WEBHOOK, LEASE_S)] * 5)
        got += [each.notice_id for each in found if isinstance(each, Notice)]
    assert len(got) == len(set(got)) == 5


def test_a_sender_that_dies_leaves_the_notice_to_another_under_the_same_id(registry: Registry) -> None:
    a_finished_execution(registry)
    first = registry.claim_notice(Channel.EMAIL, 0.2)
    assert first is not None
    assert registry.claim_notice(Channel.EMAIL, LEASE_S) is None
    time.sleep(0.3)
    second = registry.claim_notice(Channel.EMAIL, LEASE_S)
    assert second is not None
    assert (second.notice_id, second.attempts) == (first.notice_id, 2)


def test_what_was_sent_is_over_and_a_late_failure_does_not_bring_it_back(registry: Registry) -> None:
    accepted = a_finished_execution(registry)
    first = registry.claim_notice(Channel.EMAIL, 0.0)
    second = registry.claim_notice(Channel.EMAIL, LEASE_S)
    assert first is not None
    assert second is not None
    registry.notice_failed(first, "late", 0)
    assert registry.claim_notice(Channel.EMAIL, LEASE_S) is None, "the first one's failure says nothing of the second"
    registry.notice_sent(second)
    registry.notice_failed(second, "later", None)
    (notice,) = told(registry, accepted)
    assert (notice.state, notice.error) == (NoticeState.SENT, None)
    assert notice.sent_at is not None


def test_a_failure_says_when_it_is_tried_again_or_that_it_never_is(quick_registry: Registry) -> None:
    accepted = a_finished_execution(quick_registry)
    notice = quick_registry.claim_notice(Channel.EMAIL, LEASE_S)
    assert notice is not None
    quick_registry.notice_failed(notice, "no answer", 0.2)
    assert quick_registry.claim_notice(Channel.EMAIL, LEASE_S) is None
    time.sleep(0.3)
    again = quick_registry.claim_notice(Channel.EMAIL, LEASE_S)
    assert again is not None
    assert again.error == "no answer"
    quick_registry.notice_failed(again, "no answer again", None)
    (over,) = told(quick_registry, accepted)
    assert (over.state, over.error) == (NoticeState.GIVEN_UP, "no answer again")


def test_switching_a_channel_off_leaves_the_others(quick_registry: Registry) -> None:
    accepted = a_finished_execution(quick_registry)
    assert quick_registry.switch_off(Channel.EMAIL) == 1
    assert quick_registry.switch_off(Channel.EMAIL) == 0
    states = {notice.channel: notice.state for notice in quick_registry.notices(accepted.execution_id)}
    assert states == {Channel.EMAIL: "off", Channel.OPERATORS: "pending", Channel.WEBHOOK: "pending"}


def test_lists_of_many_executions_use_their_indexes(registry: Registry) -> None:
    """What the database says of the record's own queries; with few rows PostgreSQL is told not to sort or scan."""
    accepted = an_execution(registry)
    asked: list[tuple[str, Any]] = []
    listen = event.listens_for(registry.engine, "before_cursor_execute")
    listen(lambda _connection, _cursor, statement, parameters, *_more: asked.append((statement, parameters)))
    registry.executions()
    registry.find_executions(before=(datetime.now(UTC), accepted.execution_id))
    registry.active_runs()
    registry.count_runs()
    on_postgresql = registry.engine.dialect.name == "postgresql"
    plans = []
    with registry.engine.begin() as connection:
        for unwanted in ("seqscan", "sort", "bitmapscan") if on_postgresql else ():
            connection.execute(text(f"SET LOCAL enable_{unwanted} = off"))
        for statement, parameters in [each for each in asked if each[0].startswith("SELECT")]:
            explain = f"{'EXPLAIN' if on_postgresql else 'EXPLAIN QUERY PLAN'} {statement}"
            plans.append("\n".join(map(str, connection.exec_driver_sql(explain, parameters))))
    newest, page, active, counted = plans
    for plan in (newest, page):
        assert "ix_executions_created_at" in plan
        assert "Sort" not in plan
        assert "TEMP B-TREE" not in plan
    assert "runs_under_way" in counted
    if on_postgresql:  # SQLite takes the index of the flow runs' ids
        assert "runs_under_way" in active
