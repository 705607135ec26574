"""Markdown that people read. Whatever came from outside stands in it as text."""

import re

from .markup import visible


def plain(text: str) -> str:
    """``text`` on one line, with nothing in it that Markdown or HTML would act upon.

    >>> plain("<b>*hi*</b> [x](javascript:1)")
    '&lt;b&gt;\\\\*hi\\\\*&lt;/b&gt; \\\\[x\\\\]\\\\(javascript:1\\\\)'
    """
    flat = " ".join(visible(text).split())
    flat = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    flat = re.sub(r"([\\`*_{}\[\]()#+!|~])", r"\\\1", flat)
    flat = re.sub(r"^(\s*)([-=]|\d+(?=[.)]))", r"\1\\\2", flat)
    return re.sub(r"(?i)\b(https?|ftp|www)(?=[:.])", r"\1&#8203;", flat)


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """Lines of a table. Cells are written as they are: pass what came from outside through `plain`."""
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return lines + [f"| {' | '.join(cell or ' ' for cell in row)} |" for row in rows]
