"""One writer of a site at a time, and none whose time is over.

``{home}/fences/{site}`` is both the lock (flock(2): a killed holder lets go at once) and the highest number that a
writer came with. It lies outside the site's folder, so that a teardown takes neither away: who waited for the lock
then holds the one that everybody else asks for, and a writer that slept through the teardown is still refused.
"""

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks.adapters.disk import is_locked, sync
from tasks.domain.errors import HostingError

LOCK_S = 30.0
"""How long a writer waits for another one: longer than a copy takes, shorter than a frozen holder sleeps."""

_DIGITS = 20
_LOOK_EVERY_S = 0.02


class StaleWriter(HostingError):
    """A newer writer has been here: this one lost its lease, and must not write. Never transient."""


class Fence:
    """``block`` is how errors name the host."""

    def __init__(self, home: Path, site: str, block: str) -> None:
        self.path = home / "fences" / site
        self._site, self._block = site, block

    @contextmanager
    def passed(self, number: int | None, wait_s: float, clock: Callable[[], float] = time.monotonic) -> Iterator[None]:
        """Alone with the site, as the writer with this number; None: with no number, by whoever may.

        Raises StaleWriter for a number lower than one seen, before anything is written; a transient HostingError
        where the holder does not let go within ``wait_s``.
        """
        handle = self._open()
        try:
            self._lock(handle, wait_s, clock)
            if number is not None:
                highest = _number(os.pread(handle, _DIGITS, 0))
                if number < highest:
                    raise StaleWriter(
                        self._block,
                        f"{self._site} was written by a newer run (number {highest}; this one has {number}); "
                        "nothing was written",
                        "look at the newer run; to publish this one all the same, start redeploy/on-demand",
                    )
                if number > highest:
                    os.pwrite(handle, f"{number:0{_DIGITS}d}".encode(), 0)
                    os.fsync(handle)
            yield
        finally:
            os.close(handle)

    def is_held(self) -> bool:
        """Whether somebody is in there at this moment."""
        return is_locked(self.path)

    def highest(self) -> int:
        try:
            return _number(self.path.read_bytes()[:_DIGITS])
        except OSError:
            return 0

    def _open(self) -> int:
        flags = os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(self.path, os.O_RDWR | flags)
        except FileNotFoundError:
            pass
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            return os.open(self.path, os.O_RDONLY | flags)
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(self.path, os.O_RDWR | os.O_CREAT | flags, 0o600)
        sync(self.path.parent)
        return handle

    def _lock(self, handle: int, wait_s: float, clock: Callable[[], float]) -> None:
        end = clock() + wait_s
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if clock() >= end:
                    raise HostingError(
                        self._block,
                        f"another process has been writing {self._site} for the {wait_s:.0f} s that this one waited; "
                        "what was live is live",
                        f"wait for it or end it (lslocks shows who holds {self.path}), then start this run again",
                        True,
                    ) from None
                time.sleep(_LOOK_EVERY_S)


def _number(content: bytes) -> int:
    return int(content) if content.isdigit() else 0
