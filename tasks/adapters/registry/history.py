"""Looking at the record: executions with their sites, and what happened to them."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, func, literal, or_, select, tuple_

from tasks.adapters.registry.database import Database
from tasks.adapters.registry.records import Event, ExecutionRecord, StepRecord
from tasks.adapters.registry.schema import clean, db_clock, events, executions, runs, screens, sites, steps, users
from tasks.domain.errors import UnknownExecution
from tasks.domain.ids import EXECUTION_ID
from tasks.domain.pipeline import SiteState, Status, Step, Verb, Verdict
from tasks.domain.request import normalise_email

_NEWEST_FIRST = executions.c.created_at.desc(), executions.c.execution_id.desc()


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
        query = _executions().order_by(*_NEWEST_FIRST).limit(limit)
        if user_id is not None:
            query = query.where(executions.c.user_id == user_id)
        with self._read() as connection:
            return [_record(row) for row in connection.execute(query)]

    def find_executions(
        self,
        words: str = "",
        status: Status | None = None,
        user_id: str | None = None,
        before: tuple[datetime, str] | None = None,
        limit: int = 50,
    ) -> list[ExecutionRecord]:
        """Newest first. ``words``: a part of the address, or how the id of execution, user, session or site begins.

        ``before`` is the last one's (created_at, execution_id) of the page before.
        """
        query = _executions().join(users, users.c.user_id == executions.c.user_id)
        words = clean(words)
        if words:
            ids = (executions.c.execution_id, executions.c.user_id, executions.c.session_id, sites.c.site_name)
            beginning = [column.startswith(words, autoescape=True) for column in ids]
            query = query.where(or_(users.c.email.contains(normalise_email(words), autoescape=True), *beginning))
        if status is not None:
            query = query.where(executions.c.status == status)
        if user_id is not None:
            query = query.where(executions.c.user_id == user_id)
        if before is not None:
            moment, execution_id = before
            last = tuple_(literal(moment, executions.c.created_at.type), literal(clean(execution_id)))
            query = query.where(tuple_(executions.c.created_at, executions.c.execution_id) < last)
        query = query.order_by(*_NEWEST_FIRST).limit(limit)
        with self._read() as connection:
            return [_record(row) for row in connection.execute(query)]

    def owner_of(self, execution_id: str) -> str | None:
        """The id of the user whose execution it is; None where there is no such execution."""
        if not EXECUTION_ID.fullmatch(execution_id):
            return None
        query = select(executions.c.user_id).where(executions.c.execution_id == execution_id)
        with self._read() as connection:
            owner: str | None = connection.execute(query).scalar()
        return owner

    def email_of(self, user_id: str) -> str | None:
        """The address that a user is found by; None where there is no such user."""
        with self._read() as connection:
            query = select(users.c.email).where(users.c.user_id == clean(user_id))
            email: str | None = connection.execute(query).scalar()
        return email

    def steps_of(self, execution_id: str) -> tuple[Verb, list[StepRecord]]:
        """What the run does that the execution shows, and its steps in order; those that were not begun are left out.

        Raises UnknownExecution.
        """
        query = select(runs.c.verb, steps).outerjoin(steps, runs.c.run_id == steps.c.run_id)
        query = query.where(runs.c.execution_id == execution_id, runs.c.leads).order_by(steps.c.step)
        with self._read() as connection:
            rows = connection.execute(query).all()
        if not rows:
            raise UnknownExecution(execution_id)
        return Verb(rows[0].verb), [
            StepRecord(Step(row.step), row.status, row.attempt, row.error, row.started_at, row.finished_at)
            for row in rows
            if row.step is not None
        ]

    def ever_did(self, execution_id: str, step: Step) -> bool:
        """Whether any run of the execution has done this step."""
        query = select(steps.c.step).join(runs, runs.c.run_id == steps.c.run_id)
        query = query.where(runs.c.execution_id == execution_id, steps.c.step == step, steps.c.status == "done")
        with self._read() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def newest(self, execution_ids: Iterable[str]) -> dict[str, tuple[int, datetime | None]]:
        """Of each execution the number of its newest event, and when its screen was written; for many at one look."""
        wanted = sorted(set(execution_ids))
        last = select(events.c.execution_id, func.max(events.c.seq).label("seq"))
        last = last.where(events.c.execution_id.in_(wanted)).group_by(events.c.execution_id)
        shown = select(screens.c.execution_id, screens.c.shown_at).where(screens.c.execution_id.in_(wanted))
        with self._read() as connection:
            moments = {row.execution_id: row.shown_at for row in connection.execute(shown)}
            return {row.execution_id: (row.seq, moments.get(row.execution_id)) for row in connection.execute(last)}

    def has_event(self, execution_id: str, seq: int) -> bool:
        """False where it never was, or was pruned since."""
        query = select(events.c.seq).where(events.c.execution_id == execution_id, events.c.seq == seq)
        with self._read() as connection:
            return connection.execute(query).first() is not None

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
