"""Strangers' text as text alone: nothing in it that a terminal, a page or a reader's eye would obey."""

import re

_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters but tab and line break
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # directions
    "\u200b\u2060\ufeff"  # no width
    "\ud800-\udfff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def plain_text(text: str) -> str:
    """Without control characters (but tab and line break), bidirectional controls, invisible ones and lone surrogates.

    >>> plain_text("a\\x1b[201~b\\u202ec\\r\\nd")
    'a[201~bc\\nd'
    """
    return _OBEYED.sub("", text)
