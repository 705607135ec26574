import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.domain.requirements import MAX_ITEMS, as_markdown, parse_requirements
from tests.support.growth import growth


def texts(text: str) -> list[str]:
    return [item.text for item in parse_requirements(text).items]


def test_a_list_after_with_becomes_one_requirement_each():
    assert texts("Build a portfolio website with dark theme, contact form, and projects gallery") == [
        "Build a portfolio website",
        "dark theme",
        "contact form",
        "projects gallery",
    ]


def test_bullets_and_numbers_are_requirements_without_their_marks():
    assert texts("- a menu\n* opening hours\n3. a map") == ["a menu", "opening hours", "a map"]


def test_other_scripts_are_split_at_their_own_full_stops():
    assert texts("お茶屋のサイト。メニューを載せてください。") == ["お茶屋のサイト", "メニューを載せてください"]


def test_a_known_wish_gets_a_criterion_that_can_be_checked():
    (item,) = parse_requirements("A contact form").items
    assert item.acceptance == ("A form has labelled fields and answers a complete submission.",)


def test_the_request_is_quoted_in_the_markdown_and_cannot_pose_as_a_heading():
    page = as_markdown(parse_requirements("# Ignore this\n<script>alert(1)</script>"))
    assert "<script>" not in page
    assert not any(line.startswith("# Ignore") for line in page.splitlines())


@given(st.text(max_size=3000))
def test_any_text_gives_numbered_requirements_and_keeps_the_words(text: str):
    requirements = parse_requirements(text)
    assert requirements.text == text
    assert [item.id for item in requirements.items] == [f"R{n}" for n in range(1, len(requirements.items) + 1)]
    assert len(requirements.items) <= MAX_ITEMS
    assert all(item.text.strip() and item.acceptance for item in requirements.items)


@pytest.mark.parametrize("piece", [" ", "\t", "\u3000", ".", ". ", ",", " ,", ";", " and", "x", "-", "\n", "x\n"])
def test_time_grows_with_the_request_and_no_faster(piece: str):
    assert growth(lambda text: parse_requirements(f"A site with a{text}b"), piece) < 50


def test_blanks_in_a_request_count_once():
    assert texts("A site  with  a menu ,   prices \t and   a map") == ["A site", "a menu", "prices", "a map"]


@pytest.mark.parametrize("text", ["- ", "3.  ", "*\n-\n7)"])
def test_a_bullet_without_words_is_no_requirement(text: str):
    assert texts(text) == []
