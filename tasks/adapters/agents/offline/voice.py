"""What the site says where the requester said nothing, in the requester's language. The words are in ``voices/``."""

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent / "voices"


@dataclass(frozen=True)
class Voice:
    code: str
    _words: dict[str, dict[str, Any]]

    def say(self, key: str, **values: str) -> str:
        """A phrase, with ``{name}`` and the like replaced once; braces in the values stay as they are."""
        phrase = str(self._words["ui"][key])
        for name, value in values.items():
            before, mark, after = phrase.partition("{" + name + "}")
            phrase = f"{before}{value}{after}" if mark else phrase
        return phrase

    def row(self, key: str) -> tuple[str, ...]:
        """A list of phrases."""
        return tuple(self._words["ui"][key])

    def section(self, kind: str) -> str:
        return str(self._words["sections"][kind])

    def line(self, kind: str) -> str:
        """One sentence for a kind of site."""
        return str(self._words["kinds"][kind][0])

    def offers(self, kind: str) -> tuple[str, ...]:
        """Four things that such a place is about."""
        return tuple(self._words["kinds"][kind][1:])


@cache
def speak(code: str) -> Voice:
    return Voice(code, tomllib.loads((_HERE / f"{code}.toml").read_text(encoding="utf-8")))
