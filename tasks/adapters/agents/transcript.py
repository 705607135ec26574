"""What was said in Claude Code's conversation, from the JSONL file that it keeps. Written inside the sandbox: hostile.

Each line has an id of its own, and is told once however often it is read. Tool calls become one line each; their
answers, which may be whole files, are left out.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tasks.adapters.agents.events import JsonLines
from tasks.adapters.inside.hook import about
from tasks.domain.agent import INSTRUCTION, REMINDER, message_line
from tasks.domain.text import plain_text

LINE_BYTES, LINES = 8 << 20, 500
"""How long a line may be, and how many are read in one go."""

_TEXT_LENGTH, _BLOCKS = 20_000, 20
_ID = re.compile(r"[\w-]{1,100}", re.ASCII)

_MESSAGE_FILE = re.compile(r"prompts/message-([0-9]{1,9})\.txt")


@dataclass(frozen=True)
class Entry:
    """``author``: system for the pipeline's own lines and nothing else; what anybody else gave the program to read,
    such as a task for an agent of its own, is the agent's. ``source_id`` is the same whoever reads it.
    """

    source_id: str
    author: Literal["agent", "system"]
    kind: Literal["say", "tool"]
    text: str


class Transcript(JsonLines):
    """Reads on from ``offset``. What a person wrote is on record already, and is not told again."""

    def __init__(self, path: Path, offset: int = 0) -> None:
        super().__init__(path, offset, chunk_bytes=LINE_BYTES, chunks=1, lines=LINES)

    def entries(self) -> list[Entry]:
        return [entry for record in self.new() for entry in _entries(record)]


def _entries(record: Mapping[str, Any]) -> Iterator[Entry]:
    message, source = record.get("message"), record.get("uuid")
    if not isinstance(message, dict) or not isinstance(source, str) or not _ID.fullmatch(source):
        return
    content = message.get("content")
    match record.get("type"), record.get("isSidechain"):
        case "user", False | None if isinstance(content, str) and _is_message(content):
            return
        case "user", aside if isinstance(content, str):
            ours = not aside and content in (INSTRUCTION, REMINDER)
            yield Entry(source, "system" if ours else "agent", "say", plain_text(content[:_TEXT_LENGTH]))
        case "assistant", False | None if isinstance(content, list):
            for number, block in enumerate(content[:_BLOCKS]):
                yield from _block(f"{source}:{number}", block)


def _is_message(line: str) -> bool:
    """Whether this is, to the letter, the line that names a person's message; what merely begins so is told."""
    named = _MESSAGE_FILE.search(line)
    return named is not None and line == message_line(int(named[1]))


def _block(source_id: str, block: object) -> Iterator[Entry]:
    if not isinstance(block, dict):
        return
    text, name = block.get("text"), block.get("name")
    if block.get("type") == "text" and isinstance(text, str) and text.strip():
        yield Entry(source_id, "agent", "say", plain_text(text[:_TEXT_LENGTH]))
    elif block.get("type") == "tool_use" and isinstance(name, str):
        yield Entry(source_id, "agent", "tool", plain_text(f"{name[:100]} {about(block.get('input'))}".strip()))
