"""The one way in: a request becomes user, session, execution, run and site, once however often it is delivered."""

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, func, or_, select

from tasks.adapters.registry.database import Database
from tasks.adapters.registry.errors import QueueFull, QuotaSpent
from tasks.adapters.registry.keys import add_link
from tasks.adapters.registry.records import Accepted, Delivery
from tasks.adapters.registry.schema import (
    UNDER_WAY,
    db_clock,
    deliveries,
    executions,
    leases,
    runs,
    sessions,
    sites,
    users,
)
from tasks.adapters.registry.wakeup import ring
from tasks.domain.errors import DeliveryConflict, RequestRefused
from tasks.domain.ids import execution_id_for, session_id_at, site_name
from tasks.domain.notice import Channel, Occasion
from tasks.domain.pipeline import Status, Verb
from tasks.domain.request import normalise_email

if TYPE_CHECKING:
    from tasks.domain.request import SiteRequest

KEY_LIMIT = 200


def check_key(delivery_key: str) -> None:
    if not 1 <= len(delivery_key) <= KEY_LIMIT or not delivery_key.isprintable():
        raise RequestRefused(
            "delivery key", f"{delivery_key[:KEY_LIMIT]!r}", f"1 to {KEY_LIMIT} printable characters, such as a UUID"
        )


def digest(body: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Admission:
    """How many runs may wait, and how many executions one user may have within a day."""

    max_queue: int
    max_per_user_day: int


class Intake(Database):
    def accept(
        self,
        request: "SiteRequest",
        delivery_key: str,
        flow_run_id: str | None = None,
        link_sha256: str | None = None,
        admission: Admission | None = None,
        announce: bool = False,
        first_link_sha256: str | None = None,
    ) -> Accepted:
        """Accept a request, or find what this delivery was accepted as. Two at once make one set of rows.

        ``flow_run_id`` is given by a run that is there already; without it the run waits for the dispatcher.
        ``link_sha256``: hash of a token that is good for the execution, also of one that was accepted before.
        ``first_link_sha256``: the same, but only where this delivery is the first. ``announce``: tell the requester by
        a notice, for they saw no answer.
        A delivery that was refused may come again, mended or not. The request is taken as vetted.
        Raises DeliveryConflict where the key was accepted with another body, and by ``admission``, for what is new,
        QueueFull and QuotaSpent.
        """
        check_key(delivery_key)
        body = request.model_dump(mode="json")
        run_id = str(self._mint())
        with self._write() as connection:
            if not self._claim(connection, delivery_key, digest({"verb": Verb.FULL_BUILD, "request": body}), run_id):
                accepted = self._accepted(connection, delivery_key)
                if link_sha256 is not None:
                    add_link(connection, link_sha256, accepted.execution_id)
                return accepted
            if admission is not None:
                self._admit(connection, request, admission)
            user_id = self._user(connection, request)
            session_id = self._session(connection, user_id)
            execution_id = execution_id_for(user_id, session_id)
            connection.execute(
                executions.insert().values(
                    execution_id=execution_id,
                    user_id=user_id,
                    session_id=session_id,
                    status=Status.PENDING,
                    request=body,
                )
            )
            name = self._site(connection, user_id, execution_id)
            run = {"run_id": run_id, "execution_id": execution_id, "verb": Verb.FULL_BUILD, "flow_run_id": flow_run_id}
            connection.execute(runs.insert().values(**run, status=Status.PENDING, leads=True))
            for sha256 in filter(None, (link_sha256, first_link_sha256)):
                add_link(connection, sha256, execution_id)
            self._note(connection, "accepted", execution_id, run_id, delivery_key=delivery_key, site_name=name)
            if announce:
                self._announce(connection, Occasion.ACCEPTED, execution_id, run_id, {}, channels=(Channel.EMAIL,))
            if flow_run_id is None:
                ring(connection)
        return Accepted(user_id, session_id, execution_id, run_id, name, created=True)

    def _admit(self, connection: Connection, request: "SiteRequest", admission: Admission) -> None:
        """Counted one request after the other, so that the limits hold also for many at once."""
        self._one_at_a_time(connection, "admission")
        waiting = connection.execute(
            select(func.count()).select_from(runs).where(UNDER_WAY, runs.c.status == Status.PENDING)
        ).scalar_one()
        if waiting >= admission.max_queue:
            raise QueueFull(waiting, admission.max_queue)
        theirs = users.c.email == normalise_email(request.email), executions.c.created_at > db_clock(-86_400)
        recent = (
            select(executions.c.created_at, db_clock(-86_400).label("day_ago"))
            .join(users, users.c.user_id == executions.c.user_id)
            .where(*theirs)
            .order_by(executions.c.created_at)
        )
        found = connection.execute(recent).all()
        if len(found) >= admission.max_per_user_day:
            oldest = found[len(found) - admission.max_per_user_day]
            left = oldest.created_at - oldest.day_ago
            raise QuotaSpent(admission.max_per_user_day, max(1.0, left.total_seconds()))

    def refuse(self, delivery_key: str, request: Any, reason: str) -> bool:
        """Keep a refused delivery: what came (any JSON value, or the text where it was none) and why not.

        False where the key was accepted before; that stands, and nothing is written.
        """
        check_key(delivery_key)
        row = {"body_sha256": digest(request), "refusal": reason, "refused_body": request}
        statement = self._insert(deliveries).values(delivery_key=delivery_key, **row)
        statement = statement.on_conflict_do_update(
            index_elements=[deliveries.c.delivery_key], set_=row, where=deliveries.c.run_id.is_(None)
        )
        with self._write() as connection:
            written = connection.execute(statement.returning(deliveries.c.delivery_key)).scalar()
            if written is None:
                return False
            # The reason may quote the requester; it stands in the delivery alone.
            self._note(connection, "refused", None, delivery_key=delivery_key)
        return True

    def delivery(self, delivery_key: str) -> Delivery | None:
        query = (
            select(deliveries, runs.c.execution_id)
            .outerjoin(runs, runs.c.run_id == deliveries.c.run_id)
            .where(deliveries.c.delivery_key == delivery_key)
        )
        with self._read() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        return Delivery(row.delivery_key, row.run_id, row.execution_id, row.refusal, row.received_at)

    def _claim(self, connection: Connection, delivery_key: str, body_sha256: str, run_id: str) -> bool:
        """Tie the delivery to this run. False where it has one already, for the same body.

        A second delivery that comes meanwhile waits here for the first one's commit.
        """
        row = {"body_sha256": body_sha256, "run_id": run_id, "refusal": None, "refused_body": None}
        statement = self._insert(deliveries).values(delivery_key=delivery_key, **row)
        statement = statement.on_conflict_do_update(
            index_elements=[deliveries.c.delivery_key], set_=row, where=deliveries.c.run_id.is_(None)
        )
        if connection.execute(statement.returning(deliveries.c.delivery_key)).scalar() is not None:
            return True
        known = select(deliveries.c.body_sha256).where(deliveries.c.delivery_key == delivery_key)
        if connection.execute(known).scalar_one() != body_sha256:
            raise DeliveryConflict(delivery_key)
        return False

    def _accepted(self, connection: Connection, delivery_key: str) -> Accepted:
        query = (
            select(executions.c.user_id, executions.c.session_id, executions.c.execution_id, runs.c.run_id)
            .add_columns(sites.c.site_name)
            .select_from(deliveries)
            .join(runs, runs.c.run_id == deliveries.c.run_id)
            .join(executions, executions.c.execution_id == runs.c.execution_id)
            .join(sites, sites.c.execution_id == executions.c.execution_id)
            .where(deliveries.c.delivery_key == delivery_key)
        )
        row = connection.execute(query).one()
        return Accepted(row.user_id, row.session_id, row.execution_id, row.run_id, row.site_name, created=False)

    def _user(self, connection: Connection, request: "SiteRequest") -> str:
        """The user of this address, with the phone number that was given last. Its row is held until commit."""
        row = {"user_id": str(self._mint()), "email": normalise_email(request.email), "phone": request.phone}
        statement = self._insert(users).values(**row)
        statement = statement.on_conflict_do_update(index_elements=[users.c.email], set_={"phone": request.phone})
        return str(connection.execute(statement.returning(users.c.user_id)).scalar_one())

    def _session(self, connection: Connection, user_id: str) -> str:
        """A session of this second. Ids are unique among all users, so that one alone names a session."""
        moment = self._clock()
        first = session_id_at(moment)
        self._one_at_a_time(connection, first)
        this_second = or_(sessions.c.session_id == first, sessions.c.session_id.like(f"{first}-%"))
        taken = connection.execute(select(func.count()).where(this_second)).scalar_one()
        session_id = session_id_at(moment, taken + 1)
        connection.execute(sessions.insert().values(session_id=session_id, user_id=user_id))
        return session_id

    def _site(self, connection: Connection, user_id: str, execution_id: str) -> str:
        while True:
            site_id = str(self._mint())
            row = {"site_name": site_name(user_id, site_id), "site_id": site_id, "execution_id": execution_id}
            statement = self._insert(sites).values(**row).on_conflict_do_nothing(index_elements=[sites.c.site_name])
            name = connection.execute(statement.returning(sites.c.site_name)).scalar()
            if name is not None:
                connection.execute(leases.insert().values(site_name=name))
                return str(name)
