"""The builder that every page is made with."""

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.adapters.agents.offline.markup import Element, MarkupRefused, escape, h, page, svg, visible, write


class Seen(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@given(st.text(), st.text())
def test_text_and_attributes_come_back_as_they_went_in(text: str, attribute: str) -> None:
    seen = Seen(write(h("p", {"title": attribute}, text)))
    assert [tag for tag, _ in seen.tags] == ["p"]
    assert seen.tags[0][1] == [("title", visible(attribute))]
    assert "".join(seen.text) == visible(text)


@pytest.mark.parametrize(
    "href",
    [
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        "//evil.example/",
        "/\\evil.example",
        "https://evil.example/",
        "data:text/html,x",
        "\tjavascript:alert(1)",
        "/a b",
        '/"onclick="x',
        "",
    ],
)
def test_an_address_of_another_form_is_refused(href: str) -> None:
    with pytest.raises(MarkupRefused):
        h("a", {"href": href}, "x")


@pytest.mark.parametrize("name", ["onclick", "ONCLICK", "style", "srcdoc", "a b", 'x"', "x=y", "<x"])
def test_an_attribute_that_can_act_is_refused(name: str) -> None:
    with pytest.raises(MarkupRefused):
        h("p", {name: "x"})


@pytest.mark.parametrize("tag", ["p onclick", "<p", "", "1p", "p>"])
def test_what_is_not_a_tag_name_is_refused(tag: str) -> None:
    with pytest.raises(MarkupRefused):
        h(tag)


@pytest.mark.parametrize("tag", ["script", "style"])
def test_scripts_and_styles_have_no_content(tag: str) -> None:
    with pytest.raises(MarkupRefused):
        h(tag, None, "alert(1)")


def test_characters_that_are_not_text_are_dropped() -> None:
    assert visible("a\u202eb\u2066c\x00d\x1b[31m\ufeff\ud800") == "abcd[31m"
    assert visible("می\u200cخواهم 👩\u200d🍳") == "می\u200cخواهم 👩\u200d🍳"


def test_markup_in_text_stays_text() -> None:
    assert write(h("p", None, "<script>alert('x')</script>")) == (
        "<p>&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;</p>"
    )
    assert escape("&amp;") == "&amp;amp;"


def test_a_page_has_a_doctype_and_void_elements_do_not_close() -> None:
    text = page(h("html", None, h("body", None, h("br"), h("img", {"src": "/x.svg"}))))
    assert text.startswith("<!doctype html>\n<html>")
    assert "</br>" not in text
    assert "</img>" not in text


def test_an_svg_is_well_formed_whatever_its_title() -> None:
    from defusedxml.ElementTree import fromstring

    text = svg(h("svg", {"xmlns": "http://www.w3.org/2000/svg"}, h("title", None, "<&\"'\x00\uffff]]>")))
    assert fromstring(text)[0].text == "<&\"']]>"


def test_an_element_knows_its_text() -> None:
    element = h("div", None, h("p", None, "a ", h("b", None, "b")), " c")
    assert isinstance(element, Element)
    assert element.text == "a b c"
    assert [found.tag for found in element.find("b")] == ["b"]
