"""The files of a site: whatever the request says, they hold the markup of the templates and nothing else."""

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from defusedxml.ElementTree import fromstring
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.adapters.agents.offline import pages
from tasks.adapters.agents.offline.brand import Brand
from tasks.adapters.agents.offline.brief import Brief, understand
from tasks.adapters.agents.offline.markup import visible
from tasks.adapters.agents.offline.pages import Site
from tests.tasks.adapters.agents.offline.wishes import WISHES, site

FRAGMENTS = st.one_of(
    st.sampled_from(
        [
            "<script>alert(1)</script>",
            '"><img src=x onerror=alert(1)>',
            "</title><body onload=alert(1)>",
            "'-alert(1)-'",
            "javascript:alert(1)",
            "{{7*7}}${7*7}<%= 7*7 %>",
            "\x1b[31mred\x1b[0m",
            "\u202egnp.exe\u2066",
            "]]><!--",
            "&lt;script&gt;",
            "a" * 300,
        ]
    ),
    st.text(min_size=1, max_size=40),
)


class Skeleton(HTMLParser):
    """Tags and attributes in order. Values count, but for those that carry a requester's words."""

    WORDS = frozenset({"alt", "content", "title", "aria-label", "data-subject", "data-label"})

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.marks: list[object] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        kept = [(name, None if name in self.WORDS or tag == "a" else value) for name, value in attrs]
        self.marks.append((tag, kept))

    def handle_endtag(self, tag: str) -> None:
        self.marks.append(f"/{tag}")

    def handle_comment(self, data: str) -> None:
        self.marks.append("comment")

    def handle_decl(self, decl: str) -> None:
        self.marks.append(decl)


class Tags(HTMLParser):
    """Every start tag with its attributes as they are."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, attrs))


def spoiled(brief: Brief, word: str) -> Brief:
    """The same site with ``word`` wherever a requester's words can stand."""
    sections = tuple(
        replace(
            section,
            title=word,
            items=tuple(
                replace(
                    item,
                    title=word,
                    text=word if item.text else "",
                    mark=word if item.mark else "",
                    group=word if item.group else "",
                )
                for item in section.items
            ),
            text=tuple(word for _ in section.text),
        )
        for section in brief.sections
    )
    return replace(
        brief,
        brand=Brand(word, True),
        kind_word=word,
        place=word,
        when=word,
        slogan=word,
        summary=word,
        address=word,
        phone=word,
        sections=sections,
        pages=tuple(replace(page, title=word if page.slug else "") for page in brief.pages),
    )


BRIEFS = {name: understand(WISHES[name]) for name in ("bakery", "conference", "children")}


def skeletons(made: Site) -> list[list[object]]:
    texts = [made.files[page.file].decode() for page in (*made.pages, made.lost)]
    return [Skeleton(re.sub(r"assets/[\w-]+\.\w+\.", "assets/x.", text)).marks for text in texts]


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(BRIEFS)), FRAGMENTS)
def test_no_words_of_a_requester_make_a_tag_or_an_attribute(name: str, fragment: str) -> None:
    harmless = "x" * len(fragment)
    assert skeletons(pages.build(spoiled(BRIEFS[name], fragment))) == skeletons(
        pages.build(spoiled(BRIEFS[name], harmless))
    )


@settings(max_examples=25, deadline=None)
@given(FRAGMENTS, FRAGMENTS)
def test_a_hostile_request_yields_a_site_of_the_template_alone(one: str, other: str) -> None:
    made = site(
        f'Bakery called "{one}". Menu: {other} 2.50, bread 3.00. FAQ: {one}? {other}. We love {other}. About: {one}'
    )
    known = [marks for clean in BRIEFS.values() for marks in skeletons(pages.build(clean))]
    allowed = {mark[0] for marks in known for mark in marks if isinstance(mark, tuple)}
    for page in (*made.pages, made.lost):
        text = made.files[page.file].decode()
        marks = [mark for mark in Skeleton(text).marks if isinstance(mark, tuple)]
        assert {tag for tag, _ in marks} <= allowed
        names = {attribute for _, attributes in marks for attribute, _ in attributes}
        assert not {attribute for attribute in names if attribute.startswith("on") or attribute == "style"}
        assert [tag for tag, _ in marks].count("script") == 1
        assert "\u202e" not in text
        assert "\x1b" not in text


@pytest.mark.parametrize("name", WISHES)
def test_a_drawing_is_well_formed_and_draws_only(name: str) -> None:
    shapes = {"svg", "title", "defs", "linearGradient", "stop", "rect", "circle", "ellipse", "path"}
    for path, content in site(WISHES[name]).files.items():
        if path.endswith(".svg"):
            for element in fromstring(content.decode()).iter():
                assert element.tag.removeprefix("{http://www.w3.org/2000/svg}") in shapes
                assert not any("href" in attribute or attribute.startswith("on") for attribute in element.attrib)


@pytest.mark.parametrize("name", WISHES)
def test_headings_descend_one_step_at_a_time_from_a_single_first(name: str) -> None:
    made = site(WISHES[name])
    for page in (*made.pages, made.lost):
        levels = [
            int(tag[0][1])
            for tag in Skeleton(made.files[page.file].decode()).marks
            if isinstance(tag, tuple) and re.fullmatch("h[1-6]", tag[0])
        ]
        assert levels.count(1) == 1
        assert levels[0] == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))


@pytest.mark.parametrize("name", WISHES)
def test_ids_are_single_and_links_lead_somewhere(name: str) -> None:
    made = site(WISHES[name])
    ids = {}
    for page in (*made.pages, made.lost):
        found = re.findall(r' id="([^"]+)"', made.files[page.file].decode())
        assert len(found) == len(set(found)), page.path
        ids[page.path] = set(found)
    for page in (*made.pages, made.lost):
        text = made.files[page.file].decode()
        for link in re.findall(r' href="([/#][^"]*)"', text):
            path, _, anchor = link.partition("#")
            if path.startswith(("/assets/", "/favicon")):
                assert path[1:] in made.files
            else:
                assert not anchor or anchor in ids[path or page.path], link
                assert (path or page.path) in ids, link
        for source in re.findall(r' src="/([^"]*)"', text):
            assert source in made.files


@pytest.mark.parametrize("name", WISHES)
def test_nothing_is_loaded_from_elsewhere(name: str) -> None:
    made = site(WISHES[name])
    for page in (*made.pages, made.lost):
        for tag, attributes in Tags(made.files[page.file].decode()).found:
            for attribute, value in attributes:
                if attribute in {"src", "srcset", "data", "poster"} or (attribute == "href" and tag == "link"):
                    assert re.fullmatch(r"/[^/].*", value or ""), f"{page.path}: <{tag} {attribute}={value}>"
    for path, content in made.files.items():
        if path.endswith((".css", ".js", ".svg")):
            bare = content.decode().replace("http://www.w3.org/2000/svg", "")
            assert not re.search(r"https?:|@import|url\((?!#)|fetch\(", bare), path


@pytest.mark.parametrize("name", WISHES)
def test_every_page_says_what_it_is(name: str) -> None:
    made = site(WISHES[name])
    titles = set()
    for page in made.pages:
        text = made.files[page.file].decode()
        for needle in (
            'name="description"',
            'name="viewport"',
            'name="theme-color"',
            'property="og:title"',
            'rel="icon"',
            'class="skip"',
        ):
            assert needle in text
        assert f'<html lang="{made.brief.language.code}" dir="{made.brief.language.direction}">' in text
        assert "no language model" not in text
        assert "without a language model" in text
        titles.add(page.title)
    assert len(titles) == len(made.pages)


def test_assets_carry_a_digest_and_the_rest_comes_along() -> None:
    files = site("Bakery").files
    assert {"index.html", "404.html", "favicon.svg", "robots.txt", "README.md"} <= set(files)
    for path, content in files.items():
        if path.startswith("assets/"):
            digest = re.fullmatch(r"assets/[\w-]+\.([0-9a-f]{10})\.(?:css|js|svg)", path)
            assert digest is not None
            assert hashlib.sha256(content).hexdigest().startswith(digest[1])
    assert b"template generator: it has no language model" in files["README.md"]


def test_what_was_given_stands_there_and_what_was_not_is_marked() -> None:
    given_one = site(WISHES["bakery"]).files["index.html"].decode()
    for words in (
        "Bauernbrot",
        "4,80 €",
        "6:30-18 Uhr",
        "Hauptstraße 12, 79098 Freiburg",
        "mailto:hallo@sonnenkorn.example",
    ):
        assert words in given_one
    assert "Beispielinhalt" not in given_one
    invented = site("Bakery").files["index.html"].decode()
    assert invented.count("Example content") == 4
    assert not re.search(r"[€$£]\s?\d|\d\s?[€$£]", invented)


def test_nobody_is_quoted_who_was_not_quoted() -> None:
    text = site("A bakery with testimonials and a menu").files["index.html"].decode()
    assert "Nobody is quoted here yet" in text
    assert "<blockquote" not in text
    quoted = site('Bakery with a menu. Testimonials: "Best rolls in town" – Ida M.').files["index.html"].decode()
    assert "Best rolls in town" in quoted
    assert "Ida M" in quoted


def test_the_same_text_is_the_same_bytes_in_every_process() -> None:
    program = (
        "import hashlib, json, sys\n"
        "from tests.tasks.adapters.agents.offline.wishes import WISHES, site\n"
        "files = {name: {path: hashlib.sha256(data).hexdigest() for path, data in site(text).files.items()}\n"
        "         for name, text in WISHES.items()}\n"
        "print(json.dumps(files, sort_keys=True))"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    assert len(json.loads(outputs[0])) == 8


def test_eight_wishes_are_eight_different_sites() -> None:
    made = {name: site(text) for name, text in WISHES.items()}
    assert len({one.look.name for one in made.values()}) >= 6
    assert len({(one.palette.accent.hex, one.palette.ground.hex) for one in made.values()}) >= 7
    assert len({next(path for path in one.files if path.endswith(".css")) for one in made.values()}) == 8


def test_hostile_words_are_shown_as_words() -> None:
    text = site(WISHES["hostile"]).files["index.html"].decode()
    assert "&lt;b&gt;bold&lt;/b&gt; advice" in text
    assert visible("\u202e") == ""
    assert "<b>" not in text
    assert "<iframe" not in text
