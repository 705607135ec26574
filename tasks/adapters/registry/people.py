"""What the record knows about a person: found by id or address, handed out whole, and erased on request.

BuilderError
├── UnknownPerson    neither an address nor a known user's id
├── StillAtWork      a run of theirs is not over
└── SiteStays        a site of theirs could not be taken down
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, Table, select

from tasks.adapters.registry.database import Database
from tasks.adapters.registry.forgetting import events_may_go
from tasks.adapters.registry.schema import (
    FINAL,
    api_keys,
    checks,
    db_clock,
    deliveries,
    events,
    executions,
    leases,
    links,
    messages,
    notices,
    questions,
    releases,
    resources,
    runs,
    screens,
    sessions,
    sites,
    slots,
    steps,
    users,
)
from tasks.domain.errors import BuilderError, SiteBusy
from tasks.domain.hosting import Receipt
from tasks.domain.pipeline import Verb
from tasks.domain.request import normalise_email
from tasks.domain.traces import Traces

UNNAMED = frozenset({"machines", "hooks"})
"""Tables that hold nothing of any person; every other one is exported and erased."""

_SECRET = frozenset({"sha256"})
"""Columns that are not handed out: whoever holds an export must not try keys against it."""


class UnknownPerson(BuilderError):
    def __init__(self, who: str) -> None:
        super().__init__(who)
        self.who = who

    def __str__(self) -> str:
        return f"user: {self.who!r} is neither an e-mail address nor the id of a user; give the address of a request"


class StillAtWork(BuilderError):
    """``run_id`` is the registry's; ``flow_run_id`` is None while the run waits to be dispatched."""

    def __init__(self, run_id: str, execution_id: str, verb: str, status: str, flow_run_id: str | None) -> None:
        super().__init__(run_id, execution_id, verb, status, flow_run_id)
        self.run_id, self.execution_id, self.verb = run_id, execution_id, verb
        self.status, self.flow_run_id = status, flow_run_id

    def __str__(self) -> str:
        move = (
            f"cancel it with: prefect flow-run cancel {self.flow_run_id}"
            if self.flow_run_id
            else "it waits for the dispatcher: let it start (make up), then cancel it in the Prefect UI"
        )
        return (
            f"{self.verb} {self.execution_id} (run {self.run_id}) is {self.status}, and what works cannot be erased; "
            f"{move}, and ask again when it is over"
        )


class SiteStays(BuilderError):
    def __init__(self, site_name: str, left: tuple[str, ...]) -> None:
        super().__init__(site_name, left)
        self.site_name, self.left = site_name, left

    def __str__(self) -> str:
        shown = ", ".join(self.left[:5])
        return f"site {self.site_name} could not be taken down, left are: {shown}; remove them, then ask again"


@dataclass(frozen=True, slots=True)
class Belonging:
    """One execution of the person."""

    execution_id: str
    session_id: str
    site_name: str
    hosting: str
    site_type: str


@dataclass(frozen=True)
class Person:
    """``user_id`` is None for somebody of whom the record holds at most refused deliveries."""

    user_id: str | None
    traces: Traces
    belongings: tuple[Belonging, ...]
    flow_run_ids: frozenset[str]


@dataclass(frozen=True, slots=True)
class Erased:
    """How many rows of each table went; tables without any are left out."""

    rows: dict[str, int]


class People(Database):
    def person(self, who: str) -> Person:
        """Who has this address, or this id. An address that the record does not know is a person, too: what was
        refused, or is known to Prefect alone, carries it. Raises UnknownPerson.
        """
        with self._read() as connection:
            user = connection.execute(select(users).where(_is(who))).one_or_none()
            if user is None:
                if "@" not in who:
                    raise UnknownPerson(who)
                return Person(None, Traces([who]), (), frozenset())
            own = executions.c.user_id == user.user_id
            named = select(executions, sites.c.site_name).join(sites, sites.c.execution_id == executions.c.execution_id)
            rows = connection.execute(named.where(own).order_by(executions.c.created_at)).all()
            done = select(runs.c.flow_run_id).join(executions, executions.c.execution_id == runs.c.execution_id)
            flow_runs = connection.execute(done.where(own, runs.c.flow_run_id.is_not(None))).scalars().all()
        asked = [row.request for row in rows]
        return Person(
            user_id=user.user_id,
            traces=Traces(
                [user.email, *(str(each["email"]) for each in asked)],
                [user.phone, *(str(each["phone"]) for each in asked)],
                [str(each["requirements"]) for each in asked],
            ),
            belongings=tuple(
                Belonging(
                    row.execution_id, row.session_id, row.site_name, row.request["hosting"], row.request["site_type"]
                )
                for row in rows
            ),
            flow_run_ids=frozenset(flow_runs),
        )

    def export_person(self, person: Person) -> dict[str, list[dict[str, Any]]]:
        """Every row of the person, by table, as JSON values; refused deliveries are those that carry the address.

        Hashes of keys are left out.
        """
        exported: dict[str, list[dict[str, Any]]] = {}
        with self._read() as connection:
            if person.user_id is not None:
                for table, condition in _theirs(person.user_id):
                    rows = connection.execute(select(table).where(condition).order_by(*table.primary_key)).all()
                    exported[table.name] = [_as_json(row) for row in rows]
            refused = _refused(connection, person.traces.address_in)
            exported[deliveries.name] = [*exported.get(deliveries.name, []), *map(_as_json, refused)]
        return {name: rows for name, rows in sorted(exported.items()) if rows}

    def refuse_at_work(self, person: Person) -> None:
        """Raises StillAtWork where a run of the person is not over."""
        with self._read() as connection:
            _refuse_at_work(connection, person)

    def erase_person(self, person: Person, take_down: Callable[[Belonging], Receipt]) -> Erased:
        """Take the person's sites down, then remove every row of theirs in one transaction, events included.

        What stays is one event: that somebody was erased, when, and how many rows that were. Refused deliveries go
        where they carry address, phone or words. Safe to repeat, also after it was killed. Raises StillAtWork,
        SiteBusy and SiteStays, and then no row has gone.
        """
        self.refuse_at_work(person)
        for belonging in person.belongings:
            receipt = take_down(belonging)
            if receipt.left:
                raise SiteStays(belonging.site_name, receipt.left)
        with self._write() as connection:
            if not self._on_postgresql:
                connection.exec_driver_sql("PRAGMA secure_delete=ON")  # freed pages would keep the words
            rows = self._erase(connection, person)
            if rows:
                self._note(connection, "erased", None, rows=rows)
        if not self._on_postgresql:
            raw = self.engine.raw_connection()
            try:
                raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the log beside the file keeps them, too
            finally:
                raw.close()
        return Erased(rows)

    def _erase(self, connection: Connection, person: Person) -> dict[str, int]:
        rows: dict[str, int] = {}

        def remove(table: Table, condition: ColumnElement[bool]) -> None:
            count = connection.execute(table.delete().where(condition)).rowcount
            if count:
                rows[table.name] = rows.get(table.name, 0) + count

        # The order of locks is that of `accept`: delivery, user, execution, event.
        refused = [row.delivery_key for row in _refused(connection, person.traces.found_in)]
        remove(deliveries, deliveries.c.delivery_key.in_(refused))
        theirs = [] if person.user_id is None else _theirs(person.user_id)
        if person.user_id is not None:
            connection.execute(select(users).where(users.c.user_id == person.user_id).with_for_update())
            own = executions.c.user_id == person.user_id
            connection.execute(select(executions.c.execution_id).where(own).with_for_update())
            _refuse_at_work(connection, person)
            _refuse_held(connection, person.user_id)
        after = [users, sessions, executions, runs]
        for table, condition in theirs:
            if table is not events and table not in after:
                remove(table, condition)
        with events_may_go(connection):
            keyed = events.c.kind == "refused", events.c.execution_id.is_(None)
            told = connection.execute(select(events.c.seq, events.c.data).where(*keyed)).all() if refused else []
            seqs = [row.seq for row in told if row.data.get("delivery_key") in set(refused)]
            for start in range(0, len(seqs), 500):
                remove(events, events.c.seq.in_(seqs[start : start + 500]))
            for table, condition in theirs:
                if table is events:
                    remove(table, condition)
        for table, condition in theirs:
            if table in after:
                remove(table, condition)
        return rows


def _is(who: str) -> ColumnElement[bool]:
    try:
        return users.c.user_id == str(UUID(who))
    except ValueError:
        return users.c.email == normalise_email(who)


def _theirs(user_id: str) -> list[tuple[Table, ColumnElement[bool]]]:
    """Which rows are a user's, children before their parents."""
    own_sessions = select(sessions.c.session_id).where(sessions.c.user_id == user_id)
    own = select(executions.c.execution_id).where(executions.c.user_id == user_id)
    own_runs = select(runs.c.run_id).where(runs.c.execution_id.in_(own))
    own_sites = select(sites.c.site_name).where(sites.c.execution_id.in_(own))
    return [
        (deliveries, deliveries.c.run_id.in_(own_runs)),
        (slots, slots.c.run_id.in_(own_runs)),
        (notices, notices.c.execution_id.in_(own)),
        (questions, questions.c.execution_id.in_(own)),
        (checks, checks.c.execution_id.in_(own)),
        (messages, messages.c.execution_id.in_(own)),
        (resources, resources.c.execution_id.in_(own)),
        (steps, steps.c.run_id.in_(own_runs)),
        (releases, releases.c.session_id.in_(own_sessions)),
        (leases, leases.c.site_name.in_(own_sites)),
        (links, links.c.execution_id.in_(own)),
        (screens, screens.c.execution_id.in_(own)),
        (sites, sites.c.execution_id.in_(own)),
        (api_keys, api_keys.c.user_id == user_id),
        (events, events.c.execution_id.in_(own) | events.c.run_id.in_(own_runs)),
        (runs, runs.c.execution_id.in_(own)),
        (executions, executions.c.user_id == user_id),
        (sessions, sessions.c.user_id == user_id),
        (users, users.c.user_id == user_id),
    ]


def _refused(connection: Connection, wanted: Callable[[str], bool]) -> list[Row[Any]]:
    """Refused deliveries whose body or reason is wanted. They are read in pages: a stranger may fill the table."""
    found: list[Row[Any]] = []
    after = ""
    while True:
        query = select(deliveries).where(deliveries.c.refusal.is_not(None), deliveries.c.delivery_key > after)
        page = connection.execute(query.order_by(deliveries.c.delivery_key).limit(500)).all()
        for row in page:
            body = json.dumps(row.refused_body, ensure_ascii=False)
            if any(wanted(part) for part in (body, row.refusal, row.delivery_key)):
                found.append(row)
        if len(page) < 500:
            return found
        after = page[-1].delivery_key


def _refuse_at_work(connection: Connection, person: Person) -> None:
    if person.user_id is None:
        return
    own = select(executions.c.execution_id).where(executions.c.user_id == person.user_id)
    query = select(runs).where(runs.c.execution_id.in_(own), runs.c.status.not_in(FINAL)).order_by(runs.c.created_at)
    run = connection.execute(query.limit(1)).one_or_none()
    if run is not None:
        raise StillAtWork(run.run_id, run.execution_id, Verb(run.verb), run.status, run.flow_run_id)


def _refuse_held(connection: Connection, user_id: str) -> None:
    own = select(executions.c.execution_id).where(executions.c.user_id == user_id)
    own_sites = select(sites.c.site_name).where(sites.c.execution_id.in_(own))
    held = leases.c.site_name.in_(own_sites), leases.c.owner.is_not(None), leases.c.expires_at > db_clock()
    lease = connection.execute(select(leases).where(*held).limit(1)).one_or_none()
    if lease is not None:
        raise SiteBusy(lease.site_name, lease.owner, lease.since.isoformat(timespec="seconds"))


def _as_json(row: Row[Any]) -> dict[str, Any]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in row._mapping.items()
        if name not in _SECRET
    }
