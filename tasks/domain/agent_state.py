"""What an agent is doing, read from what it told and what is seen of it. Pure: evidence in, a state out."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from tasks.domain.agent import QUESTION_TOOL, AgentEvent, AskedQuestion, Turn


class Doing(StrEnum):
    STARTING = "starting"
    WORKING = "working"
    PERMISSION = "waiting for a permission"
    QUESTION = "waiting for an answer"
    IDLE = "waiting, and has not signalled"
    DONE = "done"
    CRASHED = "crashed"
    SILENT = "silent"
    REFUSED = "refused"

    @property
    def needs_person(self) -> bool:
        return self in (Doing.PERMISSION, Doing.QUESTION, Doing.IDLE)


@dataclass(frozen=True)
class Passage:
    """One line of the gateway's: what the agent asked of the world, and what came of it. It cannot be forged."""

    verdict: str
    target: str
    status: int = 0
    reason: str = ""


@dataclass(frozen=True)
class Evidence:
    """``turn`` and ``last`` are the agent's own word since the prompt; ``passages`` are the gateway's.

    ``last`` is the event that the turn was read from: a request for permission, a failure. ``signals`` are the phases
    that the status file names since the prompt.
    """

    phase: str
    turn: Turn
    last: AgentEvent | None = None
    signals: tuple[str, ...] = ()
    passages: tuple[Passage, ...] = ()
    ended: bool = False
    exit_code: int | None = None
    last_lines: tuple[str, ...] = ()
    dollars: float = 0.0
    dollars_allowed: float | None = None
    disk_bytes: int = 0
    disk_allowed: int | None = None
    overdue: bool = False


@dataclass(frozen=True)
class AgentState:
    """``words`` say what it waits for, or why it does not go on; ``next_move`` what a person may do about it."""

    doing: Doing
    words: str = ""
    questions: tuple[AskedQuestion, ...] = ()
    next_move: str = ""
    exit_code: int | None = None
    last_lines: tuple[str, ...] = ()


def worded(state: AgentState) -> str:
    """For people: what it waits for, and what may be answered.

    >>> print(worded(AgentState(Doing.QUESTION, questions=(AskedQuestion("Theme", "Dark?", ("Yes", "No")),))))
    Dark?
    1. Yes
    2. No
    """
    if state.doing is Doing.PERMISSION:
        return f"{state.words}\n1. Yes\n2. No"
    if not state.questions:
        return state.words or str(state.doing)
    lines = []
    for question in state.questions:
        lines.append(question.question)
        lines += [f"{number}. {choice}" for number, choice in enumerate(question.choices, 1)]
    return "\n".join(lines)


_KEY = "see the key in the coding agent's block, then retry the run"
_REFUSALS: Mapping[str, tuple[str, str]] = {
    "authentication_failed": ("the model's API does not take the key", _KEY),
    "billing_error": ("the account of the key has no credit left", "add credit, then retry the run"),
    "rate_limit": ("the usage limit of the key is reached", "wait until it is lifted, then retry the run"),
    "server_error": ("the model's API failed again and again", "retry the run in a while"),
    "invalid_request": ("the model's API refused the request", "see its words, and the model in the agent's block"),
}
"""By the ``error`` of Claude Code's StopFailure, as 2.1.330 names it."""


MODEL_PATH = "/v1/messages"
"""Of the model's API, where a key that is not taken ends the work; tokens may be counted elsewhere, by another rule."""


def refusal(evidence: Evidence) -> tuple[str, str] | None:
    """Why the model's side does not let it go on, and what to do; None where nothing is in the way.

    A key counts as refused by the latest answer only: a login that is renewed amid the work costs one refusal.
    """
    if any(passage.verdict == "budget" for passage in evidence.passages):
        return "its budget of model requests is spent", "raise it in the coding agent's block, then retry the run"
    answers = [each.status for each in evidence.passages if each.verdict == "model" and each.target == MODEL_PATH]
    if answers and answers[-1] in (401, 403):
        return f"the model's API does not take the key (HTTP {answers[-1]})", _KEY
    if evidence.dollars_allowed is not None and evidence.dollars > evidence.dollars_allowed:
        return (
            f"it has cost ${evidence.dollars:.2f}, and ${evidence.dollars_allowed:.2f} are allowed",
            "raise the limit in the coding agent's block, then retry the run",
        )
    if evidence.disk_allowed is not None and evidence.disk_bytes > evidence.disk_allowed:
        return (
            f"it has filled more than {evidence.disk_allowed // 2**20:,} MB of the disk",
            "look at what it wrote below its workspace, then retry the run or tear it down",
        )
    last = evidence.last
    if evidence.turn is Turn.IDLE and last is not None and last.name == "StopFailure":
        reason, move = _REFUSALS.get(last.kind, ("its turn failed", "see its screen, then retry the run"))
        return f"{reason}: {last.message[:300]}" if last.message else reason, move
    return None


def read_state(evidence: Evidence) -> AgentState:
    """
    >>> read_state(Evidence("planning", Turn.IDLE, signals=("planning",))).doing
    <Doing.DONE: 'done'>
    >>> read_state(Evidence("planning", Turn.WORKING, signals=("planning",))).doing
    <Doing.WORKING: 'working'>
    """
    if evidence.ended:
        return AgentState(Doing.CRASHED, exit_code=evidence.exit_code, last_lines=evidence.last_lines)
    if evidence.turn is Turn.IDLE and evidence.phase in evidence.signals:
        return AgentState(Doing.DONE)
    refused = refusal(evidence)
    if refused is not None:
        return AgentState(Doing.REFUSED, refused[0], next_move=refused[1])
    if evidence.overdue:
        return AgentState(Doing.SILENT)
    match evidence.turn:
        case Turn.STARTING:
            return AgentState(Doing.STARTING)
        case Turn.WORKING:
            return AgentState(Doing.WORKING)
        case Turn.WAITING:
            return _waiting(evidence.last)
        case Turn.IDLE | Turn.ENDED:
            return AgentState(Doing.IDLE, evidence.last.message if evidence.last else "")


def _waiting(asked: AgentEvent | None) -> AgentState:
    if asked is not None and asked.tool == QUESTION_TOOL and asked.questions:
        words = "\n".join(question.question for question in asked.questions)
        return AgentState(Doing.QUESTION, words, asked.questions)
    what = f"{asked.tool}: {asked.about}" if asked is not None else "something"
    return AgentState(Doing.PERMISSION, f"may it use {what}?")
