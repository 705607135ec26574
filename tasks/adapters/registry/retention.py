"""What the record may forget by age, and who owns a thing that was found on a machine."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Table, and_, exists, func, or_, select, tuple_

from tasks.adapters.registry.database import Database
from tasks.adapters.registry.forgetting import events_may_go
from tasks.adapters.registry.schema import (
    FINAL,
    checks,
    db_clock,
    deliveries,
    events,
    executions,
    leases,
    messages,
    notices,
    questions,
    resources,
    runs,
    screens,
    sites,
)

PAGE = 1000
"""Rows that one transaction removes: while it does, nobody else's events are written."""

_LOOKED_UP = 500


@dataclass(frozen=True, slots=True)
class Owner:
    """An execution as the owner of things. ``running``: a run of it is not over; ``held``: its site's lease is taken.

    ``idle_s`` is how long nothing has changed, by the database's clock; ``served``: its site serves a release.
    """

    execution_id: str
    user_id: str
    session_id: str
    site_name: str
    running: bool
    held: bool
    served: bool
    idle_s: float

    @property
    def at_work(self) -> bool:
        return self.running or self.held


@dataclass(frozen=True, slots=True)
class Planned:
    """A resource that was written down and never seen to exist, of an execution that is not at work."""

    execution_id: str
    kind: str
    name: str
    age_s: float


_working_run = exists().where(runs.c.execution_id == executions.c.execution_id, runs.c.status.not_in(FINAL))
_held = exists().where(
    leases.c.site_name == sites.c.site_name, leases.c.owner.is_not(None), leases.c.expires_at > db_clock()
)
_running = or_(executions.c.status.not_in(FINAL), _working_run)
_at_work = or_(_running, _held)


class Retention(Database):
    def owners(
        self,
        *,
        execution_ids: Iterable[str] | None = None,
        session_ids: Iterable[str] | None = None,
        site_names: Iterable[str] | None = None,
    ) -> list[Owner]:
        """The executions that these belong to. What is missing in the answer belongs to nobody."""
        asked = (
            (executions.c.execution_id, execution_ids),
            (executions.c.session_id, session_ids),
            (sites.c.site_name, site_names),
        )
        found = []
        for column, values in asked:
            wanted = sorted(set(values or ()))
            for start in range(0, len(wanted), _LOOKED_UP):
                found += self._owners(column.in_(wanted[start : start + _LOOKED_UP]))
        return found

    def ended(self, days: float, limit: int | None = None) -> list[Owner]:
        """Executions that nothing has happened to for so many days and that are not at work, oldest first."""
        quiet = executions.c.updated_at < db_clock(-days * 86_400)
        return self._owners(and_(quiet, ~_at_work), limit)

    def holds_executions(self) -> bool:
        with self._read() as connection:
            return connection.execute(select(executions.c.execution_id).limit(1)).scalar() is not None

    def planned_resources(self, older_than_s: float) -> list[Planned]:
        """What was planned and never seen to exist, of executions that are not at work, oldest first."""
        query = (
            select(resources, db_clock().label("now"))
            .join(executions, executions.c.execution_id == resources.c.execution_id)
            .join(sites, sites.c.execution_id == executions.c.execution_id)
            .where(resources.c.state == "planned", resources.c.planned_at < db_clock(-older_than_s), ~_at_work)
            .order_by(resources.c.planned_at)
        )
        with self._read() as connection:
            return [
                Planned(row.execution_id, row.kind, row.name, (row.now - row.planned_at).total_seconds())
                for row in connection.execute(query)
            ]

    def prune_history(self, days: float, *, apply: bool = False) -> dict[str, int]:
        """How many rows are older than that and needed by nobody; with ``apply``, they are gone.

        Events, messages, notices, screens and answered questions of executions that are not at work, checks that a
        later run of the same execution has made again, and refused deliveries with their events. What says how things
        stand (users, executions, runs, steps, sites, releases, the last checks) stays. Killed halfway, the next call
        goes on.
        """
        counts = {table.name: 0 for table in (events, messages, checks, questions, notices, screens, deliveries)}
        for table, condition in _old(days):
            if not apply:
                with self._read() as connection:
                    counts[table.name] += connection.execute(
                        select(func.count()).select_from(table).where(condition)
                    ).scalar_one()
                continue
            while removed := self._remove_page(table, condition):
                counts[table.name] += removed
        return counts

    def _remove_page(self, table: Table, condition: ColumnElement[bool]) -> int:
        key = tuple_(*table.primary_key) if len(table.primary_key) > 1 else next(iter(table.primary_key))
        with self._write() as connection:
            rows = connection.execute(select(*table.primary_key).where(condition).limit(PAGE)).all()
            if not rows:
                return 0
            keys = [tuple(row) if len(row) > 1 else row[0] for row in rows]
            removal = table.delete().where(key.in_(keys), condition)
            if table is not events:
                return connection.execute(removal).rowcount or 0
            with events_may_go(connection):
                return connection.execute(removal).rowcount or 0

    def _owners(self, condition: ColumnElement[bool], limit: int | None = None) -> list[Owner]:
        query: Any = (
            select(executions, sites.c.site_name, sites.c.live_release)
            .add_columns(_running.label("running"), _held.label("held"), db_clock().label("now"))
            .join(sites, sites.c.execution_id == executions.c.execution_id)
            .where(condition)
            .order_by(executions.c.updated_at, executions.c.execution_id)
            .limit(limit)
        )
        with self._read() as connection:
            return [
                Owner(
                    execution_id=row.execution_id,
                    user_id=row.user_id,
                    session_id=row.session_id,
                    site_name=row.site_name,
                    running=bool(row.running),
                    held=bool(row.held),
                    served=row.live_release is not None,
                    idle_s=(row.now - row.updated_at).total_seconds(),
                )
                for row in connection.execute(query)
            ]


def _old(days: float) -> list[tuple[Table, ColumnElement[bool]]]:
    before = db_clock(-days * 86_400)
    working = (
        select(executions.c.execution_id).join(sites, sites.c.execution_id == executions.c.execution_id).where(_at_work)
    )
    later = checks.alias("later")
    made_again = exists().where(
        later.c.execution_id == checks.c.execution_id,
        later.c.name == checks.c.name,
        later.c.recorded_at > checks.c.recorded_at,
    )
    nobodys = events.c.execution_id.is_(None)
    return [
        (events, and_(events.c.at < before, or_(nobodys, events.c.execution_id.not_in(working)))),
        (messages, and_(messages.c.created_at < before, messages.c.execution_id.not_in(working))),
        (checks, and_(checks.c.recorded_at < before, checks.c.execution_id.not_in(working), made_again)),
        (questions, and_(questions.c.asked_at < before, questions.c.execution_id.not_in(working))),
        (notices, and_(notices.c.created_at < before, notices.c.execution_id.not_in(working))),
        (screens, and_(screens.c.shown_at < before, screens.c.execution_id.not_in(working))),
        (deliveries, and_(deliveries.c.received_at < before, deliveries.c.refusal.is_not(None))),
    ]
