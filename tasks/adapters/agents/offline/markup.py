"""HTML and SVG as values. Strings are text wherever they stand; there is no way to put raw markup in.

The safety of every page rests here: tag and attribute names must look like names, URLs must have a form that is
on a list, and all else is escaped when it is written out.
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9:-]*")
_URL = re.compile(r"(?:/(?![/\\])|#|mailto:|tel:|https://www\.openstreetmap\.org/)[^\s\"'<>\\^`{|}]*")
_URL_ATTRIBUTES = frozenset({"href", "src", "action", "formaction", "poster", "data", "xlink:href", "srcset"})
_REFUSED_ATTRIBUTES = re.compile(r"on[a-z]+|style|srcdoc", re.IGNORECASE)
_VOID = frozenset({"meta", "link", "img", "input", "br", "hr"})
_TEXTLESS = frozenset({"script", "style"})
_INLINE = frozenset(
    [
        "a",
        "abbr",
        "b",
        "bdi",
        "button",
        "em",
        "i",
        "img",
        "input",
        "label",
        "option",
        "small",
        "span",
        "strong",
        "textarea",
        "time",
        "title",
        "text",
        "tspan",
    ]
)

_CONTROLS_KEPT = "\n\t"
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_INVISIBLE = frozenset("\ufeff\u200b\u2060\u00ad")
_JOINERS = frozenset("\u200c\u200d")  # Persian and Indic spelling, and emoji sequences, need them


def visible(text: str) -> str:
    """``text`` without characters that are not text: controls, direction overrides, halves of pairs, private ones.

    >>> visible("a\\x1b[31m\\u202eb\\x00")
    'a[31mb'
    """
    return "".join(character for character in text if _is_text(character))


def _is_text(character: str) -> bool:
    if character in _CONTROLS_KEPT or character in _JOINERS:
        return True
    if character in _BIDI or character in _INVISIBLE:
        return False
    if character in "\ufffe\uffff" or "\ufdd0" <= character <= "\ufdef":
        return False
    return unicodedata.category(character) not in {"Cc", "Cs", "Co"}


def escape(text: str) -> str:
    """
    >>> escape('<a href="x">&')
    '&lt;a href=&quot;x&quot;&gt;&amp;'
    """
    text = visible(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace('"', "&quot;").replace("'", "&#39;")


@dataclass(frozen=True)
class Element:
    """One tag. Build it with `h`; write it with `page` or `svg`."""

    tag: str
    attributes: tuple[tuple[str, str], ...]
    children: "tuple[Element | str, ...]"

    def find(self, tag: str) -> "list[Element]":
        """Every element of this tag, in document order, this one included."""
        found = [self] if self.tag == tag else []
        for child in self.children:
            if isinstance(child, Element):
                found += child.find(tag)
        return found

    def get(self, name: str) -> str | None:
        return dict(self.attributes).get(name)

    @property
    def text(self) -> str:
        """What a reader sees of it, on one line."""
        parts = [child if isinstance(child, str) else child.text for child in self.children]
        return " ".join(visible("".join(parts)).split())


class MarkupRefused(ValueError):
    """A program error: something was to be written that could act instead of being read."""


def h(
    tag: str,
    attributes: "Mapping[str, str | int | float | bool | None] | None" = None,
    *children: "Element | str | Iterable[Element | str | None] | None",
) -> Element:
    """An element. An attribute that is None or False is left out, True stands for its own name.

    >>> write(h("p", {"class": "x", "hidden": True}, "1 < 2", h("b", None, "&")))
    '<p class="x" hidden="hidden">1 &lt; 2<b>&amp;</b></p>'
    """
    if not _NAME.fullmatch(tag):
        raise MarkupRefused(f"tag: {tag!r} is not a name")
    kept: list[tuple[str, str]] = []
    for name, value in (attributes or {}).items():
        if value is None or value is False:
            continue
        kept.append((name, _attribute(tag, name, name if value is True else str(value))))
    flat = tuple(_flatten(children))
    if flat and (tag in _VOID or tag in _TEXTLESS):
        raise MarkupRefused(f"<{tag}> takes no content; put scripts and styles into files of their own")
    return Element(tag, tuple(kept), flat)


def _attribute(tag: str, name: str, value: str) -> str:
    if not _NAME.fullmatch(name) or _REFUSED_ATTRIBUTES.fullmatch(name):
        raise MarkupRefused(f"<{tag}>: the attribute {name!r} is not allowed")
    if name in _URL_ATTRIBUTES and not _URL.fullmatch(value):
        raise MarkupRefused(f"<{tag} {name}>: {value!r} is not a path, fragment, mailto:, tel: or map address")
    return value


def _flatten(children: "Iterable[Element | str | Iterable[Element | str | None] | None]") -> "Iterable[Element | str]":
    for child in children:
        if child is None:
            continue
        if isinstance(child, Element | str):
            yield child
        else:
            yield from _flatten(child)


def write(element: Element) -> str:
    return "".join(_html(element))


def page(root: Element) -> str:
    """A whole HTML document."""
    return "<!doctype html>\n" + "".join(_html(root, block=True)) + "\n"


def _html(element: Element, *, block: bool = False, depth: int = 0) -> Iterable[str]:
    attributes = "".join(f' {name}="{escape(value)}"' for name, value in element.attributes)
    yield f"<{element.tag}{attributes}>"
    if element.tag in _VOID:
        return
    spread = block and bool(element.children) and all(_stands_alone(child) for child in element.children)
    for child in element.children:
        if spread:
            yield "\n" + "  " * (depth + 1)
        if isinstance(child, str):
            yield escape(child)
        else:
            yield from _html(child, block=spread, depth=depth + 1)
    if spread:
        yield "\n" + "  " * depth
    yield f"</{element.tag}>"


def _stands_alone(child: "Element | str") -> bool:
    return isinstance(child, Element) and child.tag not in _INLINE


def svg(root: Element) -> str:
    """A stand-alone SVG file."""
    return "".join(_svg(root)) + "\n"


def _svg(element: Element) -> Iterable[str]:
    attributes = "".join(f' {name}="{escape(value)}"' for name, value in element.attributes)
    if not element.children:
        yield f"<{element.tag}{attributes}/>"
        return
    yield f"<{element.tag}{attributes}>"
    for child in element.children:
        if isinstance(child, str):
            yield escape(child)
        else:
            yield from _svg(child)
    yield f"</{element.tag}>"
