"""A run whose machine is gone is noticed by the server itself."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from prefect import flow
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import State, StateType
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from deployments.automations import SILENT_S, ZOMBIES, register_automations
from deployments.configuration import HEARTBEAT_S
from tests.support.service import ServiceUnderTest

pytestmark = pytest.mark.asyncio


@flow(name="a-flow-that-nobody-runs")
async def nothing() -> None:
    """Only its runs' states are of interest."""


@pytest.fixture
async def client(service: ServiceUnderTest) -> AsyncIterator[PrefectClient]:
    told = {
        PREFECT_API_URL: service.told["PREFECT_API_URL"],
        PREFECT_API_AUTH_STRING: service.told["PREFECT_API_AUTH_STRING"],
    }
    with temporary_settings(told):
        async with service.client() as connected:
            yield connected


async def a_running_run(client: PrefectClient) -> UUID:
    run = await client.create_flow_run(nothing)
    await client.set_flow_run_state(run.id, State(type=StateType.RUNNING), force=True)
    return run.id


async def beat(client: PrefectClient, run: UUID) -> None:
    """As the engine does it, through the same door."""
    event = {
        "occurred": datetime.now(UTC).isoformat(),
        "event": "prefect.flow-run.heartbeat",
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"},
        "id": str(uuid4()),
        "payload": {},
    }
    (await client._client.post("/events", json=[event])).raise_for_status()


async def test_the_service_watches_for_heartbeats_that_stop(client: PrefectClient):
    (automation,) = await client.read_automations_by_name(ZOMBIES)
    assert automation.enabled
    assert automation.trigger.within.total_seconds() == SILENT_S  # type: ignore[union-attr]  # an event trigger
    assert SILENT_S >= 3 * HEARTBEAT_S, "one lost heartbeat is no death"


async def test_a_run_that_falls_silent_is_crashed_and_one_that_speaks_is_not(client: PrefectClient):
    silent, alive = await a_running_run(client), await a_running_run(client)
    await register_automations(silent_s=10)
    try:
        await beat(client, silent)
        async with asyncio.timeout(90):
            while not (state := (await client.read_flow_run(silent)).state) or not state.is_crashed():
                await beat(client, alive)
                await asyncio.sleep(1)
        assert "no sign of life for 10 s" in str(state.message)
        assert (await client.read_flow_run(alive)).state.is_running()  # type: ignore[union-attr]
    finally:
        await register_automations()
        for run in (silent, alive):
            await client.delete_flow_run(run)
