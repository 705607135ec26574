import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tasks.domain.markdown import cell, fenced, plain, quoted, tamed
from tests.support.growth import growth

# As permissive as a renderer gets: raw HTML, links, images, tables and bare addresses are all on.
RENDERER = MarkdownIt("gfm-like", {"html": True, "linkify": True})

FRAGMENTS = [
    *(
        "[",
        "]",
        "(",
        ")",
        "![",
        "]:",
        "](",
        "\\",
        "\\\\",
        "`",
        "``",
        "\n",
        "\n\n",
        " ",
        "    ",
        "\t",
        ">",
        "> ",
        "- ",
        "1. ",
    ),
    *("a", "b", "[ ] ", "[^1]", "http:", "//", "/", "http://evil.example", "HTTPS://evil.example/x", "ftp://e.example"),
    *("www.", "www.evil.example", "me@evil.example", "mailto:", "@", "<", "<b>", "&", "&#91;", "&#58;", "*", "_", "~"),
    *("# ", "| ", "|---|", "```", "---", "===", '"x"', "javascript:x", "\u200b", "\u2028", "\r"),
]
"""What links, images, references and addresses are made of."""

HOSTILE = [
    "<script>alert(1)</script>",
    '<img src=x onerror="alert(1)">',
    "[x](javascript:alert(1))",
    "![x](http://evil.example/pixel.png)",
    "[a]: http://evil.example\n\n![a]",
    "```\n</code><b>x",
    "<http://evil.example>",
    "| a | b |\n|---|---|\n| <i>1</i> | 2 |",
    "&lt;b&gt;",
    "- [ref]: http://evil.example\n\n[ref]",
    "> [ref]: http://evil.example\n\n[ref]",
    "[a\\]b]: http://evil.example\n\n[a\\]b]",
    "[a\nb]: http://evil.example\n\n[a b]",
    "\\\\[x](http://evil.example)",
    "\\[x\\\\](http://evil.example)",
    "see http://evil.example/a?b=c",
    "see http:\\//evil.example and http:\\\\//evil.example, but http://evil.example",
    "see ///evil.com and http:////evil.com and //evil.com",
    "(www.evil.com) and WWW.EVIL.COM",
    "write to me@evil.com or me\\\\@evil.com or mailto:me@evil.com",
]


def tags(markdown: str) -> set[str]:
    found = list(_flat(RENDERER.parse(markdown)))
    return {token.tag for token, after in pairwise([*found, None]) if token.tag and not _is_bare_name(token, after)} | {
        "raw html" for token in found if token.type.startswith("html")
    }


def _is_bare_name(token, after) -> bool:
    """A link of a name without scheme or `www.`, such as 0.pw: what GitHub does not make, and we leave to renderers."""
    if token.markup != "linkify" or token.type not in ("link_open", "link_close"):
        return False
    words = after.content if token.type == "link_open" else "."
    return not re.search(r"//|@|^www\.|^mailto:", words, re.IGNORECASE)


def _flat(tokens):
    for token in tokens:
        yield token
        yield from _flat(token.children or [])


@pytest.mark.parametrize("text", HOSTILE)
def test_agent_markdown_keeps_its_form_and_loses_html_images_and_links(text: str):
    assert not tags(tamed(text)) & {"raw html", "img", "a", "script"}


@given(st.text())
def test_no_text_gains_power_by_being_tamed(text: str):
    assert not tags(tamed(text)) & {"raw html", "img", "a"}


@settings(max_examples=2000, deadline=None)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=25).map("".join))
def test_no_order_of_marks_makes_a_link_an_image_or_html(text: str):
    for markdown in (tamed(text), plain(text), quoted(text), f"| a |\n|---|\n| {cell(text)} |"):
        assert not tags(markdown) & {"raw html", "img", "a"}, markdown


@pytest.mark.parametrize("text", [text for text in HOSTILE if "http" in text or "www" in text])
def test_the_renderer_would_have_made_a_link_or_html_of_these(text: str):
    assert tags(text) & {"raw html", "img", "a"}


def test_an_address_reads_as_it_was_written():
    text = "see http://evil.example, www.evil.example and me@evil.example [1]"
    for markdown in (tamed(text), plain(text), quoted(text)):
        assert text in RENDERER.render(markdown)


@pytest.mark.parametrize("piece", ["\n", " ", "\\", "[", "[a", "/", "@", "`", "\n- [", "www"])
def test_time_grows_with_the_text_and_no_faster(piece: str):
    for form in (tamed, plain, quoted, cell, fenced):
        assert growth(form, piece) < 50


@given(st.text())
def test_quoted_text_is_a_paragraph_and_nothing_else(text: str):
    assert tags(quoted(text)) <= {"blockquote", "p", "br", "hr", "h1", "h2", "ol", "ul", "li", "code", "table"} - {"a"}
    assert not tags(quoted(text)) & {"raw html", "img", "a"}


@given(st.text(min_size=1))
def test_a_cell_stays_in_its_row(text: str):
    assert "\n" not in cell(text)
    assert "|" not in cell(text).replace("\\|", "")


@given(st.text())
def test_a_fence_is_never_broken_out_of(text: str):
    rendered = RENDERER.parse(fenced(text))
    assert [token.type for token in rendered] == ["fence"]


def test_plain_text_reads_as_it_was_written():
    assert RENDERER.render(plain("5 * 3 < 20 & [ok]")) == "<p>5 * 3 &lt; 20 &amp; [ok]</p>\n"
