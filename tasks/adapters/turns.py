"""So many of a kind at a time on this machine, whichever processes they are in. A process that is killed gives its turn
back: the kernel drops its lock.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tasks.adapters.waiting import Flag

_LOOK_S = 0.1


@contextmanager
def turn(folder: Path, kind: str, most: int, stop: Flag) -> Iterator[float]:
    """Hold one of ``most`` turns inside; what it gives is how long that was waited for, in seconds.

    Whoever waits and sees ``stop`` set goes on without a turn, for it will end at once. ``folder`` is ours.
    """
    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with ExitStack() as stack:
        locks = []
        for number in range(most):
            lock = os.open(folder / f"{kind}-{number}.turn", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            stack.callback(os.close, lock)
            locks.append(lock)
        while not (stop.is_set() or any(_taken(lock) for lock in locks)):
            time.sleep(_LOOK_S)
        yield time.monotonic() - began


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
