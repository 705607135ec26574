"""The site's own words, in every language."""

import re
import tomllib
from pathlib import Path

import pytest

from tasks.adapters.agents.offline import lexicon, outline
from tasks.adapters.agents.offline.voice import Voice, speak

FOLDER = Path(lexicon.__file__).parent.parent / "voices"
ENGLISH = tomllib.loads((FOLDER / "en.toml").read_text())


def shape(words: dict[str, dict[str, object]]) -> dict[str, object]:
    """Keys, lengths of lists and the gaps in phrases: what every language has to share."""
    return {
        f"{group}.{key}": len(value) if isinstance(value, list) else sorted(re.findall(r"\{\w+\}", str(value)))
        for group, entries in words.items()
        for key, value in entries.items()
    }


@pytest.mark.parametrize("code", lexicon.CODES)
def test_every_language_says_everything(code: str) -> None:
    assert shape(tomllib.loads((FOLDER / f"{code}.toml").read_text())) == shape(ENGLISH)


@pytest.mark.parametrize("code", lexicon.CODES)
def test_every_kind_and_section_has_words(code: str) -> None:
    voice = speak(code)
    for kind in lexicon.table("kinds"):
        assert voice.line(kind)
        assert len(voice.offers(kind)) == 4
    for section in (*outline.ORDER, "home"):
        assert voice.section(section)


def test_every_concept_is_known_in_every_language() -> None:
    for name in ("kinds", "sections"):
        for concept, by_code in lexicon.table(name).items():
            assert set(by_code) == set(lexicon.CODES), f"{name}.{concept}"


def test_a_name_with_braces_is_a_name() -> None:
    assert (
        Voice("en", ENGLISH).say("thanks", name="{name}{{7*7}}") == "Thank you, {name}{{7*7}}! Your message is ready."
    )
