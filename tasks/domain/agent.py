"""What the pipeline asks of a coding agent, and how its answers are read. Pure: texts in, verdicts out."""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

INSTRUCTION = "Read and execute the prompt in prompts/current.txt"
"""With the two below, what is ever typed into an agent's pane. User text travels in files that such a line names."""

REMINDER = (
    "The phase is not signalled yet. Do what is missing of prompts/current.txt, then write its PHASE_COMPLETE line to "
    "output/status.txt. If you cannot go on without an answer, ask with AskUserQuestion."
)


def message_line(message_id: int) -> str:
    return f"Read the message in prompts/message-{message_id:06d}.txt, which a person wrote to you, and act on it"


STATUS_LIMIT_BYTES = 64 * 1024
"""A status file that is longer is not read: no agent has that much to signal."""


class Phase(StrEnum):
    """What the agent is asked for; the value is the word in its completion signal."""

    PLANNING = "planning"
    CODING = "coding"
    TEST_GENERATION = "test_generation"
    VERIFICATION = "verification"


class Agent(Protocol):
    """One coding program in one terminal, for one execution.

    `ask` delivers the prompt and returns when the phase is done: its signal was written *since this prompt*, the
    agent's turn has ended, the process lives, and ``complaint_about_outputs`` has no complaint. It raises
    AgentNotReady, AgentCrashed, AgentSilent, WrongPhase, OutputsMissing or AskCancelled, and nothing else of its own.
    Asking for a phase whose prompt was already delivered to a living session waits for it and does not repeat it.
    Every method blocks; call them from a thread.
    """

    def start(self) -> None:
        """Bring the session up, or adopt the one that lives. Returns when it takes prompts."""

    def ask(
        self, phase: Phase, prompt: str, complaint_about_outputs: Callable[[], str | None], deadline_s: float
    ) -> None: ...

    def screen(self, lines: int = 100) -> list[str]:
        """The pane's last lines, without escape sequences; empty when there is no pane."""

    def stop(self) -> None:
        """End the session and every process in it. Safe to call when there is none."""


_SIGNAL = re.compile(r"PHASE_COMPLETE:[ \t]*(?P<phase>[a-z_]{1,32})[ \t]*")


def signalled_phases(status: bytes) -> list[str]:
    """The phases named by whole lines of a status file, in order; a line still being written does not count.

    >>> signalled_phases(b"half done\\nPHASE_COMPLETE: planning\\r\\nPHASE_COMPLETE: cod")
    ['planning']
    """
    whole, _, _half = status.rpartition(b"\n")
    lines = (line.rstrip(b"\r").decode("utf-8", "replace") for line in whole.split(b"\n"))
    return [match["phase"] for line in lines if (match := _SIGNAL.fullmatch(line))]


class Turn(StrEnum):
    """Where the agent is, as its own events tell. Forgeable from inside: good for progress, never for a gate."""

    STARTING = "starting"
    IDLE = "idle"
    WORKING = "working"
    WAITING = "waiting"
    ENDED = "ended"


@dataclass(frozen=True)
class AskedQuestion:
    """One question of the agent's, with the answers that it offers."""

    header: str
    question: str
    choices: tuple[str, ...] = ()
    several: bool = False


@dataclass(frozen=True)
class AgentEvent:
    """What one hook told. Only ``name`` is there for every agent.

    The names are Claude Code's (https://docs.claude.com/en/docs/claude-code/hooks); the offline agent writes the same.
    ``tool`` and ``about`` say what a tool call does, in one line; ``kind`` and ``message`` are a notification's or an
    error's.
    """

    name: str
    session_id: str = ""
    source: str = ""
    tool: str = ""
    about: str = ""
    questions: tuple[AskedQuestion, ...] = ()
    kind: str = ""
    message: str = ""

    @property
    def is_clear(self) -> bool:
        """Whether a person has typed /clear, which gives the session a new id."""
        return self.name == "SessionStart" and self.source == "clear" and self.session_id != ""


def of_session(events: Sequence[AgentEvent], session_id: str) -> list[AgentEvent]:
    """Those of the agent's own session. A program of the same name that it starts has hooks too, and another id.

    A person at the terminal who types /clear gives the session a new id; the event that tells so is believed.

    >>> [event.name for event in of_session([AgentEvent("Stop", "nested"), AgentEvent("Stop", "own")], "own")]
    ['Stop']
    """
    found = []
    for event in events:
        if event.is_clear:
            session_id = event.session_id
        if event.session_id in ("", session_id):
            found.append(event)
    return found


QUESTION_TOOL = "AskUserQuestion"


def turn_after(events: Iterable[AgentEvent], turn: Turn = Turn.STARTING) -> Turn:
    """Fold an agent's events, oldest first.

    >>> turn_after([AgentEvent("SessionStart"), AgentEvent("UserPromptSubmit")])
    <Turn.WORKING: 'working'>
    >>> turn_after([AgentEvent("UserPromptSubmit"), AgentEvent("PermissionRequest", tool="Bash")])
    <Turn.WAITING: 'waiting'>
    """
    for event in events:
        match event.name:
            case "SessionStart" if event.source == "compact":
                continue  # amid a turn
            case "SessionStart" | "Stop" | "StopFailure":
                turn = Turn.IDLE
            case "UserPromptSubmit" | "PostToolUse" | "PostToolUseFailure" | "PermissionDenied":
                turn = Turn.WORKING
            case "PermissionRequest":
                turn = Turn.WAITING
            case "SessionEnd":
                turn = Turn.ENDED
    return turn
