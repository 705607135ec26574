"""Claude Code on a stage, with a scripted model and a scripted person."""

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tasks.adapters.agents.attendant import Said
from tasks.adapters.agents.claude import Claude, find_program
from tasks.adapters.agents.programs import agent_for
from tasks.adapters.agents.session import TerminalAgent
from tasks.adapters.agents.transcript import Entry
from tasks.domain.agent import Phase
from tasks.domain.agent_state import AgentState, Doing, Passage
from tasks.domain.prompts import kickoff
from tasks.domain.request import AgentKind
from tests.support.messages_api import Asked, Block, MessagesApi, text, tool
from tests.support.scripted_model import PROMPT, work_of
from tests.support.terminal import Stage

KEY = "sk-ant-test-0123456789abcdef0123456789"
READ = tool("Read", file_path=PROMPT)
QUESTION = tool(
    "AskUserQuestion",
    questions=[
        {
            "question": "Dark or light?",
            "header": "Theme",
            "multiSelect": False,
            "options": [{"label": "Dark", "description": "night"}, {"label": "Light", "description": "day"}],
        }
    ],
)


class Desk:
    """A person who is told states, and answers some of them."""

    def __init__(self) -> None:
        self.told: list[AgentState] = []
        self.told_at: list[float] = []
        self.queue: list[Said] = []
        self.done: list[int] = []
        self.denied: list[Passage] = []
        self.heard: list[Entry] = []
        self.answers: dict[Doing, list[str]] = {}

    def say(self, words: str, interrupt: bool = False, answers: bool = True) -> int:
        self.queue.append(Said(len(self.queue) + 1, words, interrupt, answers))
        return len(self.queue)

    def tell(self, state: AgentState) -> None:
        self.told.append(state)
        self.told_at.append(time.monotonic())
        if answers := self.answers.get(state.doing):
            self.say(answers.pop(0))

    def said(self) -> Sequence[Said]:
        return [said for said in self.queue if said.message_id not in self.done]

    def delivered(self, message_id: int) -> None:
        self.done.append(message_id)

    def refused(self, passages: Sequence[Passage]) -> None:
        self.denied.extend(passages)

    def history(self, entries: Sequence[Entry]) -> None:
        self.heard.extend(entries)

    def was_told(self, doing: Doing) -> AgentState:
        return next(state for state in self.told if state.doing is doing)


class Act:
    """One execution's agent on a stage, with its model and its person."""

    def __init__(self, stage: Stage, api: MessagesApi) -> None:
        self.stage, self.api, self.desk = stage, api, Desk()
        self.cancelled = threading.Event()

    def agent(self, requests: int = 0, dollars: float | None = None, login: Path | None = None) -> TerminalAgent:
        chosen = Claude(find_program(""), self.api.url, "" if login else KEY, requests=requests, login=login)
        agent = agent_for(
            *(AgentKind.CLAUDE, self.stage.runtime(), self.stage.workspace(), "bwrap", self.cancelled),
            chosen=lambda: chosen,
            dollars=dollars,
            desk=self.desk,
            patience_s=60,
        )
        self.stage.agents.append(agent)
        return agent

    def plans(self, agent: TerminalAgent, deadline_s: float = 60) -> None:
        agent.start()
        plan = self.stage.workspace().plan
        words = kickoff("sess20260124143022", "A bakery called Crumb & Co")
        agent.ask(Phase.PLANNING, words, lambda: None if plan.is_file() else "output/plan.md is missing", deadline_s)

    def transcript(self) -> str:
        path = self.stage.runtime().transcript()
        return path.read_text() if path else ""

    def results_of(self, part: str) -> list[str]:
        """What the model was told by its tools in the turn whose prompt holds ``part``."""
        return next(asked.results for asked in reversed(self.api.asked) if part in asked.prompt)


def in_turn(*steps: Block) -> Callable[[Asked], list[Block]]:
    """The prompt is read, then one step an answer. A message is read and thanked for; a reminder is obeyed."""

    def script(asked: Asked) -> list[Block]:
        done = len(asked.results)
        if "prompts/message-" in asked.prompt:
            name = asked.prompt[asked.prompt.rindex("prompts/message-") :].split(",")[0]
            return (
                [tool("Read", file_path=f"/workspace/{name}")]
                if not was_read(asked, "wrote this")
                else [text("Noted.")]
            )
        if "not signalled yet" in asked.prompt:
            return [missing[done]] if done < len(missing := work_of("planning")) else [text("Sorry.")]
        steps_here = [READ, *steps]
        return [steps_here[done]] if done < len(steps_here) else [text("That is all.")]

    return script


def was_read(asked: Asked, part: str) -> bool:
    return any(part in result for result in asked.results)
