"""What happens when a run ends, however it ends."""

import asyncio
from typing import Any

from prefect import Flow
from prefect.client.schemas.objects import FlowRun, State

from tasks.adapters.registry import RunRecord
from tasks.domain.pipeline import Failure, Status, Verb
from tasks.parts import agent_of
from tasks.record import execution_of, registry


async def close(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001  # Prefect's form
    """End the agents and write the statuses of what this flow run worked on, found by its id.

    Prefect calls it after the state was set: in the run's own process where that lives, else in the worker. Safe to
    repeat; where nobody calls it, the dispatcher's sweep writes the status.
    """
    for run in await asyncio.to_thread(registry().runs_of, str(flow_run.id)):
        if run.verb is not Verb.REVERIFY:
            execution = await asyncio.to_thread(execution_of, run)
            await asyncio.to_thread(agent_of(execution).stop)
        await asyncio.to_thread(_write_status, run, state)


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
