"""Untrusted text in markdown: it shows as what it is and can neither format, link, load nor run anything."""

import re


def plain(text: str) -> str:
    """Markdown that shows ``text`` as it is, whatever it holds; raw HTML included.

    >>> plain("<b>*hi*</b> [x](javascript:1)")
    '&lt;b&gt;\\\\*hi\\\\*&lt;/b&gt; \\\\[x\\\\]\\\\(javascript:1\\\\)'
    """
    return re.sub(r"([\\`*_{}\[\]()#+!|~])", r"\\\1", _without_tags(_printable(text)))


def cell(text: str) -> str:
    """`plain`, on one line, for a table."""
    return plain(" ".join(text.split()))


def quoted(text: str) -> str:
    """`plain`, as a block quote."""
    return "\n".join(f"> {plain(line)}" if line.strip() else ">" for line in text.splitlines())


def tamed(markdown: str) -> str:
    """Markdown that an agent wrote: headings, lists and tables stay, HTML, images and links lose their power.

    >>> tamed("# Plan\\n![x](http://evil) <img src=x> see [here](http://evil)")
    '# Plan\\n!\\\\[x\\\\]\\\\(http://evil) &lt;img src=x&gt; see [here\\\\]\\\\(http://evil)'
    """
    text = "\n".join(_printable(line) for line in markdown.splitlines())
    text = _without_tags(text).replace("![", "!\\[").replace("](", "\\]\\(")
    return re.sub(r"(?m)^(\s*)\[([^\]\n]+)\]:", r"\1\\[\2\\]:", text)


def fenced(text: str) -> str:
    """A code block whose fence is longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    body = "\n".join(_printable(line) for line in text.splitlines())
    return f"{fence}text\n{body}\n{fence}"


def _printable(text: str) -> str:
    return "".join(character for character in text if character == "\t" or character.isprintable())


def _without_tags(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
