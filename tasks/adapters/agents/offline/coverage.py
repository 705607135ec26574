"""Which part of the site answers which requirement, and which test would notice if it were gone."""

import re
from dataclasses import dataclass

from . import facts, lexicon, sections
from .brief import Brief
from .outline import FORMS, Section
from .pages import Site

CANNOT = "cannot"
MET = "met"
EXAMPLES = "examples"
UNREAD = "unread"
CHANGED = "changed"
"""The operator decided otherwise after reading the plan."""


@dataclass(frozen=True)
class Requirement:
    """One entry of ``requirements.json``."""

    id: str
    text: str
    acceptance: tuple[str, ...] = ()


@dataclass(frozen=True)
class Claim:
    """``what`` was done, and the name of the ``test`` in the suite that would see it missing; empty where none does.

    ``given`` is text of the requester that belongs to the claim; whoever writes it down has to escape it.
    """

    verdict: str
    what: str
    test: str = ""
    given: str = ""


def read(document: object) -> tuple[str, tuple[Requirement, ...]]:
    """The text and the entries of a parsed ``requirements.json``. Raises ValueError where it has no text."""
    if not isinstance(document, dict) or not isinstance(document.get("text"), str):
        raise ValueError('requirements.json: expected an object with "text", as gather_requirements writes it')
    found = []
    items = document.get("items")
    for entry in items if isinstance(items, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("id"), str) and isinstance(entry.get("text"), str):
            accepted = entry.get("acceptance")
            criteria = tuple(str(criterion) for criterion in accepted) if isinstance(accepted, list) else ()
            found.append(Requirement(entry["id"], entry["text"], criteria))
    return document["text"], tuple(found)


def claims(site: Site, requirement: Requirement) -> tuple[Claim, ...]:
    """What the site does about one requirement; never empty."""
    brief, text = site.brief, requirement.text
    folded = lexicon.Folded(text)
    found = [
        Claim(CANNOT, str(lexicon.table("beyond")[hit.concept]["says"]))
        for hit in lexicon.find_named("beyond", "", folded)
    ]
    found += _sections(site, folded)
    found += _theme(brief, folded)
    if brief.brand.stated and lexicon.fold(brief.brand.name) in folded.folded:
        found.append(
            Claim(
                MET,
                "it is the name of the site: header, title and first heading",
                "test_home_page_loads",
                brief.brand.name,
            )
        )
    if any(hit.concept == brief.kind for hit in lexicon.find("kinds", brief.language.code, folded)):
        found.append(
            Claim(
                MET,
                f"the site is made as one of the kind {brief.kind!r}: layout, drawings and wording",
                "test_home_page_loads",
            )
        )
    if lexicon.says("phone_layout", text):
        found.append(Claim(MET, "every page adapts from 320 px upwards", "test_phone_layout"))
    found += _given(site, text)
    unique = tuple(dict.fromkeys(found))
    return unique or (Claim(UNREAD, "no template answers this wish, so it was left out"),)


def _sections(site: Site, folded: lexicon.Folded) -> list[Claim]:
    brief = site.brief
    found = []
    for hit in lexicon.outermost(lexicon.find("sections", brief.language.code, folded)):
        kinds = {hit.concept}
        if hit.concept in {"gallery", "projects"}:
            kinds = {"gallery", "projects"}
        if hit.concept == "pricing":
            kinds = {"pricing", "menu"}
        shown = [_section_claim(site, section) for section in brief.sections if section.kind in kinds]
        refused = any(hit.concept in change.refused for change in brief.revisions)
        found += shown or ([Claim(CHANGED, f"the operator left {hit.concept} out of the plan")] if refused else [])
        if hit.concept == "home":
            found.append(Claim(MET, "the front page", "test_home_page_loads"))
    own = [section for section in brief.sections if section.kind == "custom" and section.title]
    found += [_section_claim(site, section) for section in own if lexicon.fold(section.title) in folded.folded]
    return found


def _section_claim(site: Site, section: Section) -> Claim:
    where = next(page.path for page in site.brief.pages if section.key in page.sections)
    name = sections.title(section, site.voice)
    test = "test_form" if section.kind in FORMS else "test_headings"
    if sections.is_example(section, site.brief):
        return Claim(
            EXAMPLES,
            f"a section on {where}, with examples that are marked as such, since nothing was given for it",
            test,
            name,
        )
    return Claim(MET, f"a section on {where}", test, name)


def _theme(brief: Brief, folded: lexicon.Folded) -> list[Claim]:
    found = []
    theme = brief.theme
    schemes = {hit.concept for hit in lexicon.find_named("themes", "schemes", folded)}
    if theme.scheme in schemes:
        found.append(
            Claim(
                MET, f"a {theme.scheme} colour scheme; contrast of text is at least 4.5 to 1, computed for every pair"
            )
        )
    if schemes - {theme.scheme} and any(change.theme.scheme for change in brief.revisions):
        found.append(Claim(CHANGED, f"the operator chose a {theme.scheme} colour scheme"))
    moods = {hit.concept for hit in lexicon.find_named("themes", "moods", folded)} & set(theme.moods)
    found += [Claim(MET, f"a look for the mood {mood!r}") for mood in moods]
    named = {hit.concept for hit in lexicon.find_named("themes", "colours", folded)}
    named |= {code.lower() for code in re.findall(r"#[0-9a-fA-F]{6}\b", folded.text)}
    used = [code for code in theme.colours if code in named]
    if used:
        found.append(Claim(MET, f"the palette is built on {', '.join(used)}"))
    return sorted(found, key=lambda claim: claim.what)


def _given(site: Site, text: str) -> list[Claim]:
    """Words of the requirement that stand on a page as they were given."""
    brief = site.brief
    found: list[Claim] = []
    for value, name in (
        (brief.email, "the e-mail address"),
        (brief.phone, "the phone number"),
        (brief.address, "the address"),
    ):
        claim = Claim(MET, f"{name} stands on the site as given", "test_given_words", value)
        found += [claim] if value and value in text else []
    shown = {
        item.title for section in brief.sections for item in section.items if len(item.title) > 2 and item.title in text
    }
    stated = [paragraph for section in brief.sections for paragraph in section.text if text.strip(" .") in paragraph]
    if shown or stated:
        found.append(Claim(MET, "what it gives stands on the site as given", "test_given_words"))
    elif facts.PRICED.match(text[:300]) and any(
        item.mark and item.mark in text for s in brief.sections for item in s.items
    ):
        found.append(Claim(MET, "the price stands on the site as given", "test_given_words"))
    return found
