"""Gives an agent what people say to it, and tells people what it waits for.

What a person wrote travels in a file, and one fixed line names it. It is typed only where the agent takes a prompt:
not while it works, for it would be put in a queue that nobody sees, and never into a dialog, which would take it for
keys. A dialog gets one digit, or Escape, and only while it is on the screen. Nothing is given twice: the agent's hook
tells each line that it took.
"""

import logging
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tasks.adapters.agents.events import TurnSince
from tasks.adapters.agents.transcript import Entry
from tasks.adapters.tmux import TmuxSession
from tasks.adapters.workspace import Workspace, write_atomic
from tasks.domain.agent import REMINDER, message_line
from tasks.domain.agent_state import AgentState, Doing, Passage
from tasks.domain.text import plain_text

LOOK_S, WAITING_LOOK_S = 1.0, 0.1
"""How often messages are looked for: while the agent works, and while it waits for one."""

REMIND_AFTER_S = 3.0
_ENTER_AFTER_S = (0.05, 0.3, 1.0, 3.0, 10.0)
_ENTER_LOOK_S, _DRAWN_LATE_S = 0.02, 1.0
"""Enter follows as soon as the line is drawn, looked for every 20 ms at first; what is later waits for its turn."""

_SCREEN_S = 0.5
TELL_S = 1.0
_KEY_S, _DRAWN_S = 5.0, 15.0
_DIALOGS = (Doing.QUESTION, Doing.PERMISSION)
_IN_DIALOGS = "Esc to cancel"
"""What the CLI shows below each dialog (2.1.330)."""

_YES = frozenset({"1", "y", "yes", "ok", "approve", "allow", "ja"})
_NO = frozenset({"2", "n", "no", "reject", "deny", "refuse", "nein"})
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Said:
    """What a person wrote. ``interrupt`` ends the agent's turn, whatever is in ``text``; ``answers`` is whether it was
    written after the agent had asked what it waits for now. What was written before is no answer to that.
    """

    message_id: int
    text: str
    interrupt: bool = False
    answers: bool = True


class Desk(Protocol):
    """Where it is kept what people say, and shown what the agent does. Calls may raise ConnectionError."""

    def tell(self, state: AgentState) -> None:
        """The agent's state, whenever it is another one."""

    def said(self) -> Sequence[Said]:
        """What has not been delivered, oldest first."""

    def delivered(self, message_id: int) -> None: ...

    def refused(self, passages: Sequence[Passage]) -> None:
        """What the agent asked of the world and did not get."""

    def history(self, entries: Sequence[Entry]) -> None:
        """What was said and done, oldest first; what it was told before may be among it."""


class Nobody:
    """A desk where nobody sits."""

    def tell(self, state: AgentState) -> None: ...

    def said(self) -> Sequence[Said]:
        return ()

    def delivered(self, message_id: int) -> None: ...

    def refused(self, passages: Sequence[Passage]) -> None: ...

    def history(self, entries: Sequence[Entry]) -> None: ...


@dataclass
class _Typed:
    """A line in the agent's input that is not taken yet; ``message_id`` 0 is the reminder."""

    message_id: int
    line: str
    prompts: int
    at: float
    presses: list[float]


def choice(said: str, state: AgentState) -> str | None:
    """The key that answers the dialog, where ``said`` is one of its choices, by number or by name; Escape for a no.

    Of several questions, and of one with several answers, a digit would be the first step of many: they get a text.

    >>> from tasks.domain.agent_state import AskedQuestion
    >>> choice("2", AgentState(Doing.QUESTION, questions=(AskedQuestion("", "Dark or light?", ("Dark", "Light")),)))
    '2'
    >>> choice("No.", AgentState(Doing.PERMISSION))
    'Escape'
    """
    word = said.strip().rstrip(".!").casefold()
    if state.doing is Doing.PERMISSION:
        return "1" if word in _YES else "Escape" if word in _NO else None
    if state.doing is not Doing.QUESTION or len(state.questions) != 1 or state.questions[0].several:
        return None
    choices = [name.casefold() for name in state.questions[0].choices]
    if re.fullmatch("[1-9]", word) and int(word) <= len(choices):
        return word
    return str(1 + choices.index(word)) if word in choices[:9] else None


class Attendant:
    """For one prompt. `look` is called after each change, and at least every `pause_s`; it never waits."""

    def __init__(
        self,
        terminal: TmuxSession,
        workspace: Workspace,
        folder: Path,
        desk: Desk,
        remind: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._terminal, self._workspace, self._folder, self._desk, self._clock = (
            *(terminal, workspace, folder, desk, clock),
        )
        self._remind = remind
        self._state: AgentState | None = None
        self._told: AgentState | None = None
        self._told_at = float("-inf")
        self._since, self._looked, self._screen_at = clock(), float("-inf"), float("-inf")
        self._typed: _Typed | None = None
        self._given: set[int] = set()
        self._stuck: set[int] = set()
        self._key_until = float("-inf")
        self._dialog_seen = False

    @property
    def is_giving(self) -> bool:
        """Whether something is in the agent's input that it has not taken yet."""
        return self._typed is not None

    @property
    def pause_s(self) -> float:
        """How soon to look again, in seconds. People notice what takes an agent that waits longer than half of one."""
        if self._typed is not None:
            return _ENTER_LOOK_S if self._typed.presses else LOOK_S
        return _look_s(self._state)

    def look(self, state: AgentState, turn: TurnSince) -> None:
        """Tell the state, deliver the next message where the agent can take it, remind it of its signal."""
        now = self._clock()
        if state != self._state:
            self._state, self._since = state, now
            self._key_until, self._dialog_seen, self._screen_at = float("-inf"), False, float("-inf")
        self._tell(state, now)
        if self._typed is not None:
            self._until_taken(self._typed, turn, now)
            return
        dialog = state.doing in _DIALOGS
        if dialog and now >= self._screen_at + _SCREEN_S and not self._is_shown(turn, now):
            return
        if now < self._key_until:
            return
        while (
            (said := self._next(state, now)) is not None
            and (not dialog or self._is_shown(turn, now))
            and self._give(said, state, turn, now)
        ):
            if self._typed is not None or state.doing is not Doing.DONE:
                return
        if self._remind and state.doing is Doing.IDLE and now >= self._since + REMIND_AFTER_S:
            self._remind = False
            self._type(0, REMINDER, turn, now)

    def _is_shown(self, turn: TurnSince, now: float) -> bool:
        """Whether the dialog that the agent told of is on the screen. Once it is gone, somebody has answered it: here,
        or at the terminal. One that is not drawn yet is waited for; a CLI that words it otherwise is believed then.
        """
        self._screen_at = now
        if self._in_dialog():
            self._dialog_seen = True
        elif self._dialog_seen:
            turn.answered()
            return False
        return self._dialog_seen or now >= self._since + _DRAWN_S

    def _in_dialog(self) -> bool:
        return any(_IN_DIALOGS in line for line in self._terminal.screen(3))

    # -- telling --

    def _tell(self, state: AgentState, now: float) -> None:
        """Once a second at most: an agent that forges its events would have the record written without end.

        An agent that has only just stopped may be about to be reminded: nobody is bothered before that.
        """
        if state == self._told or (now < self._told_at + TELL_S and state.doing is not Doing.DONE):
            return
        self._told, self._told_at = state, now
        quiet = state.doing is Doing.IDLE and self._remind
        try:
            self._desk.tell(AgentState(Doing.WORKING) if quiet else state)
        except ConnectionError as error:
            _log.warning("the agent's state could not be told: %s", error)
            self._told = None

    # -- people's words --

    def _next(self, state: AgentState, now: float) -> Said | None:
        """The oldest that the agent can be given as it is. What answers a dialog is known once that was told."""
        dialog = state.doing in _DIALOGS
        if (dialog and self._told != state) or (now < self._looked + _look_s(state) and state.doing is not Doing.DONE):
            return None
        self._looked = now
        try:
            for said in self._desk.said():
                if said.message_id in self._given:
                    self._mark(said.message_id)
                elif said.message_id not in self._stuck and (said.interrupt or not dialog or said.answers):
                    return said
            return None
        except ConnectionError as error:
            _log.warning("messages could not be looked for: %s", error)
            return None

    def _give(self, said: Said, state: AgentState, turn: TurnSince, now: float) -> bool:
        """True where something was typed, or is done with."""
        if said.interrupt:
            if state.doing is not Doing.DONE:
                self._press("Escape", turn, now)
                self._remind = False  # whoever stops it says how it goes on
            return self._done(said)
        match state.doing:
            case Doing.QUESTION | Doing.PERMISSION:
                key = choice(said.text, state)
                self._press(key or "Escape", turn, now)
                _log.info("dialog answered message=%d key=%s", said.message_id, key or "Escape")
                return self._done(said) if key else True  # a text follows when the dialog is gone
            case Doing.IDLE | Doing.DONE if not self._in_dialog():
                self._hand_over(said, turn, now)
                return True
        return False

    def _press(self, key: str, turn: TurnSince, now: float) -> None:
        self._terminal.press(key)
        self._key_until = now + _KEY_S
        if key == "Escape":  # no hook tells of it
            turn.interrupted()

    def _done(self, said: Said) -> bool:
        self._mark(said.message_id)
        return True

    def _mark(self, message_id: int) -> None:
        """Where the record is away, it is marked when it is back: nothing is given twice."""
        self._given.add(message_id)
        try:
            self._desk.delivered(message_id)
        except ConnectionError as error:
            _log.warning("a message's delivery could not be noted message=%d: %s", message_id, error)

    def _hand_over(self, said: Said, turn: TurnSince, now: float) -> None:
        """What somebody who was killed has pasted is in this terminal's input, or was taken: its hook says so."""
        line = message_line(said.message_id)
        if line in turn.taken:
            self._mark(said.message_id)
            return
        if self._shows(line):
            self._typed = _Typed(said.message_id, line, turn.prompts, now, list(_ENTER_AFTER_S))
            return
        file = self._workspace.root / "prompts" / f"message-{said.message_id:06d}.txt"
        write_atomic(file, f"A person wrote this to you:\n---\n{plain_text(said.text)}\n---\n")
        self._type(said.message_id, line, turn, now)

    def _type(self, message_id: int, line: str, turn: TurnSince, now: float) -> None:
        lines = self._folder / "line.txt"
        write_atomic(lines, line)
        self._terminal.load(_buffer(message_id), lines)
        if self._terminal.paste(_buffer(message_id)):
            self._typed = _Typed(message_id, line, turn.prompts, now, list(_ENTER_AFTER_S))

    def _shows(self, line: str) -> bool:
        return "".join(line.split()) in "".join(self._terminal.visible().split())

    def _until_taken(self, typed: _Typed, turn: TurnSince, now: float) -> None:
        if turn.prompts > typed.prompts:
            self._typed = None
            self._looked = float("-inf")  # there may be more to say
            if typed.message_id:
                self._mark(typed.message_id)
                _log.info("message delivered message=%d", typed.message_id)
            return
        if typed.presses and now >= typed.at + typed.presses[0]:
            shown = self._shows(typed.line)
            if shown:
                self._terminal.press_enter()
            if shown or now >= typed.at + _DRAWN_LATE_S:
                typed.presses = [press for press in typed.presses if now < typed.at + press]
        elif not typed.presses and now > typed.at + 2 * _ENTER_AFTER_S[-1]:
            self._typed = None
            self._stuck.add(typed.message_id)  # for this prompt; it stays undelivered, and shows as that
            _log.error("a line was typed and never taken message=%d", typed.message_id)


def _look_s(state: AgentState | None) -> float:
    return WAITING_LOOK_S if state is not None and state.doing.needs_person else LOOK_S


def _buffer(message_id: int) -> str:
    return f"message-{message_id}"
