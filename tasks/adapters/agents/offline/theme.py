"""How a site shall look, as far as the text says: light or dark, moods, colours."""

import re
from dataclasses import dataclass

from . import facts, lexicon
from .brand import Brand
from .document import Document
from .lexicon import Hit

_HEX = re.compile(r"(?<![\w&])#([0-9a-fA-F]{6}|[0-9a-fA-F]{3})(?!\w)")


@dataclass(frozen=True)
class Theme:
    """``scheme`` is "dark", "light" or None where the text leaves it open; colours are hex codes, wished for first."""

    scheme: str | None = None
    moods: tuple[str, ...] = ()
    colours: tuple[str, ...] = ()


PLAIN = Theme()


def read(document: Document, code: str, name: Brand) -> Theme:
    talk = _talk(document, code, name)
    styled = lexicon.Folded(talk)
    schemes = [
        hit.concept for hit in lexicon.find_named("themes", "schemes", styled) if not lexicon.negated(talk, hit, code)
    ]
    moods = list(
        dict.fromkeys(
            hit.concept for hit in lexicon.find_named("themes", "moods", styled) if not lexicon.negated(talk, hit, code)
        )
    )
    colours: list[tuple[int, str]] = [(match.start(), f"#{match[1].lower()}") for match in _HEX.finditer(document.text)]
    named = lexicon.outermost([*lexicon.find_named("themes", "colours", styled), *_shades(talk)])
    colours += [
        (hit.start + 10**6, hit.concept)
        for hit in named
        if not _edible(talk, hit) and not lexicon.negated(talk, hit, code)
    ]
    ordered = tuple(dict.fromkeys(_six(code_) for _, code_ in sorted(colours)))[:5]
    return Theme(schemes[0] if schemes else None, tuple(moods[:3]), ordered)


def _shades(talk: str) -> list[Hit]:
    """Amber, salmon and the like: colours only beside another, or in a sentence that speaks of colours."""
    found, start = [], 0
    for sentence in re.split(r"(?<=[\n.;!?])", talk):
        folded = lexicon.Folded(sentence)
        hits = lexicon.find_named("themes", "shades", folded)
        spoken = bool(lexicon.find_named("themes", "talk", folded))
        named = lexicon.find_named("themes", "colours", folded) if hits and not spoken else []
        if spoken or any(_beside(sentence, hit, colour) for hit in hits for colour in named):
            found += [Hit(hit.concept, hit.start + start, hit.end + start) for hit in hits]
        start += len(sentence)
    return found


def _beside(text: str, one: Hit, other: Hit) -> bool:
    """Whether two stand in one list: "red and anthracite"."""
    first, second = sorted((one, other), key=lambda hit: hit.start)
    return bool(re.fullmatch(rf"\s*(?:,|&|/|{lexicon.either('together')})\s*", text[first.end : second.start], re.I))


def colours_in(text: str) -> tuple[str, ...]:
    """Hex codes and names of colours, in a text that speaks of nothing else."""
    codes = [f"#{match[1].lower()}" for match in _HEX.finditer(text)]
    folded = lexicon.Folded(text)
    hits = [hit for group in ("colours", "shades") for hit in lexicon.find_named("themes", group, folded)]
    named = [hit.concept for hit in lexicon.outermost(hits) if not _edible(text, hit)]
    return tuple(dict.fromkeys(_six(code) for code in (*codes, *named)))[:5]


def _six(code: str) -> str:
    digits = code.lstrip("#")
    return "#" + ("".join(digit * 2 for digit in digits) if len(digits) == 3 else digits)


def _talk(document: Document, code: str, name: Brand) -> str:
    """The sentences and labels that may speak about looks: not menus, names or addresses."""
    parts = [f"{block.label}: {', '.join(block.items)}" for block in document.of("meta")]
    sold = facts.priced_prose(document, code)
    for index, sentence in enumerate(document.prose):
        if index < 2 or len(document.prose) <= 6 or lexicon.asks(code, sentence):
            parts.append(sentence)
    parts += [item for block in document.blocks if block.concept is None for item in block.items if len(item) < 60]
    if not document.prose and not parts:
        parts.append(document.text)
    talk = "\n".join(parts)
    for said in (*(item.title for item in sold), *((name.name,) if name.stated else ())):
        talk = talk.replace(said, " ")
    return talk


_EDIBLE = re.compile(
    r"^[\s-]*(?:tea|teas|coffee|wine|wines|juice|bread|tee|kaffee|wein|brot|saft|thé|café|vin|vins|pain|té|vino|vinos|tè|chá|vinho|"
    r"thee|koffie|wijn|herring|bean|beans|peas|card|market|house|line|forest|wood|tooth)\b|^[茶ワコ酒]",
    re.IGNORECASE,
)


def _edible(text: str, hit: Hit) -> bool:
    return bool(_EDIBLE.match(text[hit.end : hit.end + 12]))
