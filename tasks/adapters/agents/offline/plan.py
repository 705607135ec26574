"""``output/plan.md``: what will be made, for people to read before it is."""

from collections.abc import Sequence

from . import coverage, lexicon, sections
from .coverage import Requirement
from .markdown import plain, table
from .outline import FORMS
from .pages import Site

NATURE = (
    "The offline agent writes this site. It is a template generator: it has no language model, recognises words and "
    "patterns in the request, and fills templates. It does not understand sentences as a person would."
)
_LANGUAGES = {
    "en": "English",
    "de": "German",
    "fr": "French",
    "es": "Spanish",
    "it": "Italian",
    "pt": "Portuguese",
    "nl": "Dutch",
    "pl": "Polish",
    "tr": "Turkish",
    "ru": "Russian",
    "uk": "Ukrainian",
    "el": "Greek",
    "ar": "Arabic",
    "he": "Hebrew",
    "fa": "Persian",
    "hi": "Hindi",
    "ja": "Japanese",
    "zh": "Chinese",
    "ko": "Korean",
}
_WAYS = {"ltr": "written left to right", "rtl": "written right to left"}
_SIGNS = {
    coverage.MET: "will be met",
    coverage.EXAMPLES: "will be met with examples",
    coverage.CANNOT: "cannot be met",
    coverage.UNREAD: "not understood",
    coverage.CHANGED: "changed on request",
}


def plan(site: Site, requirements: Sequence[Requirement]) -> str:
    brief = site.brief
    language = _LANGUAGES[brief.language.code]
    sure = "" if brief.language.sure else " (nothing in the text told; this is the default)"
    stated = "as given" if brief.brand.stated else "no name was given; taken from the request's own words"
    wished = ", ".join(brief.theme.colours) or "none asked for; chosen to suit the kind of site"
    lines = [
        f"# Plan: {plain(brief.brand.name)}",
        "",
        NATURE,
        "",
        "## What it will be",
        "",
        *table(
            ("", ""),
            [
                ("Name", f"{plain(brief.brand.name)} ({stated})"),
                ("Kind of site", brief.kind),
                ("Type", "dynamic: pages and a server of its own" if brief.dynamic else "static: files"),
                (
                    "Language",
                    f"{language}, {_WAYS[brief.language.direction]}{sure}",
                ),
                ("Look", f"{site.look.name}, {'dark' if site.palette.dark else 'light'}"),
                ("Mood asked for", ", ".join(brief.theme.moods) or "none"),
                ("Colours asked for", wished),
                (
                    "Colours used",
                    f"{site.palette.accent.hex} and {site.palette.second.hex} on {site.palette.ground.hex}",
                ),
                ("E-mail on the site", plain(brief.email) or "none was given"),
            ],
        ),
        "",
        *_changed(site),
        "## Pages and sections",
        "",
        *table(("page", "section", "content"), _pages(site)),
        "",
        "A page for unknown addresses (404), a favicon, robots.txt and a README come with it. Nothing is loaded from",
        "other servers, and no cookies are set.",
        "",
    ]
    if any(section.kind in FORMS for section in brief.sections):
        how = (
            "they are sent to the site's own server, which keeps them in SQLite; guestbook entries are shown to "
            "everybody, all others to their sender only"
            if brief.dynamic
            else f"they compose an e-mail to {plain(brief.email)}, which the visitor sends"
            if brief.email
            else "they check what is typed and compose a message to copy; a static site cannot send it, and says so"
        )
        lines += [f"Forms: {how}.", ""]
    lines += [
        "## Requirements",
        "",
        *table(("id", "requirement", "how"), [_row(site, item) for item in requirements]),
        "",
    ]
    if brief.beyond:
        lines += ["## What this site cannot do", ""]
        lines += [f"- {lexicon.table('beyond')[concept]['says']}" for concept in brief.beyond]
        lines += [""]
    return "\n".join(lines)


def _changed(site: Site) -> list[str]:
    """What the operator asked for after reading an earlier plan, and what was made of it."""
    rows: list[tuple[str, ...]] = []
    for change in site.brief.revisions:
        done = [plain(effect) for effect in change.effects()]
        unread = [f"not understood: {plain(clause)}" for clause in change.unread]
        rows.append((plain(change.words), "; ".join((*done, *unread)) or "nothing in it was understood"))
    if not rows:
        return []
    done = [told for _, told in rows]
    return ["## Changes", "", f"Changed on request: {'; '.join(done)}.", "", *table(("asked", "done"), rows), ""]


def _pages(site: Site) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for page in site.brief.pages:
        if not page.slug:
            rows.append((page.path, "opening", "name, one sentence, drawing, ways into the site"))
        for key in page.sections:
            section = site.brief.section(key)
            given = len(section.items) + len(section.text)
            content = f"{given} {'entry' if given == 1 else 'entries'} as given" if given else "written by the template"
            if sections.is_example(section, site.brief):
                content = "examples, marked as such"
            rows.append((page.path, plain(sections.title(section, site.voice)), content))
    return rows


def _row(site: Site, requirement: Requirement) -> tuple[str, ...]:
    found = coverage.claims(site, requirement)
    told = [f"{_SIGNS[claim.verdict]}: {described(claim)}" for claim in found[:6]]
    return plain(requirement.id), plain(requirement.text), "; ".join(told)


def described(claim: coverage.Claim) -> str:
    return f"{claim.what} ({plain(claim.given)})" if claim.given else claim.what
