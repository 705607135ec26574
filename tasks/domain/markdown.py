"""Untrusted text in markdown: it shows as what it is and can neither format, link, load nor run anything.

Everything here takes time in proportion to the text. Left to renderers is what GitHub's flavour does not do: making a
link of a name without scheme or `www.`, as `example.com`.
"""

import re

_BRACKET = re.compile(r"(?<!\\)((?:\\\\)*)\[")
_ADDRESS = re.compile(r"(?<!\\)((?:\\\\)*)(?P<mark>/(?=/)|@)|(?P<www>www)\.", re.IGNORECASE)


def plain(text: str) -> str:
    """Markdown that shows ``text`` as it is, whatever it holds; raw HTML included.

    >>> plain("<b>*hi*</b> [x](javascript:1)")
    '&lt;b&gt;\\\\*hi\\\\*&lt;/b&gt; \\\\[x\\\\]\\\\(javascript:1\\\\)'
    """
    return _without_addresses(re.sub(r"([\\`*_{}\[\]()#+!|~])", r"\\\1", _without_tags(_printable(text))))


def cell(text: str) -> str:
    """`plain`, on one line, for a table."""
    return plain(" ".join(text.split()))


def quoted(text: str) -> str:
    """`plain`, as a block quote."""
    return "\n".join(f"> {plain(line)}" if line.strip() else ">" for line in text.splitlines())


def tamed(markdown: str) -> str:
    """Markdown that an agent wrote: headings, lists and tables stay, HTML, images and links lose their power.

    No link or reference is left without its opening bracket (https://spec.commonmark.org/0.31.2/#links), nor a task
    list its boxes.

    >>> tamed("# Plan\\n![x](http://evil) <img src=x> see [here](//evil)")
    '# Plan\\n!\\\\[x](http:\\\\//evil) &lt;img src=x&gt; see \\\\[here](\\\\//evil)'
    """
    text = "\n".join(_printable(line) for line in markdown.splitlines())
    return _without_addresses(_BRACKET.sub(r"\1\\[", _without_tags(text)))


def fenced(text: str) -> str:
    """A code block whose fence is longer than any run of backticks in it."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    body = "\n".join(_printable(line) for line in text.splitlines())
    return f"{fence}text\n{body}\n{fence}"


def _printable(text: str) -> str:
    return "".join(character for character in text if character == "\t" or character.isprintable())


def _without_addresses(text: str) -> str:
    """No renderer finds an address to link here by itself (https://github.github.com/gfm/#autolinks-extension-)."""
    return _ADDRESS.sub(_broken, text)


def _broken(found: re.Match[str]) -> str:
    if found["www"]:
        return f"{found['www']}\\."
    return f"{found[1]}\\{found['mark']}"


def _without_tags(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
