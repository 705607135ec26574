"""What a requirement text comes down to: everything the pages, the plan and the suite are made from.

`understand` depends on its arguments alone, so that a suite can be written on a machine that has nothing but
``requirements.json``.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field

from . import brand as brands
from . import document as documents
from . import facts, language, lexicon, outline, revision, sitemap, theme
from .brand import Brand
from .document import Document
from .language import Language
from .lexicon import Hit
from .outline import FORMS, UNINFLECTED, USUAL, Section
from .revision import Revision
from .sitemap import Page
from .theme import Theme

_WEAK_KINDS = {"blog", "shop", "portfolio", "club", "software", "consulting", "school", "music"}


@dataclass(frozen=True)
class Brief:
    text: str
    language: Language
    brand: Brand
    kind: str
    kind_word: str
    place: str
    when: str
    slogan: str
    summary: str
    theme: Theme
    sections: tuple[Section, ...]
    pages: tuple[Page, ...]
    email: str
    phone: str
    address: str
    contact_form: bool
    beyond: tuple[str, ...]
    dynamic: bool
    """Whether a server of its own keeps what visitors send."""
    revisions: tuple[Revision, ...]
    """What the operator asked for after reading the plan."""
    seed: str = field(repr=False)

    def section(self, key: str) -> Section:
        return next(section for section in self.sections if section.key == key)

    def has(self, kind: str) -> bool:
        return any(section.kind == kind for section in self.sections)


def understand(text: str, dynamic: bool = False, changes: Sequence[str] = ()) -> Brief:
    """Read a requirement text. It never fails: whatever it does not understand, it leaves out.

    ``changes`` are what an operator asked for after reading the plan, in order: a later word wins.
    """
    cleaned = documents.clean(text)[:40_000]
    tongue = language.detect(cleaned)
    code = tongue.code
    document = documents.read(cleaned, code)
    folded = lexicon.Folded(cleaned)
    kind_hits = _kind_hits(folded, code)
    kind, ordered = _kind(kind_hits)
    name = brands.find(document, code, ordered)
    look = theme.read(document, code, name)
    revisions = tuple(revision.read(words, code) for words in changes)
    for change in revisions:
        if change.name:
            cleaned, name = _renamed(cleaned, name, change.name)
    if any(change.name for change in revisions):
        document, folded = documents.read(cleaned, code), lexicon.Folded(cleaned)
        kind_hits = _kind_hits(folded, code)
        ordered = [hit for hit in kind_hits if hit.concept == kind]
    asked, refused, words = outline.wishes(document, code, name)
    beyond = _beyond(folded)
    if not dynamic and "guestbook" in asked:
        refused.add("guestbook")
        beyond = (*beyond, "guestbook")
    added: list[str] = []
    for change in revisions:
        look = change.restyled(look)
        refused = (refused - set(change.added)) | change.refused
        added = [concept for concept in dict.fromkeys((*added, *change.added)) if concept not in refused]
    if not dynamic and "guestbook" in added:
        refused.add("guestbook")
        beyond = tuple(dict.fromkeys((*beyond, "guestbook")))
    asked = [concept for concept in asked if concept not in refused]
    given = [line for change in reversed(revisions) for line in change.lines]
    later = documents.read("\n\n".join(given), code)
    whole = documents.read("\n\n".join((*given, cleaned)), code) if given else document
    sections = outline.read(whole, code, kind, asked, refused, words, added)
    if given:
        before = outline.read(document, code, kind, asked, refused, words, added)
        sections = outline.overruled(sections, before, later)
    titles = [item.title for section in sections for item in section.items]
    titles += [section.title for section in sections if section.title]
    titles += [item for block in document.of("pages") for item in block.items]
    revisions = tuple(change.settled(titles) for change in revisions)
    for change in revisions:
        sections = change.pruned(sections)
    sections = tuple(section for section in sections if section.kind not in refused)
    if dynamic and "contact" not in refused and not {section.kind for section in sections} & set(FORMS):
        sections = (*sections, Section("contact", False, key="contact"))  # a server with nothing to keep is none
    pages, sections = sitemap.lay_out(
        document,
        code,
        sections,
        refused,
        said="\n".join(changes),
        added=added,
        paged=[concept for change in revisions for concept in change.paged if concept not in refused],
        unwanted=[one.words for change in revisions for one in change.unwanted],
    )
    email = next(iter(facts.emails(whole.text)), "")
    phone = next(iter(facts.phones(whole.text)), "")
    tongue = next((Language(change.tongue) for change in reversed(revisions) if change.tongue), tongue)
    return Brief(
        text=cleaned,
        language=tongue,
        brand=name,
        kind=kind,
        kind_word=_kind_word(cleaned, code, ordered, name, kind),
        place=_place(cleaned, code, name, ordered),
        when=_when(document, kind),
        slogan=_slogan(document),
        summary=_summary(document, code, name),
        theme=look,
        sections=sections,
        pages=pages,
        email=email,
        phone=phone,
        address=facts.address(whole),
        contact_form=_says_form(folded, code),
        beyond=beyond,
        dynamic=dynamic,
        revisions=revisions,
        seed=unicodedata.normalize("NFC", cleaned),
    )


def _renamed(text: str, old: Brand, name: str) -> tuple[str, Brand]:
    """The text with the new name in the place of the old one; addresses keep theirs."""
    if old.stated:
        text = re.sub(rf"(?<![\w@./-]){re.escape(old.name)}(?![\w@/-]|\.\w)", lambda _: name, text)
    start = text.find(name)
    return text, Brand(name, True, start, start + len(name) if start >= 0 else -1)


def _kind_hits(folded: lexicon.Folded, code: str) -> list[Hit]:
    """A trade that is only a word of a name does not count: in "the band The Rusty Nails" nails are none."""
    hits = lexicon.outermost(lexicon.find("kinds", code, folded))
    named: list[tuple[int, int]] = []
    for hit in hits:
        match = brands.NAME.match(folded.text, hit.end)
        if match and folded.text[hit.start : hit.start + 1].islower():
            named.append((match.start(), match.end()))
    return [hit for hit in hits if not any(start <= hit.start and hit.end <= end for start, end in named)]


def _kind(hits: Sequence[Hit]) -> tuple[str, list[Hit]]:
    """The kind with the most and the earliest words, and its words first."""
    scores: dict[str, float] = {}
    for hit in hits:
        weight = 0.5 if hit.concept in _WEAK_KINDS else 1.0
        early = 5.0 / (1 + hit.start / 60)
        scores[hit.concept] = scores.get(hit.concept, 0.0) + weight * (0.35 + early)
    if not scores:
        return "generic", []
    order = list(USUAL)
    best = max(scores, key=lambda concept: (round(scores[concept], 6), -order.index(concept)))
    return best, [hit for hit in hits if hit.concept == best]


def _kind_word(text: str, code: str, hits: Sequence[Hit], name: Brand, kind: str) -> str:
    """The requester's word for the business, for a line above the name; empty where the name says it."""
    if not hits or not name.stated or code not in UNINFLECTED:
        return ""
    near = min(hits, key=lambda hit: (abs(hit.end - name.start) if name.start >= 0 else 0, hit.start))
    word = text[near.start : near.end].strip()
    said = lexicon.fold(word) in lexicon.fold(name.name)
    if said or len(word) > 30 or kind in {"kids", "wedding"} or re.search(r"[<>{}\"=]", word):
        return ""
    return word[:1].upper() + word[1:]


def _place(text: str, code: str, name: Brand, hits: Sequence[Hit]) -> str:
    """ "in Lyon", right behind the name or the word for the business."""
    if code not in {"en", "de", "fr", "es", "it", "pt", "nl"}:
        return ""
    city = (
        r"[A-ZÀ-ÖØ-ÞŠŽ][\w'’-]{1,24}(?:(?:\s|\s(?:de|del|di|am|an der|a\.|upon|sur)\s)[A-ZÀ-ÖØ-ÞŠŽ][\w'’-]{2,20}){0,2}"
    )
    for end in [
        name.end,
        *(hit.end for hit in hits[:3]),
        *(match.end() for match in [facts.DATE.search(text)] if match),
    ]:
        if end < 0:
            continue
        match = re.match(
            rf"[\"”“»]?(?:\s[a-zà-ÿ]+)?,?\s+(?:in|im|à|en|em|te|a|aus|from|at)\s+({city})", text[end : end + 70]
        )
        if match:
            found = match[1]
            lowered = lexicon.Folded(found)
            coloured = lexicon.find_named("themes", "colours", lowered)
            language_name = re.match(
                r"(?:English|German|French|Spanish|Italian|Portuguese|Dutch|Arabic|Japanese)\b", found
            )
            if not coloured and not language_name:
                return found
    return ""


def _when(document: Document, kind: str) -> str:
    """The day of what happens once: of a wedding, a conference."""
    if kind not in {"wedding", "event"}:
        return ""
    match = next((found for sentence in document.prose if (found := facts.DATE.search(sentence))), None)
    return match[0].strip() if match else ""


def _slogan(document: Document) -> str:
    for block in document.of("slogan"):
        if block.items:
            return block.items[0].strip(' "“”„«».')[:120]
    match = re.search(
        rf"{lexicon.either('slogan')}\w*\W{{0,12}}?[\"“„«「](?P<words>[^\"“”„«»「」<>]{{3,120}})[\"”“»」]",
        document.text,
        re.IGNORECASE,
    )
    return match["words"].strip() if match else ""


def _summary(document: Document, code: str, name: Brand) -> str:
    """The sentence that says what it is: "Golden Crust is a bakery in Leeds." """
    if not name.stated:
        return ""
    for sentence in document.prose:
        said = sentence.startswith(name.name) and len(name.name) + 12 <= len(sentence) <= 220
        verb = re.match(
            r"\s+(?:is|are|ist|sind|est|sont|es|son|è|sono|é|são|jest|это|це|είναι|هو|هي|は)\s",
            sentence[len(name.name) :],
        )
        if said and verb and not lexicon.asks(code, sentence):
            return sentence
    return ""


def _says_form(folded: lexicon.Folded, code: str) -> bool:
    """Whether it is a form, and not just an address, that the text wants for contact."""
    hits = (hit for hit in lexicon.find("sections", code, folded) if hit.concept == "contact")
    return any(lexicon.says("form", folded.text[hit.start : hit.end]) for hit in hits)


def _beyond(folded: lexicon.Folded) -> tuple[str, ...]:
    return tuple(dict.fromkeys(hit.concept for hit in lexicon.find_named("beyond", "", folded)))
