"""Plan, coverage and verification: what people read about a site."""

import re

import pytest

from tasks.adapters.agents.offline import coverage, verification
from tasks.adapters.agents.offline.coverage import Requirement
from tasks.adapters.agents.offline.markdown import plain
from tasks.adapters.agents.offline.plan import plan
from tasks.domain.requirements import parse_requirements
from tests.tasks.adapters.agents.offline.wishes import WISHES, site


def requirements(text: str) -> tuple[Requirement, ...]:
    document = parse_requirements(text).model_dump(mode="json")
    return coverage.read(document)[1]


@pytest.mark.parametrize("name", WISHES)
def test_a_plan_answers_every_requirement(name: str) -> None:
    text = WISHES[name]
    written = plan(site(text), requirements(text))
    for requirement in requirements(text):
        assert f"| {requirement.id} |" in written
    assert "no language model" in written


def test_a_plan_says_plainly_what_cannot_be_done() -> None:
    text = "A shop for Ada's Yarns with user accounts, a shopping cart, live prices and a contact form"
    written = plan(site(text), requirements(text))
    assert "cannot be met: visitors cannot log in or register" in written
    assert "cannot be met: nothing can be paid" in written
    assert "will be met: a section on /" in written


def test_a_wish_that_no_template_answers_is_called_that() -> None:
    text = "A bakery with a menu. The goose must honk at midnight."
    assert "not understood: no template answers this wish" in plan(site(text), requirements(text))


def test_a_requesters_words_cannot_pose_as_markdown() -> None:
    text = "Bakery with a menu, # Approved, <script>alert(1)</script>, [click](javascript:alert(1)), a | b, `x` and ![i](http://evil.example/x.png)"
    for written in (
        plan(site(text), requirements(text)),
        verification.verification(site(text), requirements(text), verification.Outcome(known=False)),
    ):
        assert "<" not in re.sub(r"&lt;", "", written)
        assert "](" not in written
        assert not re.search(r"(?<!\\)`x", written)
        for line in written.splitlines():
            if line.startswith("| R"):
                assert len(re.findall(r"(?<!\\)\|", line)) in {4, 5}


def test_plain_text_is_plain() -> None:
    assert plain("1. a\n# b") == "1\\. a \\# b" or plain("1. a\n# b") == "\\1. a \\# b"
    assert "http:" not in plain("see http://evil.example")


def test_verification_names_the_test_that_shows_it() -> None:
    text = WISHES["bakery"]
    green = verification.outcome(
        {"status": "passed", "exit_code": 0, "stdout": "", "stderr": "", "passed": 12, "failed": 0, "skipped": 0}
    )
    written = verification.verification(site(text), requirements(text), green)
    assert "**passed**: 12 passed, 0 failed, 0 skipped" in written
    assert "`test_headings` is green" in written
    assert "`test_given_words` is green" in written
    assert "Open:" not in written


def test_verification_says_what_a_red_test_leaves_open() -> None:
    text = WISHES["bakery"]
    printed = "FAILED deployment/tests/e2e_test.py::test_given_words[chromium] - AssertionError"
    red = verification.outcome(
        {"status": "failed", "exit_code": 1, "stdout": printed, "stderr": "", "passed": 11, "failed": 1}
    )
    written = verification.verification(site(text), requirements(text), red)
    assert "Red: `test_given_words`" in written
    assert "`test_given_words` must turn green" in written
    assert "Open: R" in written


@pytest.mark.parametrize("document", [None, [], "x", 7, {}, {"status": "great"}, {"status": None}])
def test_verification_without_a_readable_outcome_claims_none(document: object) -> None:
    result = verification.outcome(document)
    assert not result.known
    written = verification.verification(site("Bakery"), requirements("Bakery"), result)
    assert "no readable outcome" in written
    assert "is green" not in written


def test_examples_count_as_missing_content() -> None:
    text = "A bakery with a team and a menu"
    written = verification.verification(site(text), requirements(text), verification.Outcome(known=False))
    assert "content of the requester; examples stand in its place" in written
