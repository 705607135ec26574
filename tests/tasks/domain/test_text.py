import unicodedata

from hypothesis import example, given
from hypothesis import strategies as st

from tasks.domain.text import plain_text

ANYTHING = st.text(st.characters())  # surrogates too
LETTERS = st.text(st.characters(categories=("L", "M", "N", "P", "S", "Zs")) | st.sampled_from("\n\t"))
DIRECTIONS = {"RLO", "LRO", "RLE", "LRE", "PDF", "LRI", "RLI", "FSI", "PDI"}


@given(ANYTHING)
@example("\x1b[201~\x9b\r\x7f\u202e\u2066\u200f\ufeff\u200b\ud800\U000e0041")
def test_nothing_is_left_that_a_terminal_or_an_eye_would_obey(text: str) -> None:
    plain = plain_text(text)
    assert not [c for c in plain if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t"]
    assert not [c for c in plain if unicodedata.bidirectional(c) in DIRECTIONS or c in "\u061c\u200e\u200f"]
    assert not [c for c in plain if c in "\u200b\u2060\ufeff" or 0xE0000 <= ord(c) <= 0xE007F]
    plain.encode()  # what no database and no page takes is gone


@given(LETTERS)
@example("Grüße, 北京, שלום, مرحبا 👋🏽\n\t– «x» 👩\u200d💻")
def test_texts_in_every_alphabet_are_left_as_they_are(text: str) -> None:
    assert plain_text(text) == text


@given(ANYTHING)
def test_a_second_time_changes_nothing(text: str) -> None:
    assert plain_text(plain_text(text)) == plain_text(text)
