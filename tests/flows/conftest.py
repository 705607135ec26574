"""Flows on the real service: through its worker, or in this process with an agent that misbehaves."""

import asyncio
import shutil
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
    TaskRunFilter,
    TaskRunFilterFlowRunId,
)
from prefect.client.schemas.objects import Artifact, FlowRun, StateType, TaskRun
from prefect.client.schemas.sorting import LogSort, TaskRunSort
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from blocks.settings import settings
from tasks import record
from tasks.adapters.agents import programs
from tasks.adapters.registry import Registry
from tests.support.service import ServiceUnderTest, processes_of

SCRIPTED = Path(__file__).parent.parent / "support" / "scripted_agent.py"
REQUEST = {
    "requirements": "A light website called Crumb & Co for a bakery, with a menu, opening hours and a contact form",
    "email": "ana@example.com",
    "phone": "+4915112345678",
}


@dataclass
class Seen:
    """A flow run that is over, and what a person sees of it."""

    flow_run: FlowRun
    task_runs: list[TaskRun]
    artifacts: list[Artifact]
    lines: list[str]
    said_its_end: bool

    @property
    def tasks(self) -> list[str]:
        return [run.name for run in self.task_runs]

    @property
    def execution_id(self) -> str:
        (tag,) = [tag for tag in self.flow_run.tags if tag.startswith("ExecutionID:")]
        return tag.removeprefix("ExecutionID:")

    def page(self, key: str) -> Any:
        (artifact,) = [artifact for artifact in self.artifacts if artifact.key == key]
        return artifact.data


async def look(client: PrefectClient, flow_run_id: UUID) -> Seen:
    only = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    task_runs = await client.read_task_runs(
        task_run_filter=TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[flow_run_id])),
        sort=TaskRunSort.EXPECTED_START_TIME_DESC,
    )
    logs = await client.read_logs(
        LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id])), sort=LogSort.TIMESTAMP_ASC, limit=200
    )
    return Seen(
        flow_run=(await client.read_flow_runs(flow_run_filter=only))[0],
        task_runs=sorted(task_runs, key=lambda run: run.start_time),
        artifacts=await client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
        ),
        lines=[line.message for line in logs],
        said_its_end=any(line.task_run_id is None and line.message.startswith("Finished in state") for line in logs),
    )


async def finished(client: PrefectClient, flow_run_id: UUID, deadline_s: float = 180) -> Seen:
    """Wait for the end, then for what is written a moment after it: logs, task runs, the registry's status."""
    async with asyncio.timeout(deadline_s):
        while True:
            flow_run = await client.read_flow_run(flow_run_id)
            if flow_run.state is not None and flow_run.state.is_final():
                break
            await asyncio.sleep(0.2)
    # Logs travel in batches. A run that ended by itself says so in its last line; one that was ended does not.
    tells = flow_run.state.type not in (StateType.CANCELLED, StateType.CRASHED)
    async with asyncio.timeout(30):
        while True:
            seen = await look(client, flow_run_id)
            done = all(run.state is not None and run.state.is_final() for run in seen.task_runs)
            if done and (seen.said_its_end or not tells):
                return seen
            await asyncio.sleep(0.2)


def agents_of(service: ServiceUnderTest) -> list[str]:
    """Terminals and sandboxes of this service that live."""
    return [line for line in processes_of(service.home) if Path(line.split()[0]).name in {"tmux", "tmux:", "bwrap"}]


async def run_deployment(service: ServiceUnderTest, name: str, parameters: dict[str, Any]) -> Seen:
    """As the Prefect UI and `prefect deployment run` do it: a flow run that the service's worker picks up."""
    async with service.client() as client:
        deployment = await client.read_deployment_by_name(name)
        flow_run = await client.create_flow_run_from_deployment(deployment.id, parameters=parameters)
        return await finished(client, flow_run.id)


@pytest.fixture
def record_of(service: ServiceUnderTest) -> Iterator[Registry]:
    registry = service.registry()
    yield registry
    registry.close()


@pytest.fixture
async def here(service: ServiceUnderTest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ServiceUnderTest]:
    """Flows that are called in this process belong to the running service."""
    for name, value in service.told.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    record.registry.cache_clear()
    told = {
        PREFECT_API_URL: service.told["PREFECT_API_URL"],
        PREFECT_API_AUTH_STRING: service.told["PREFECT_API_AUTH_STRING"],
    }
    with temporary_settings(told):
        yield service
    record.registry().close()
    record.registry.cache_clear()
    settings.cache_clear()


@pytest.fixture
def agent_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Put the scripted agent where the offline agent's program lies; it runs in the same sandbox and terminal."""

    def replace(scenario: str) -> None:
        program = tmp_path / "offline"
        program.mkdir()
        (program / "__init__.py").touch()
        shutil.copy(SCRIPTED, program / "script.py")
        (program / "__main__.py").write_text(
            textwrap.dedent(f"""
                import sys
                sys.argv = ["agent", {scenario!r}, "/workspace", "/run/agent/events.jsonl"]
                from . import script
            """)
        )
        monkeypatch.setattr(programs, "_OFFLINE_SOURCE", program)

    return replace
