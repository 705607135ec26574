"""Which language a text is in, and which way it runs."""

import re
from dataclasses import dataclass

from . import lexicon

RTL = frozenset({"ar", "he", "fa"})

_SCRIPTS: tuple[tuple[str, str], ...] = (
    ("ja", r"[\u3040-\u30ff]"),
    ("ko", r"[\uac00-\ud7af\u1100-\u11ff]"),
    ("zh", r"[\u3400-\u9fff]"),
    ("ar", r"[\u0600-\u06ff\u0750-\u077f]"),
    ("he", r"[\u0590-\u05ff]"),
    ("hi", r"[\u0900-\u097f]"),
    ("el", r"[\u0370-\u03ff\u1f00-\u1fff]"),
    ("ru", r"[\u0400-\u04ff]"),
    ("latin", r"[A-Za-z\u00c0-\u024f]"),
)
_DENSE = {"ja": 3.0, "zh": 3.0, "ko": 2.0}  # one character of these says what several Latin letters say
_LATIN = ("en", "de", "fr", "es", "it", "pt", "nl", "pl", "tr")
_MARKS = {
    "de": "äöüß",
    "fr": "àâçèêëîïôûùœ",
    "es": "ñ¿¡áíóú",
    "it": "àèìòù",
    "pt": "ãõçáéâêô",
    "nl": "ĳ",
    "pl": "ąćęłńśźż",
    "tr": "ğışöüç",
}


@dataclass(frozen=True)
class Language:
    """``sure`` is False where nothing in the text told; it is English then."""

    code: str
    sure: bool = True

    @property
    def direction(self) -> str:
        return "rtl" if self.code in RTL else "ltr"


def detect(text: str) -> Language:
    """What the text asks for ("in German"), else the language that it is written in.

    >>> detect("Eine Website für unsere Bäckerei mit Speisekarte").code, detect("مكتب محاماة").code
    ('de', 'ar')
    """
    if named := asked(lexicon.Folded(text)):
        return named
    counts = {code: len(re.findall(letters, text)) * _DENSE.get(code, 1.0) for code, letters in _SCRIPTS}
    if counts["ja"]:
        counts["ja"] += counts.pop("zh")
    script = max(counts, key=lambda code: counts[code])
    if not counts[script]:
        return Language("en", sure=False)
    match script:
        case "latin":
            return _latin(text)
        case "ar":
            persian = len(re.findall(r"[پچژگ\u06cc\u06a9]", text))
            return Language("fa" if persian >= 2 else "ar")
        case "ru":
            if re.search(r"[іїєґІЇЄҐ]", text):
                return Language("uk")
            beginning = lexicon.Folded(text[:2000])
            return Language("uk" if _terms_of("uk", beginning) > _terms_of("ru", beginning) else "ru")
    return Language(script)


def asked(folded: lexicon.Folded) -> Language | None:
    """The language that the text asks for by name."""
    for code in lexicon.CODES:
        names = lexicon.words(code, "names", with_english=False)
        if next(folded.hits(code, lexicon.pattern(names)), None):
            return Language(code)
    return None


def _latin(text: str) -> Language:
    tokens = re.findall(r"[\w'’-]+", text.casefold())
    scores: dict[str, float] = {}
    for code in _LATIN:
        stop = set(lexicon.words(code, "stop", with_english=False))
        marks = sum(text.casefold().count(mark) for mark in _MARKS.get(code, ""))
        scores[code] = sum(1.0 for token in tokens if token in stop) + 0.34 * min(marks, 12)
    if len(tokens) <= 12 or max(scores.values()) < 2:
        beginning = lexicon.Folded(text[:2000])
        for code in _LATIN:
            scores[code] += 0.9 * _terms_of(code, beginning)
    best = max(_LATIN, key=lambda code: (scores[code], code == "en"))
    return Language(best, sure=scores[best] > 0)


def _terms_of(code: str, folded: lexicon.Folded) -> int:
    """How many words of kinds and sections the text has in just this language."""
    listed: list[str] = []
    for name in ("kinds", "sections"):
        for by_code in lexicon.table(name).values():
            listed += lexicon.terms(by_code.get(code, ""))
    return sum(1 for _ in folded.hits(code, lexicon.pattern(tuple(listed))))
