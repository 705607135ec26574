"""The agent's hook events: one JSON object a line, appended by the agent, and read as hostile.

A line's ``hook_event_name`` is all that is taken from it. Whoever runs inside the sandbox can forge these lines:
they are believed for progress, never for a gate.
"""

import json
import os
import stat
from pathlib import Path

from tasks.domain.agent import Turn, turn_after

CHUNK_BYTES = 256 * 1024
"""How much is read in one go; a line that is longer is skipped."""

_CHUNKS_AT_ONCE = 8
_NAME_LENGTH = 64


class EventLog:
    """Reads on from ``offset``, whole lines only. A file that has become shorter is read from its start."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        self._path = path
        self._offset = offset

    def names(self) -> list[str]:
        """The names of the events since the last call; of a flood, the first 2 MiB."""
        found: list[str] = []
        for _ in range(_CHUNKS_AT_ONCE):
            chunk = self._chunk()
            whole, newline, _half = chunk.rpartition(b"\n")
            if not newline and len(chunk) < CHUNK_BYTES:
                break
            self._offset += len(whole) + 1 if newline else len(chunk)
            found += [name for line in whole.split(b"\n") if (name := _name(line))]
        return found

    def _chunk(self) -> bytes:
        try:
            handle = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return b""
        try:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode):
                return b""
            if status.st_size < self._offset:
                self._offset = 0
            return os.pread(handle, CHUNK_BYTES, self._offset)
        finally:
            os.close(handle)


def _name(line: bytes) -> str | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return None
    name = event.get("hook_event_name") if isinstance(event, dict) else None
    return name if isinstance(name, str) and len(name) <= _NAME_LENGTH else None


def size_of(path: Path) -> int:
    """How long a regular file is; 0 where there is none."""
    try:
        status = path.lstat()
    except OSError:
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


class TurnSince:
    """The agent's turn, as told by events after one prompt was delivered.

    What comes before the prompt was taken, such as the end of the turn before, does not count.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self.prompt_taken = False
        self._turn = Turn.STARTING

    def look(self) -> None:
        names = self._log.names()
        if not self.prompt_taken:
            if "UserPromptSubmit" not in names:
                return
            names = names[names.index("UserPromptSubmit") :]
            self.prompt_taken = True
        turn = turn_after(names)
        self._turn = self._turn if turn is Turn.STARTING else turn

    @property
    def has_ended(self) -> bool:
        return self._turn is Turn.IDLE
