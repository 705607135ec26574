"""Waiting for what other processes do, woken by the kernel's file notifications, with a slow poll as a net."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

# watchfiles.watch begins to watch at the first change that is asked for, and would miss what happens before.
from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError

STEP_MS = 2
"""How often watchfiles looks for notifications, and how long it must then be quiet; its own default is 50.

A waiting thread costs about 1.5 % of a core for it."""

NET_S = 0.5
"""How long a wait may go on without a look, whatever was notified."""

_WITHOUT_NOTIFICATION_S = 0.02
_log = logging.getLogger(__name__)


class Flag(Protocol):
    """What of threading.Event a waiting thread needs."""

    def is_set(self) -> bool: ...


class AnyOf:
    """Set as soon as one of the flags is."""

    def __init__(self, *flags: Flag) -> None:
        self._flags = flags

    def is_set(self) -> bool:
        return any(flag.is_set() for flag in self._flags)


class Changes:
    """Tells that something directly inside one of ``folders`` changed, about 4 ms after it did.

    A change between construction and `wait` is not missed. Where the machine has no notification left (Linux gives
    a user 128 inotify instances by default), `wait` returns every 20 ms.
    """

    def __init__(self, *folders: Path) -> None:
        self._notify: RustNotify | None = None
        try:
            self._notify = RustNotify([str(folder) for folder in folders], False, False, 0, False, False)
        except WatchfilesRustInternalError as error:
            _log.warning("file notification unavailable, polling instead reason=%s", error)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._notify is not None:
            self._notify.close()

    def wait(self, timeout_s: float, stop: Flag) -> None:
        """Return at a change, when ``stop`` is set, or after ``timeout_s``: the caller looks for itself."""
        if self._notify is None:
            time.sleep(max(0.0, min(timeout_s, _WITHOUT_NOTIFICATION_S)))
        else:
            # A timeout of 0 would mean for ever.
            self._notify.watch(2 * STEP_MS, STEP_MS, max(1, int(timeout_s * 1000)), stop)


def until_content(
    complaint: Callable[[], str | None],
    changes: Changes,
    timeout_s: float,
    stop: Flag,
    clock: Callable[[], float] = time.monotonic,
    more_s: Callable[[], float] = lambda: 0.0,
    pause_s: Callable[[], float] = lambda: NET_S,
) -> str | None:
    """None as soon as ``complaint()`` is; its last words when the time is over or ``stop`` is set.

    It is asked at once, after each change, and at least every NET_S seconds, or ``pause_s`` where that is less.
    ``more_s`` is what is added to the time, and may grow.
    """
    end = clock() + timeout_s
    while (words := complaint()) is not None:
        left = end + more_s() - clock()
        if left <= 0 or stop.is_set():
            return words
        changes.wait(min(left, NET_S, pause_s()), stop)
    return None


NEVER = threading.Event()
"""A flag that nobody sets."""
