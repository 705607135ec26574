"""Starts what the registry holds, and writes back what became of it: ``python -m deployments.dispatcher``.

It runs beside the worker. Four duties, each safe to repeat and to be killed in:
cancel: a run that somebody at the front door wants to end is cancelled, by the registry or by Prefect;
dispatch: a run that waits in the registry becomes a Prefect flow run, once (idempotency key ``{verb}:{run_id}``);
reconcile: the state of Prefect's flow run becomes the run's status, one way, where no hook has written it; a run whose
engine died is started again, and goes on from the step that was not done;
orphans: an engine whose worker is gone is still cancelled when asked, and is not believed to live when it is dead.

With ``--notices`` it also sends what people are told, see `deployments.notices`: on the first machine, and not on those
that joined.
"""

import asyncio
import logging
import os
import socket
import sys
import time
from collections.abc import Coroutine, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from prefect import Flow
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    TaskRunFilter,
    TaskRunFilterFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.states import AwaitingRetry, Cancelled, Crashed, Scheduled

from blocks.settings import settings
from deployments import notices
from deployments.engines import GRACE_S, Engine, Move, next_move
from flows.closing import close
from flows.full_build import full_build
from flows.redeploy import redeploy
from flows.reverify import reverify
from flows.rollback import rollback
from flows.teardown import teardown
from tasks.adapters.redaction import Redact
from tasks.adapters.registry import ExecutionRecord, Registry, RunRecord
from tasks.adapters.registry.machines import machine_id_of
from tasks.domain.ids import tags
from tasks.domain.pipeline import Failure, Status, Verb

SWEEP_S = 2.0
"""How long a run's status may lag behind Prefect's state, where no hook wrote it."""

HOOKS_S = 5.0
"""How long a flow run's own hooks have before the sweep does their work."""

STUCK_S = 120.0
"""A worker that has taken a run starts its engine within seconds; after this it died in between."""

UNHEEDED_S = 20.0
"""How long a run may be Cancelling with no engine to heed it: it was cancelled in the moment in which it was started,
and its engine ended at once, because it found itself cancelled."""

RESUME_AFTER_S = (0.0, 5.0, 30.0, 120.0, 300.0)
"""How long a run whose engine died waits before it is started again, by how often that happened; then it has failed."""

LAST_WORD_S = 3.0
"""A worker says twice that an engine crashed, the second time up to this much later; the second word is the one."""

LONGEST_PAUSE_S = 15.0

FLOWS: Mapping[Verb, Flow[..., Any]] = {
    Verb.FULL_BUILD: full_build,
    Verb.REDEPLOY: redeploy,
    Verb.REVERIFY: reverify,
    Verb.ROLLBACK: rollback,
    Verb.TEARDOWN: teardown,
}

TROUBLE = (ConnectionError, httpx.HTTPError, PrefectHTTPStatusError, ObjectNotFound)
"""The database or the server is away, or lacks something that `make up` puts there: all work waits."""

log = logging.getLogger("dispatcher")


def parameters_of(run: RunRecord, execution: ExecutionRecord) -> dict[str, Any]:
    match run.verb:
        case Verb.FULL_BUILD:
            return {"request": execution.request.model_dump(mode="json"), "execution_id": run.execution_id}
        case Verb.REDEPLOY:
            return {"execution_id": run.execution_id}
        case Verb.REVERIFY:
            return {"execution_ids": [run.execution_id]}
        case Verb.ROLLBACK | Verb.TEARDOWN:
            return {"execution_id": run.execution_id, **(run.parameters or {})}


def status_of(state: StateType, recorded: Status, waits: bool = False) -> Status | None:
    """The status that a run has by its flow run's state; None where there is nothing to write. ``waits``: for a person,
    whom its agent has asked something.

    Scheduled covers a retry that waits for its turn, Cancelling a run that still cleans up, Crashed a run that is
    about to be started again.
    """
    match state:
        case StateType.RUNNING:
            status = Status.WAITING_INPUT if waits else Status.RUNNING
        case StateType.PAUSED:
            status = Status.WAITING_INPUT
        case StateType.COMPLETED:
            status = Status.COMPLETED
        case StateType.CANCELLED:
            status = Status.CANCELLED
        case StateType.FAILED:
            status = Status.FAILED
        case StateType.SCHEDULED | StateType.PENDING | StateType.CANCELLING | StateType.CRASHED:
            return None
    return None if status is recorded else status


VANISHED = Failure(
    step=0,
    step_name="",
    message="Prefect has no such flow run any more, somebody deleted it; "
    "start redeploy/on-demand with this execution's id, or build again",
)


class Dispatcher:
    """``engines``: the folder of `engine.sh`'s records. ``hooks_s``: see HOOKS_S. ``machine_id``: where it works; runs
    of another machine that lives are that machine's to judge.
    """

    def __init__(
        self,
        registry: Registry,
        client: PrefectClient,
        engines: Path,
        hooks_s: float = HOOKS_S,
        machine_id: str | None = None,
    ) -> None:
        self.registry, self.client, self.engines = registry, client, engines
        self.machine_id = machine_id
        self._elsewhere: frozenset[str] = frozenset()
        self._resumed: set[UUID] = set()
        self._first_seen: dict[UUID, float] = {}
        self.hooks_s, self.stuck_s, self.last_word_s = hooks_s, STUCK_S, LAST_WORD_S
        self.unheeded_s = UNHEEDED_S
        self._deployments: dict[Verb, UUID] = {}
        self._signalled: dict[UUID, float] = {}
        self._cancelled_here: set[UUID] = set()
        self._troublesome: set[str] = set()

    async def cancel(self) -> None:
        """What the front door, which holds no Prefect key, wrote down that somebody wants."""
        wanted = await asyncio.to_thread(self.registry.cancel_requests)
        if not wanted:
            return
        known = await self._flow_runs({UUID(run.flow_run_id) for run in wanted if run.flow_run_id})
        for run in wanted:
            flow_run = known.get(UUID(run.flow_run_id)) if run.flow_run_id else None
            await self._apart(run, self._cancel_one(run, flow_run))

    async def _cancel_one(self, run: RunRecord, flow_run: FlowRun | None) -> None:
        """A run that Prefect does not have ends here; one that it has goes the way of its own Cancel button."""
        if run.flow_run_id is None:
            await self._write(run, Status.CANCELLED, None)
            return
        state = flow_run.state if flow_run else None
        if flow_run is None or state is None:
            return  # reconcile says what became of it
        if state.type is StateType.CRASHED:
            if run.flow_run_id not in self._elsewhere:
                await asyncio.to_thread(self._end_engine, flow_run.id)
                await self._record_cancelled(flow_run.id)
            return
        if state.is_final() or state.type is StateType.CANCELLING:
            return
        cancelling: State[Any] = State(type=StateType.CANCELLING)
        await self.client.set_flow_run_state(flow_run.id, cancelling)
        log.info("cancelling run=%s execution=%s flow_run=%s", run.run_id, run.execution_id, flow_run.id)

    async def dispatch(self) -> None:
        for run in await asyncio.to_thread(self.registry.undispatched):
            await self._apart(run, self._dispatch_one(run))

    async def _apart(self, run: RunRecord, work: Coroutine[Any, Any, None]) -> None:
        """One run's own trouble is told once, and does not keep the other runs waiting."""
        try:
            await work
        except TROUBLE:
            raise
        except Exception:
            if run.run_id not in self._troublesome:
                log.exception("passed over run=%s execution=%s", run.run_id, run.execution_id)
            self._troublesome.add(run.run_id)
        else:
            self._troublesome.discard(run.run_id)

    async def _dispatch_one(self, run: RunRecord) -> None:
        execution = await asyncio.to_thread(self.registry.execution, run.execution_id)
        labels = tags(
            user_id=execution.user_id,
            session_id=execution.session_id,
            execution_id=run.execution_id,
            site_type=execution.request.site_type,
        )
        try:
            flow_run = await self.client.create_flow_run_from_deployment(
                await self._deployment(run.verb),
                parameters=parameters_of(run, execution),
                state=Scheduled(scheduled_time=run.created_at),  # by the database's clock: this machine's may be wrong
                name=f"{run.verb} {run.execution_id}",
                tags=[f"{key}:{labels[key]}" for key in ("UserGUID", "SessionID", "ExecutionID", "SiteType")],
                idempotency_key=f"{run.verb}:{run.run_id}",
            )
        except PrefectHTTPStatusError as error:
            if error.response.status_code not in (httpx.codes.CONFLICT, httpx.codes.UNPROCESSABLE_ENTITY):
                raise
            await self._refused(run, error)
            return
        kept = await asyncio.to_thread(self.registry.mark_dispatched, run.run_id, str(flow_run.id))
        log.info(
            "dispatched run=%s execution=%s verb=%s flow_run=%s%s",
            *(run.run_id, run.execution_id, run.verb, flow_run.id, "" if kept else " (another flow run does it)"),
        )

    async def _refused(self, run: RunRecord, error: PrefectHTTPStatusError) -> None:
        failure = Failure(
            step=0,
            step_name="",
            message=f"Prefect refused the run's parameters: {error.response.text[:500]}; "
            "register the deployments of this version with make up, then ask for the run again",
        )
        await asyncio.to_thread(self.registry.set_status, run.execution_id, Status.FAILED, failure, run_id=run.run_id)
        log.error("refused run=%s execution=%s: %s", run.run_id, run.execution_id, failure.message)

    async def _deployment(self, verb: Verb) -> UUID:
        """Looked up again after every failure: a deployment that was deleted and registered again has a new id."""
        if verb not in self._deployments:
            self._deployments[verb] = (await self.client.read_deployment_by_name(verb.deployment)).id
        return self._deployments[verb]

    def forget(self) -> None:
        """What may be stale after trouble."""
        self._deployments.clear()

    def _in_state_s(self, state: State[Any]) -> float:
        """How long a flow run has been in its state: by its timestamp, or, where this machine's clock is behind the
        server's, since it was first seen.
        """
        if len(self._first_seen) > 10_000:
            self._first_seen.clear()
        seen = self._first_seen.setdefault(state.id, time.monotonic())
        return max(_age(state), time.monotonic() - seen)

    async def report(self, home: Path) -> None:
        """Say that this machine lives, and which runs it works on."""
        if self.machine_id is None:
            return
        await asyncio.to_thread(self.registry.note_machine, self.machine_id, socket.gethostname(), str(home))
        mine = [str(engine.flow_run_id) for engine in Engine.below(self.engines) if engine.alive]
        await asyncio.to_thread(self.registry.claim_runs, self.machine_id, mine)
        self._elsewhere = await asyncio.to_thread(self.registry.held_elsewhere, self.machine_id)

    async def reconcile(self) -> None:
        self._resumed.clear()
        runs = await asyncio.to_thread(self.registry.active_runs)
        known = await self._flow_runs({UUID(run.flow_run_id) for run in runs if run.flow_run_id})
        for run in runs:
            flow_run = known.get(UUID(run.flow_run_id)) if run.flow_run_id else None
            await self._apart(run, self._reconcile_one(run, flow_run))

    async def _reconcile_one(self, run: RunRecord, flow_run: FlowRun | None) -> None:
        if flow_run is None:
            await self._write(run, Status.FAILED, VANISHED)
            return
        state = flow_run.state
        if state is None:
            return
        waits = state.type is StateType.RUNNING and await asyncio.to_thread(self.registry.waits_for_person, run.run_id)
        if run.flow_run_id in self._elsewhere:
            if (status := status_of(state.type, run.status, waits)) is not None and not status.is_final:
                await self._write(run, status, None)
            return
        if state.type is StateType.PENDING and self._in_state_s(state) > self.stuck_s:
            await self._start_again(run, flow_run)
        if state.type is StateType.CANCELLING and self._in_state_s(state) > self.unheeded_s:
            if all(engine.flow_run_id != flow_run.id for engine in Engine.below(self.engines)):
                await self._record_cancelled(flow_run.id)
                log.warning("nobody heeded the cancellation run=%s flow_run=%s", run.run_id, flow_run.id)
            return
        if state.type is StateType.CRASHED:
            if self._in_state_s(state) < self.last_word_s:
                return
            await self._resume(run, flow_run, state)
            return
        if (status := status_of(state.type, run.status, waits)) is None:
            return
        if not status.is_final:
            await self._write(run, status, None)
            return
        if self._in_state_s(state) < self.hooks_s:
            return
        if status is Status.COMPLETED and run.status is Status.PENDING:  # too quick for any sweep to see it run
            await self._write(run, Status.RUNNING, None)
        await self._close(run, flow_run)
        log.info("closed run=%s execution=%s state=%s", run.run_id, run.execution_id, state.name)

    async def _resume(self, run: RunRecord, flow_run: FlowRun, state: State[Any]) -> None:
        """A crash says nothing about the work: what is done stays done, and the same flow run goes on after it.

        Its agent lives on meanwhile. A run that crashes again and again has failed.
        """
        times, news = await asyncio.to_thread(self.registry.note_crash, run.run_id, str(state.id))
        if not news and self._in_state_s(state) < self.stuck_s:
            return  # another machine's dispatcher does it
        if times > len(RESUME_AFTER_S):
            await self._close(run, flow_run)
            log.warning("gave up run=%s execution=%s crashed=%d times", run.run_id, run.execution_id, times)
            return
        if flow_run.id in self._resumed:
            return  # a re-verification works on many executions
        self._resumed.add(flow_run.id)
        await asyncio.to_thread(self._end_engine, flow_run.id)
        await self._end_tasks(flow_run.id)
        wait_s = RESUME_AFTER_S[times - 1]
        again: State[Any] = AwaitingRetry(
            scheduled_time=state.timestamp + timedelta(seconds=wait_s), message=f"crashed: {state.message}"[:1000]
        )
        await self.client.set_flow_run_state(flow_run.id, again, force=True)
        log.warning(
            "resumed run=%s execution=%s crash=%d in=%.0f s: %s",
            *(run.run_id, run.execution_id, times, wait_s, state.message),
        )

    def _end_engine(self, flow_run_id: UUID) -> None:
        """Two engines of one run never work at once: one that lost its wrapper is taken for dead, and lives."""
        for engine in Engine.below(self.engines):
            if engine.flow_run_id == flow_run_id and engine.alive:
                engine.kill()
                engine.process.ended_within(GRACE_S)
                log.warning("killed an engine that was taken for dead flow_run=%s", flow_run_id)

    async def _end_tasks(self, flow_run_id: UUID) -> None:
        """What a dead engine was at shows as crashed, not as running for ever."""
        mine = TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[flow_run_id]))
        for task_run in await self.client.read_task_runs(task_run_filter=mine):
            if task_run.state is None or not task_run.state.is_final():
                state: State[Any] = Crashed(message="The engine's process ended.")
                await self.client.set_task_run_state(task_run.id, state, force=True)

    async def _start_again(self, run: RunRecord, flow_run: FlowRun) -> None:
        if not (self.engines / str(flow_run.id)).exists():
            again: State[Any] = Scheduled(scheduled_time=flow_run.state.timestamp if flow_run.state else None)
            await self.client.set_flow_run_state(flow_run.id, again, force=True)
            log.warning("scheduled again run=%s execution=%s: no engine was started", run.run_id, run.execution_id)

    async def _write(self, run: RunRecord, status: Status, failure: Failure | None) -> None:
        changed = await asyncio.to_thread(
            self.registry.set_status, run.execution_id, status, failure, run_id=run.run_id
        )
        if changed:
            log.info(
                "status run=%s execution=%s old=%s new=%s%s",
                *(run.run_id, run.execution_id, run.status, status, f": {failure.message}" if failure else ""),
            )

    async def look_after_orphans(self) -> None:
        engines = Engine.below(self.engines)
        ids = {engine.flow_run_id for engine in engines} | self._cancelled_here
        known = await self._flow_runs(ids) if ids else {}
        for engine in engines:
            await self._look_after(engine, known.get(engine.flow_run_id))
        for flow_run_id in self._cancelled_here - {engine.flow_run_id for engine in engines}:
            # Ended from here under a worker that did not know why, and took its record along.
            state = known[flow_run_id].state if flow_run_id in known else None
            if state is not None and state.type in (StateType.CANCELLING, StateType.CRASHED):
                await self._record_cancelled(flow_run_id)
            self._cancelled_here.discard(flow_run_id)

    async def _look_after(self, engine: Engine, flow_run: FlowRun | None) -> None:
        state = flow_run.state if flow_run else None
        signalled = self._signalled.get(engine.flow_run_id)
        move = next_move(
            alive=engine.alive,
            state=state.type if state else None,
            suspended=state is not None and state.name == "Suspended",
            in_state_s=self._in_state_s(state) if state else 0.0,
            signalled_s=None if signalled is None else time.monotonic() - signalled,
            cancelled_here=engine.flow_run_id in self._cancelled_here,
            watched=engine.watched,
        )
        match move:
            case Move.LEAVE:
                return
            case Move.TERMINATE:
                self._signalled[engine.flow_run_id] = time.monotonic()
                if state is not None and state.type is StateType.CANCELLING:
                    self._cancelled_here.add(engine.flow_run_id)
                    await self._write_cancelled(engine.flow_run_id)
                engine.terminate()
            case Move.KILL:
                engine.kill()
            case Move.RECORD_CANCELLED:
                await self._record_cancelled(engine.flow_run_id)
                engine.forget()
            case Move.RECORD_CRASHED:
                message = "The engine's process ended without a word while no worker watched it."
                await self.client.set_flow_run_state(engine.flow_run_id, Crashed(message=message), force=True)
                engine.forget()
            case Move.FORGET:
                engine.forget()
        if not engine.path.exists():
            self._signalled.pop(engine.flow_run_id, None)
            self._cancelled_here.discard(engine.flow_run_id)
        log.info("orphan flow_run=%s pid=%s move=%s", engine.flow_run_id, engine.process.pid, move)

    async def _write_cancelled(self, flow_run_id: UUID) -> None:
        """Before its engine is ended, which would have itself recorded as crashed."""
        for run in await asyncio.to_thread(self.registry.runs_of, str(flow_run_id)):
            await self._write(run, Status.CANCELLED, None)

    async def _record_cancelled(self, flow_run_id: UUID) -> None:
        await self._write_cancelled(flow_run_id)
        await self.client.set_flow_run_state(flow_run_id, Cancelled(message="Cancelled."), force=True)
        for run in await asyncio.to_thread(self.registry.runs_of, str(flow_run_id)):
            await self._apart(run, self._close(run, await self.client.read_flow_run(flow_run_id)))

    async def _close(self, run: RunRecord, flow_run: FlowRun) -> None:
        """What the run's own hooks would have done."""
        if flow_run.state is not None:
            await close(FLOWS[run.verb], flow_run, flow_run.state)

    async def _flow_runs(self, ids: set[UUID]) -> dict[UUID, FlowRun]:
        known: dict[UUID, FlowRun] = {}
        wanted = sorted(ids)
        for start in range(0, len(wanted), 100):  # the server's limit for one answer is 200
            some = FlowRunFilter(id=FlowRunFilterId(any_=wanted[start : start + 100]))
            known |= {found.id: found for found in await self.client.read_flow_runs(flow_run_filter=some)}
        return known


def _age(state: State[Any]) -> float:
    return (datetime.now(UTC) - state.timestamp).total_seconds()


async def serve(registry: Registry, client: PrefectClient, home: Path, ready: Path) -> None:
    """Work until killed. Trouble with database or server is logged once, and waited out with growing pauses."""
    dispatcher = Dispatcher(registry, client, home / "run" / "engines", machine_id=machine_id_of(home))
    swept = 0.0
    pause = 0.0
    while True:
        try:
            await dispatcher.cancel()
            await dispatcher.dispatch()
            if time.monotonic() - swept >= SWEEP_S:
                await dispatcher.report(home)
                await dispatcher.look_after_orphans()
                await dispatcher.reconcile()
                swept = time.monotonic()
            if pause:
                log.info("works again")
            pause = 0.0
            ready.write_text(str(os.getpid()), encoding="ascii")
            await asyncio.to_thread(registry.wait_for_work, SWEEP_S)
        except TROUBLE as error:
            dispatcher.forget()
            if not pause:
                log.warning("%s: %s; tried again with growing pauses", type(error).__name__, error)
            pause = min(LONGEST_PAUSE_S, pause * 2 or 0.5)
            await asyncio.sleep(pause)


def open_registry(url: str) -> Registry:
    pause = 0.5
    while True:
        try:
            return Registry.open(url)
        except ConnectionError as error:
            log.warning("%s", error)
            time.sleep(pause)
            pause = min(LONGEST_PAUSE_S, pause * 2)


async def main(*, sends_notices: bool) -> None:
    """Whatever ends one of the duties ends the process, which supervisord starts again: none of them stops unseen."""
    home = settings().home
    registry = open_registry(settings().registry_url)
    log.info("started registry=%s", registry.where)
    async with get_client() as client, asyncio.TaskGroup() as duties:
        duties.create_task(serve(registry, client, home, home / "run" / "dispatcher.ready"))
        if sends_notices:
            duties.create_task(notices.serve(registry, settings()))


if __name__ == "__main__":
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", force=True
    )
    for handler in logging.getLogger().handlers:
        handler.addFilter(Redact())
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if not os.environ.get("PREFECT_API_URL"):
        sys.exit("PREFECT_API_URL is not set: the dispatcher is a part of the service; start it with: make up")
    try:
        asyncio.run(main(sends_notices="--notices" in sys.argv[1:]))
    except Exception:
        log.exception("a duty ended")
        logging.shutdown()
        os._exit(1)  # a thread that talks to a mail server is not waited for
