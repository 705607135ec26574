"""The parts of a site: what the text asks for, what it gives for each, and what the kind of site brings besides."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from . import document as documents
from . import facts, lexicon
from .brand import Brand
from .document import Block, Document
from .facts import Item
from .lexicon import Hit

ORDER = [
    "about",
    "services",
    "products",
    "menu",
    "pricing",
    "gallery",
    "projects",
    "schedule",
    "speakers",
    "team",
    "events",
    "news",
    "blog",
    "testimonials",
    "guestbook",
    "hours",
    "location",
    "faq",
    "newsletter",
    "booking",
    "contact",
]
"""Sections as they follow each other on a page, unless the kind of site says otherwise."""
FORMS = ("contact", "booking", "newsletter", "guestbook")
_FIRST = {
    "photographer": ("projects", "gallery"),
    "portfolio": ("projects", "gallery"),
    "developer": ("projects",),
    "event": ("about", "speakers", "schedule"),
    "music": ("events", "gallery"),
    "blog": ("blog", "news"),
    "restaurant": ("about", "menu"),
    "bakery": ("menu", "products"),
    "law": ("services",),
}
USUAL: dict[str, tuple[str, ...]] = {
    "bakery": ("about", "menu", "gallery", "hours", "contact"),
    "tea": ("about", "menu", "gallery", "hours", "contact"),
    "cafe": ("about", "menu", "gallery", "hours", "contact"),
    "restaurant": ("about", "menu", "gallery", "hours", "booking"),
    "photographer": ("projects", "about", "contact"),
    "developer": ("projects", "services", "about", "contact"),
    "wedding": ("about", "schedule", "location", "booking"),
    "yoga": ("about", "services", "schedule", "contact"),
    "law": ("services", "about", "team", "contact"),
    "consulting": ("services", "about", "faq", "contact"),
    "medical": ("services", "about", "hours", "contact"),
    "kids": ("about", "services", "gallery", "contact"),
    "school": ("services", "about", "schedule", "contact"),
    "music": ("events", "about", "gallery", "contact"),
    "event": ("about", "schedule", "speakers", "faq", "contact"),
    "hotel": ("about", "services", "gallery", "location", "booking"),
    "craft": ("services", "projects", "about", "contact"),
    "garden": ("about", "services", "gallery", "hours", "contact"),
    "beauty": ("services", "gallery", "hours", "booking"),
    "software": ("services", "about", "faq", "newsletter", "contact"),
    "club": ("about", "events", "team", "contact"),
    "portfolio": ("projects", "about", "contact"),
    "shop": ("about", "products", "hours", "contact"),
    "blog": ("blog", "about", "newsletter"),
    "generic": ("about", "services", "gallery", "contact"),
}
UNINFLECTED = frozenset({"en", "de", "fr", "es", "it", "pt", "nl", "ja", "zh", "ko"})
"""Languages whose words can be lifted out of a sentence and still stand as a heading, mostly."""
_OWN_WORDS = frozenset({"services", "booking", "events"})
"""Sections that mean so many things that the requester's word is better than the template's."""


@dataclass(frozen=True)
class Section:
    """A part of a page. ``asked`` tells what the text names from what the kind of site usually has.

    ``title`` is the requester's own word for it, or empty. ``items`` are what the requester gave; where there are
    none the page shows examples, and says so.
    """

    kind: str
    asked: bool
    title: str = ""
    items: tuple[Item, ...] = ()
    text: tuple[str, ...] = ()
    key: str = ""


def wishes(document: Document, code: str, name: Brand) -> tuple[list[str], set[str], dict[str, str]]:
    """The sections that the text names, in its order, those it rules out, and its own words for some."""
    asked: list[str] = []
    refused: set[str] = set()
    own: dict[str, str] = {}
    we = lexicon.pattern(lexicon.words(code, "we"))
    for position, sentence in enumerate(document.prose):
        hits = lexicon.outermost(lexicon.find("sections", code, lexicon.Folded(sentence)))
        tells = bool(we.search(lexicon.fold(sentence))) and not lexicon.asks(code, sentence)
        speaks = not tells and (lexicon.asks(code, sentence) or position < 2 or len(document.prose) <= 4)
        for hit in hits:
            if _inside_name(sentence, hit, name):
                continue
            if lexicon.negated(sentence, hit, code):
                refused.add(hit.concept)
            elif speaks:
                asked.append(hit.concept)
                word = sentence[hit.start : hit.end]
                if hit.concept in _OWN_WORDS and code in UNINFLECTED and len(word) >= 3:
                    own.setdefault(hit.concept, _heading(word))
    for block in document.blocks:
        if block.concept in {"pages", "parts"} or (
            block.concept == "meta" and lexicon.says("section_lists", block.label)
        ):
            for item in block.items:
                concept = documents.concept_of(item, code)
                if concept in ORDER:
                    asked.append(concept)
        elif block.concept in ORDER:
            asked.append(block.concept)
    kept = [concept for concept in dict.fromkeys(asked) if concept not in refused and concept != "home"]
    return kept, refused, own


def _heading(word: str) -> str:
    """
    >>> _heading("registration form"), _heading("formulaire de réservation")
    ('Registration', 'Réservation')
    """
    bare = re.sub(
        r"^(?:formulaire|formulario|formulário|modulo)\s(?:de\s|di\s|d['’])|\s+form$", "", word, flags=re.IGNORECASE
    )
    return bare[:1].upper() + bare[1:]


def _inside_name(sentence: str, hit: Hit, name: Brand) -> bool:
    if not name.stated:
        return False
    at = sentence.find(name.name)
    return at >= 0 and at <= hit.start and hit.end <= at + len(name.name)


def read(
    document: Document,
    code: str,
    kind: str,
    asked: list[str],
    refused: set[str],
    words: dict[str, str],
    added: Sequence[str] = (),
) -> tuple[Section, ...]:
    """``added`` comes besides what would be there without it."""
    wished = list(asked)
    priced_prose = facts.priced_prose(document, code)
    if "pricing" in wished and "menu" in wished and not document.of("pricing"):
        wished.remove("pricing")  # "a menu with prices" is one list
    if "gallery" in wished and "projects" in wished and not (document.of("gallery") and document.of("projects")):
        wished.remove("gallery")  # so is "a projects gallery"
    found: dict[str, Section] = {}

    def put(concept: str, was_asked: bool) -> None:
        if concept in found or concept in refused:
            return
        items, text = content(document, concept, priced_prose, wished)
        own = _own_title(document, concept) or words.get(concept, "")
        found[concept] = Section(concept, was_asked, own, items, text, concept)

    for concept in wished:
        put(concept, True)
    statements = _statements(document, code)
    evident = [
        ("hours", bool(facts.hours(document))),
        ("location", bool(facts.address(document))),
        ("menu", bool(priced_prose) and kind in {"bakery", "tea", "cafe", "restaurant"}),
        (
            "pricing",
            bool(priced_prose) and "menu" not in wished and kind not in {"bakery", "tea", "cafe", "restaurant"},
        ),
        ("about", bool(statements)),
    ]
    for concept, is_evident in evident:
        if is_evident and not (concept == "pricing" and ({"menu", "products", "services"} & set(found))):
            put(concept, False)
    if len([section for section in found.values() if section.asked]) < 2:
        for concept in USUAL[kind]:
            if "contact" in refused and concept in FORMS:
                continue  # who wants no contact form wants no other in its place
            if concept in {"services", "products"} and "pricing" in found and found["pricing"].items:
                continue  # examples beside what was given
            if not (concept == "contact" and "booking" in found) and not (concept == "projects" and "gallery" in found):
                put(concept, False)
    if not found.keys() & {"contact", "booking", "newsletter"} and (
        facts.emails(document.text) or facts.phones(document.text)
    ):
        put("contact", False)
    for concept in added:
        put(concept, True)
    if "about" in found and not found["about"].items and not found["about"].text and statements:
        found["about"] = Section("about", found["about"].asked, found["about"].title, (), statements, "about")
    first = _FIRST.get(kind, ())
    rank = {concept: number for number, concept in enumerate((*first, *(c for c in ORDER if c not in first)))}
    ordered = sorted(found.values(), key=lambda section: rank[section.kind])
    return _with_custom(tuple(ordered), document)


def overruled(sections: tuple[Section, ...], before: tuple[Section, ...], later: Document) -> tuple[Section, ...]:
    """Entries of ``before`` with those of ``sections`` over them, by title; hours that came later stand alone."""
    known = {section.key: section.items for section in before}
    found = []
    for section in sections:
        items = section.items
        if section.kind in {"menu", "pricing", "services", "products"}:
            unique: dict[str, Item] = {_title(item): item for item in known.get(section.key, ())}
            given: dict[str, Item] = {}
            for item in items:
                given.setdefault(_title(item), item)  # what came later is read first
            items = tuple((unique | given).values())
        if section.kind == "hours":
            items = facts.hours(later) or items
        found.append(replace(section, items=items))
    return tuple(found)


def _title(item: Item) -> str:
    return lexicon.fold(item.title or item.text)


def _with_custom(sections: tuple[Section, ...], document: Document) -> tuple[Section, ...]:
    """Labelled blocks that no section knows become sections of their own, before the forms and hours."""
    extra: list[Section] = []
    for number, block in enumerate(document.blocks):
        if (
            block.concept is not None
            or not block.items
            or _is_timetable(block)
            or len(extra) >= 8
            or (facts.is_price_list(block) and {"menu", "pricing"} & {section.kind for section in sections})
        ):
            continue
        paragraphs = tuple(item for item in block.items if len(item) > 110)
        items = tuple(_custom_item(item) for item in block.items if len(item) <= 110)
        extra.append(Section("custom", True, block.label.strip(" *#:"), items, paragraphs, f"part-{number + 1}"))
    if not extra:
        return sections
    late = {"guestbook", "hours", "location", "faq", "newsletter", "booking", "contact", "testimonials"}
    at = next((number for number, section in enumerate(sections) if section.kind in late), len(sections))
    return (*sections[:at], *extra, *sections[at:])


def _custom_item(line: str) -> Item:
    priced = facts.PRICED.match(line)
    if priced and len(priced["name"]) < 60:
        return Item(priced["name"].strip(" :–-"), text=priced["rest"], mark=priced["price"])
    title, sign, rest = facts.split(line)
    return Item(title, text=rest) if sign else Item(line.strip(" ."))


def _is_timetable(block: Block) -> bool:
    timed = sum(1 for item in block.items if facts.slot(item))
    return timed * 2 > len(block.items)


def _own_title(document: Document, concept: str) -> str:
    """The requester's own label, where it is more than the plain word."""
    for block in document.of(concept):
        label = block.label.strip(" *#:")
        kept = block.lined or concept not in {"location", "contact"}
        if kept and 3 <= len(label) <= 40 and label[:1] == label[:1].upper():
            return label
    return ""


def content(
    document: Document, concept: str, priced_prose: tuple[Item, ...], wishes: Iterable[str]
) -> tuple[tuple[Item, ...], tuple[str, ...]]:
    wished = set(wishes)
    match concept:
        case "menu":
            also = ["menu"] if document.of("menu") or "pricing" in wished else ["menu", "pricing"]
            return facts.priced(document, also) or priced_prose, ()
        case "pricing":
            own = facts.priced(document, ["pricing"])
            return own or (() if "menu" in wished else priced_prose), ()
        case "hours":
            return facts.hours(document), ()
        case "schedule":
            loose = [block for block in document.blocks if block.concept is None and _is_timetable(block)]
            return facts.slots([*document.of("schedule"), *loose]), ()
        case "speakers" | "team":
            return facts.people(document, concept), ()
        case "faq":
            return facts.questions(document), ()
        case "testimonials":
            return facts.quotes(document), ()
        case "about":
            return (), tuple(line for block in document.of("about") for line in block.items)
        case "location":
            address = facts.address(document)
            told = [line for block in document.of(concept) for line in block.items if len(line) > 12]
            return (), tuple(line for line in told if line.strip(" .,") not in address and address not in line)
        case "contact" | "booking" | "newsletter" | "guestbook":
            return (), ()
        case _:
            own = facts.offers(document, concept)
            sold = concept in wished & {"services", "products"} and not wished & {"menu", "pricing"}
            return own or (priced_prose if sold else ()), ()


def _without_style(sentence: str) -> str:
    """Without clauses at its end that say how the site shall look."""
    parts = sentence.split(", ")
    while len(parts) > 1 and any(lexicon.find_named("themes", "talk", lexicon.Folded(parts[-1]))):
        parts.pop()
    return sentence if ", ".join(parts) == sentence else ", ".join(parts).rstrip(" .") + "."


def _statements(document: Document, code: str) -> tuple[str, ...]:
    """Sentences in the requester's own voice that ask for nothing."""
    we = lexicon.pattern(lexicon.words(code, "we"))
    kept = []
    for sentence in document.prose:
        folded = lexicon.fold(sentence)
        if not we.search(folded) or lexicon.asks(code, sentence) or re.search(r"[<>{}]|https?:|\\x|\[\d*m", sentence):
            continue
        told = _without_style(sentence)
        if 18 <= len(told) <= 400 and not facts.EMAIL.search(told):
            kept.append(told)
    return tuple(kept[:6])
