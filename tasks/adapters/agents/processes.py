"""Processes by pid, told apart from later ones with the same pid. Linux only: `/proc` and pidfd_open(2)."""

import os
import select
import signal
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Entry:
    """What `/proc/{pid}/stat` says (proc(5)); ``started`` is in clock ticks since boot."""

    pid: int
    state: str
    parent: int
    session: int
    started: int


def entry_of(pid: int) -> Entry | None:
    """None where there is no such process."""
    try:
        text = Path("/proc", str(pid), "stat").read_text(errors="replace")
    except OSError:
        return None
    # The second field is the program's name in parentheses, and may hold any character.
    fields = text.rpartition(")")[2].split()
    return Entry(pid, fields[0], int(fields[1]), int(fields[3]), int(fields[19]))


def identity(pid: int) -> str | None:
    """Unique for one process on this machine, across restarts; None where it has ended."""
    entry = entry_of(pid)
    return None if entry is None or entry.state in "ZX" else f"{boot_id()}:{pid}:{entry.started}"


def boot_id() -> str:
    """Another one after each restart of the machine."""
    return _BOOT_ID.read_text().strip()


class Watched:
    """One process that is not our child. Closing it leaves the process alone."""

    def __init__(self, pid: int) -> None:
        """Raises ProcessLookupError where it has ended."""
        self.pid = pid
        self._handle = os.pidfd_open(pid)
        self._poll = select.poll()
        self._poll.register(self._handle, select.POLLIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._handle)

    def has_ended(self, within_s: float = 0) -> bool:
        return bool(self._poll.poll(max(0.0, within_s) * 1000))

    def kill(self) -> None:
        try:
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)
        except ProcessLookupError:
            return


MARK = "TMUX_BUILDER_PANE"
"""Environment variable whose value tells the processes of one pane, wherever they hide."""


def family(session: int) -> list[int]:
    """The processes of a terminal session (its id is the pid of its first process), and all that descend from them."""
    entries = list(_entries())
    found = {entry.pid for entry in entries if entry.session == session}
    grew = True
    while grew:
        more = {entry.pid for entry in entries if entry.parent in found} - found
        found |= more
        grew = bool(more)
    return sorted(found)


def marked(value: str) -> list[int]:
    """The processes that were started with MARK set to ``value``, and are ours to see."""
    wanted = f"{MARK}={value}".encode()
    found = []
    for entry in _entries():
        try:
            environment = Path("/proc", str(entry.pid), "environ").read_bytes()
        except OSError:
            continue
        if wanted in environment.split(b"\0"):
            found.append(entry.pid)
    return found


def end(pids: Iterable[int], grace_s: float, limit_s: float) -> list[int]:
    """Wait ``grace_s`` for the processes to end, then kill what is left; the ones that outlive ``limit_s`` more.

    Call it with pids that were looked up just now.
    """
    watched = []
    for pid in pids:
        try:
            watched.append(Watched(pid))
        except ProcessLookupError:
            continue
    try:
        left = _outliving(watched, grace_s)
        for process in left:
            process.kill()
        return [process.pid for process in _outliving(left, limit_s)]
    finally:
        for process in watched:
            process.__exit__(None, None, None)


def _outliving(watched: list[Watched], seconds: float) -> list[Watched]:
    end_at = time.monotonic() + seconds
    return [process for process in watched if not process.has_ended(end_at - time.monotonic())]


def _entries() -> Iterator[Entry]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (entry := entry_of(int(folder.name))):
            yield entry
