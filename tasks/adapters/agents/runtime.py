"""What the pipeline knows about one execution's agent on this machine: a folder that only we write to, but for events.

`{home}/agents/{execution_id}/` survives the flow's process, and tells the next one what was begun.
"""

import fcntl
import hashlib
import json
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from typing import Any
from uuid import uuid4

from tasks.adapters.agents.processes import MARK
from tasks.adapters.trees import remove_tree
from tasks.adapters.workspace import read_bounded, write_atomic
from tasks.domain.agent import INSTRUCTION

_RECORD_LIMIT_BYTES = 64 * 1024

# Signals that a person types (C-c) are for the program: the shell ignores them, and its child does not inherit that.
# It stays a moment: tmux 3.3a closes the terminal of a program that has ended before it has read its last words.
_WRAPPER = """\
#!/bin/sh
trap : INT QUIT
export {mark}
{command}
code=$?
printf '%s\\n' "$code" > {new} && mv {new} {exit_code}
sleep 0.2
exit "$code"
"""


@dataclass(frozen=True)
class Session:
    """The living terminal. Identities are `processes.identity`'s."""

    pid: int
    identity: str
    server_pid: int
    server_identity: str


@dataclass(frozen=True)
class Delivery:
    """A prompt on its way to the agent of ``identity``; ``offset`` is where its events begin.

    ``buffer`` names the tmux buffer that holds the line to type. tmux drops it in the moment of pasting, so whether
    it is there says whether that happened, even when we were killed in between. ``settled``: the outcome was an error
    that the caller has seen, so that asking again means prompting again. ``passed`` is where the gateway's lines begin.
    """

    identity: str
    phase: str
    prompt_sha256: str
    offset: int
    buffer: str
    pasted: bool = False
    settled: bool = False
    passed: int = 0

    def is_of(self, identity: str, phase: str, prompt_sha256: str) -> bool:
        return (self.identity, self.phase, self.prompt_sha256) == (identity, phase, prompt_sha256)


@dataclass(frozen=True)
class Program:
    """What becomes the pane's program. ``secret`` is written to `RuntimeFolder.fifo`, where it waits for it."""

    argv: Sequence[str]
    secret: str = ""


class RuntimeFolder:
    """Paths and records. ``events`` lies in the one folder that the sandbox may write to, as `/run/agent`.

    ``claude`` is Claude Code's own folder, ``way_out`` the socket that leads out of its sandbox, ``egress`` what went
    that way, ``phase`` names the phase that its rules follow.

    ``mark`` is the value of `processes.MARK` that every process of the pane carries in its environment, and ``group``
    the name of the control group that counts what they use.
    """

    def __init__(self, home: Path, execution_id: str) -> None:
        self.home = home
        self.execution_id = execution_id
        self.root = home / "agents" / execution_id
        self.events_folder = self.root / "events"
        self.events = self.events_folder / "events.jsonl"
        self.exit_code = self.root / "exit_code"
        self.instruction = self.root / "instruction.txt"
        self.wrapper = self.root / "pane.sh"
        self.mark = hashlib.sha256(str(self.root.absolute()).encode()).hexdigest()[:16]
        self.group = f"tmux-builder-agent-{self.mark}"
        self.claude = self.root / "claude"
        self.egress = self.root / "egress.jsonl"
        self.phase = self.root / "phase.txt"
        self.fifo = self.root / "way.fifo"
        self.way_out = home / "run" / f"{self.mark[:8]}.out"  # a socket's path is short
        self._status_line = self.events_folder / "status.json"
        self._told = self.root / "told.txt"
        self._noted = self.root / "noted.txt"
        self._session_id = self.root / "session_id.txt"
        self._session = self.root / "session.json"
        self._delivery = self.root / "delivery.json"
        self._owner = self.root / "owner.txt"
        self._done = self.root / "done.json"

    def prepare(self, program: Program) -> None:
        """Forget an earlier agent, and write the program of the next one's pane. No agent may be running."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.root.chmod(0o700)
        for record in (self.exit_code, self._session, self._delivery, self._done, self.fifo):
            record.unlink(missing_ok=True)
        remove_tree(self.events_folder)  # the last agent wrote there
        self.events_folder.mkdir(mode=0o700)
        words = {
            "mark": f"{MARK}={self.mark}",
            "command": shlex.join(program.argv),
            "exit_code": shlex.quote(str(self.exit_code)),
            "new": shlex.quote(str(self.root / ".exit_code")),
        }
        write_atomic(self.wrapper, _WRAPPER.format(**words))
        write_atomic(self.instruction, INSTRUCTION)
        if program.secret:
            os.mkfifo(self.fifo, 0o600)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One process at a time starts or ends the agent."""
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (self.root / "lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def read_exit_code(self) -> int | None:
        """What the pane's program ended with; None while it runs, or when it was killed together with its shell."""
        text = read_bounded(self.exit_code, 16)
        return int(text) if text else None

    def session_id(self) -> str:
        """The conversation's id, for a program that is told one: the same for every launch of this execution."""
        known = read_bounded(self._session_id, 64)
        if not known:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            made = self.root / f".session-{uuid4()}"
            write_atomic(made, made.name.removeprefix(".session-"))
            with suppress(FileExistsError):  # two that ask at once get one answer
                self._session_id.hardlink_to(made)
            made.unlink()
            known = read_bounded(self._session_id, 64)
        return (known or b"").decode()

    def told(self) -> int:
        """Up to where the transcript was told, in bytes."""
        text = read_bounded(self._told, 32)
        return int(text) if text else 0

    def record_told(self, offset: int) -> None:
        write_atomic(self._told, str(offset))

    def noted(self) -> int:
        """Up to where the gateway's refusals were noted, in bytes."""
        text = read_bounded(self._noted, 32)
        return int(text) if text else 0

    def record_noted(self, offset: int) -> None:
        write_atomic(self._noted, str(offset))

    def transcript(self) -> Path | None:
        """What Claude Code wrote of the conversation in the workspace; None where there is nothing yet."""
        path = self.claude / "projects" / "-workspace" / f"{self.session_id()}.jsonl"
        folders = (path.parent, path.parent.parent)
        return path if path.is_file() and not any(each.is_symlink() for each in (path, *folders)) else None

    def dollars(self) -> float:
        """What the conversation has cost, as Claude Code's status line says; 0 where it says nothing. Forgeable."""
        try:
            told = json.loads(read_bounded(self._status_line, _RECORD_LIMIT_BYTES) or b"{}")
        except (ValueError, RecursionError):
            return 0.0
        cost = told.get("dollars") if isinstance(told, dict) else None
        try:
            return float(cost) if isinstance(cost, int | float) else 0.0
        except OverflowError:
            return inf

    def session(self) -> Session | None:
        record = _read(self._session)
        return Session(**record) if record else None

    def record_session(self, session: Session) -> None:
        _write(self._session, session)

    def forget_session(self) -> None:
        """The session has ended: it is nobody's."""
        self._session.unlink(missing_ok=True)
        self._owner.unlink(missing_ok=True)

    def claim(self, run_id: str) -> None:
        """Make the agent this run's, whoever launched it: from here on no other run's clean-up ends it.

        Durable when it returns. Its caller holds `locked`.
        """
        write_atomic(self._owner, run_id)

    def owner(self) -> str | None:
        """The run that launched or last adopted the agent; None where there is no agent, or none was named."""
        text = read_bounded(self._owner, _RECORD_LIMIT_BYTES)
        return text.decode() if text else None

    def delivery(self) -> Delivery | None:
        record = _read(self._delivery)
        return Delivery(**record) if record else None

    def is_done(self, identity: str, phase: str, prompt_sha256: str) -> bool:
        """Whether this agent has done this phase for this prompt."""
        return [identity, phase, prompt_sha256] in (_read(self._done) or {}).get("phases", [])

    def record_done(self, identity: str, phase: str, prompt_sha256: str) -> None:
        phases = [*(_read(self._done) or {}).get("phases", []), [identity, phase, prompt_sha256]]
        write_atomic(self._done, json.dumps({"phases": phases[-100:]}))

    def record_delivery(self, delivery: Delivery) -> None:
        _write(self._delivery, delivery)


def _read(path: Path) -> dict[str, Any] | None:
    text = read_bounded(path, _RECORD_LIMIT_BYTES)
    return json.loads(text) if text else None


def _write(path: Path, record: Session | Delivery) -> None:
    write_atomic(path, json.dumps(asdict(record)))
