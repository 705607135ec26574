"""Statuses while a run goes on: the dispatcher starts it, Prefect's state becomes the record's, one way."""

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterTags
from prefect.client.schemas.objects import StateType
from prefect.states import Cancelling, Paused, Running

from tasks.adapters.agents import processes
from tasks.adapters.agents.runtime import RuntimeFolder
from tasks.adapters.registry import Accepted, Registry
from tasks.domain.pipeline import Status
from tasks.domain.request import SiteRequest
from tests.flows.conftest import REQUEST, agents_of, finished
from tests.support.service import ServiceUnderTest

pytestmark = pytest.mark.asyncio


async def status_is(record: Registry, execution_id: str, status: Status, within_s: float = 60) -> None:
    async with asyncio.timeout(within_s):
        while record.progress(execution_id).status is not status:
            await asyncio.sleep(0.02)


@asynccontextmanager
async def held_build(service: ServiceUnderTest, record: Registry, prompted: bool = False) -> AsyncIterator[Accepted]:
    """A build, accepted as the API accepts it, whose agent is frozen as soon as it lives, or has its first prompt;
    thawed at the end.
    """
    accepted = record.accept(SiteRequest.model_validate(REQUEST), f"test-{uuid.uuid4()}")
    assert record.progress(accepted.execution_id).status is Status.PENDING
    runtime = RuntimeFolder(service.home, accepted.execution_id)
    async with asyncio.timeout(60):
        while (session := runtime.session()) is None or (prompted and runtime.delivery() is None):
            await asyncio.sleep(0.001)
    # Not its shell, the pane's own process: tmux wakes that up again.
    frozen = [pid for pid in processes.family(session.pid) if pid != session.pid]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield accepted
    finally:
        for pid in frozen:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


async def flow_run_of(record: Registry, accepted: Accepted) -> uuid.UUID:
    (run,) = [run for run in record.active_runs() if run.run_id == accepted.run_id]
    assert run.flow_run_id is not None
    return uuid.UUID(run.flow_run_id)


async def test_an_accepted_request_is_pending_then_running_then_completed(
    service: ServiceUnderTest, record_of: Registry
):
    accepted = record_of.accept(SiteRequest.model_validate(REQUEST), f"test-{uuid.uuid4()}")
    assert record_of.progress(accepted.execution_id).status is Status.PENDING

    await status_is(record_of, accepted.execution_id, Status.RUNNING)
    flow_run_id = await flow_run_of(record_of, accepted)
    await status_is(record_of, accepted.execution_id, Status.COMPLETED, 180)

    async with service.client() as client:
        seen = await finished(client, flow_run_id)
    assert len(seen.tasks) == 9
    assert seen.execution_id == accepted.execution_id
    kinds = [event.kind for event in record_of.events(accepted.execution_id, limit=500)]
    assert kinds.count("step_began") == kinds.count("step_done") == 9


async def test_a_paused_run_waits_for_input_and_goes_on_when_resumed(service: ServiceUnderTest, record_of: Registry):
    async with held_build(service, record_of) as accepted, service.client() as client:
        await status_is(record_of, accepted.execution_id, Status.RUNNING)
        flow_run_id = await flow_run_of(record_of, accepted)
        await client.set_flow_run_state(flow_run_id, Paused(), force=True)
        await status_is(record_of, accepted.execution_id, Status.WAITING_INPUT)
        await client.set_flow_run_state(flow_run_id, Running(), force=True)
        await status_is(record_of, accepted.execution_id, Status.RUNNING)

    await status_is(record_of, accepted.execution_id, Status.COMPLETED, 180)


async def test_a_cancelled_run_takes_its_agent_along(service: ServiceUnderTest, record_of: Registry):
    async with held_build(service, record_of) as accepted, service.client() as client:
        await status_is(record_of, accepted.execution_id, Status.RUNNING)
        assert agents_of(service)
        flow_run_id = await flow_run_of(record_of, accepted)
        await client.set_flow_run_state(flow_run_id, Cancelling())
        await status_is(record_of, accepted.execution_id, Status.CANCELLED, 30)
        seen = await finished(client, flow_run_id)

    assert seen.flow_run.state_type is StateType.CANCELLED
    assert agents_of(service) == []
    assert record_of.execution(accepted.execution_id).live_release is None


async def test_the_same_delivery_makes_one_run(service: ServiceUnderTest, record_of: Registry):
    key = f"test-{uuid.uuid4()}"
    request = SiteRequest.model_validate(REQUEST)

    first, second = record_of.accept(request, key), record_of.accept(request, key)

    assert (second.execution_id, second.created) == (first.execution_id, False)
    await status_is(record_of, first.execution_id, Status.COMPLETED, 180)
    async with service.client() as client:
        runs = await runs_tagged(client, first.execution_id)
    assert len(runs) == 1


async def runs_tagged(client: PrefectClient, execution_id: str) -> list[object]:
    wanted = FlowRunFilter(tags=FlowRunFilterTags(all_=[f"ExecutionID:{execution_id}"]))
    return list(await client.read_flow_runs(flow_run_filter=wanted))
