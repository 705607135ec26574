"""What gives a person away is seen in its spellings, and nobody else is taken for them."""

import pytest

from tasks.domain.traces import Traces

ANA = Traces(
    ["Ana@Example.com"],
    ["+4915112345678"],
    ["A dark portfolio for Ana Reis\nwith a projects gallery", "a bakery"],
)


@pytest.mark.parametrize(
    "text",
    [
        "ana@example.com",
        "<ANA@EXAMPLE.COM>, hello",
        "the address 'ana@example.com' is taken.",
        "write to ana@example.com.",
        "+49 151 1234 5678",
        "(4915112345678)",
        "it said: with a projects gallery, and so on",
    ],
)
def test_every_spelling_is_seen_and_blackened_at_its_length(text: str) -> None:
    assert ANA.found_in(text)
    black = ANA.blackened(text.encode())
    assert black != text.encode()
    assert len(black) == len(text.encode())
    assert not ANA.found_in(black.decode())


@pytest.mark.parametrize(
    "text",
    [
        "diana@example.com",
        "ana@example.com.au",
        "x-ana@example.com",
        "914915112345678",
        "a bakery",
        "ana at example.com",
    ],
)
def test_what_is_somebody_elses_stays(text: str) -> None:
    assert not ANA.found_in(text)
    assert ANA.blackened(text.encode()) == text.encode()


def test_bytes_that_are_no_text_stay_as_they_are() -> None:
    assert ANA.blackened(b"\xff\xfe ana@example.com \x80") == b"\xff\xfe xxxxxxxxxxxxxxx \x80"


def test_nobody_leaves_no_traces() -> None:
    assert not Traces([]).found_in("anything at all, ana@example.com")
    assert Traces([]).blackened(b"anything") == b"anything"
