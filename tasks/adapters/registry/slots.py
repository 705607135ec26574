"""Slots: how many runs do a thing at a time, how many of one user, and who is next.

A slot belongs to a run and to no process: it is free when the run leaves it or is over, however it ended. Whoever
waits asks again every second or so; between two questions nothing is kept for anybody but the place in the queue.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, select, tuple_

from tasks.adapters.registry.database import Database
from tasks.adapters.registry.schema import FINAL, db_clock, executions, runs, slots
from tasks.domain.pipeline import Status


class Claim(NamedTuple):
    """A run that has a slot, or wants one."""

    run_id: str
    user_id: str
    taken: bool


def order_of_service(claims: Sequence[Claim], per_user: int) -> tuple[list[str], list[str]]:
    """Who waits, next first: those whose user may have one more, and behind them those whose user has enough.

    ``claims`` are in the order of asking.

    >>> ana, ben = "ana", "ben"
    >>> order_of_service([Claim("a1", ana, True), Claim("a2", ana, False), Claim("b1", ben, False)], per_user=1)
    (['b1'], ['a2'])
    >>> order_of_service([Claim("a1", ana, True), Claim("a2", ana, False), Claim("b1", ben, False)], per_user=2)
    (['a2', 'b1'], [])
    """
    of_user = Counter(claim.user_id for claim in claims if claim.taken)
    next_ones, later = [], []
    for claim in claims:
        if claim.taken:
            continue
        if of_user[claim.user_id] < per_user:
            of_user[claim.user_id] += 1
            next_ones.append(claim.run_id)
        else:
            later.append(claim.run_id)
    return next_ones, later


class Slots(Database):
    def ask_slot(self, kind: str, run_id: str) -> None:
        """Join the queue; a run that is in it keeps its place."""
        with self._write() as connection:
            self._ask(connection, kind, run_id)

    def take_slot(self, kind: str, run_id: str, limit: int, per_user: int) -> int:
        """0 when the run has a slot from here on, or had one; else its place in the queue, 1 for the next.

        Never more than ``limit`` runs have one, and of one user never more than ``per_user``. The oldest comes first
        among those whose user is below that. Raises LookupError where there is no such run.
        """
        if limit < 1 or per_user < 1:
            raise ValueError(f"limit: {limit}, per_user: {per_user}; allowed: from 1 on")
        with self._write() as connection:
            self._one_at_a_time(connection, f"slots {kind}")
            # A run that is over and begins again joins the queue at its end, and takes nothing along.
            over = select(runs.c.run_id).where(runs.c.status.in_(FINAL))
            connection.execute(slots.delete().where(slots.c.kind == kind, slots.c.run_id.in_(over)))
            self._ask(connection, kind, run_id)
            claims = self._claims(connection, kind)
            mine = next((claim for claim in claims if claim.run_id == run_id), None)
            if mine is None:
                raise LookupError(f"run {run_id!r} is over, and gets no slot; retry its flow run")
            if mine.taken:
                return 0
            next_ones, later = order_of_service(claims, per_user)
            free = limit - sum(claim.taken for claim in claims)
            place = [*next_ones, *later].index(run_id) + 1
            if run_id not in next_ones or place > free:
                return place
            this = slots.c.kind == kind, slots.c.run_id == run_id
            connection.execute(slots.update().where(*this).values(taken_at=db_clock()))
            return 0

    def leave_slot(self, kind: str, run_id: str) -> bool:
        """Give the slot, or the place in the queue, back. False where the run had neither."""
        with self._write() as connection:
            this = slots.c.kind == kind, slots.c.run_id == run_id
            return connection.execute(slots.delete().where(*this)).rowcount == 1

    def slots_taken(self, kind: str) -> int:
        """How many runs that are not over have one."""
        with self._read() as connection:
            return sum(claim.taken for claim in self._claims(connection, kind))

    def queue_position(self, execution_id: str, per_user: int | None = None) -> int | None:
        """The place of an execution that waits, 1 for the next; None where it does not wait, or is unknown.

        It waits while its leading run has not begun (no flow run yet, or one that no worker had room for), or while
        that run wants a slot; then ``per_user``, where it is given, counts as in `take_slot`.
        """
        lead = select(runs).where(runs.c.execution_id == execution_id, runs.c.leads)
        with self._read() as connection:
            run = connection.execute(lead).one_or_none()
            if run is None or Status(run.status).is_final:
                return None
            if Status(run.status) is Status.PENDING:
                earlier = tuple_(runs.c.created_at, runs.c.run_id) < tuple_(run.created_at, run.run_id)
                query = select(runs.c.run_id).where(runs.c.status == Status.PENDING, earlier)
                return 1 + len(connection.execute(query).all())
            wanted = select(slots.c.kind).where(slots.c.run_id == run.run_id, slots.c.taken_at.is_(None))
            kind = connection.execute(wanted.order_by(slots.c.kind)).scalar()
            if kind is None:
                return None
            claims = self._claims(connection, kind)
            next_ones, later = order_of_service(claims, per_user or len(claims) + 1)
            return [*next_ones, *later].index(run.run_id) + 1

    def _ask(self, connection: Connection, kind: str, run_id: str) -> None:
        known = connection.execute(select(runs.c.status).where(runs.c.run_id == run_id)).scalar()
        if known is None:
            raise LookupError(
                f"the registry has no run {run_id!r}; take the id that accept, request_run or adopt_run gave"
            )
        statement = self._insert(slots).values(kind=kind, run_id=run_id)
        connection.execute(statement.on_conflict_do_nothing(index_elements=[slots.c.kind, slots.c.run_id]))

    def _claims(self, connection: Connection, kind: str) -> list[Claim]:
        query: Any = (
            select(slots.c.run_id, executions.c.user_id, slots.c.taken_at)
            .join(runs, runs.c.run_id == slots.c.run_id)
            .join(executions, executions.c.execution_id == runs.c.execution_id)
            .where(slots.c.kind == kind, runs.c.status.not_in(FINAL))
            .order_by(slots.c.asked_at, slots.c.run_id)
        )
        return [Claim(row.run_id, row.user_id, row.taken_at is not None) for row in connection.execute(query)]
