"""The agent's hook events: one JSON object a line, appended by the agent, and read as hostile.

Whoever runs inside the sandbox can forge these lines: they are believed for progress, never for a gate. Their texts are
cut and stripped of what a terminal or a page would obey.
"""

import json
import os
import stat
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tasks.domain.agent import AgentEvent, AskedQuestion, Turn, of_session, turn_after
from tasks.domain.agent_state import Passage
from tasks.domain.text import plain_text

CHUNK_BYTES = 256 * 1024
"""How much is read in one go; a line that is longer is skipped."""

_CHUNKS_AT_ONCE = 8
_NAME_LENGTH, _TEXT_LENGTH = 64, 2000


class JsonLines:
    """Reads on from ``offset``, whole lines only. A file that has become shorter is read from its start."""

    def __init__(
        self,
        path: Path,
        offset: int = 0,
        until: int = sys.maxsize,
        chunk_bytes: int = CHUNK_BYTES,
        chunks: int = _CHUNKS_AT_ONCE,
        lines: int = sys.maxsize,
    ) -> None:
        self._path = path
        self._chunk_bytes, self._chunks, self._lines = chunk_bytes, chunks, lines
        self._offset = offset
        self._until = until

    @property
    def offset(self) -> int:
        """Up to here every line was read."""
        return self._offset

    def new(self) -> list[dict[str, Any]]:
        """The objects since the last call; of a flood, the first chunks and lines. What is no object is left out."""
        found: list[dict[str, Any]] = []
        for _ in range(self._chunks):
            chunk = self._chunk()
            whole, newline, _half = chunk.rpartition(b"\n")
            if not newline and len(chunk) < self._chunk_bytes:
                break
            lines = whole.split(b"\n")[: self._lines]
            self._offset += sum(len(line) + 1 for line in lines) if newline else len(chunk)
            found += [record for line in lines if (record := _object(line)) is not None]
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
            return os.pread(handle, min(self._chunk_bytes, self._until - self._offset), self._offset)
        finally:
            os.close(handle)


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


class EventLog(JsonLines):
    """The events of one session; with an empty ``session_id``, of an agent that has only one.

    ``session_id`` is the one that the session began with: what came before ``offset`` says which it has there.
    """

    def __init__(self, path: Path, offset: int = 0, session_id: str = "", until: int = sys.maxsize) -> None:
        super().__init__(path, offset, until)
        self._session_id = session_id
        if session_id and offset:
            before, read = EventLog(path, 0, session_id, until=offset), -1
            while read < before.offset:
                read = before.offset
                before.events()
            self._session_id = before._session_id

    def events(self) -> list[AgentEvent]:
        """Those since the last call, oldest first."""
        found = [event for record in self.new() if (event := _event(record)) is not None]
        if not self._session_id:
            return found
        own = of_session(found, self._session_id)
        self._session_id = next((event.session_id for event in reversed(own) if event.is_clear), self._session_id)
        return own


def _text(value: object, limit: int = _TEXT_LENGTH) -> str:
    return plain_text(value[:limit]) if isinstance(value, str) else ""


def _event(record: dict[str, Any]) -> AgentEvent | None:
    name = _text(record.get("hook_event_name"))
    if not 0 < len(name) <= _NAME_LENGTH:
        return None
    asked = record.get("questions")
    return AgentEvent(
        name=name,
        **{key: _text(record.get(key)) for key in ("session_id", "source", "tool", "about", "kind", "message")},
        questions=tuple(_question(each) for each in (asked if isinstance(asked, list) else [])[:4]),
    )


def _question(record: object) -> AskedQuestion:
    told = record if isinstance(record, dict) else {}
    choices = told.get("choices")
    return AskedQuestion(
        header=_text(told.get("header"), 100),
        question=_text(told.get("question")),
        choices=tuple(_text(choice, 200) for choice in (choices if isinstance(choices, list) else [])[:12]),
        several=told.get("several") is True,
    )


def passage_of(line: Mapping[str, object]) -> Passage | None:
    """A line of the gateway's; None where it is none."""
    status = line.get("status")
    if not isinstance(line.get("verdict"), str):
        return None
    return Passage(
        verdict=str(line["verdict"]),
        target=str(line.get("target", ""))[:300],
        status=status if isinstance(status, int) else 0,
        reason=str(line.get("reason", ""))[:300],
    )


def size_of(path: Path) -> int:
    """How long a regular file is; 0 where there is none."""
    try:
        status = path.lstat()
    except OSError:
        return 0
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


_TELLING = ("UserPromptSubmit", "PermissionRequest", "Stop", "StopFailure")
"""Events that say why a turn is where it is."""


class TurnSince:
    """The agent's turn, as told by events after one prompt was delivered.

    What comes before the prompt was taken, such as the end of the turn before, does not count. ``taken`` are the lines
    that it has taken for prompts since.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self.prompt_taken = False
        self.last: AgentEvent | None = None
        self.prompts = 0
        self.taken: set[str] = set()
        self._turn = Turn.STARTING

    def look(self) -> Sequence[AgentEvent]:
        """Read on; the events that are new, of this prompt."""
        events = self._log.events()
        if not self.prompt_taken:
            taken = [index for index, event in enumerate(events) if event.name == "UserPromptSubmit"]
            if not taken:
                return []
            events = events[taken[0] :]
            self.prompt_taken = True
        self._turn = turn_after(events, self._turn)
        prompts = [event for event in events if event.name == "UserPromptSubmit"]
        self.prompts += len(prompts)
        self.taken.update(event.about for event in prompts)
        telling = [event for event in events if event.name in _TELLING]
        self.last = telling[-1] if telling else self.last
        return events

    def interrupted(self) -> None:
        """Escape was pressed: no event tells of it."""
        self._turn, self.last = Turn.IDLE, None

    def answered(self) -> None:
        """Its dialog is gone: no event tells of it before the tool that was permitted has ended."""
        if self._turn is Turn.WAITING:
            self._turn = Turn.WORKING

    @property
    def turn(self) -> Turn:
        return self._turn

    @property
    def has_ended(self) -> bool:
        return self._turn is Turn.IDLE
