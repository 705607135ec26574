"""How time grows with a text: what is linear stays near the factor, what is quadratic reaches its square."""

import time
from collections.abc import Callable

FACTOR = 10
_ENOUGH_S = 0.002


def growth(work: Callable[[str], object], piece: str, start: int = 2000) -> float:
    """How many times as long ``work`` takes for a text `FACTOR` times as long: the best of three, in CPU time.

    The shorter text is as long as the clock needs to be told from noise, the longer one takes 100 times that at worst.
    """
    count = start
    while (short := _best(work, piece * count)) < _ENOUGH_S and count < 100_000:
        count *= 2
    return _best(work, piece * count * FACTOR) / max(short, _ENOUGH_S / 4)


def _best(work: Callable[[str], object], text: str) -> float:
    taken = []
    for _ in range(3):
        began = time.thread_time()
        work(text)
        taken.append(time.thread_time() - began)
        if taken[-1] > 1:
            break
    return min(taken)
