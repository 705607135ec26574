"""Questions to people: asked once, answered once, by whoever is first, and not after their time."""

import time

import pytest

from tasks.adapters.registry import Question, Registry
from tests.tasks.adapters.registry.orders import an_execution, at_once, kinds


def ask(registry: Registry, run_id: str, number: int = 1, ttl_s: float = 600) -> Question:
    return registry.ask_question(run_id, "plan", number, "Shall this be built?", ttl_s)


def test_a_question_is_asked_once_however_often_a_run_comes_to_it(registry: Registry) -> None:
    accepted = an_execution(registry)
    first = ask(registry, accepted.run_id)
    assert ask(registry, accepted.run_id) == first
    assert first.answer is None
    assert registry.open_question(accepted.execution_id) == first
    assert ask(registry, accepted.run_id, 2).question_id != first.question_id
    assert kinds(registry, accepted.execution_id).count("asked") == 2


def test_the_first_answer_stands(registry: Registry) -> None:
    accepted = an_execution(registry)
    question = ask(registry, accepted.run_id)
    kept = registry.answer_question(question.question_id, {"decision": "approve"}, "api")
    late = registry.answer_question(question.question_id, {"decision": "reject"}, "Prefect UI")
    assert kept == late
    assert (late.answer, late.answered_by) == ({"decision": "approve"}, "api")
    assert registry.open_question(accepted.execution_id) is None
    assert kinds(registry, accepted.execution_id).count("answered") == 1
    assert registry.questions(accepted.execution_id, "plan") == [kept]


def test_of_twenty_answers_at_once_one_stands(registry: Registry) -> None:
    accepted = an_execution(registry)
    question = ask(registry, accepted.run_id)
    answers = [
        lambda number=number: registry.answer_question(question.question_id, {"number": number}, f"person {number}")
        for number in range(20)
    ]
    found = at_once(answers)
    assert len({str(each.answer) for each in found if isinstance(each, Question)}) == 1
    assert not [each for each in found if isinstance(each, Exception)]


def test_an_answer_after_its_time_is_not_kept(registry: Registry) -> None:
    accepted = an_execution(registry)
    question = ask(registry, accepted.run_id, ttl_s=0.05)
    time.sleep(0.1)
    assert registry.open_question(accepted.execution_id) is None
    assert registry.answer_question(question.question_id, {"decision": "approve"}, "api").answer is None


def test_a_question_that_nobody_asked_cannot_be_answered(registry: Registry) -> None:
    with pytest.raises(LookupError, match="open_question"):
        registry.answer_question("no-such-question", {}, "api")
