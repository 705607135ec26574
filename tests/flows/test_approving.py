"""A plan that a person must say yes to: asked in the Prefect UI, answered there or in the registry."""

import asyncio
import uuid
from typing import Any

import pytest
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.objects import State
from prefect.states import Cancelling

from blocks.settings import settings
from flows.full_build import full_build
from tasks.adapters.agents.runtime import RuntimeFolder
from tasks.adapters.registry import Accepted, Question, Registry
from tasks.domain.pipeline import Status
from tasks.domain.request import SiteRequest
from tests.flows.conftest import REQUEST, agents_of, finished
from tests.flows.test_resuming import kill_engine
from tests.flows.test_steering import flow_run_of, status_is
from tests.support.service import ServiceUnderTest

pytestmark = [pytest.mark.asyncio, pytest.mark.timeout(600)]

ASKING = SiteRequest.model_validate({**REQUEST, "approve_plan": True})


async def asked(
    service: ServiceUnderTest, record: Registry, accepted: Accepted, after: Question | None = None
) -> Question:
    """The question that waits, once the run is paused; another one than ``after``."""
    async with asyncio.timeout(200):
        while (question := record.open_question(accepted.execution_id)) is None or question == after:
            await asyncio.sleep(0.05)
        async with service.client() as client:
            flow_run_id = await flow_run_of(record, accepted)
            while not (state := (await client.read_flow_run(flow_run_id)).state) or not state.is_paused():
                await asyncio.sleep(0.1)
    await status_is(record, accepted.execution_id, Status.WAITING_INPUT)
    return question


async def resume(client: PrefectClient, flow_run_id: uuid.UUID, answer: dict[str, Any]) -> str:
    """As the Resume dialog of the Prefect UI does it; what the server said."""
    response = await client._client.post(f"/flow_runs/{flow_run_id}/resume", json={"run_input": answer})
    response.raise_for_status()
    return str(response.json()["status"])


async def form_of(client: PrefectClient, flow_run_id: uuid.UUID) -> tuple[dict[str, Any], str]:
    """The schema and the description that the Resume dialog shows."""
    state = (await client.read_flow_run(flow_run_id)).state
    assert state is not None
    keys = state.state_details.run_input_keyset
    assert keys is not None
    found = [
        await client._client.get(f"/flow_runs/{flow_run_id}/input/{keys[name]}") for name in ("schema", "description")
    ]
    return found[0].json(), found[1].json()


async def test_a_plan_is_changed_approved_and_built_even_where_the_engine_dies_while_it_waits(
    service: ServiceUnderTest, record_of: Registry
):
    accepted = record_of.accept(ASKING, f"test-{uuid.uuid4()}")
    first = await asked(service, record_of, accepted)
    flow_run_id = await flow_run_of(record_of, accepted)
    session = RuntimeFolder(service.home, accepted.execution_id).session()
    assert session is not None, "the agent waits with its session alive"
    assert record_of.execution(accepted.execution_id).live_release is None

    await kill_engine(service, flow_run_id)
    async with asyncio.timeout(200), service.client() as client:
        while "crashed" not in [event.kind for event in record_of.events(accepted.execution_id, limit=500)]:
            await asyncio.sleep(0.1)
        while (state := (await client.read_flow_run(flow_run_id)).state) and not state.is_running():
            await asyncio.sleep(0.1)
    assert await asked(service, record_of, accepted) == first, "asked once"
    assert RuntimeFolder(service.home, accepted.execution_id).session() == session

    async with service.client() as client:
        schema, description = await form_of(client, flow_run_id)
        assert "Shall this be built?" in description
        assert set(schema["properties"]) == {"decision", "changes"}
        assert await resume(client, flow_run_id, {"decision": "perhaps"}) == "REJECT"
        await asked(service, record_of, accepted)
        assert await resume(client, flow_run_id, {"decision": "change", "changes": "call it Northlight"}) == "ACCEPT"
        second = await asked(service, record_of, accepted, after=first)
        assert "Northlight" in second.body

        kept = record_of.answer_question(second.question_id, {"decision": "approve"}, "api")
        assert kept.answered_by == "api"
        seen = await finished(client, flow_run_id, 240)

    assert seen.flow_run.state_name == "Completed", seen.lines
    assert record_of.progress(accepted.execution_id).percent_complete == 100
    page = service.home / "sites" / accepted.site_name / "live" / "index.html"
    assert "Northlight" in page.read_text()
    assert [question.answered_by for question in record_of.questions(accepted.execution_id, "plan")] == [
        "Prefect UI",
        "api",
    ]
    assert agents_of(service) == []


async def test_a_no_ends_the_run_as_cancelled_with_nothing_published(service: ServiceUnderTest, record_of: Registry):
    accepted = record_of.accept(ASKING, f"test-{uuid.uuid4()}")
    question = await asked(service, record_of, accepted)
    flow_run_id = await flow_run_of(record_of, accepted)

    record_of.answer_question(question.question_id, {"decision": "reject", "changes": "too dear"}, "api")
    async with service.client() as client:
        seen = await finished(client, flow_run_id)

    assert seen.flow_run.state_name == "Cancelled"
    assert seen.flow_run.state is not None
    assert "a person rejected it: too dear" in str(seen.flow_run.state.message)
    await status_is(record_of, accepted.execution_id, Status.CANCELLED)
    assert nothing_left(record_of, accepted)
    async with asyncio.timeout(10):
        while agents_of(service):
            await asyncio.sleep(0.1)


async def test_cancelling_a_run_that_waits_takes_its_agent_along(service: ServiceUnderTest, record_of: Registry):

    accepted = record_of.accept(ASKING, f"test-{uuid.uuid4()}")
    await asked(service, record_of, accepted)
    flow_run_id = await flow_run_of(record_of, accepted)
    async with service.client() as client:
        await client.set_flow_run_state(flow_run_id, Cancelling())
        async with asyncio.timeout(10):
            while agents_of(service):
                await asyncio.sleep(0.1)
        await status_is(record_of, accepted.execution_id, Status.CANCELLED, 30)
        await finished(client, flow_run_id)
    assert nothing_left(record_of, accepted)


async def test_nobody_answers_in_time(here: ServiceUnderTest, record_of: Registry, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TMUX_BUILDER_APPROVAL_DEADLINE_S", "2")
    settings.cache_clear()
    state: State[object] = await full_build(ASKING, return_state=True)
    flow_run_id = state.state_details.flow_run_id
    assert isinstance(flow_run_id, uuid.UUID)
    async with get_client() as client:
        seen = await finished(client, flow_run_id)
    assert seen.flow_run.state_name == "Failed"
    progress = record_of.progress(seen.execution_id)
    assert progress.error is not None
    assert (progress.error.step_name, progress.percent_complete) == ("create_plan", 33)
    assert "nobody answered within" in progress.error.message
    assert agents_of(here) == []


def nothing_left(record: Registry, accepted: Accepted) -> bool:
    execution = record.execution(accepted.execution_id)
    return execution.live_release is None and record.lease_of(accepted.site_name) is None
