"""Prefect's own records of runs: which are a person's, which are old, and how they go without a rest.

Deleting a flow run through the API takes its states, task runs and inputs along; its logs follow behind the answer.
Artifacts stay, and when the API deletes one it sends an event that quotes it. Events have no deletion in the API, and
logs that arrive late are nobody's. These three go by statements in Prefect's database: what has no flow run any more.
"""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Collection, Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString
from uuid import UUID

import psycopg
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterEndTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
    LogFilter,
    LogFilterFlowRunId,
    TaskRunFilter,
    TaskRunFilterFlowRunId,
)
from prefect.client.schemas.objects import TERMINAL_STATES, FlowRun, State
from prefect.client.schemas.sorting import FlowRunSort, LogSort
from prefect.exceptions import ObjectNotFound
from sqlalchemy import make_url

from tasks.domain.traces import Traces

PAGE = 200
"""The server's limit for one answer."""

AT_ONCE = 50
LOGS_S = 30.0
"""How long Prefect's own deletion of logs is waited for, before its database is told."""

EVENTS_S = 6.0
"""Events are written up to 5 s after they happened (PREFECT_SERVER_SERVICES_EVENT_PERSISTER_FLUSH_INTERVAL)."""

_LATE_LOGS: LiteralString = """
DELETE FROM log WHERE flow_run_id IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM flow_run WHERE flow_run.id = log.flow_run_id)
"""
_LEFT_ARTIFACTS: LiteralString = """
DELETE FROM artifact WHERE flow_run_id IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM flow_run WHERE flow_run.id = artifact.flow_run_id)
RETURNING id
"""
_NEXT_LATEST: LiteralString = """
UPDATE artifact_collection AS shown SET latest_id = newest.id, data = newest.data, description = newest.description,
    type = newest.type, flow_run_id = newest.flow_run_id, task_run_id = newest.task_run_id,
    metadata_ = newest.metadata_, created = newest.created, updated = newest.updated
FROM (SELECT DISTINCT ON (key) * FROM artifact WHERE key IS NOT NULL ORDER BY key, created DESC) AS newest
WHERE newest.key = shown.key AND shown.latest_id NOT IN (SELECT id FROM artifact)
"""
"""Prefect's page of artifacts shows the newest of each key; where that has gone, the one before it."""


@dataclass(frozen=True)
class Gone:
    """How many of each went."""

    flow_runs: int = 0
    artifacts: int = 0
    events: int = 0
    late_logs: int = 0


class PrefectRuns:
    """``database_url`` is Prefect's own, in any of SQLAlchemy's spellings."""

    def __init__(self, client: PrefectClient, database_url: str) -> None:
        self.client = client
        self._database = make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)

    async def of_person(self, user_id: str | None, traces: Traces, known: Collection[str]) -> list[FlowRun]:
        """Flow runs that carry the user's tag, that the registry knows, or whose parameters carry the address.

        The last are the only trace of a run that was started in the Prefect UI and refused in step 1. The API has no
        filter for parameters, so every flow run is read. A re-verification of many sites is told, too, where one of
        them is the person's: its pages show what their site says.
        """
        tag = f"UserGUID:{user_id}"
        found = []
        async for flow_run in self._all(FlowRunFilter()):
            theirs = tag in flow_run.tags or str(flow_run.id) in known
            if theirs or traces.address_in(json.dumps(flow_run.parameters, ensure_ascii=False, default=str)):
                found.append(flow_run)
        return found

    async def ended(self, days: float, kept: Collection[str] = ()) -> list[FlowRun]:
        """Flow runs that ended more than so many days ago, but those that are kept."""
        before = datetime.now(UTC) - timedelta(days=days)
        over = FlowRunFilterState(type=FlowRunFilterStateType(any_=sorted(TERMINAL_STATES)))
        only = FlowRunFilter(end_time=FlowRunFilterEndTime(before_=before), state=over)
        return [flow_run async for flow_run in self._all(only) if str(flow_run.id) not in kept]

    async def export(self, flow_run: FlowRun) -> dict[str, Any]:
        """The flow run with its task runs, artifacts and log, as JSON values."""
        only = [flow_run.id]
        logs, offset = [], 0
        while page := await self.client.read_logs(
            LogFilter(flow_run_id=LogFilterFlowRunId(any_=only)), PAGE, offset, LogSort.TIMESTAMP_ASC
        ):
            logs += page
            offset += len(page)
        task_runs = await self.client.read_task_runs(
            task_run_filter=TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=only))
        )
        return {
            "flow_run": flow_run.model_dump(mode="json"),
            "task_runs": [each.model_dump(mode="json") for each in task_runs],
            "artifacts": [each.model_dump(mode="json") for each in await self._artifacts(flow_run.id)],
            "logs": [each.model_dump(mode="json") for each in logs],
        }

    async def result_keys(self, flow_runs: Iterable[FlowRun]) -> set[str]:
        """Names of the files in Prefect's result storage that states of these runs point to.

        What a run failed with is kept there, pickled, with whatever words the error quotes; deleting the run leaves it.
        """
        states: list[State[Any]] = []
        for flow_run in flow_runs:
            states += await self.client.read_flow_run_states(flow_run.id)
            only = TaskRunFilter(flow_run_id=TaskRunFilterFlowRunId(any_=[flow_run.id]))
            for task_run in await self.client.read_task_runs(task_run_filter=only):
                states += await self.client.read_task_run_states(task_run.id)
        keys = (getattr(state.data, "storage_key", None) for state in states)
        return {key.rpartition("/")[2] for key in keys if key}

    async def delete(self, ids: Iterable[UUID], resources: Iterable[str] = (), traces: Traces | None = None) -> Gone:
        """Delete these flow runs with everything of theirs. ``resources`` are what further events are about; events
        that carry the traces go, too. Safe to repeat, also for flow runs that are gone.
        """
        wanted, about = sorted(set(ids)), sorted(set(resources))
        flow_runs = sum([await self._delete_one(flow_run_id) for flow_run_id in wanted])
        await self._await_logs(wanted)
        gone = await asyncio.to_thread(self._sweep, wanted, about, traces)
        if traces is not None:
            await asyncio.sleep(EVENTS_S)
            late = await asyncio.to_thread(self._sweep, wanted, about, traces)
            gone = Gone(0, gone.artifacts + late.artifacts, gone.events + late.events, gone.late_logs + late.late_logs)
        return replace(gone, flow_runs=flow_runs)

    async def _delete_one(self, flow_run_id: UUID) -> bool:
        try:
            await self.client.delete_flow_run(flow_run_id)
        except ObjectNotFound:
            return False
        return True

    async def _all(self, only: FlowRunFilter) -> AsyncIterator[FlowRun]:
        """Page by page; what is added meanwhile moves some to a later page, where they are not told again."""
        offset = 0
        seen: set[UUID] = set()
        while page := await self.client.read_flow_runs(
            flow_run_filter=only, limit=PAGE, offset=offset, sort=FlowRunSort.ID_DESC
        ):
            offset += len(page)
            for flow_run in page:
                if flow_run.id not in seen:
                    seen.add(flow_run.id)
                    yield flow_run

    async def _artifacts(self, flow_run_id: UUID) -> list[Any]:
        return await self.client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id])), limit=PAGE
        )

    async def _await_logs(self, ids: list[UUID]) -> None:
        end = time.monotonic() + LOGS_S
        for start in range(0, len(ids), AT_ONCE):
            theirs = LogFilter(flow_run_id=LogFilterFlowRunId(any_=ids[start : start + AT_ONCE]))
            while await self.client.read_logs(theirs, 1) and time.monotonic() < end:
                await asyncio.sleep(0.2)

    def _sweep(self, ids: list[UUID], resources: list[str], traces: Traces | None) -> Gone:
        about = [*(f"prefect.flow-run.{each}" for each in ids), *resources]
        with closing(psycopg.connect(self._database, connect_timeout=10)) as connection, connection:
            late = connection.execute(_LATE_LOGS).rowcount
            artifacts = connection.execute(_LEFT_ARTIFACTS).fetchall()
            about += [f"prefect.artifact.{row[0]}" for row in artifacts]
            connection.execute(_NEXT_LATEST)
            connection.execute("DELETE FROM artifact_collection WHERE latest_id NOT IN (SELECT id FROM artifact)")
            events = connection.execute(
                "DELETE FROM events WHERE resource_id = ANY(%s) OR related_resource_ids ?| %s RETURNING id",
                (about, about),
            ).fetchall()
            events += connection.execute(
                "DELETE FROM events WHERE lower(concat(payload, resource, related)) LIKE ANY (%s) RETURNING id",
                (_patterns(traces),),
            ).fetchall()
            forgotten = [row[0] for row in events]
            connection.execute("DELETE FROM event_resources WHERE event_id = ANY(%s)", (forgotten,))
            connection.execute("DELETE FROM automation_event_follower WHERE follower_event_id = ANY(%s)", (forgotten,))
            for each in about:
                connection.execute(
                    "UPDATE automation_bucket SET last_event = NULL WHERE strpos(last_event::text, %s) > 0", (each,)
                )
                connection.execute(
                    "DELETE FROM composite_trigger_child_firing WHERE strpos(child_firing::text, %s) > 0", (each,)
                )
        return Gone(0, len(artifacts), len(forgotten), late)


def _patterns(traces: Traces | None) -> list[str]:
    """What an event's JSON is searched for: the words as JSON spells them, as patterns for LIKE."""
    words = [] if traces is None else sorted(traces.emails | traces.phones | traces.texts)
    spelled = (json.dumps(word.lower(), ensure_ascii=False)[1:-1] for word in words)
    literal = (re.sub(r"([%_\\])", r"\\\1", word) for word in spelled)
    return [f"%{word}%" for word in literal]
