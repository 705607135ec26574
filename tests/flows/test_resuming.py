"""Runs whose engine dies: they go on from the step that was not done, with the agent that lives."""

import asyncio
import signal
import uuid

import pytest

from deployments.engines import Engine
from tasks.adapters.agents.runtime import RuntimeFolder
from tasks.adapters.registry import Registry
from tasks.adapters.registry.schema import executions, runs, steps
from tasks.domain.pipeline import Status, Step
from tasks.domain.request import SiteRequest
from tests.flows.conftest import REQUEST, agents_of, finished
from tests.flows.test_steering import flow_run_of, held_build, status_is
from tests.support.service import ServiceUnderTest

pytestmark = pytest.mark.asyncio


async def kill_engine(service: ServiceUnderTest, flow_run_id: uuid.UUID) -> None:
    """As the kernel does it when memory runs out."""
    (engine,) = [e for e in Engine.below(service.home / "run" / "engines") if e.flow_run_id == flow_run_id]
    engine.process.send(signal.SIGKILL)
    assert engine.process.ended_within(10)


async def test_a_killed_engine_costs_time_and_no_work(service: ServiceUnderTest, record_of: Registry):
    """Killed while the agent plans: the same session is adopted, and no prompt is given twice."""
    async with held_build(service, record_of, prompted=True) as accepted:
        runtime = RuntimeFolder(service.home, accepted.execution_id)
        before, session = runtime.delivery(), runtime.session()
        flow_run_id = await flow_run_of(record_of, accepted)
        await kill_engine(service, flow_run_id)
        async with asyncio.timeout(60):
            while "attempt" not in [event.kind for event in record_of.events(accepted.execution_id, limit=500)]:
                await asyncio.sleep(0.05)
        assert runtime.session() == session
        delivery = runtime.delivery()
        assert delivery is not None
        assert before is not None
        assert delivery.buffer == before.buffer, "the prompt that was begun, and no other"
        assert not record_of.progress(accepted.execution_id).status.is_final
    await status_is(record_of, accepted.execution_id, Status.COMPLETED, 180)

    async with service.client() as client:
        seen = await finished(client, flow_run_id)
    assert seen.flow_run.run_count == 2
    begun = [
        event.data["step"] for event in record_of.events(accepted.execution_id, limit=500) if event.kind == "step_began"
    ]
    assert begun == [1, 2, 3, 4, 4, 5, 6, 7, 8, 9], "only the step that was broken off is begun twice"
    prompts = (service.home / "users").glob(f"*/sessions/{accepted.session_id}/prompts/*-planning.txt")
    assert len(list(prompts)) == 1
    assert agents_of(service) == []


async def test_a_failed_build_is_run_again_from_the_step_that_failed(service: ServiceUnderTest, record_of: Registry):
    """By a new run with the execution's id, as somebody starts it who does not know of Retry."""
    accepted = record_of.accept(SiteRequest.model_validate(REQUEST), f"test-{uuid.uuid4()}")
    await status_is(record_of, accepted.execution_id, Status.COMPLETED, 180)
    workspace = service.home / "users" / accepted.user_id / "sessions" / accepted.session_id
    with record_of.engine.begin() as connection:  # as after a failure in step 6
        connection.execute(steps.delete().where(steps.c.run_id == accepted.run_id, steps.c.step >= Step.DEPLOY))
        connection.execute(runs.update().where(runs.c.run_id == accepted.run_id).values(status="failed"))
        this = executions.c.execution_id == accepted.execution_id
        connection.execute(executions.update().where(this).values(status="failed"))
    plan = (workspace / "output" / "plan.md").stat().st_mtime_ns
    async with service.client() as client:
        deployment = await client.read_deployment_by_name("full-build/on-demand")
        parameters = {"request": REQUEST, "execution_id": accepted.execution_id}
        again = await client.create_flow_run_from_deployment(deployment.id, parameters=parameters)
        seen = await finished(client, again.id)
    assert seen.flow_run.state_name == "Completed", seen.lines
    assert sum("was done before" in line for line in seen.lines) == 3
    assert (workspace / "output" / "plan.md").stat().st_mtime_ns == plan
    assert record_of.progress(accepted.execution_id).percent_complete == 100
