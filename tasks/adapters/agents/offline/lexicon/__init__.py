"""Words that mean something to the generator, and the search for them.

The tables are TOML files beside this one. A term is a word or phrase; `*` stands for any letters. Case and accents do
not matter. Scripts that write without spaces, or glue particles to words, are searched without word boundaries.
"""

import re
import tomllib
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

CODES = (
    "en",
    "de",
    "fr",
    "es",
    "it",
    "pt",
    "nl",
    "pl",
    "tr",
    "ru",
    "uk",
    "el",
    "ar",
    "he",
    "fa",
    "hi",
    "ja",
    "zh",
    "ko",
)

_HERE = Path(__file__).parent
_GLUED = re.compile(r"[\u0590-\u07ff\u0900-\u0dff\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_NARROW_SCRIPT = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


@dataclass(frozen=True)
class Hit:
    """A term that stands in a text: ``start`` and ``end`` are offsets in the text as it was given."""

    concept: str
    start: int
    end: int


class Folded:
    """A text beside its form without case and accents, with the way back from one to the other."""

    def __init__(self, text: str) -> None:
        self.text = text
        folded: list[str] = []
        self._origin: list[int] = []
        for index, character in enumerate(text):
            for plain in fold(character):
                folded.append(plain)
                self._origin.append(index)
        self.folded = "".join(folded)
        self._origin.append(len(text))

    def hits(self, concept: str, pattern: re.Pattern[str]) -> Iterator[Hit]:
        for match in pattern.finditer(self.folded):
            if match.end() > match.start():
                yield Hit(concept, self._origin[match.start()], self._origin[match.end() - 1] + 1)


def fold(text: str) -> str:
    """
    >>> fold("Café ÖLS ß’s")
    "cafe ols ss's"
    """
    apart = unicodedata.normalize("NFKD", text.replace("’", "'"))
    return "".join(character for character in apart if not "\u0300" <= character <= "\u036f").casefold()


def terms(listed: str) -> list[str]:
    return [term.strip() for term in listed.split(",") if term.strip()]


@cache
def pattern(listed: tuple[str, ...]) -> re.Pattern[str]:
    """One expression that finds any of the terms in a folded text; the longest term wins."""
    parts = [_expression(term) for term in sorted(set(listed), key=lambda term: (-len(term), term))]
    return re.compile("|".join(parts) if parts else r"(?!)")


def _expression(term: str) -> str:
    bare = fold(term.strip("*"))
    body = re.escape(bare).replace(r"\*", r"\w*").replace(r"\ ", r"[\s-]+")
    if _GLUED.search(term):
        # Short Arabic and Hebrew words would be found inside longer ones; the particles that may precede are few.
        short = len(bare) <= 4 and not _NARROW_SCRIPT.search(term)
        return rf"(?<!\w)(?:[والبفكهבלמשכ]{{0,3}}){body}(?!\w)" if short else body
    before = r"\w*" if term.startswith("*") else ""
    after = r"\w*" if term.endswith("*") else ""
    return rf"(?<!\w){before}{body}{after}(?!\w)"


@cache
def table(name: str) -> dict[str, dict[str, Any]]:
    return tomllib.loads((_HERE / f"{name}.toml").read_text(encoding="utf-8"))


def find(name: str, code: str, text: Folded) -> list[Hit]:
    """Every term of a table (kinds or sections) in one language and English, by place; longer before shorter."""
    found: list[Hit] = []
    for concept, by_code in table(name).items():
        listed = terms(by_code.get(code, ""))
        if code != "en":
            listed += terms(by_code.get("en", ""))
        found += text.hits(concept, pattern(tuple(listed)))
    return sorted(found, key=lambda hit: (hit.start, -hit.end, hit.concept))


def find_named(name: str, group: str, text: Folded) -> list[Hit]:
    """Every term of a table without languages (themes, beyond)."""
    entries = table(name)[group] if group else table(name)
    found: list[Hit] = []
    for concept, listed in entries.items():
        words = listed["words"] if isinstance(listed, dict) else listed
        found += text.hits(concept, pattern(tuple(terms(words))))
    return sorted(found, key=lambda hit: (hit.start, -hit.end, hit.concept))


def words(code: str, group: str, *, with_english: bool = True) -> tuple[str, ...]:
    """The terms of one group of languages.toml."""
    own = terms(table("languages")[code].get(group, ""))
    english = terms(table("languages")["en"].get(group, "")) if with_english and code != "en" else []
    return tuple(own + english)


@cache
def phrases(group: str) -> tuple[str, ...]:
    """The words of one group of phrases.toml, for all languages."""
    loaded: dict[str, str] = tomllib.loads((_HERE / "phrases.toml").read_text(encoding="utf-8"))
    return tuple(terms(loaded[group].replace("\n", " ")))


@cache
def either(group: str) -> str:
    """A regular expression for any word of a group; the longest wins. Use it without regard to case."""
    return (
        "(?:" + "|".join(re.escape(word) for word in sorted(phrases(group), key=lambda word: (-len(word), word))) + ")"
    )


def says(group: str, text: str) -> bool:
    """Whether a word of a group stands in a text; a word in Latin letters on its own, others anywhere."""
    return any(
        re.search(rf"(?<!\w){re.escape(word)}(?!\w)" if word.isascii() else re.escape(word), text, re.IGNORECASE)
        for word in phrases(group)
    )


def asks(code: str, sentence: str) -> bool:
    """Whether a sentence asks something of the maker, where others tell of the requester."""
    folded = fold(sentence)
    begins = pattern(words(code, "start")).match(folded.lstrip(" -*•"))
    return bool(begins or pattern(words(code, "ask")).search(folded))


def negated(text: str, hit: Hit, code: str) -> bool:
    """Whether "no", "without" or the like stands within the two words before, or behind it in Japanese and Turkish."""
    before = re.split(r"[.!?;,\n]", text[max(0, hit.start - 28) : hit.start])[-1].split()[-3:]
    no = set(words(code, "no"))
    if code in {"ja", "ko", "tr", "zh"}:
        after = text[hit.end : hit.end + 8]
        return any(word in after for word in words(code, "no", with_english=False)) or any(
            word in "".join(before) for word in no if len(word) > 1 and code == "zh"
        )
    return any(word.casefold().strip("(\"'") in no for word in before)


def outermost(hits: Iterable[Hit]) -> list[Hit]:
    """Without the hits that lie inside a longer one of another concept.

    >>> [hit.concept for hit in outermost([Hit("contact", 0, 12), Hit("form", 8, 12)])]
    ['contact']
    """
    kept: list[Hit] = []
    for hit in sorted(hits, key=lambda hit: (-(hit.end - hit.start), hit.start, hit.concept)):
        inside = any(other.start <= hit.start and hit.end <= other.end and other != hit for other in kept)
        if not inside or any((other.start, other.end) == (hit.start, hit.end) for other in kept):
            kept.append(hit)
    return sorted(kept, key=lambda hit: (hit.start, -hit.end, hit.concept))
