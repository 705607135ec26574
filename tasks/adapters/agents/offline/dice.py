"""Choices that look free and are not: every one follows from a digest of the requirement text."""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Dice:
    """An endless row of numbers that depends on ``seed`` alone, on every machine and version of Python."""

    def __init__(self, *seed: str) -> None:
        self._seed = "\x1f".join(seed)
        self._count = 0

    def number(self, low: float = 0.0, high: float = 1.0) -> float:
        """Between ``low`` and ``high``."""
        self._count += 1
        digest = hashlib.sha256(f"{self._seed}\x1e{self._count}".encode("utf-8", "replace")).digest()
        return low + (high - low) * (int.from_bytes(digest[:6]) / 2**48)

    def whole(self, low: int, high: int) -> int:
        """Between ``low`` and ``high``, both included."""
        return min(high, low + int(self.number() * (high - low + 1)))

    def pick(self, options: Sequence[T]) -> T:
        return options[self.whole(0, len(options) - 1)]
