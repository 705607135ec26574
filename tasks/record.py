"""How a step is recorded: rows in the registry, lines in the run's log, artifacts in the Prefect UI.

The registry's step rows are the truth for resuming: a step that is done hands out its stored outcome and does no work.
A run that writes holds the lease of its site from its first write to its end.
Artifacts are written behind the run's back, in order, so that no step waits for a page that nobody has opened yet.
"""

import asyncio
import logging
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from enum import StrEnum
from functools import cache
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import (
    acreate_link_artifact,
    acreate_markdown_artifact,
    acreate_progress_artifact,
    acreate_table_artifact,
    aupdate_progress_artifact,
)
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State, TaskRun
from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.exceptions import MissingContextError
from prefect.logging.loggers import LoggingAdapter
from prefect.tasks import Task
from pydantic import BaseModel

from blocks.settings import settings
from tasks.adapters.archive import Archive
from tasks.adapters.redaction import redact
from tasks.adapters.registry import ExecutionRecord, Lease, Registry, RunRecord, Superseded
from tasks.adapters.registry.machines import machine_id_of
from tasks.adapters.workspace import Workspace
from tasks.domain.check import Check
from tasks.domain.errors import BuilderError, NothingLeft, SiteBusy, Unspeakable, is_transient
from tasks.domain.execution import Execution
from tasks.domain.hosting import Site
from tasks.domain.ids import tags
from tasks.domain.markdown import fenced, plain
from tasks.domain.pipeline import TOTAL_STEPS, SiteState, Step, Verb, Verdict

Outcome = TypeVar("Outcome", bound=BaseModel)
P = ParamSpec("P")
T = TypeVar("T")


@cache
def registry() -> Registry:
    """The registry of this process."""
    return Registry.open(settings().registry_url)


def run_log() -> "logging.Logger | LoggingAdapter":
    """The run's log; this process's where a clean-up works outside any run."""
    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger("tmux-builder")


async def transient_only(_task: Task[..., Any], _task_run: TaskRun, state: State[Any]) -> bool:
    """Prefect's retry condition: only what may pass by itself is tried again."""
    outcome = await state.aresult(raise_on_failure=False)
    return isinstance(outcome, BaseException) and is_transient(outcome)


PATIENCE_S = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0)
"""How long to wait between tries while the registry's database is away: about a minute in all."""


async def patiently(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """`in_thread` for a call to the registry that may be repeated: a database that restarts costs time and no work."""
    for pause_s in PATIENCE_S:
        try:
            return await in_thread(work, *args, **kwargs)
        except ConnectionError as error:
            get_run_logger().warning("%s; tried again in %.1f s", error, pause_s)
            await asyncio.sleep(pause_s)
    return await in_thread(work, *args, **kwargs)


async def in_thread(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking adapter call beside the event loop.

    A cancelled step does not wait for the call; the call itself ends with the process.
    """
    return await asyncio.to_thread(work, *args, **kwargs)


async def interruptible(work: Callable[[threading.Event], T]) -> T:
    """`in_thread` for calls that take long: ``work`` gets an event that is set when the step is cancelled.

    The step ends only after the call has returned, so that nothing that it started is left behind.
    """
    stop = threading.Event()
    running = asyncio.ensure_future(asyncio.to_thread(work, stop))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([running], timeout=20)
        raise


async def recorded(run_id: str, step: Step, kind: type[Outcome], work: Callable[[], Awaitable[Outcome]]) -> Outcome:
    """Do a step's work once and keep its outcome.

    Raises what ``work`` raises, after the failing step and the error's words are in the registry. An engine that was
    given up for dead, while another one goes on with its run, ends here without a word to Prefect.
    """
    try:
        return await _recorded(run_id, step, kind, work)
    except Superseded as error:
        get_run_logger().error("%s", error)
        await asyncio.sleep(2)  # for the line to arrive
        os._exit(0)


async def _recorded(run_id: str, step: Step, kind: type[Outcome], work: Callable[[], Awaitable[Outcome]]) -> Outcome:
    log, attempt = get_run_logger(), current_attempt()
    stored = await patiently(registry().begin_step, run_id, step, attempt)
    label = f"step {step}/{TOTAL_STEPS} {step.task_name}"
    if stored is not None:
        log.info("%s was done before, its outcome is taken from the registry", label)
        count_step()
        return kind.model_validate(stored)
    log.info("%s started", label)
    try:
        outcome = await work()
    except Exception as error:
        words = str(error) if isinstance(error, BuilderError) else f"{type(error).__name__}: {error}"
        shown = redact(words)
        log.error("%s failed: %s", label, shown)
        with suppress(ConnectionError):  # that the record is away is not why the step failed
            await patiently(registry().fail_step, run_id, step, shown, attempt)
        if shown != words:  # Prefect keeps an exception's words in the run's state
            raise Unspeakable(shown, is_transient(error)) from None
        raise
    stored = outcome.model_dump(mode="json")
    await patiently(registry().finish_step, run_id, step, stored, attempt=attempt)
    log.info("%s done", label)
    count_step()
    return outcome


SETTLE_S = 0.25
"""Pages wait this long: what a step leaves behind is written while the next one works, not between the two."""


class _Pages:
    """Artifacts of one flow run, written one after the other by one background task."""

    def __init__(self, done: int, total: int) -> None:
        self.waiting: asyncio.Queue[Callable[[], Awaitable[Any]]] = asyncio.Queue()
        self.closing = asyncio.Event()
        self.done, self.total = done, total
        self._shown = -1
        self._progress: UUID | None = None

    async def write(self) -> None:
        """Until closing, and then whatever still waits."""
        while not (self.closing.is_set() and self.waiting.empty()):
            with suppress(TimeoutError):
                await asyncio.wait_for(self.closing.wait(), SETTLE_S)
            while not self.waiting.empty():
                await self._attempt(self.waiting.get_nowait())
            if self._shown != self.done:
                await self._attempt(self._show_progress)

    async def _attempt(self, job: Callable[[], Awaitable[Any]]) -> None:
        try:
            await job()
        except Exception as error:  # noqa: BLE001  # a page that cannot be shown must not stop the build
            get_run_logger().warning("artifact not written: %s: %s", type(error).__name__, error)

    async def _show_progress(self) -> None:
        self._shown = done = self.done
        value, label = float(100 * done // max(1, self.total)), f"{done} of {self.total} steps done"
        if self._progress is None:
            self._progress = await acreate_progress_artifact(value, key="progress", description=label)
        else:
            await aupdate_progress_artifact(self._progress, value, description=label)


_pages: ContextVar[_Pages | None] = ContextVar("pages", default=None)


@asynccontextmanager
async def pages(done: int = 0, total: int = TOTAL_STEPS) -> AsyncIterator[None]:
    """Everything that the run shows in the Prefect UI is on its way inside, and has arrived on leaving.

    A failure leaves a page that names the step, the error and the next move.
    """
    book = _Pages(done, total)
    token = _pages.set(book)
    writer = asyncio.create_task(book.write())
    try:
        yield
    except Exception as error:
        page = f"# It failed\n\n**{type(error).__name__}**\n\n{fenced(redact(str(error)))}\n"
        show_markdown("failure", "What went wrong", page)
        raise
    finally:
        _pages.reset(token)
        book.closing.set()
        await asyncio.wait([writer], timeout=15)


def _show(job: Callable[[], Awaitable[Any]]) -> None:
    book = _pages.get()
    if book is not None:
        book.waiting.put_nowait(job)


def count_step() -> None:
    """One more of the run's steps is done, for its progress."""
    book = _pages.get()
    if book is not None:
        book.done += 1


def show_markdown(key: str, description: str, markdown: str) -> None:
    _show(lambda: acreate_markdown_artifact(markdown, key=key, description=description))


def show_link(key: str, description: str, url: str, text: str) -> None:
    _show(lambda: acreate_link_artifact(url, link_text=text, key=key, description=description))


def show_check(check: Check) -> None:
    """One table a check: what was looked at, what was found, and whether red stops the run."""
    rows = [
        {
            "what": finding.name,
            "outcome": finding.outcome.value,
            "found": plain(finding.detail),
            "stops the run": "yes" if finding.gate else "no",
        }
        for finding in check.findings
    ]
    if rows:
        key = check.name.replace("_", "-")
        _show(lambda: acreate_table_artifact(rows, key=key, description=f"{check.name}: {check.outcome}"))


LEASE_S = 120.0
"""How long a site stays its writer's without a sign of life."""

BUSY_POLL_S = 1.0

_lease: ContextVar[Lease | None] = ContextVar("lease", default=None)


class WhenBusy(StrEnum):
    """What a run does while another one writes the same site."""

    WAIT = "wait"
    REFUSE = "refuse"


@asynccontextmanager
async def writing(execution: Execution, when_busy: WhenBusy = WhenBusy.WAIT) -> AsyncIterator[None]:
    """Nobody else writes the site or its workspace inside. The lease is renewed until the end.

    A run that was killed takes its own lease up again at once. Raises SiteBusy where it may not wait.
    """
    lease = await _acquire(execution, when_busy)
    token = _lease.set(lease)
    renewing = asyncio.create_task(_renew(lease))
    try:
        yield
    finally:
        _lease.reset(token)
        renewing.cancel()
        try:
            await in_thread(registry().release_lease, lease)
        except ConnectionError as error:  # it ends by itself; what the run raised must not be hidden
            get_run_logger().warning("the site's lease was not given back: %s", error)


def held_lease() -> Lease:
    """The lease that the steps of this run write under."""
    lease = _lease.get()
    if lease is None:
        raise RuntimeError("nothing is written outside `writing`")
    return lease


def owner_of(run_id: str) -> str:
    """How a run is called as a lease's owner."""
    return f"run {run_id}"


async def _acquire(execution: Execution, when_busy: WhenBusy) -> Lease:
    told = False
    while True:
        try:
            return await in_thread(registry().acquire_lease, execution.site_name, owner_of(execution.run_id), LEASE_S)
        except SiteBusy as error:
            if when_busy is WhenBusy.REFUSE:
                step = execution.verb.first_step
                await in_thread(registry().fail_step, execution.run_id, step, str(error))
                raise
            if not told:
                get_run_logger().info("waiting: %s", error)
            told = True
        await asyncio.sleep(BUSY_POLL_S)


async def _renew(lease: Lease) -> None:
    """Keep the lease while the run works. Trouble is waited out: whoever lost the lease is refused when it writes."""
    while True:
        await asyncio.sleep(LEASE_S / 4)
        try:
            await in_thread(registry().renew_lease, lease, LEASE_S)
        except SiteBusy as error:
            get_run_logger().error("the site's lease was lost: %s", error)
            return
        except ConnectionError as error:
            get_run_logger().warning("the site's lease was not renewed: %s", error)


async def open_run(execution_id: str, verb: Verb) -> Execution:
    """Tie this flow run to the execution that it works for, and label it so that people find it by id or user.

    A retried flow run gets the same run row, and with it the outcomes of its done steps. A workspace that this machine
    never had comes from the archive. Raises UnknownExecution.
    """
    flow_run = current_flow_run()
    dispatched = (flow_run.idempotency_key or "").removeprefix(f"{verb}:")  # the dispatcher's key names the run
    run_id = dispatched if dispatched != flow_run.idempotency_key else None
    run = await patiently(
        registry().adopt_run,
        execution_id,
        verb,
        str(flow_run.id),
        current_attempt(),
        run_id,
        machine_id_of(settings().home),
    )
    record = await in_thread(registry().execution, execution_id)
    labels = tags(
        user_id=record.user_id,
        session_id=record.session_id,
        execution_id=execution_id,
        site_type=record.request.site_type,
    )
    wanted = {f"{key}:{labels[key]}" for key in ("UserGUID", "SessionID", "ExecutionID", "SiteType")}

    async def label() -> None:
        async with get_client() as client:
            await client.update_flow_run(flow_run.id, name=f"{verb} {execution_id}", tags={*flow_run.tags, *wanted})

    if verb is not Verb.REVERIFY:
        _show(label)
    execution = _execution(run, record)
    workspace = Workspace(execution.workspace)
    if verb is Verb.FULL_BUILD and not workspace.root.exists():
        undone = await in_thread(registry().undo_steps, run.run_id, Step.CREATE_SESSION)
        if undone:
            run_log().warning("the workspace is on another machine, or gone: its steps are done again from 2 on")
    if verb in (Verb.REDEPLOY, Verb.REVERIFY) and await in_thread(workspace.is_bare):
        store = Archive(settings().store_url)
        if await in_thread(store.restore, execution.user_id, execution.session_id, workspace):
            get_run_logger().info("the workspace was not on this machine, it was restored from the archive")
        elif record.site_state is SiteState.TAKEN_DOWN:
            raise NothingLeft(execution_id)
    return execution


def execution_of(run: RunRecord) -> Execution:
    """What a run works on. Blocks; raises UnknownExecution."""
    return _execution(run, registry().execution(run.execution_id))


def _execution(run: RunRecord, record: ExecutionRecord) -> Execution:
    return Execution(
        user_id=record.user_id,
        session_id=record.session_id,
        execution_id=record.execution_id,
        run_id=run.run_id,
        verb=run.verb,
        site_name=record.site_name,
        request=record.request,
        workspace=Workspace.of(settings().home, record.user_id, record.session_id).root,
    )


def current_flow_run() -> FlowRun:
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise RuntimeError("a step runs inside a flow run; start full-build/on-demand instead")
    return context.flow_run


def current_attempt() -> int:
    """Which start of this flow run this is, by Prefect's count, from 1."""
    return max(1, current_flow_run().run_count)


async def live_executions() -> list[str]:
    """Ids of the executions whose sites are live, oldest first."""
    return [record.execution_id for record in await in_thread(registry().live_sites)]


async def is_being_written(execution: Execution) -> bool:
    """Whether some run holds the site's lease."""
    return await in_thread(registry().lease_of, execution.site_name) is not None


async def site_of(execution: Execution) -> Site:
    """The site as it was published last. Raises LookupError where nothing was."""
    return (await in_thread(registry().execution, execution.execution_id)).site


async def give_verdict(execution: Execution, site: Site, outcomes: Iterable[str]) -> Verdict:
    """Sum up what the checks found of this release, and keep it: on the execution for a build, on the site always."""
    verdict = Verdict.PASSED if all(outcome == "passed" for outcome in outcomes) else Verdict.FAILED_CHECKS
    if execution.verb is not Verb.REVERIFY:
        await in_thread(registry().set_verdict, execution.execution_id, verdict)
    state = SiteState.LIVE if verdict is Verdict.PASSED else SiteState.DEGRADED
    await set_site_state(execution, state, site.release_id)
    get_run_logger().info("verdict=%s execution=%s", verdict, execution.execution_id)
    return verdict


async def set_site_state(execution: Execution, state: SiteState, release_id: str | None = None) -> None:
    """Keep what is known of the site, and send an event, for automations, when it changed.

    What was seen of ``release_id`` says nothing of a site that serves another one by then.
    """
    if await in_thread(registry().set_site_state, execution.site_name, state, release_id):
        emit_event(
            event=f"tmux-builder.site.{state}",
            resource={"prefect.resource.id": f"tmux-builder.site.{execution.site_name}"},
            payload={"execution_id": execution.execution_id, "state": str(state)},
        )
        run_log().info("site=%s became %s", execution.site_name, state)
