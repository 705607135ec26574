"""A coding program in a terminal: started or adopted, given prompts, waited for, ended.

Which program it is, is the caller's affair (`programs.py`); it writes events and signals as `domain/agent.py` says.
"""

import errno
import hashlib
import logging
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from tasks.adapters.agents import processes
from tasks.adapters.agents.attendant import Attendant, Desk, Nobody
from tasks.adapters.agents.events import EventLog, JsonLines, TurnSince, passage_of, size_of
from tasks.adapters.agents.runtime import Delivery, Program, RuntimeFolder, Session
from tasks.adapters.agents.transcript import Transcript
from tasks.adapters.sandbox import cgroup
from tasks.adapters.tmux import TmuxError, TmuxSession
from tasks.adapters.trees import weigh
from tasks.adapters.waiting import NET_S, NEVER, AnyOf, Changes, Flag, until_content
from tasks.adapters.workspace import AGENT_WRITABLE, Workspace, write_atomic
from tasks.domain.agent import INSTRUCTION, STATUS_LIMIT_BYTES, Phase, Turn, signalled_phases, turn_after
from tasks.domain.agent_state import Doing, Evidence, Passage, read_state
from tasks.domain.errors import (
    AgentCrashed,
    AgentNotReady,
    AgentRefused,
    AgentSilent,
    AskCancelled,
    OutputsMissing,
    WrongPhase,
)

START_UP = "start-up"
"""Stands for the phase in AgentCrashed where the program ended before it took a prompt."""

ENTER_AFTER_S = (0.0, 1.0, 3.0, 10.0)
"""When Enter is pressed, counted from the paste, while nothing shows that the prompt was taken. Some programs swallow
it while they still start (Claude Code: up to 6 s)."""

DISK_BYTES = 4 << 30
"""What an agent may write to the folders that are its to write, installed packages included."""

_WEIGH_EVERY_S, _WEIGH_SHARE = 10.0, 0.05
"""How often that is looked at; rarer where looking takes more than this share of the time."""

_ENTER_AFTER_ADOPTION_S = (0.2, 1.0, 3.0, 10.0)
_LAST_LINES = 20
_HISTORY_EVERY_S, _HISTORY_LIMIT_S = 2.0, 20.0
_SHOW_EVERY_S = 2.0
SHOWN_LINES = 100
_PANE_DEATH_S = 0.5
_GRACE_S, _KILL_LIMIT_S = 0.5, 2.0
_log = logging.getLogger(__name__)


def _digest(prompt: str) -> str:
    return hashlib.sha256(prompt.encode()).hexdigest()


@dataclass(frozen=True)
class _Wait:
    """One prompt that is waited for. Moments are of the monotonic clock, in seconds."""

    phase: Phase
    program: processes.Watched
    changes: Changes
    turn: TurnSince
    began: float
    end: float
    passages: JsonLines
    seen: list[Passage] = field(default_factory=list)


class TerminalAgent:
    """Implements `domain.agent.Agent` for ``argv``, the sandboxed program that becomes the pane's own command.

    ``argv`` may be a function, which is called only where a program is launched: what it needs (bubblewrap, a key) may
    be missing where a session is only looked at or ended. ``session_id``: whose events count, where they say whose.
    ``dollars``: what it may cost, by its own account; None: no limit. ``disk_bytes``: what it may write. ``desk`` is
    where people are; a phase's deadline does not run while it waits for one of them, for ``patience_s`` at most.
    ``remind``: an agent that has stopped without its signal is told so once.
    ``show`` is given the screen's lines, when they are others, every two seconds at most; it may raise ConnectionError.
    ``owner`` is the run that `start` makes the session's owner.
    Set ``cancelled`` to make a waiting `start` or `ask` raise AskCancelled at once; the session lives on. So does
    `stop`, from any thread, and ends it. ``settle_s`` is the pause between the pasted line and Enter.
    """

    def __init__(
        self,
        runtime: RuntimeFolder,
        workspace: Workspace,
        argv: Sequence[str] | Callable[[], Program],
        *,
        session_id: str = "",
        dollars: float | None = None,
        disk_bytes: int = DISK_BYTES,
        desk: Desk | None = None,
        show: Callable[[Sequence[str]], None] | None = None,
        patience_s: float = 0,
        remind: bool = False,
        cancelled: Flag = NEVER,
        owner: str | None = None,
        ready_within_s: float = 60,
        taken_within_s: float = 30,
        settle_s: float = 0,
        tmux: str | None = None,
    ) -> None:
        self._runtime = runtime
        self._workspace = workspace
        self._argv = argv
        self._session_id = session_id
        self._dollars = dollars
        self._disk_bytes, self._weight, self._weigh_at = disk_bytes, 0, float("-inf")
        self._desk: Desk = desk or Nobody()
        self._show = show
        self._shown: list[str] = []
        self._shown_at = float("-inf")
        self._patience_s = patience_s
        self._remind = remind
        self._history_at = float("-inf")
        self._owner = owner
        self._terminal = TmuxSession(runtime.home, runtime.execution_id, tmux)
        self._stopped = threading.Event()
        self._cancelled = AnyOf(cancelled, self._stopped)
        self._ready_within_s = ready_within_s
        self._taken_within_s = taken_within_s
        self._settle_s = settle_s

    # -- the Agent protocol --

    def start(self) -> None:
        self._stopped.clear()
        began = time.monotonic()
        with self._named_by(began), self._runtime.locked():
            pane = self._terminal.pane()
            if pane is None or pane.dead or self._runtime.fifo.exists():  # it would wait for its secret for ever
                self._launch()
            else:
                self._claim()
                _log.info("agent adopted session=%s pid=%d", self._terminal.name, pane.pid)
        self.probe(self._ready_within_s)
        self._note_refusals()

    def ask(
        self, phase: Phase, prompt: str, complaint_about_outputs: Callable[[], str | None], deadline_s: float
    ) -> None:
        began, digest = time.monotonic(), _digest(prompt)
        self._note_refusals()
        write_atomic(self._runtime.phase, phase)
        with self._program(phase) as program, self._changes() as changes:
            if self._was_done(phase, digest, program) and complaint_about_outputs() is None:
                _log.info("phase was done before session=%s phase=%s", self._terminal.name, phase)
                return
            delivery, adopted = self._delivered(phase, prompt, program)
            turn = TurnSince(self._events(delivery.offset))
            gone = JsonLines(self._runtime.egress, delivery.passed)
            wait = _Wait(phase, program, changes, turn, began, began + deadline_s, gone)
            self._until_taken(wait, adopted)
            try:
                self._until_done(wait, complaint_about_outputs)
            except (WrongPhase, OutputsMissing, AgentSilent, AgentRefused):
                self._runtime.record_delivery(replace(delivery, settled=turn.has_ended))
                raise
            self._runtime.record_done(delivery.identity, phase, digest)
        self._note_refusals()
        _log.info("phase done session=%s phase=%s", self._terminal.name, phase)

    def probe(self, within_s: float) -> None:
        """Whether the program in the terminal lives and has said that it takes prompts: its own word, not a pause.

        Raises AgentCrashed with its exit code and screen, or AgentNotReady with what the screen shows in the end.
        """
        began = time.monotonic()
        with self._program(START_UP) as program, self._changes() as changes:
            log, turn = self._events(), Turn.STARTING

            def complaint() -> str | None:
                nonlocal turn
                self._raise_if_over(program, START_UP)
                turn = turn_after(log.events(), turn)
                if turn in (Turn.IDLE, Turn.WORKING, Turn.WAITING):
                    return None
                return "it has not said that it takes prompts"

            words = until_content(complaint, changes, within_s, self._cancelled)
        if words is not None:
            self._raise_if_cancelled(START_UP)
            raise self._not_ready(began, f"{words}; {self._on_screen()}")

    def screen(self, lines: int = 100) -> list[str]:
        try:
            return self._terminal.screen(lines)
        except TmuxError:
            return []

    def stop(self, unless_anothers: str | None = None) -> None:
        """With ``unless_anothers``, a run's id, a session that another run has launched or adopted lives on."""
        self._stopped.set()
        with self._runtime.locked():
            owner = self._runtime.owner()
            if unless_anothers is not None and owner not in (None, unless_anothers):
                _log.info("agent left alone session=%s owner=%s", self._terminal.name, owner)
                return
            self._end_everything()
            self._note_refusals()

    def attach_command(self, read_only: bool = False) -> str:
        """What a person types to look at the session, or to help in it."""
        return self._terminal.attach_command(read_only)

    # -- start and end --

    def _launch(self) -> None:
        self._end_everything()
        program = self._argv() if callable(self._argv) else Program(self._argv)
        self._runtime.prepare(program)
        self._claim()
        self._terminal.start(["/bin/sh", str(self._runtime.wrapper)], self._runtime.root)
        pane = self._terminal.pane()
        if pane is None:
            raise TmuxError("the session vanished as soon as it was started")
        self._runtime.record_session(
            Session(
                pane.pid,
                processes.identity(pane.pid) or "",
                pane.server_pid,
                processes.identity(pane.server_pid) or "",
            )
        )
        if program.secret:
            self._hand_over(program.secret)
        _log.info("agent started session=%s pid=%d", self._terminal.name, pane.pid)

    def _hand_over(self, secret: str) -> None:
        """Through a pipe to the program that waits at its other end: what is secret is in no file."""
        end = time.monotonic() + self._ready_within_s
        with self._program(START_UP) as program:
            while True:
                self._raise_if_over(program, START_UP)
                try:
                    pipe = os.open(self._runtime.fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
                except OSError as error:
                    if error.errno != errno.ENXIO or time.monotonic() > end:
                        raise
                    time.sleep(0.01)  # nobody reads yet
                else:
                    with os.fdopen(pipe, "w", encoding="utf-8") as file:
                        file.write(secret)
                    return

    def _claim(self) -> None:
        if self._owner is not None:
            self._runtime.claim(self._owner)

    def _end_everything(self) -> None:
        """Ends what the terminal holds now, and what a terminal that was killed has left behind."""
        pids, grace_s = set(processes.marked(self._runtime.mark)), _GRACE_S
        session = self._runtime.session()
        if session is not None and processes.identity(session.pid) == session.identity:
            pids.update(processes.family(session.pid))
        try:
            pane = self._terminal.pane()
            if pane is not None and not pane.dead:
                pids.update(processes.family(pane.pid))
            self._terminal.kill()
        except TmuxError as error:
            _log.warning("terminal did not answer and was killed session=%s reason=%s", self._terminal.name, error)
            grace_s = 0
            if session is not None and processes.identity(session.server_pid) == session.server_identity:
                pids.add(session.server_pid)
        left = processes.end(pids, grace_s, _KILL_LIMIT_S)
        self._runtime.way_out.unlink(missing_ok=True)
        if left:
            _log.error("processes outlived being killed session=%s pids=%s", self._terminal.name, left)
            return
        cgroup.remove(self._runtime.group)
        self._terminal.forget()
        self._runtime.forget_session()

    # -- one prompt --

    def _was_done(self, phase: Phase, digest: str, program: processes.Watched) -> bool:
        """Whether this very agent has done it, for an engine that was killed before it could note that."""
        return self._runtime.is_done(processes.identity(program.pid) or "", phase, digest)

    def _delivered(self, phase: Phase, prompt: str, program: processes.Watched) -> tuple[Delivery, bool]:
        """The prompt's delivery, and whether an earlier process had begun it."""
        digest = _digest(prompt)
        identity = processes.identity(program.pid) or ""
        known = self._runtime.delivery()
        with self._named_by(time.monotonic(), program, phase):
            if known and not known.settled and known.is_of(identity, phase, digest):
                _log.info("prompt was delivered before session=%s phase=%s", self._terminal.name, phase)
                if known.pasted or not self._terminal.holds(known.buffer):
                    return known, True
                return self._pasted(known), False
            self._workspace.rotate_status()
            self._workspace.write_prompt(phase, prompt)
            delivery = Delivery(
                *(identity, phase, digest, size_of(self._runtime.events), f"prompt-{secrets.token_hex(6)}"),
                passed=size_of(self._runtime.egress),
            )
            self._terminal.load(delivery.buffer, self._runtime.instruction)
            self._runtime.record_delivery(delivery)
            return self._pasted(delivery), False

    def _pasted(self, delivery: Delivery) -> Delivery:
        if not self._terminal.paste(delivery.buffer):
            self._raise_if_cancelled(delivery.phase)
            raise self._crashed(delivery.phase)
        delivery = replace(delivery, pasted=True)
        self._runtime.record_delivery(delivery)
        return delivery

    def _until_taken(self, wait: _Wait, adopted: bool) -> None:
        """Press Enter until the agent says that it has the prompt. Never types the line again."""
        began = time.monotonic()
        end = min(wait.end, began + self._taken_within_s)
        presses = list(_ENTER_AFTER_ADOPTION_S if adopted else (self._settle_s + s for s in ENTER_AFTER_S))
        pressed = False
        while True:
            wait.turn.look()
            if wait.turn.prompt_taken:
                return
            self._raise_if_over(wait.program, wait.phase)
            now = time.monotonic()
            if now >= end:
                raise self._not_ready(
                    began, f"the line {INSTRUCTION!r} was typed, but no prompt was taken; {self._on_screen()}"
                )
            if presses and now >= began + presses[0]:
                del presses[0]
                with self._named_by(began, wait.program, wait.phase):
                    # Where the line is not on the screen, something else would get the key, such as a question.
                    if not pressed or self._line_is_visible():
                        self._terminal.press_enter()
                pressed = True
            due = began + presses[0] if presses else end
            wait.changes.wait(min(due - time.monotonic(), end - now, NET_S), self._cancelled)

    def _until_done(self, wait: _Wait, complaint_about_outputs: Callable[[], str | None]) -> None:
        phase, looked, waited_s, asks = wait.phase, time.monotonic(), 0.0, False
        attendant = Attendant(self._terminal, self._workspace, self._runtime.root, self._desk, self._remind)

        def complaint() -> str | None:
            nonlocal looked, waited_s, asks
            self._raise_if_over(wait.program, phase)
            evidence = self._evidence(wait)
            state = read_state(evidence)
            now = time.monotonic()
            waited_s += now - looked if state.doing.needs_person else 0
            looked = now
            if state.doing.needs_person and not asks:
                self._history_at = float("-inf")  # what led to a question stands before it
            asks = state.doing.needs_person
            self._tell_history(complete=state.doing is Doing.DONE)
            with self._named_by(wait.began, wait.program, phase):
                attendant.look(state, wait.turn)
            self._show_screen(last=state.doing is Doing.DONE)
            match state.doing:
                case Doing.DONE if attendant.is_giving:
                    return "it is given what people said meanwhile"
                case Doing.DONE:
                    missing = complaint_about_outputs()
                    if missing is not None:
                        raise OutputsMissing(phase, missing)
                    return None
                case Doing.REFUSED:
                    raise AgentRefused(phase, state.words, state.next_move)
                case Doing.IDLE if evidence.signals:
                    raise WrongPhase(phase, evidence.signals[-1])
                case Doing.IDLE if (unreadable := self._complaint_about_status()) is not None:
                    raise OutputsMissing(phase, unreadable)
            return f"it is {state.doing}"

        left_s = wait.end - time.monotonic()
        words = until_content(
            *(complaint, wait.changes, left_s, self._cancelled),
            more_s=lambda: min(waited_s, self._patience_s),
            pause_s=lambda: attendant.pause_s,
        )
        if words is None:
            return
        self._raise_if_cancelled(phase)
        signals = signalled_phases(self._workspace.read_status())
        if signals and phase not in signals:
            raise WrongPhase(phase, signals[-1])
        last_line = next((line for line in reversed(self.screen()) if line.strip()), "")
        raise AgentSilent(phase, time.monotonic() - wait.began, last_line, self.attach_command())

    def _evidence(self, wait: _Wait) -> Evidence:
        wait.turn.look()
        self._note_refusals()
        passages = [passage for line in wait.passages.new() if (passage := passage_of(line)) is not None]
        wait.seen.extend(passage for passage in passages if passage.verdict in ("model", "budget"))
        return Evidence(
            phase=wait.phase,
            turn=wait.turn.turn,
            last=wait.turn.last,
            signals=tuple(signalled_phases(self._workspace.read_status())),
            passages=tuple(wait.seen),
            dollars=self._runtime.dollars(),
            dollars_allowed=self._dollars,
            disk_bytes=self._weighed(),
            disk_allowed=self._disk_bytes,
        )

    def _weighed(self) -> int:
        """What the agent's folders take on disk, as of the last time that was looked at."""
        began = time.monotonic()
        if began >= self._weigh_at:
            mine = [self._workspace.root / name for name in AGENT_WRITABLE]
            folders = [*mine, self._runtime.claude, self._runtime.events_folder]
            self._weight = weigh(folders, self._disk_bytes + 1)
            took_s = time.monotonic() - began
            self._weigh_at = began + max(_WEIGH_EVERY_S, took_s / _WEIGH_SHARE)
        return self._weight

    def _note_refusals(self) -> None:
        """What the agent was refused since the last time, in a phase or between two; each once."""
        noted = self._runtime.noted()
        lines = JsonLines(self._runtime.egress, noted)
        refused = [passage for line in lines.new() if (passage := passage_of(line)) and passage.verdict == "deny"]
        try:
            if refused:
                self._desk.refused(refused)
        except (ConnectionError, LookupError) as error:  # the record is away, or it was erased
            _log.warning("what the agent was refused could not be noted: %s", error)
        else:
            if lines.offset != noted:
                self._runtime.record_noted(lines.offset)

    def _tell_history(self, complete: bool = False) -> None:
        """What was said since the last time: a part now and then while it works, the rest when a phase is done.

        The place up to which it was told is kept only after it was; what is told twice is told apart by its id.
        """
        now = time.monotonic()
        if not self._session_id or (not complete and now < self._history_at + _HISTORY_EVERY_S):
            return
        self._history_at = now
        path = self._runtime.transcript()
        if path is None:
            return
        transcript, end = Transcript(path, self._runtime.told()), size_of(path)
        try:
            while transcript.offset < end and not self._cancelled.is_set():
                before = transcript.offset
                self._desk.history(transcript.entries())
                if transcript.offset == before:
                    return  # half a line
                self._runtime.record_told(transcript.offset)
                if not complete or time.monotonic() > now + _HISTORY_LIMIT_S:
                    return
        except ConnectionError as error:
            _log.warning("the conversation could not be noted: %s", error)

    def _show_screen(self, last: bool) -> None:
        now = time.monotonic()
        if self._show is None or (not last and now < self._shown_at + _SHOW_EVERY_S):
            return
        self._shown_at = now
        lines = self.screen(SHOWN_LINES)
        if lines == self._shown:
            return
        try:
            self._show(lines)
            self._shown = lines
        except ConnectionError as error:
            _log.warning("the screen could not be shown: %s", error)

    def _complaint_about_status(self) -> str | None:
        """Why the status file can never be read as it is; None where it can, or is not there yet."""
        try:
            status = os.lstat(self._workspace.status)
        except OSError:
            return None
        if not stat.S_ISREG(status.st_mode):
            return f"output/status.txt is not a regular file ({stat.filemode(status.st_mode)})"
        if status.st_size > STATUS_LIMIT_BYTES:
            return f"output/status.txt has {status.st_size} bytes, {STATUS_LIMIT_BYTES} are read at most"
        return None

    # -- what is seen --

    def _events(self, offset: int = 0) -> EventLog:
        return EventLog(self._runtime.events, offset, self._session_id)

    def _changes(self) -> Changes:
        with self._named_by(time.monotonic()):
            return Changes(self._workspace.status.parent, self._runtime.events_folder, self._runtime.root)

    @contextmanager
    def _program(self, phase: str) -> Iterator[processes.Watched]:
        """The pane's living program. Raises AgentCrashed where there is none."""
        with self._named_by(time.monotonic()):
            pane = self._terminal.pane()
        if pane is None or pane.dead:
            raise self._crashed(phase)
        try:
            program = processes.Watched(pane.pid)
        except ProcessLookupError:
            raise self._crashed(phase) from None
        with program:
            yield program

    def _raise_if_over(self, program: processes.Watched, phase: str) -> None:
        """Who ended it by `stop` is told so, and not of a crash."""
        self._raise_if_cancelled(phase)
        if program.has_ended() or self._runtime.exit_code.exists():
            raise self._crashed(phase)

    def _crashed(self, phase: str) -> AgentCrashed:
        """With the exit code and the screen, once the terminal has seen the end too and has shown all of it."""
        end, pane, complaint = time.monotonic() + _PANE_DEATH_S, None, ""
        try:
            while (pane := self._terminal.pane()) and not pane.dead and time.monotonic() < end:
                time.sleep(0.01)
        except TmuxError as error:
            complaint = str(error)
        code = self._runtime.read_exit_code()
        if pane is None:
            lines = [complaint or f"the tmux session {self._terminal.name} is gone"]
        else:
            code = pane.exit_code if code is None else code
            lines = self.screen(_LAST_LINES)
        return AgentCrashed(phase, code, lines)

    def _not_ready(self, began: float, complaint: str) -> AgentNotReady:
        return AgentNotReady(self.attach_command(), time.monotonic() - began, complaint)

    @contextmanager
    def _named_by(
        self, began: float, program: processes.Watched | None = None, phase: str = START_UP
    ) -> Iterator[None]:
        """Trouble with the terminal or the disk becomes AgentNotReady, or what is behind it."""
        try:
            yield
        except (TmuxError, OSError) as error:
            self._raise_if_cancelled(phase)
            if program is not None and program.has_ended(_PANE_DEATH_S):
                raise self._crashed(phase) from error
            raise self._not_ready(began, str(error)) from error

    def _on_screen(self) -> str:
        shown = [line.strip() for line in self.screen(_LAST_LINES) if line.strip()]
        return f"on its screen: {' | '.join(shown[-5:])}" if shown else "its screen is empty"

    def _line_is_visible(self) -> bool:
        return "".join(INSTRUCTION.split()) in "".join(self._terminal.visible().split())

    def _raise_if_cancelled(self, phase: str) -> None:
        if self._cancelled.is_set():
            raise AskCancelled(phase)
