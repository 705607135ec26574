"""What the front door keeps in the record: who may come in, what waits, what was shown, which hook is paused."""

import pytest

from tasks.adapters.registry import Admission, QueueFull, QuotaSpent, Registry, RunWaits
from tasks.adapters.registry.keys import LINKS_KEPT
from tasks.domain.errors import DeliveryConflict, UnknownExecution
from tasks.domain.pipeline import Status, Step, Verb
from tests.tasks.adapters.registry.orders import a_finished_execution, a_request, an_execution, at_once, counts, kinds


def test_a_key_is_found_by_its_hash_until_it_is_revoked(registry: Registry) -> None:
    made = registry.add_key("the form", "hash", ["order", "read"])
    assert registry.key_of("hash") == made
    assert made.scopes == {"order", "read"}
    assert registry.key_of("other") is None
    assert registry.revoke_key(made.key_id)
    assert registry.key_of("hash") is None
    assert not registry.revoke_key(made.key_id)
    (listed,) = registry.api_keys()
    assert listed.revoked_at is not None


def test_a_link_is_good_for_one_execution(registry: Registry) -> None:
    one = registry.accept(a_request(), "one", link_sha256="first")
    two = registry.accept(a_request(), "two", link_sha256="second")
    assert registry.linked_execution("first") == one.execution_id
    assert registry.linked_execution("second") == two.execution_id
    assert registry.linked_execution("third") is None
    assert registry.revoke_links(one.execution_id) == 1
    assert registry.linked_execution("first") is None
    with pytest.raises(UnknownExecution):
        registry.add_link("a1b2c3d4_sess20260124143022", "fourth")


def test_a_request_that_is_repeated_gets_one_more_link_and_not_without_end(registry: Registry) -> None:
    accepted = [registry.accept(a_request(), "k", link_sha256=f"link-{n:03d}") for n in range(LINKS_KEPT + 3)]
    assert len({each.execution_id for each in accepted}) == 1
    assert counts(registry)["links"] == LINKS_KEPT + 1
    assert registry.linked_execution("link-000") == accepted[0].execution_id, "the first is somebody's way in"
    assert registry.linked_execution("link-001") is None
    assert registry.linked_execution(f"link-{LINKS_KEPT + 2:03d}") == accepted[0].execution_id


def test_the_queue_is_bounded_also_for_many_at_once(registry: Registry) -> None:
    room = Admission(max_queue=3, max_per_user_day=100)
    calls = [
        lambda n=n: registry.accept(a_request(email=f"u{n}@example.com"), f"k{n}", admission=room)  # type: ignore[misc]
        for n in range(12)
    ]
    found = at_once(calls)
    assert sum(isinstance(each, QueueFull) for each in found) == 9
    assert counts(registry)["executions"] == 3
    assert counts(registry)["deliveries"] == 3, "what was turned away may come again under its key"
    again = registry.accept(a_request(email="late@example.com"), "free", admission=Admission(4, 100))
    assert again.created


def test_one_users_orders_of_a_day_are_counted_and_a_repeat_is_none(registry: Registry) -> None:
    quota = Admission(max_queue=100, max_per_user_day=2)
    for key in ("a", "b", "a", "b"):
        registry.accept(a_request(), key, admission=quota)
    with pytest.raises(QuotaSpent) as refused:
        registry.accept(a_request(email="ANA@example.com"), "c", admission=quota)
    assert 86_000 < refused.value.retry_after_s <= 86_400
    registry.accept(a_request(email="ben@example.com"), "d", admission=quota)


def test_a_run_is_asked_to_end_once_and_not_when_it_is_over(registry: Registry) -> None:
    accepted = an_execution(registry)
    assert registry.request_cancel(accepted.execution_id) == [accepted.run_id]
    assert registry.request_cancel(accepted.execution_id) == [accepted.run_id]
    assert kinds(registry, accepted.execution_id).count("cancel_requested") == 1
    (run,) = registry.cancel_requests()
    assert (run.run_id, run.cancel_requested) == (accepted.run_id, True)
    registry.set_status(accepted.execution_id, Status.CANCELLED)
    assert registry.cancel_requests() == []
    assert registry.request_cancel(accepted.execution_id) == []
    again = registry.adopt_run(accepted.execution_id, Verb.FULL_BUILD, "flow-first", attempt=2)
    assert not again.cancel_requested, "who starts it again wants it"
    assert registry.cancel_requests() == []


def test_a_run_that_crashes_while_it_is_asked_to_end_is_still_to_end(registry: Registry) -> None:
    accepted = an_execution(registry)
    registry.request_cancel(accepted.execution_id)
    again = registry.adopt_run(accepted.execution_id, Verb.FULL_BUILD, "flow-first", attempt=2)
    assert (again.attempt, again.cancel_requested) == (2, True)
    assert [run.run_id for run in registry.cancel_requests()] == [accepted.run_id]


def test_a_teardown_is_not_cancelled_halfway(registry: Registry) -> None:
    accepted = a_finished_execution(registry)
    registry.request_run(accepted.execution_id, Verb.TEARDOWN, "t")
    assert registry.request_cancel(accepted.execution_id) == []


def test_what_a_run_is_told_is_kept_with_it(registry: Registry) -> None:
    accepted = a_finished_execution(registry)
    told = {"release": "r1-0123456789ab"}
    run_id = registry.request_run(accepted.execution_id, Verb.ROLLBACK, "k", told)
    assert registry.request_run(accepted.execution_id, Verb.ROLLBACK, "k", told) == run_id
    assert registry.request_run(accepted.execution_id, Verb.ROLLBACK, "k2", told) == run_id
    with pytest.raises(DeliveryConflict):
        registry.request_run(accepted.execution_id, Verb.ROLLBACK, "k", None)
    with pytest.raises(RunWaits):
        registry.request_run(accepted.execution_id, Verb.ROLLBACK, "k3", None)
    (run,) = registry.undispatched()
    assert run.parameters == told


def test_the_last_screen_is_one_row(registry: Registry) -> None:
    accepted = an_execution(registry)
    assert registry.screen(accepted.execution_id) is None
    for body in ("one", "two"):
        registry.write_screen(accepted.execution_id, body)
    found = registry.screen(accepted.execution_id)
    assert found is not None
    assert found.body == "two"
    assert counts(registry)["screens"] == 1
    registry.write_screen("a1b2c3d4_sess20260124143022", "nobody's")
    assert counts(registry)["screens"] == 1


def test_a_hook_is_paused_by_failures_in_a_row_and_by_those_alone(registry: Registry) -> None:
    assert registry.hook("form").failures == 0
    for expected in (1, 2):
        assert registry.hook_failed("form", "email: missing", 3).failures == expected
    registry.hook_worked("form")
    for _ in range(2):
        assert registry.hook_failed("form", "email: missing", 3).paused_at is None
    assert registry.hook_failed("form", "email: missing", 3).paused_at is not None
    assert registry.hook("form").reason == "email: missing"
    assert registry.resume_hook("form")
    assert registry.hook("form").paused_at is None
    assert not registry.resume_hook("form")


def test_executions_are_found_page_by_page_by_words_status_and_user(registry: Registry) -> None:
    made = [registry.accept(a_request(email=f"u{n % 2}_x@example.com"), f"k{n}") for n in range(5)]
    registry.adopt_run(made[0].execution_id, Verb.FULL_BUILD, "flow")
    registry.begin_step(made[0].run_id, Step.CREATE_USER)
    everybody = registry.find_executions()
    assert {each.execution_id for each in everybody} == {each.execution_id for each in made}
    paged, before = [], None
    while page := registry.find_executions(before=before, limit=2):
        paged += page
        before = (page[-1].created_at, page[-1].execution_id)
    assert paged == everybody
    assert len(registry.find_executions("U1_")) == 2
    assert registry.find_executions("%") == []
    assert [each.execution_id for each in registry.find_executions(status=Status.RUNNING)] == [made[0].execution_id]
    assert len(registry.find_executions(user_id=made[0].user_id)) == 3
    assert made[1].execution_id in {each.execution_id for each in registry.find_executions(made[1].user_id[:8])}


def test_the_newest_event_of_many_executions_is_told_at_one_look(registry: Registry) -> None:
    one, two = an_execution(registry, "one"), an_execution(registry, "two")
    registry.write_screen(two.execution_id, "x")
    found = registry.newest([one.execution_id, two.execution_id, "nobody"])
    for each in (one, two):
        seq = registry.events(each.execution_id, limit=1000)[-1].seq
        assert found[each.execution_id][0] == seq
        assert registry.has_event(each.execution_id, seq)
        assert not registry.has_event(each.execution_id, seq + 1000)
    assert found[one.execution_id][1] is None
    assert found[two.execution_id][1] is not None
    assert registry.newest([]) == {}


def test_steps_are_those_of_the_run_that_is_shown(registry: Registry) -> None:
    accepted = a_finished_execution(registry)
    verb, done = registry.steps_of(accepted.execution_id)
    assert (verb, [each.step for each in done]) == (Verb.FULL_BUILD, list(Step))
    assert registry.ever_did(accepted.execution_id, Step.GENERATE_CODE)
    registry.request_run(accepted.execution_id, Verb.REDEPLOY, "again")
    assert registry.steps_of(accepted.execution_id) == (Verb.REDEPLOY, [])
    assert registry.ever_did(accepted.execution_id, Step.GENERATE_CODE)
    assert registry.owner_of(accepted.execution_id) == accepted.user_id
    assert registry.owner_of("../etc") is None
    assert registry.email_of(accepted.user_id) == "ana@example.com"


def test_a_conversation_is_read_from_its_end(registry: Registry) -> None:
    accepted = an_execution(registry)
    ids = [registry.post_message(accepted.execution_id, "agent", f"{number}") for number in range(7)]
    last = registry.last_messages(accepted.execution_id, limit=3)
    assert [each.message_id for each in last] == ids[-3:]
    before = registry.last_messages(accepted.execution_id, before_id=ids[-3], limit=3)
    assert [each.message_id for each in before] == ids[1:4]
    assert registry.last_messages("a1b2c3d4_sess20260124143022") == []


def test_what_goes_on_is_counted_and_named(registry: Registry) -> None:
    waiting = registry.accept(a_request(), "waiting")
    running = an_execution(registry, "running")
    finished = a_finished_execution(registry, "finished")
    assert registry.count_runs() == {Status.PENDING: 1, Status.RUNNING: 1}
    leads = registry.leading_runs([running.execution_id, finished.execution_id])
    assert {key: run.flow_run_id for key, run in leads.items()} == {
        running.execution_id: "flow-running",
        finished.execution_id: "flow-finished",
    }
    assert registry.unfinished_runs(finished.execution_id) == []
    registry.request_run(finished.execution_id, Verb.ROLLBACK, "back")
    assert [run.verb for run in registry.unfinished_runs(finished.execution_id)] == [Verb.ROLLBACK]
    assert [run.run_id for run in registry.unfinished_runs(waiting.execution_id)] == [waiting.run_id]
    assert registry.slots_taken("agent") == 0
    registry.take_slot("agent", running.run_id, 1, 1)
    assert registry.slots_taken("agent") == 1
