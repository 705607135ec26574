"""Which sections get a page of their own, and where it is."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from . import document as documents
from . import lexicon
from .document import Document
from .outline import ORDER, Section, content

_SLUG_LIMIT = 32
MAX_PAGES = 9
_LISTED_PAGES = re.compile(
    r"((?:[A-Za-z][\w'’-]{0,30}(?: [\w'’-]{1,30})?, ){1,8}[\w'’-]{1,30}(?: [\w'’-]{1,30})?,? (?:and|&) "
    r"[\w'’-]{1,30}) pages$"
)


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


def lay_out(
    document: Document,
    code: str,
    sections: tuple[Section, ...],
    refused: set[str],
    *,
    said: str = "",
    added: Sequence[str] = (),
    paged: Sequence[str] = (),
    unwanted: Sequence[str] = (),
) -> tuple[tuple[Page, ...], tuple[Section, ...]]:
    """Which sections get a page of their own. Without a word about pages there is one.

    What was ``added`` gets one where the site has several; ``paged`` asks for one in any case.
    """
    wanted = _wishes(document, code, sections)
    if lexicon.says("one_page", said):
        wanted, added, paged = [], (), ()
    elif lexicon.says("many_pages", said) and not wanted:
        wanted = [("", section.kind) for section in sections if section.kind in ORDER]
    taken = {concept for _, concept in wanted}
    wanted = [*wanted, *(("", concept) for concept in (*paged, *(added if wanted else ())) if concept not in taken)]
    wanted = [(label, concept) for label, concept in wanted if not any(_named(label, words) for words in unwanted)]
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
                items, text = content(document, concept, (), ())
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


def _named(label: str, words: str) -> bool:
    return len(label) >= 3 and lexicon.fold(label) in words


def _wishes(document: Document, code: str, sections: tuple[Section, ...]) -> list[tuple[str, str | None]]:
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
            if (beside or inside or (listed and several and hit.start >= listed.end())) and not lexicon.negated(
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
