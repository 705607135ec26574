"""Looking at the record: executions with their sites, and what happened to them."""

from typing import Any

from sqlalchemy import Row, Select, select

from tasks.adapters.registry.database import Database
from tasks.adapters.registry.records import Event, ExecutionRecord
from tasks.adapters.registry.schema import db_clock, events, executions, sites
from tasks.domain.errors import UnknownExecution
from tasks.domain.ids import EXECUTION_ID
from tasks.domain.pipeline import SiteState, Status, Verdict


def _executions() -> Select[Any]:
    seen = (sites.c.site_name, sites.c.url, sites.c.dial, sites.c.live_release, sites.c.state, sites.c.last_deployed)
    return select(executions, *seen, sites.c.good_release, sites.c.expires_at).join(
        sites, sites.c.execution_id == executions.c.execution_id
    )


def _record(row: Row[Any]) -> ExecutionRecord:
    from tasks.domain.request import SiteRequest

    return ExecutionRecord(
        execution_id=row.execution_id,
        user_id=row.user_id,
        session_id=row.session_id,
        request=SiteRequest.model_validate(row.request),
        status=Status(row.status),
        verdict=Verdict(row.verdict) if row.verdict else None,
        current_step=row.current_step,
        created_at=row.created_at,
        updated_at=row.updated_at,
        site_name=row.site_name,
        url=row.url,
        dial=row.dial,
        live_release=row.live_release,
        site_state=SiteState(row.state) if row.state else None,
        last_deployed=row.last_deployed,
        good_release=row.good_release,
        expires_at=row.expires_at,
    )


class History(Database):
    def execution(self, execution_id: str) -> ExecutionRecord:
        """Raises UnknownExecution."""
        row = None
        if EXECUTION_ID.fullmatch(execution_id):
            with self._read() as connection:
                row = connection.execute(_executions().where(executions.c.execution_id == execution_id)).one_or_none()
        if row is None:
            raise UnknownExecution(execution_id)
        return _record(row)

    def executions(self, user_id: str | None = None, limit: int = 100) -> list[ExecutionRecord]:
        """Newest first; one user's, or everybody's."""
        query = _executions().order_by(executions.c.created_at.desc(), executions.c.execution_id).limit(limit)
        if user_id is not None:
            query = query.where(executions.c.user_id == user_id)
        with self._read() as connection:
            return [_record(row) for row in connection.execute(query)]

    def live_sites(self) -> list[ExecutionRecord]:
        """Executions whose sites serve a release, oldest first."""
        query = _executions().where(sites.c.live_release.is_not(None))
        with self._read() as connection:
            rows = connection.execute(query.order_by(executions.c.created_at, executions.c.execution_id))
            return [_record(row) for row in rows]

    def expired_sites(self) -> list[ExecutionRecord]:
        """Executions whose sites serve longer than was asked for, oldest first."""
        query = _executions().where(sites.c.live_release.is_not(None), sites.c.expires_at < db_clock())
        with self._read() as connection:
            rows = connection.execute(query.order_by(executions.c.created_at, executions.c.execution_id))
            return [_record(row) for row in rows]

    def events(self, execution_id: str | None, after_seq: int = 0, limit: int = 100) -> list[Event]:
        """What happened to one execution, or to none (refused deliveries), oldest first.

        Nothing ever appears below a number that was seen: an execution's events are written one transaction after
        the other.
        """
        of = events.c.execution_id.is_(None) if execution_id is None else events.c.execution_id == execution_id
        query = select(events).where(of, events.c.seq > after_seq).order_by(events.c.seq).limit(limit)
        with self._read() as connection:
            return [
                Event(row.seq, row.execution_id, row.run_id, row.kind, row.data, row.at)
                for row in connection.execute(query)
            ]
