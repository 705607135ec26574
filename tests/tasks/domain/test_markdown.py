import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from tasks.domain.markdown import cell, fenced, plain, quoted, tamed

# As permissive as a renderer gets: raw HTML, links, images and tables are all on.
RENDERER = MarkdownIt("commonmark", {"html": True}).enable("table")

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
]


def tags(markdown: str) -> set[str]:
    return {token.tag for token in _flat(RENDERER.parse(markdown)) if token.tag} | {
        "raw html" for token in _flat(RENDERER.parse(markdown)) if token.type.startswith("html")
    }


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
