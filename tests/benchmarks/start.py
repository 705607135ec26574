"""From the creation of a flow run to its first line: full-build's step 1 against an empty flow, by the same worker."""

import asyncio
import statistics
from typing import Any
from uuid import UUID

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.sorting import LogSort

from tests.benchmarks.empty import empty
from tests.support.service import ServiceUnderTest

REQUEST = {"requirements": "A bakery called Crumb", "email": "bench@example.com", "phone": "+4915112345678"}
FIRST = {"empty": "first line", "full-build": "step 1/9 create_user started"}


async def register_empty(client: PrefectClient) -> UUID:
    """Beside full-build, with the same pool and job variables."""
    model = await client.read_deployment_by_name("full-build/on-demand")
    flow_id = await client.create_flow_from_name(empty.name)
    return await client.create_deployment(
        flow_id,
        "bench",
        entrypoint="tests.benchmarks.empty.empty",
        work_pool_name=model.work_pool_name,
        job_variables=model.job_variables,
        path=model.path,
        pull_steps=model.pull_steps,
    )


async def seconds_to_first_line(
    client: PrefectClient, deployment_id: UUID, parameters: dict[str, Any], line: str
) -> float:
    run = await client.create_flow_run_from_deployment(deployment_id, parameters=parameters)
    assert run.created is not None
    lines = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id]))
    async with asyncio.timeout(180):
        while (state := (await client.read_flow_run(run.id)).state) is None or not state.is_final():
            await asyncio.sleep(0.2)
        while not (
            found := [log for log in await client.read_logs(lines, sort=LogSort.TIMESTAMP_ASC) if log.message == line]
        ):
            await asyncio.sleep(0.2)
    return (found[0].timestamp - run.created).total_seconds()


async def measure(service: ServiceUnderTest, rounds: int) -> dict[str, Any]:
    """Seconds, taken in turn, so that the machine's moods hit both alike."""
    taken: dict[str, list[float]] = {"empty": [], "full-build": []}
    async with service.client() as client:
        build = (await client.read_deployment_by_name("full-build/on-demand")).id
        both = {"empty": (await register_empty(client), {}), "full-build": (build, {"request": REQUEST})}
        for _ in range(rounds):
            for name, (deployment_id, parameters) in both.items():
                taken[name].append(await seconds_to_first_line(client, deployment_id, parameters, FIRST[name]))
    medians = {name: round(statistics.median(values), 2) for name, values in taken.items()}
    return {
        "rounds": rounds,
        "empty_flow_median_s": medians["empty"],
        "full_build_step_1_median_s": medians["full-build"],
        "ratio": round(medians["full-build"] / medians["empty"], 2),
        "target": "<= 1.2",
        "all_s": {name: [round(value, 2) for value in values] for name, values in taken.items()},
    }
