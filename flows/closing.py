"""What happens when a run ends, however it ends."""

import asyncio
import logging
from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import FlowRun, State

from tasks.adapters.registry import RunRecord
from tasks.domain.execution import Execution
from tasks.domain.pipeline import Failure, SiteState, Status, Verb
from tasks.parts import stop_agent
from tasks.record import execution_of, owner_of, registry, set_site_state
from tasks.recovery import settle

SETTLE_S = 90.0
"""How long setting a site back may take; what is not done by then shows as a site whose rollback failed."""

_log = logging.getLogger(__name__)


async def close(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001  # Prefect's form
    """End the agents, set sites back to what is good, and write the statuses of what this flow run worked on.

    Prefect calls it after the state was set: in the run's own process where that lives, else in the worker; where
    nobody calls it, the dispatcher's sweep does. Safe to repeat. What cannot be cleaned up is logged, and the status is
    written all the same. A crash is not an end: the dispatcher starts the run again first.
    """
    for run in await asyncio.to_thread(registry().runs_of, str(flow_run.id)):
        if run.attempt > max(1, flow_run.run_count):
            continue  # a later attempt is at work, and this is the word of one that was given up for dead
        try:
            await _clean_up(run, state)
        finally:
            await asyncio.to_thread(_write_status, run, state)


async def _clean_up(run: RunRecord, state: State[Any]) -> None:
    """What a run leaves behind when it does not end well is taken away; its own agent in any case."""
    if not run.verb.writes:
        return
    execution = await asyncio.to_thread(execution_of, run)
    attempts = {"agent": asyncio.to_thread(stop_agent, execution)}
    if run.verb.leads and not state.is_completed():
        attempts["site"] = asyncio.wait_for(settle(execution), SETTLE_S)
    for what, result in zip(attempts, await asyncio.gather(*attempts.values(), return_exceptions=True), strict=True):
        if isinstance(result, BaseException):
            _log.error("clean-up failed what=%s execution=%s: %r", what, run.execution_id, result)
            if what == "site":
                await set_site_state(execution, SiteState.ROLLBACK_FAILED)
    await asyncio.to_thread(_give_back, run, execution)


def _give_back(run: RunRecord, execution: Execution) -> None:
    registry().free_leases(owner_of(execution.run_id))
    registry().leave_slot("agent", run.run_id)


def _write_status(run: RunRecord, state: State[Any]) -> None:
    failure = registry().failure_of(run.run_id)
    if state.is_cancelled() or state.is_cancelling():  # the worker calls while the state is still Cancelling
        registry().set_status(run.execution_id, Status.CANCELLED, run_id=run.run_id)
    elif state.is_completed() or (run.verb is Verb.REVERIFY and failure is None):
        registry().set_status(run.execution_id, Status.COMPLETED, run_id=run.run_id)
    else:
        words = f"the run ended as {state.name}: {state.message}; start it again with: prefect flow-run retry"
        failure = failure or Failure(step=0, step_name="", message=words)
        registry().set_status(run.execution_id, Status.FAILED, failure, run_id=run.run_id)
