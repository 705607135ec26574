"""One writer per site, with a fencing token: a holder that froze and woke up is told so, and cannot write.

Time is the database's. A lease that ran out is still its holder's until somebody else takes it.
"""

from typing import Any

from sqlalchemy import Connection, Row, or_, select

from tasks.adapters.registry.database import Database
from tasks.adapters.registry.errors import UnknownSite
from tasks.adapters.registry.records import Lease
from tasks.adapters.registry.schema import db_clock, leases
from tasks.domain.errors import SiteBusy


def _lease(row: Row[Any]) -> Lease:
    return Lease(row.site_name, row.fence, row.owner, row.since, row.expires_at)


def _busy(connection: Connection, site_name: str) -> SiteBusy:
    """Who has the site instead. Raises UnknownSite where there is no such site."""
    row = connection.execute(select(leases).where(leases.c.site_name == site_name)).one_or_none()
    if row is None:
        raise UnknownSite(site_name)
    if row.owner is None:
        return SiteBusy(site_name, "nobody: the lease was taken over and given back", "the last takeover")
    return SiteBusy(site_name, row.owner, row.since.isoformat(timespec="seconds"))


def hold(connection: Connection, lease: Lease) -> None:
    """Nobody takes the site from this holder before the transaction ends. Raises SiteBusy where it is lost already."""
    ours = leases.c.site_name == lease.site_name, leases.c.fence == lease.fence, leases.c.owner == lease.owner
    if connection.execute(select(leases.c.fence).where(*ours).with_for_update()).scalar() is None:
        raise _busy(connection, lease.site_name)


class Leases(Database):
    def acquire_lease(self, site_name: str, owner: str, ttl_s: float) -> Lease:
        """Take the site for ``ttl_s`` seconds. An owner that asks again, after it was killed, has it at once.

        Raises SiteBusy with owner and time while another one has it, and UnknownSite.
        """
        free = or_(leases.c.owner.is_(None), leases.c.owner == owner, leases.c.expires_at < db_clock())
        values = {
            "owner": owner,
            "fence": leases.c.fence + 1,
            "since": db_clock(),
            "expires_at": db_clock(_seconds(ttl_s)),
        }
        statement = leases.update().where(leases.c.site_name == site_name, free).values(**values).returning(leases)
        with self._write() as connection:
            row = connection.execute(statement).one_or_none()
            if row is None:
                raise _busy(connection, site_name)
            return _lease(row)

    def renew_lease(self, lease: Lease, ttl_s: float) -> Lease:
        """The same lease, for ``ttl_s`` seconds from now. Raises SiteBusy where it was lost."""
        ours = leases.c.site_name == lease.site_name, leases.c.fence == lease.fence, leases.c.owner == lease.owner
        statement = leases.update().where(*ours).values(expires_at=db_clock(_seconds(ttl_s))).returning(leases)
        with self._write() as connection:
            row = connection.execute(statement).one_or_none()
            if row is None:
                raise _busy(connection, lease.site_name)
            return _lease(row)

    def release_lease(self, lease: Lease) -> bool:
        """Give the site back. False where it was lost before; that is then its new holder's."""
        ours = leases.c.site_name == lease.site_name, leases.c.fence == lease.fence, leases.c.owner == lease.owner
        with self._write() as connection:
            values = {"owner": None, "expires_at": None}
            return connection.execute(leases.update().where(*ours).values(**values)).rowcount == 1

    def free_leases(self, owner: str) -> list[str]:
        """Give back whatever this owner still holds, as one who died; the sites' names. Nobody else's is touched."""
        mine = leases.update().where(leases.c.owner == owner).values(owner=None, expires_at=None)
        with self._write() as connection:
            return list(connection.execute(mine.returning(leases.c.site_name)).scalars())

    def lease_of(self, site_name: str) -> Lease | None:
        """Who writes the site; None where nobody does, or not for sure any more."""
        held = leases.c.site_name == site_name, leases.c.owner.is_not(None), leases.c.expires_at >= db_clock()
        with self._read() as connection:
            row = connection.execute(select(leases).where(*held)).one_or_none()
        return None if row is None else _lease(row)

    def assert_held(self, lease: Lease) -> None:
        """Raises SiteBusy where somebody else took the site meanwhile: nothing more may be written to it."""
        with self._write() as connection:
            hold(connection, lease)


def _seconds(ttl_s: float) -> float:
    if not 0.001 <= ttl_s <= 86_400:
        raise ValueError(f"ttl_s: {ttl_s!r}; allowed: 0.001 to 86400 seconds")
    return round(ttl_s, 3)
