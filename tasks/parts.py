"""Which parts a request means: the one place where a host and an agent are chosen."""

import asyncio
from collections.abc import Callable
from functools import cache
from threading import Event
from typing import TypeVar, assert_never

import httpx
from prefect import get_run_logger
from prefect.blocks.core import Block
from prefect.exceptions import PrefectHTTPStatusError

from blocks.local_hosting import LocalHosting
from blocks.settings import settings
from tasks.adapters.agents.programs import agent_for
from tasks.adapters.agents.runtime import RuntimeFolder
from tasks.adapters.agents.session import TerminalAgent
from tasks.adapters.hosts.dependencies import Registries
from tasks.adapters.hosts.local import LocalHost
from tasks.adapters.hosts.local_app import LocalAppHost
from tasks.adapters.sandbox import Mode, self_test
from tasks.adapters.turns import turn
from tasks.adapters.waiting import NEVER, Flag
from tasks.adapters.workspace import Workspace
from tasks.domain.agent import Phase
from tasks.domain.errors import AgentError, RequestRefused
from tasks.domain.execution import Execution
from tasks.domain.hosting import Host, Receipt
from tasks.domain.request import SiteType
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


def agent_of(execution: Execution, cancelled: Flag = NEVER) -> TerminalAgent:
    """The execution's agent; the same session, whoever asks for it and however often."""
    runtime = RuntimeFolder(settings().home, execution.execution_id)
    workspace = Workspace(execution.workspace)
    return agent_for(execution.request.agent, runtime, workspace, settings().sandbox, cancelled, owner=execution.run_id)


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

    def work(stop: Event) -> None:
        _prove_sandbox(settings().sandbox)
        agent = agent_of(execution, stop)
        agent.start()
        log.info("agent phase=%s, watch with: %s", phase, agent.attach_command(read_only=True))
        try:
            agent.ask(phase, prompt, complaint, settings().phase_deadline_s)
        except AgentError:
            log.error("the agent's screen:\n%s", "\n".join(agent.screen(40)))
            raise

    await interruptible(work)
