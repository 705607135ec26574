"""``deployment/tests/e2e_test.py``: a suite for this one site, with its own headings, labels, paths and counts.

What it expects is read off the element trees that the pages were written from, so that suite and site agree.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from . import application, sections
from .markup import Element, visible
from .pages import Site, SitePage
from .sections import Hand

_TEMPLATE = Path(__file__).parent / "scripts" / "suite.txt"
_GIVEN_LIMIT = 60


def suite(site: Site) -> str:
    """The text of the suite. It needs pytest, pytest-playwright and nothing else."""
    expected = literal(facts(site))
    template = _TEMPLATE.read_text(encoding="utf-8")
    before, _, after = template.partition("EXPECTED: dict = {}\n")
    return f"{before}EXPECTED: dict = {expected}\n{after}"


def facts(site: Site) -> dict[str, Any]:
    """What a visitor of this site should find."""
    first = site.pages[0]
    return {
        "language": site.brief.language.code,
        "direction": site.brief.language.direction,
        "brand": visible(site.brief.brand.name),
        "navigation": _navigation(first),
        "pages": [_page(page) for page in site.pages],
        "not_found": [[element.tag, element.text] for element in _headings(site.lost)],
        "forms": _forms(site),
        "given": _given(site),
    }


def _headings(page: SitePage) -> list[Element]:
    found: list[Element] = []

    def walk(element: Element) -> None:
        if element.tag in {"h1", "h2", "h3", "h4"}:
            found.append(element)
        for child in element.children:
            if isinstance(child, Element):
                walk(child)

    walk(page.root)
    return found


def _navigation(page: SitePage) -> list[list[str]]:
    nav = page.root.find("nav")[0]
    return [[link.text, link.get("href") or ""] for link in nav.find("a")]


def _page(page: SitePage) -> dict[str, Any]:
    links = {link.get("href") or "" for link in page.root.find("a")}
    return {
        "path": page.path,
        "title": " ".join(visible(page.title).split()),
        "headings": [[element.tag, element.text] for element in _headings(page)],
        "images": len(page.root.find("img")),
        "links": sorted(link for link in links if link.startswith("/")),
    }


def _forms(site: Site) -> list[dict[str, Any]]:
    hand = Hand(site.brief, site.voice, site.look, {})
    found = []
    for page in site.pages:
        for form in page.root.find("form"):
            kind = (form.get("id") or "").removesuffix("-form")
            asked = sections.fields(kind, hand)
            name = next((field.sample for field in asked if field.name == "name"), "")
            action = form.get("action") or ""
            thanks = form.get("data-thanks") or ""
            found.append(
                {
                    "page": page.path,
                    "kind": kind,
                    "action": action,
                    "public": kind in application.PUBLIC,
                    "received": site.voice.say("received"),
                    "id": f"{kind}-form",
                    "fields": [[field.name, field.label, field.kind, field.required, field.sample] for field in asked],
                    "complaint": form.get("data-required") or "",
                    "thanks": thanks.replace("{name}", name),
                    "mail": form.get("data-mail") or "",
                }
            )
    return found


def _given(site: Site) -> list[list[str]]:
    """Path and words: what the requester gave must stand on that page."""
    brief = site.brief
    found: list[list[str]] = []
    for page in brief.pages:
        for key in page.sections:
            section = brief.section(key)
            for item in section.items[:24]:
                found += [[page.path, words] for words in (item.title, item.mark, item.text) if words]
            found += [[page.path, words] for words in section.text]
    for value in (brief.email, brief.phone, brief.address):
        if value:
            found.append(["/", value])
    kept = [[path, " ".join(visible(words).split())] for path, words in found]
    unique = [list(pair) for pair in dict.fromkeys((path, words) for path, words in kept if words)]
    return unique[:_GIVEN_LIMIT]


def literal(value: object, depth: int = 0) -> str:
    """``value`` as Python source, one entry a line; strings in ASCII, so that no character can hide in them.

    >>> literal({"a": ["x", True]})
    "{\\n    'a': ['x', True],\\n}"
    """
    pad = "    " * (depth + 1)
    if isinstance(value, Mapping):
        rows = "".join(f"{pad}{key!a}: {literal(entry, depth + 1)},\n" for key, entry in value.items())
        return f"{{\n{rows}{'    ' * depth}}}" if rows else "{}"
    if isinstance(value, str):
        return ascii(value)
    if isinstance(value, Sequence):
        if any(isinstance(entry, list | dict) for entry in value):
            rows = "".join(f"{pad}{literal(entry, depth + 1)},\n" for entry in value)
            return f"[\n{rows}{'    ' * depth}]"
        return f"[{', '.join(literal(entry) for entry in value)}]"
    return repr(value)
