"""Which parts a request means: the one place where a host and an agent are chosen."""

import asyncio
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from threading import Event
from typing import TypeVar, assert_never

import httpx
from prefect import get_run_logger
from prefect.blocks.core import Block
from prefect.exceptions import PrefectHTTPStatusError

from blocks.coding_agent import CodingAgent
from blocks.local_hosting import LocalHosting
from blocks.settings import settings
from tasks.adapters.agents.attendant import Said
from tasks.adapters.agents.claude import PINNED, Claude, find_program, own_login, version_of
from tasks.adapters.agents.programs import agent_for
from tasks.adapters.agents.runtime import RuntimeFolder
from tasks.adapters.agents.session import TerminalAgent
from tasks.adapters.agents.transcript import Entry
from tasks.adapters.hosts.dependencies import Registries
from tasks.adapters.hosts.local import LocalHost
from tasks.adapters.hosts.local_app import LocalAppHost
from tasks.adapters.redaction import redact
from tasks.adapters.sandbox import Mode, self_test
from tasks.adapters.turns import turn
from tasks.adapters.waiting import NEVER, Flag
from tasks.adapters.workspace import Workspace
from tasks.domain.agent import Phase
from tasks.domain.agent_state import AgentState, Doing, Passage, worded
from tasks.domain.errors import AgentError, AgentMissing, RequestRefused
from tasks.domain.execution import Execution
from tasks.domain.hosting import Host, Receipt
from tasks.domain.request import AgentKind, SiteRequest, SiteType
from tasks.domain.text import plain_text
from tasks.record import PATIENCE_S, in_thread, interruptible, registry, run_log

T = TypeVar("T")

Hosting = LocalHosting
"""Every block type that a site can be hosted by."""


async def _load_patiently(name: str) -> Block:
    """A Prefect server that restarts costs time. Raises ConnectionError where it stays away."""
    for pause_s in (*PATIENCE_S, *PATIENCE_S[-2:]):
        try:
            return await Block.aload(name)
        except (httpx.TransportError, PrefectHTTPStatusError) as error:
            if isinstance(error, PrefectHTTPStatusError) and not error.response.is_server_error:
                raise
            run_log().warning("the Prefect server did not answer: %s; tried again in %.1f s", error, pause_s)
            await asyncio.sleep(pause_s)
    try:
        return await Block.aload(name)
    except (httpx.TransportError, PrefectHTTPStatusError) as error:
        raise ConnectionError(f"the Prefect server did not answer: {error}; see whether it runs (make up)") from error


async def load_hosting(name: str) -> Hosting:
    """The block of that name, ``type/name``. Raises RequestRefused where there is none, or it is of another type."""
    try:
        block = await _load_patiently(name)
    except ValueError:
        raise RequestRefused(
            "hosting",
            f"no block is called {name!r}",
            "local-hosting/default, or the name of a hosting block that the Blocks page shows",
        ) from None
    if not isinstance(block, LocalHosting):
        raise RequestRefused(
            "hosting", f"{name!r} is a {type(block)._block_type_name} block", "a block of type Local hosting"
        )
    return block


def host_for(hosting: Hosting, site_name: str, site_type: SiteType) -> Host:
    match hosting, site_type:
        case LocalHosting(), SiteType.STATIC:
            return LocalHost(settings().home, site_name, settings().sites_port, hosting.keep_releases)
        case LocalHosting(), SiteType.DYNAMIC:
            return LocalAppHost(
                settings().home,
                site_name,
                settings().sites_port,
                hosting.keep_releases,
                settings().sandbox,
                Registries(hosting.python_index, hosting.python_files, hosting.npm_registry),
                healthy_s=hosting.app_deadline,
            )
        case _:
            assert_never(hosting)


def take_down_here(site_name: str) -> Receipt:
    """Remove a site of this machine that nobody owns, its program and data included."""
    return LocalAppHost(settings().home, site_name, settings().sites_port, 1, settings().sandbox).teardown()


async def host_of(execution: Execution) -> Host:
    """The execution's host. Raises RequestRefused where its block is gone."""
    hosting = await load_hosting(execution.request.hosting)
    return host_for(hosting, execution.site_name, execution.request.site_type)


async def load_agent(request: SiteRequest) -> CodingAgent | None:
    """The block of a request that is for Claude Code; None for another agent's, which needs none.

    Raises RequestRefused where there is no such block, or no key in it.
    """
    if request.agent is not AgentKind.CLAUDE:
        return None
    name, field = request.coding_agent, "coding_agent"
    try:
        block = await _load_patiently(name)
    except ValueError:
        raise RequestRefused(field, f"no block is called {name!r}", "a block that the Blocks page shows") from None
    if not isinstance(block, CodingAgent):
        kind = type(block)._block_type_name
        raise RequestRefused(field, f"{name!r} is a {kind} block", "a block of type Coding agent")
    if not block.api_key.get_secret_value() and not block.own_login:
        raise RequestRefused(field, f"{name!r} has no API key", "a block with one; add it on the Blocks page")
    return block


def claude_of(block: CodingAgent) -> Claude:
    """What the block says, for this machine. Raises AgentMissing where the program is not installed, or nobody is
    logged in whose login it shall use.
    """
    key = block.api_key.get_secret_value()
    login = own_login() if block.own_login and not key else None
    if not key and login is None:
        raise AgentMissing("nobody is logged in to Claude Code on this machine", "run claude and /login, or use a key")
    program = find_program(block.command)
    if (version := version_of(program)) != PINNED:
        run_log().warning("Claude Code is %s here; this was made and tested with %s", version, PINNED)
    registries: frozenset[str] = frozenset()
    if block.packages:
        known = Registries()
        registries = known.for_pip()[1] | (known.for_npm()[1] if shutil.which("npm") else frozenset())
    return Claude(
        program=program,
        api=block.api_url,
        key=key,
        login=login,
        model=block.model,
        domains=tuple(block.domains),
        registries=tuple(sorted(registries)),
        requests=block.requests,
    )


_QUESTIONS_AT_MOST = 200
_REFUSALS_AT_ONCE = 20
WIDEST = 500
"""Characters of one line of a screen that are kept."""


class RegistryDesk:
    """An agent's desk is the record: messages, questions, and what it was refused."""

    def __init__(self, execution: Execution) -> None:
        self._execution, self._record = execution, registry()
        self._waits = self._is_dialog = self._has_turn = False
        self._turn_at = float("-inf")

    def tell(self, state: AgentState) -> None:
        """While the agent waits for a person, another run's may take its turn."""
        run_id, waits = self._execution.run_id, state.doing.needs_person
        if waits:
            self._ask(worded(state))
            self._record.leave_slot("agent", run_id)
            self._has_turn, self._turn_at = False, float("-inf")
            run_log().info("the agent is %s: %s", state.doing, worded(state))
        elif self._waits:
            self._record.close_questions(run_id, "the agent goes on")
            self._turn_is_anothers()
        self._waits, self._is_dialog = waits, state.doing in (Doing.QUESTION, Doing.PERMISSION)

    def _turn_is_anothers(self) -> bool:
        chosen = settings()
        return self._record.take_slot("agent", self._execution.run_id, chosen.max_agents, chosen.max_per_user) > 0

    def _ask(self, words: str) -> None:
        """Asked once, whoever adopts the agent while it waits: answers are told by when they were written."""
        run_id = self._execution.run_id
        mine = [each for each in self._record.questions(self._execution.execution_id, "agent") if each.run_id == run_id]
        if mine and mine[-1].answer is None and mine[-1].body == words:
            return
        if len(mine) >= _QUESTIONS_AT_MOST:
            run_log().warning("the agent asks again and again, and %d questions are kept", _QUESTIONS_AT_MOST)
            return
        self._record.close_questions(run_id, "the agent asked something else")
        self._record.ask_question(run_id, "agent", 1 + len(mine), words, settings().approval_deadline_s)
        self._record.post_message(self._execution.execution_id, "agent", words)

    def said(self) -> list[Said]:
        """Where the agent waits, its turn was another's meanwhile: it is answered once it has one again."""
        waiting = self._record.undelivered_messages(self._execution.execution_id)
        if not waiting:
            return []
        asked = [each.asked_at for each in self._record.questions(self._execution.execution_id, "agent")]
        said = [
            Said(
                *(message.message_id, message.body, message.kind == "interrupt"),
                answers=not asked or message.created_at > asked[-1],
            )
            for message in waiting
        ]
        if not self._waits:
            return said
        is_heard = not self._is_dialog or any(each.interrupt or each.answers for each in said)
        return said if is_heard and self._take_turn_again() else []

    def _take_turn_again(self) -> bool:
        """Asked for once a second at most: an agent that waits is looked after ten times as often."""
        now = time.monotonic()
        if not self._has_turn and now >= self._turn_at + TURN_POLL_S:
            self._turn_at = now
            self._has_turn = not self._turn_is_anothers()
        return self._has_turn

    def delivered(self, message_id: int) -> None:
        self._record.message_delivered(message_id)

    def history(self, entries: Sequence[Entry]) -> None:
        rows = [(entry.source_id, str(entry.author), str(entry.kind), entry.text) for entry in entries]
        self._record.note_said(self._execution.execution_id, rows)

    def show(self, lines: Sequence[str]) -> None:
        """For those who look from elsewhere: the terminal's last lines, as text."""
        shown = "\n".join(plain_text(line)[:WIDEST] for line in lines).rstrip()
        self._record.write_screen(self._execution.execution_id, redact(shown))

    def refused(self, passages: Sequence[Passage]) -> None:
        """Noted by target, with how often: a flood of them is a few lines."""
        often = Counter((passage.target, passage.reason) for passage in passages)
        for (target, reason), times in often.most_common(_REFUSALS_AT_ONCE):
            run_log().warning("refused to the agent: %s (%s)%s", target, reason, f" {times} times" if times > 1 else "")
        told: list[dict[str, str | int]] = [
            {"target": target, "reason": reason, "times": times}
            for (target, reason), times in often.most_common(_REFUSALS_AT_ONCE)
        ]
        if left := len(often) - len(told):
            told.append({"target": "…", "reason": f"{left} other targets", "times": left})
        self._record.note_refused(self._execution.run_id, told)


def agent_of(execution: Execution, cancelled: Flag = NEVER, chosen: CodingAgent | None = None) -> TerminalAgent:
    """The execution's agent: one session, whoever asks for it and however often. Who starts it gives ``chosen``."""
    runtime = RuntimeFolder(settings().home, execution.execution_id)
    desk = RegistryDesk(execution)
    return agent_for(
        *(execution.request.agent, runtime, Workspace(execution.workspace), settings().sandbox, cancelled),
        owner=execution.run_id,
        chosen=(lambda: claude_of(chosen)) if chosen else None,
        dollars=chosen.dollars if chosen else None,
        desk=desk,
        show=desk.show,
        patience_s=settings().approval_deadline_s,
    )


def stop_agent(execution: Execution) -> None:
    """End the agent that this run started or adopted last, with all its processes; another run's is left alone."""
    if RuntimeFolder(settings().home, execution.execution_id).root.exists():
        agent_of(execution).stop(unless_anothers=execution.run_id)


TURN_POLL_S = 1.0


async def take_turn(execution: Execution) -> None:
    """Wait until this run may have an agent: so many at a time, and so many of one user. Kept until the run's end."""
    chosen, told = settings(), 0
    while place := await in_thread(
        registry().take_slot, "agent", execution.run_id, chosen.max_agents, chosen.max_per_user
    ):
        if place != told:
            get_run_logger().info(
                "waiting for an agent: place=%d in the queue (%d at a time, %d of one user)",
                *(place, chosen.max_agents, chosen.max_per_user),
            )
        told = place
        await asyncio.sleep(TURN_POLL_S)


async def leave_turn(execution: Execution) -> None:
    """Let another run's agent work while this one's waits for a person."""
    await in_thread(registry().leave_slot, "agent", execution.run_id)


async def with_browser(work: Callable[[Event], T]) -> T:
    """`work` in a thread, when one of the machine's browsers is free: where many run at once, a page that is quick
    takes long, and would be blamed for it.
    """

    def waited(stop: Event) -> T:
        with turn(settings().home / "run", "browser", settings().max_browsers, stop) as seconds:
            if seconds > 1:
                run_log().info("waited %.0f s for a browser's turn (%d at a time)", seconds, settings().max_browsers)
            return work(stop)

    return await interruptible(waited)


@cache
def _prove_sandbox(mode: Mode) -> None:
    """Attack the sandbox once a process, and refuse to start an agent where something gives way."""
    self_test(mode)


async def ask(execution: Execution, phase: Phase, prompt: str, complaint: Callable[[], str | None]) -> None:
    """Have the agent do a phase: started or adopted, prompted once, waited for.

    Raises AgentError of some kind, with the agent's screen in the run's log, or SandboxUnavailable.
    """
    log = get_run_logger()
    await take_turn(execution)
    chosen = await load_agent(execution.request)
    deadline_s = 60 * chosen.minutes if chosen else settings().phase_deadline_s

    def work(stop: Event) -> None:
        _prove_sandbox(settings().sandbox)
        agent = agent_of(execution, stop, chosen)
        agent.start()
        log.info("agent phase=%s, watch with: %s", phase, agent.attach_command(read_only=True))
        try:
            agent.ask(phase, prompt, complaint, deadline_s)
        except AgentError:
            log.error("the agent's screen:\n%s", "\n".join(agent.screen(40)))
            raise

    await interruptible(work)
