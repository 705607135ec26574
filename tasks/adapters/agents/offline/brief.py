"""What a requirement text comes down to: everything the pages, the plan and the suite are made from.

`understand` depends on the text alone, so that a suite can be written on a machine that has nothing but
``requirements.json``.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from . import brand as brands
from . import document as documents
from . import facts, language, lexicon
from .brand import Brand
from .document import Block, Document
from .facts import Item
from .language import Language
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
    "hours",
    "location",
    "faq",
    "newsletter",
    "booking",
    "contact",
]
"""Sections as they follow each other on a page, unless the kind of site says otherwise."""

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

_USUAL: dict[str, tuple[str, ...]] = {
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
_WEAK_KINDS = {"blog", "shop", "portfolio", "club", "software", "consulting", "school", "music"}
_UNINFLECTED = frozenset({"en", "de", "fr", "es", "it", "pt", "nl", "ja", "zh", "ko"})
"""Languages whose words can be lifted out of a sentence and still stand as a heading, mostly."""
_OWN_WORDS = frozenset({"services", "booking", "events"})
"""Sections that mean so many things that the requester's word is better than the template's."""
_SLUG_LIMIT = 32
MAX_PAGES = 9
_LISTED_PAGES = re.compile(
    r"((?:[A-Za-z][\w'’-]{0,30}(?: [\w'’-]{1,30})?, ){1,8}[\w'’-]{1,30}(?: [\w'’-]{1,30})?,? (?:and|&) "
    r"[\w'’-]{1,30}) pages$"
)


@dataclass(frozen=True)
class Theme:
    """``scheme`` is "dark", "light" or None where the text leaves it open; colours are hex codes, wished for first."""

    scheme: str | None = None
    moods: tuple[str, ...] = ()
    colours: tuple[str, ...] = ()


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


@dataclass(frozen=True)
class Page:
    """``slug`` is empty for the front page. ``sections`` are keys of sections."""

    slug: str
    title: str
    sections: tuple[str, ...]

    @property
    def path(self) -> str:
        return f"/{self.slug}.html" if self.slug else "/"

    @property
    def file(self) -> str:
        return f"{self.slug or 'index'}.html"


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
    seed: str = field(repr=False)

    def section(self, key: str) -> Section:
        return next(section for section in self.sections if section.key == key)

    def has(self, kind: str) -> bool:
        return any(section.kind == kind for section in self.sections)


def understand(text: str) -> Brief:
    """Read a requirement text. It never fails: whatever it does not understand, it leaves out."""
    cleaned = documents.clean(text)[:40_000]
    tongue = language.detect(cleaned)
    code = tongue.code
    document = documents.read(cleaned, code)
    folded = lexicon.Folded(cleaned)
    kind_hits = _kind_hits(folded, code)
    kind, ordered = _kind(kind_hits)
    name = brands.find(document, code, ordered)
    asked, refused, words = _asked(document, code, name)
    sections = _sections(document, code, kind, asked, refused, words)
    pages, sections = _pages(document, code, sections, refused)
    email = next(iter(facts.emails(cleaned)), "")
    phone = next(iter(facts.phones(cleaned)), "")
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
        theme=_theme(document, code, name),
        sections=sections,
        pages=pages,
        email=email,
        phone=phone,
        address=facts.address(document),
        contact_form=_says_form(folded, code),
        beyond=_beyond(folded),
        seed=unicodedata.normalize("NFC", cleaned),
    )


def _kind_hits(folded: lexicon.Folded, code: str) -> list[Hit]:
    return lexicon.outermost(lexicon.find("kinds", code, folded))


def _kind(hits: Sequence[Hit]) -> tuple[str, list[Hit]]:
    """The kind with the most and the earliest words, and its words first."""
    scores: dict[str, float] = {}
    for hit in hits:
        weight = 0.5 if hit.concept in _WEAK_KINDS else 1.0
        early = 5.0 / (1 + hit.start / 60)
        scores[hit.concept] = scores.get(hit.concept, 0.0) + weight * (0.35 + early)
    if not scores:
        return "generic", []
    order = list(_USUAL)
    best = max(scores, key=lambda concept: (round(scores[concept], 6), -order.index(concept)))
    return best, [hit for hit in hits if hit.concept == best]


def _kind_word(text: str, code: str, hits: Sequence[Hit], name: Brand, kind: str) -> str:
    """The requester's word for the business, for a line above the name; empty where the name says it."""
    if not hits or not name.stated or code not in _UNINFLECTED:
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


def _theme(document: Document, code: str, name: Brand) -> Theme:
    talk = _talk_of_style(document, code, name)
    styled = lexicon.Folded(talk)
    schemes = [hit.concept for hit in lexicon.find_named("themes", "schemes", styled) if not _negated(talk, hit, code)]
    moods = list(
        dict.fromkeys(
            hit.concept for hit in lexicon.find_named("themes", "moods", styled) if not _negated(talk, hit, code)
        )
    )
    colours: list[tuple[int, str]] = [
        (match.start(), f"#{match[1].lower()}")
        for match in re.finditer(r"(?<![\w&])#([0-9a-fA-F]{6}|[0-9a-fA-F]{3})(?![\w])", document.text)
    ]
    named = lexicon.outermost(lexicon.find_named("themes", "colours", styled))
    colours += [
        (hit.start + 10**6, hit.concept) for hit in named if not _edible(talk, hit) and not _negated(talk, hit, code)
    ]
    ordered = tuple(dict.fromkeys(_six(code_) for _, code_ in sorted(colours)))[:5]
    return Theme(schemes[0] if schemes else None, tuple(moods[:3]), ordered)


def _six(code: str) -> str:
    digits = code.lstrip("#")
    return "#" + ("".join(digit * 2 for digit in digits) if len(digits) == 3 else digits)


def _talk_of_style(document: Document, code: str, name: Brand) -> str:
    """The sentences and labels that may speak about looks: not menus, names or addresses."""
    parts = [f"{block.label}: {', '.join(block.items)}" for block in document.of("meta")]
    for index, sentence in enumerate(document.prose):
        if index < 2 or len(document.prose) <= 6 or lexicon.asks(code, sentence):
            parts.append(re.sub(re.escape(name.name), " ", sentence) if name.stated else sentence)
    parts += [item for block in document.blocks if block.concept is None for item in block.items if len(item) < 60]
    if not document.prose and not parts:
        parts.append(document.text)
    return "\n".join(parts)


_EDIBLE = re.compile(
    r"^[\s-]*(?:tea|teas|coffee|wine|wines|juice|bread|tee|kaffee|wein|brot|saft|thé|café|vin|vins|pain|té|vino|vinos|tè|chá|vinho|"
    r"thee|koffie|wijn|herring|bean|beans|peas|card|market|house|line|forest|wood|tooth)\b|^[茶ワコ酒]",
    re.IGNORECASE,
)


def _edible(text: str, hit: Hit) -> bool:
    return bool(_EDIBLE.match(text[hit.end : hit.end + 12]))


def _negated(text: str, hit: Hit, code: str) -> bool:
    """Whether "no", "without" or the like stands within the two words before, or behind it in Japanese and Turkish."""
    before = re.split(r"[.!?;,\n]", text[max(0, hit.start - 28) : hit.start])[-1].split()[-3:]
    no = set(lexicon.words(code, "no"))
    if code in {"ja", "ko", "tr", "zh"}:
        after = text[hit.end : hit.end + 8]
        return any(word in after for word in lexicon.words(code, "no", with_english=False)) or any(
            word in "".join(before) for word in no if len(word) > 1 and code == "zh"
        )
    return any(word.casefold().strip("(\"'") in no for word in before)


def _asked(document: Document, code: str, name: Brand) -> tuple[list[str], set[str], dict[str, str]]:
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
            if _negated(sentence, hit, code):
                refused.add(hit.concept)
            elif speaks:
                asked.append(hit.concept)
                word = sentence[hit.start : hit.end]
                if hit.concept in _OWN_WORDS and code in _UNINFLECTED and len(word) >= 3:
                    own.setdefault(hit.concept, _heading(word))
    for block in document.blocks:
        if block.concept == "pages" or (block.concept == "meta" and lexicon.says("section_lists", block.label)):
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


def _sections(
    document: Document, code: str, kind: str, asked: list[str], refused: set[str], words: dict[str, str]
) -> tuple[Section, ...]:
    wished = list(asked)
    priced_prose = facts.priced_prose(document)
    if "pricing" in wished and "menu" in wished and not document.of("pricing"):
        wished.remove("pricing")  # "a menu with prices" is one list
    if "gallery" in wished and "projects" in wished and not (document.of("gallery") and document.of("projects")):
        wished.remove("gallery")  # so is "a projects gallery"
    found: dict[str, Section] = {}

    def put(concept: str, was_asked: bool) -> None:
        if concept in found or concept in refused:
            return
        items, text = _content(document, concept, priced_prose, wished)
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
        for concept in _USUAL[kind]:
            if not (concept == "contact" and "booking" in found) and not (concept == "projects" and "gallery" in found):
                put(concept, False)
    if not found.keys() & {"contact", "booking", "newsletter"} and (
        facts.emails(document.text) or facts.phones(document.text)
    ):
        put("contact", False)
    if "about" in found and not found["about"].items and not found["about"].text and statements:
        found["about"] = Section("about", found["about"].asked, found["about"].title, (), statements, "about")
    first = _FIRST.get(kind, ())
    rank = {concept: number for number, concept in enumerate((*first, *(c for c in ORDER if c not in first)))}
    ordered = sorted(found.values(), key=lambda section: rank[section.kind])
    return _with_custom(tuple(ordered), document)


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
    late = {"hours", "location", "faq", "newsletter", "booking", "contact", "testimonials"}
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


def _content(
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
        case "contact" | "booking" | "newsletter":
            return (), ()
        case _:
            return facts.offers(document, concept), ()


def _statements(document: Document, code: str) -> tuple[str, ...]:
    """Sentences in the requester's own voice that ask for nothing."""
    we = lexicon.pattern(lexicon.words(code, "we"))
    kept = []
    for sentence in document.prose:
        folded = lexicon.fold(sentence)
        if not we.search(folded) or lexicon.asks(code, sentence) or re.search(r"[<>{}]|https?:|\\x|\[\d*m", sentence):
            continue
        if 18 <= len(sentence) <= 400 and not facts.EMAIL.search(sentence):
            kept.append(sentence)
    return tuple(kept[:6])


def _pages(
    document: Document, code: str, sections: tuple[Section, ...], refused: set[str]
) -> tuple[tuple[Page, ...], tuple[Section, ...]]:
    """Which sections get a page of their own. Without a word about pages there is one."""
    wanted = _page_wishes(document, code, sections)
    if not wanted:
        return (Page("", "", tuple(section.key for section in sections)),), sections
    known = {section.kind: section for section in sections if section.kind != "custom"}
    grown = list(sections)
    pages: list[Page] = []
    used: set[str] = set()
    slugs = {"", "index", "404"}
    for label, concept in wanted[: MAX_PAGES - 1]:
        if concept == "home" or concept in refused:
            continue
        if concept in ORDER:
            keys: tuple[str, ...] = (known[concept].key,) if concept in known else ()
            if not keys:
                items, text = _content(document, concept, (), ())
                grown.append(Section(concept, True, "", items, text, concept))
                keys = (concept,)
        else:
            match = next(
                (s for s in sections if s.kind == "custom" and lexicon.fold(s.title) == lexicon.fold(label)), None
            )
            keys = (match.key,) if match else ()
            if not keys:
                key = f"page-{len(pages) + 1}"
                grown.append(Section("custom", True, label, (), (), key))
                keys = (key,)
        if keys[0] in used:
            continue
        used.update(keys)
        slug = _slug(label, concept, slugs)
        slugs.add(slug)
        pages.append(Page(slug, label, keys))
    for index, page in enumerate(pages):
        more: list[str] = []
        if page.sections[0] == "contact":
            more = [key for key in ("hours", "location") if key in {s.key for s in grown} - used]
        used.update(more)
        pages[index] = Page(page.slug, page.title, (*more, *page.sections) if more else page.sections)
    rest = tuple(section.key for section in grown if section.key not in used)
    return (Page("", "", rest), *pages), tuple(grown)


def _page_wishes(document: Document, code: str, sections: tuple[Section, ...]) -> list[tuple[str, str | None]]:
    text = document.text
    if lexicon.says("one_page", text):
        return []
    for block in document.of("pages"):
        if len(block.items) >= 2:
            titled = [(_label(item), documents.concept_of(_label(item), code)) for item in block.items]
            return [
                (label, concept if concept in ORDER or concept == "home" else None)
                for label, concept in titled
                if label
            ]
    listing = next(
        filter(None, (_LISTED_PAGES.search(text[: match.end()][-200:]) for match in re.finditer(r" pages\b", text))),
        None,
    )
    if listing:
        labels = [label[:1].upper() + label[1:] for label in documents.listed(re.split(r"[;:]\s", listing[1])[-1])]
        named = [(label, documents.concept_of(label, code)) for label in labels]
        return [(label, concept if concept in ORDER or concept == "home" else None) for label, concept in named]
    wishes: list[tuple[str, str | None]] = []
    page = "|".join(re.escape(word) for word in lexicon.words(code, "page"))
    for sentence in document.prose:
        folded = lexicon.Folded(sentence)
        hits = [hit for hit in lexicon.outermost(lexicon.find("sections", code, folded)) if hit.concept != "home"]
        listed = re.search(
            rf"(?<!\w)(?:{page})\s*(?:[:：(]|for|für|pour|para|per|voor|dla|для|\s*–|\s*-\s)\s*", sentence, re.I
        )
        several = lexicon.says("pages", sentence)
        for hit in hits:
            after, before = sentence[hit.end : hit.end + 14], sentence[max(0, hit.start - 16) : hit.start]
            beside = re.match(rf"[\s-]*(?:us|me)?[\s-]*(?:{page})(?!\w)", after, re.I) or re.search(
                rf"(?<!\w)(?:{page})\s+(?:de |d['’]|di |des |du |für |for |zu |voor |à |sobre |про |о |con )?$",
                before,
                re.I,
            )
            inside = sentence[hit.start : hit.end].casefold().endswith(tuple(lexicon.words(code, "page")))
            if (beside or inside or (listed and several and hit.start >= listed.end())) and not _negated(
                sentence, hit, code
            ):
                wishes.append((sentence[hit.start : hit.end], hit.concept))
    if not wishes and lexicon.says("many_pages", text):
        wishes = [("", section.kind) for section in sections if section.asked and section.kind in ORDER]
    return [("", concept) for _, concept in dict.fromkeys((concept, concept) for _, concept in wishes)]


def _label(item: str) -> str:
    return re.split(r"\s[-–—(:]|[:(（：]", item.strip(" .*"))[0].strip(" .\"“”'„")[:40]


def _slug(label: str, concept: str | None, taken: set[str]) -> str:
    """Letters a to z, digits and dashes; the section's own name where the label has none."""
    plain = re.sub(r"[^a-z0-9]+", "-", lexicon.fold(label)).strip("-")[:_SLUG_LIMIT].strip("-")
    stem = plain if len(plain) >= 2 else (concept or "page")
    slug, number = stem, 1
    while slug in taken:
        number += 1
        slug = f"{stem}-{number}"
    return slug


def _says_form(folded: lexicon.Folded, code: str) -> bool:
    """Whether it is a form, and not just an address, that the text wants for contact."""
    hits = (hit for hit in lexicon.find("sections", code, folded) if hit.concept == "contact")
    return any(lexicon.says("form", folded.text[hit.start : hit.end]) for hit in hits)


def _beyond(folded: lexicon.Folded) -> tuple[str, ...]:
    return tuple(dict.fromkeys(hit.concept for hit in lexicon.find_named("beyond", "", folded)))
