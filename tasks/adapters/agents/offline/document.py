"""A requirement text taken apart: labelled blocks with their items, and the prose between them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from . import lexicon
from .markup import visible

MAX_ITEMS = 60
"""Of one block; a page that lists more serves nobody."""

_HEADING = re.compile(r"^\s{0,3}(?P<level>#{1,6})\s+(?P<label>.{1,90}?)\s*#*\s*$")
_STRONG = re.compile(r"^\s*(?:\*\*|__)(?P<label>[^*_]{1,70}?):?(?:\*\*|__):?\s*$")
_ALONE = re.compile(r"^\s*(?P<label>[^\s:：<>{}][^:：。<>{}]{0,58})[:：]\s*$")
_LEADING = re.compile(
    r"^\s*(?P<label>[^\s:：,;.!?。！？<>{}](?:[^:：,;.!?。！？<>{}]|\.(?=\S)){0,40}?)\s*[:：]\s*(?P<rest>\S.*)$"
)
_BULLET = re.compile(r"^\s*(?:[-*•–·▪●◦]|\d{1,2}[.)](?!\d))\s+(?P<item>\S.*)$")

_ABBREVIATED = r"(?<!\b[A-Za-zÀ-ž])" + "".join(rf"(?<!\b{word})" for word in lexicon.phrases("abbreviated"))
_MONTH = f"(?i:{lexicon.either('months')})"
_SENTENCE = re.compile(
    rf"(?:{_ABBREVIATED}(?<!\d)\.|(?<=\d\d\d\d)\.(?=\s)|(?<=\d)\.(?=\s+(?!{_MONTH})[^\W\d_]{{2}})|[!?])[\"”»’)]*\s+|[。！？؟।]\s*|\n+"
)

_COMMA = re.compile(r"\s*(?:,(?!\d)|[，、،;；])\s*")
_AND = re.compile(
    r"\s+(?:and|und|et|y|e|en|i|oraz|ve|и|та|й|και|그리고|및|&)\s+|(?:、|，)?(?:および|及び|そして|以及)", re.IGNORECASE
)
_KANA = re.compile(r"[\u3040-\u30ff]")
_SUCH_AS = re.compile(rf"^\s*(?:[:：(（]|[-–—]\s|{lexicon.either('such_as')}\s)\s*", re.IGNORECASE)
_LEAD_ARTICLE = re.compile(
    r"^(?:and|und|et|y|e|en|ve|и|та|και|a|an|the|eine?n?|une?|una?|uno|uma?|een|the following)\s+", re.IGNORECASE
)


@dataclass(frozen=True)
class Block:
    """A label and what stands under it. ``concept`` is a section, a role such as "pages" or "meta", or None where the
    label is not known; "parts" is a list of sections under a label that only asks for them. ``lined`` tells
    items that stood on lines of their own from those of a running list."""

    label: str
    concept: str | None
    items: tuple[str, ...]
    lined: bool = True


@dataclass(frozen=True)
class Document:
    text: str
    blocks: tuple[Block, ...]
    prose: tuple[str, ...]
    """Sentences that stand outside blocks, in order."""

    def of(self, concept: str) -> list[Block]:
        return [block for block in self.blocks if block.concept == concept]


def clean(text: str) -> str:
    """One kind of line end and blank, and only characters that are text."""
    text = re.sub(r"\r\n?|[\u2028\u2029\x0b\x0c\x85]", "\n", text)
    text = re.sub(r"\x1b(?:\[[0-9;?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])", "", text)
    return re.sub(r"[ \t\u00a0\u3000]+", " ", visible(text)).strip()


def sentences(text: str) -> list[str]:
    """
    >>> sentences("Open 8 a.m. to 5 p.m. daily. Call us! 2.50 each")
    ['Open 8 a.m. to 5 p.m. daily.', 'Call us!', '2.50 each']
    """
    found, start = [], 0
    for match in _SENTENCE.finditer(text):
        found.append(text[start : match.end()].strip())
        start = match.end()
    found.append(text[start:].strip())
    return [sentence for sentence in found if re.search(r"\w", sentence)]


def listed(text: str) -> list[str]:
    """The parts of a running list. Commas in brackets, quotes and numbers do not part.

    >>> listed("Anna (owner, baker), Tom and Kim")
    ['Anna (owner, baker)', 'Tom', 'Kim']
    """
    shielded = re.sub(r"\([^()]*\)|（[^（）]*）|\"[^\"]*\"|“[^”]*”|«[^»]*»|„[^“”]*[“”]", _shield, text)
    separator = re.compile(r"\s*[;；]\s*") if re.search(r"[;；]", shielded) else _COMMA
    parts = [part for part in separator.split(shielded) if part.strip()]
    if len(parts) > 1 or (len(parts) == 1 and len(_AND.split(parts[0])) == 2 and len(parts[0]) < 60):
        last = (
            parts[-1] if _KANA.search(text) else re.sub(r"(?<=[\u4e00-\u9fff])和(?=[\u4e00-\u9fff])", " & ", parts[-1])
        )
        parts[-1:] = _AND.split(last)
    cleaned = [_LEAD_ARTICLE.sub("", _unshield(part).strip(" .·•-–—")).strip() for part in parts]
    return [part for part in cleaned if re.search(r"\w", part)]


_SHIELDS = str.maketrans({",": "\ue000", "，": "\ue001", "、": "\ue002", "،": "\ue003", ";": "\ue004", " ": "\ue005"})
_UNSHIELDS = str.maketrans({"\ue000": ",", "\ue001": "，", "\ue002": "、", "\ue003": "،", "\ue004": ";", "\ue005": " "})


def _shield(match: re.Match[str]) -> str:
    return match[0].translate(_SHIELDS)


def _unshield(text: str) -> str:
    return text.translate(_UNSHIELDS)


def concept_of(label: str, code: str) -> str | None:
    """What a label announces: a section, or "pages", "name", "slogan", "meta"; None where it is not known.

    >>> concept_of("Our opening hours", "en"), concept_of("Farben", "de"), concept_of("Zebra", "en")
    ('hours', 'meta', None)
    """
    folded = lexicon.Folded(label.strip(" *_#"))
    size = max(1, len(re.findall(r"\w", label)))
    for role in ("pages", "slogan", "name"):
        if lexicon.pattern(lexicon.words(code, role)).fullmatch(folded.folded.strip()):
            return role
    hits = lexicon.outermost(lexicon.find("sections", code, folded))
    best = max(hits, key=lambda hit: (hit.end - hit.start, -hit.start), default=None)
    told = best and best.end >= len(folded.text) and lexicon.find("kinds", code, folded)
    if best and (told or (best.end - best.start) / size >= 0.45 or (best.start == 0 and size <= 40)):
        return best.concept
    meta = lexicon.pattern(lexicon.words(code, "meta"))
    announces = not lexicon.find("kinds", code, folded)  # "Website for the inn De Kade: ..." is no instruction
    return "meta" if announces and any(hit.start == 0 for hit in folded.hits("meta", meta)) else None


def read(text: str, code: str) -> Document:
    """Take a text apart. ``text`` is what `clean` returned."""
    blocks: list[Block] = []
    prose: list[str] = []
    current: Block | None = None
    lasting = False  # a Markdown heading holds until the next one, a label with a colon until a blank line
    bulleted = False  # once a label has bullets under it, a line without one is no longer its own

    def close() -> None:
        nonlocal current
        if current is not None:
            parts = [item for item in current.items if _is_section(item, code)]
            listing = (
                current.concept is None and len(parts) * 2 > len(current.items) and lexicon.asks(code, current.label)
            )
            blocks.append(replace(current, concept="parts") if listing else current)
        current = None

    def add(item: str, lined: bool = True) -> None:
        nonlocal current
        if current is not None and len(current.items) < MAX_ITEMS:
            current = replace(current, items=(*current.items, item), lined=current.lined and lined)

    for line in text.split("\n"):
        if not line.strip():
            if current is not None and not lasting and current.items:
                close()
            continue
        bullet = _BULLET.match(line)
        heading = _HEADING.match(line) or _STRONG.match(line)
        alone = None if bullet else _ALONE.match(line)
        leading = _LEADING.match(bullet["item"] if bullet else line)
        opening = heading or alone
        if opening:
            close()
            label = opening["label"].strip()
            if opening.groupdict().get("level") == "#" and not blocks and not prose:
                blocks.append(Block("#", "name", (label,)))
                continue
            current, lasting, bulleted = Block(label, concept_of(label, code), ()), bool(heading), False
        elif leading and (known := _leads(leading["label"], code, bullet is not None, current)):
            if not bullet:
                close()
            kept = current
            label, rest = leading["label"].strip(), leading["rest"].strip()
            opened = _inline(label, known, rest)
            if bullet:
                blocks.append(opened)
                current = kept
            elif known in {"meta", "name", "slogan", "pages"} or len(opened.items) > 1 or known in {"faq", "hours"}:
                remainder = _after_list(rest, known)
                blocks.append(_inline(label, known, rest[: len(rest) - len(remainder)] if remainder else rest))
                current = None
                if remainder:
                    _read_prose(remainder, code, blocks, prose)
            else:
                current, lasting, bulleted = opened, False, True
        elif current is not None and (bullet or lasting or not bulleted):
            bulleted = bulleted or bullet is not None
            add(bullet["item"].strip() if bullet else line.strip())
        elif bullet:
            _read_prose(bullet["item"], code, blocks, prose)
        else:
            close()
            _read_prose(line, code, blocks, prose)
    close()
    return Document(text, tuple(blocks), tuple(prose))


def _leads(label: str, code: str, bulleted: bool, current: Block | None) -> str | None:
    """The concept of "Label: rest", where the label opens a block of its own."""
    if len(label.split()) > 5:
        return None
    concept = concept_of(label, code)
    if concept is None:
        return None
    inside = current is not None and current.concept not in {None, "pages", "meta", "home"}
    return None if bulleted and inside and concept != current.concept and current.items else concept  # type: ignore[union-attr]  # inside says so


def _inline(label: str, concept: str, rest: str) -> Block:
    if concept in {"name", "slogan", "about", "location"}:
        return Block(label, concept, (rest.strip(),))
    if concept in {"faq", "testimonials", "hours"}:
        return Block(label, concept, (rest.strip(),), lined=concept != "hours")
    return Block(label, concept, tuple(listed(rest)[:MAX_ITEMS]), lined=False)


def _after_list(rest: str, concept: str) -> str:
    """What follows the sentence that holds the list, as "Menu: a 1.20, b 2.30. Team: c" does."""
    if concept in {"faq", "testimonials"}:
        return ""
    first = sentences(rest)[0] if sentences(rest) else rest
    return rest[len(first) :].strip() if rest.startswith(first) else ""


def _read_prose(line: str, code: str, blocks: list[Block], prose: list[str]) -> None:
    found = sentences(line)
    for number, sentence in enumerate(found):
        leading = _LEADING.match(sentence)
        concept = concept_of(leading["label"], code) if leading and len(leading["label"].split()) <= 5 else None
        if leading and concept:
            if concept == "faq":  # its answers are sentences of their own
                rest = " ".join([leading["rest"], *found[number + 1 :]])
                blocks.append(_inline(leading["label"].strip(), concept, rest))
                return
            blocks.append(_inline(leading["label"].strip(), concept, leading["rest"].rstrip(" .")))
            continue
        prose.append(sentence)
        blocks.extend(_within(sentence, code))


def _within(sentence: str, code: str) -> list[Block]:
    """Lists inside a sentence: "a menu (soup 4.50, cake 3.20)", "services such as a, b and c"."""
    found = []
    for hit in lexicon.outermost(lexicon.find("sections", code, lexicon.Folded(sentence))):
        match = _SUCH_AS.match(sentence[hit.end :])
        if not match or hit.concept == "home":
            continue
        rest = sentence[hit.end + match.end() :]
        if "(" in match[0] or "（" in match[0]:
            rest = re.split(r"[)）]", rest)[0]
        items = [item for item in listed(rest.rstrip(" .")) if not _is_section(item, code)]
        if items:
            concept = hit.concept
            found.append(Block(sentence[hit.start : hit.end], concept, tuple(items[:MAX_ITEMS]), lined=False))
    return found


def _is_section(item: str, code: str) -> bool:
    folded = lexicon.Folded(item)
    hits = lexicon.find("sections", code, folded)
    return any(hit.end - hit.start >= 0.6 * len(item) for hit in hits)


def without(sentence: str, spans: Sequence[tuple[int, int]]) -> str:
    """``sentence`` with blanks over some spans."""
    characters = list(sentence)
    for start, end in spans:
        characters[start:end] = " " * (end - start)
    return "".join(characters)
