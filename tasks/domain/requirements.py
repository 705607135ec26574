"""Requirement text as numbered requirements with acceptance criteria. It splits, it does not guess."""

import re
import unicodedata

from pydantic import BaseModel, ConfigDict

from tasks.domain.markdown import cell, quoted

MAX_ITEMS = 40


class Requirement(BaseModel):
    model_config = ConfigDict(frozen=True)

    id: str
    text: str
    acceptance: tuple[str, ...]


class Requirements(BaseModel):
    """``requirements.json``: the request's words, untouched in ``text``, and what they come down to in ``items``."""

    model_config = ConfigDict(frozen=True)

    text: str
    items: tuple[Requirement, ...]


_BULLET = re.compile(r"^\s*(?:[-*•–·]|\d{1,3}[.)])\s+")
_SENTENCE = re.compile(r"(?<=[.!?])\s+(?=\S)|(?<=[。！？؟])\s*(?=\S)|[;；؛]\s*")
_WITH = re.compile(
    r"^(?P<head>.{3,}?)[,:]?\s(?:with|including|mit|avec|con|com|met|med)\s(?P<list>.+)$", re.IGNORECASE | re.DOTALL
)
_LIST = re.compile(r"\s*(?:,|、|،)\s*(?:(?:and|und|et|y|e|en|og|och)\s+)?|\s+(?:and|und|et|y)\s+", re.IGNORECASE)


def parse_requirements(text: str) -> Requirements:
    """Split into lines, sentences and the parts of a "with a, b and c" list; number what remains.

    Blanks are collapsed first: the patterns here are linear only where these are single.

    >>> [item.text for item in parse_requirements("A bakery site with a menu, prices and a map. Keep it light!").items]
    ['A bakery site', 'a menu', 'prices', 'a map', 'Keep it light']
    """
    seen: dict[str, str] = {}
    for line in text.splitlines():
        collapsed = f"{' '.join(line.split())} "  # a bullet is one by the blank behind it
        for sentence in _SENTENCE.split(_BULLET.sub("", collapsed)):
            for part in _parts(sentence):
                key = unicodedata.normalize("NFKC", part).casefold()
                if re.search(r"\w", part) and key not in seen:
                    seen[key] = part
    kept = list(seen.values())
    if len(kept) > MAX_ITEMS:
        kept = [*kept[: MAX_ITEMS - 1], " ".join(kept[MAX_ITEMS - 1 :])]
    items = tuple(
        Requirement(id=f"R{number}", text=part, acceptance=_acceptance(part)) for number, part in enumerate(kept, 1)
    )
    return Requirements(text=text, items=items)


def _parts(sentence: str) -> list[str]:
    sentence = sentence.strip().rstrip(".!。！;,、")
    match = _WITH.match(sentence)
    if not match:
        return [sentence] if sentence else []
    listed = [part.strip() for part in _LIST.split(match["list"]) if part and part.strip()]
    return [match["head"].strip(), *listed] if len(listed) > 1 else [sentence]


_CRITERIA: tuple[tuple[str, str], ...] = (
    (
        r"contact|booking|form\b|kontakt|contacto|contato|formular",
        "A form has labelled fields and answers a complete submission.",
    ),
    (
        r"gallery|portfolio|projects?|galerie|galer[ií]a",
        "Each item of the gallery has an image with alternative text and a title.",
    ),
    (r"\bdark\b|dunkel|sombre|oscur|escur", "Text on the dark background has a contrast of at least 4.5 to 1."),
    (r"\blight\b|hell\b", "The background is light and text on it has a contrast of at least 4.5 to 1."),
    (r"menu|speisekarte|carta|pric|preis|prix|precio", "Each entry shows a name and a price."),
    (r"blog|news|aktuell|actualit|noticia", "Entries are listed with a title and a date."),
    (r"\bfaq\b|questions|fragen|preguntas", "Each question is followed by its answer."),
    (r"hours|öffnungszeiten|horaire|horario", "Opening hours are listed by day."),
    (r"mobile|phone|responsive|handy|móvil", "At 390 px width nothing scrolls sideways."),
)


def _acceptance(text: str) -> tuple[str, ...]:
    known = tuple(criterion for pattern, criterion in _CRITERIA if re.search(pattern, text, re.IGNORECASE))
    return known or ("A visitor of the site can see that this was done.",)


def as_markdown(requirements: Requirements) -> str:
    """``requirements.md``. The request's words are quoted, so that they cannot pose as headings or instructions."""
    lines = ["# Requirements", "", "The request, word for word:", ""]
    lines += [quoted(requirements.text)]
    lines += ["", "| id | requirement | done when |", "|---|---|---|"]
    lines += [f"| {item.id} | {cell(item.text)} | {cell(' '.join(item.acceptance))} |" for item in requirements.items]
    return "\n".join(lines) + "\n"
