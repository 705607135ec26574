"""Sites, their releases and what verifications found."""

from sqlalchemy import select

from tasks.adapters.registry.database import Database
from tasks.adapters.registry.errors import UnknownSite
from tasks.adapters.registry.leases import hold
from tasks.adapters.registry.records import Lease, ReleaseRecord
from tasks.adapters.registry.schema import checks, db_clock, executions, releases, sites
from tasks.domain.check import Check
from tasks.domain.hosting import Site
from tasks.domain.pipeline import SiteState
from tasks.domain.release import Release, content_digest


class Sites(Database):
    def release_for_digest(self, session_id: str, digest: str) -> int | None:
        """The number of the session's release with this content; None where there is none."""
        query = select(releases.c.number).where(releases.c.session_id == session_id, releases.c.digest == digest)
        with self._read() as connection:
            number: int | None = connection.execute(query).scalar()
        return number

    def next_release_number(self, session_id: str) -> int:
        """One more than the newest. It is nobody's until record_release; the site's lease keeps others away."""
        query = select(releases.c.number).where(releases.c.session_id == session_id)
        with self._read() as connection:
            newest = connection.execute(query.order_by(releases.c.number.desc()).limit(1)).scalar()
        return (newest or 0) + 1

    def record_release(self, execution_id: str, release: Release) -> None:
        """Keep the release. Safe to repeat; a number or a content that is another release's is an IntegrityError.

        Raises UnknownExecution.
        """
        digest = content_digest(release.manifest.files)
        with self._write() as connection:
            session_id = self._lock_execution(connection, execution_id).session_id
            same = releases.c.session_id == session_id, releases.c.release_id == release.release_id
            if connection.execute(select(releases.c.digest).where(*same)).scalar() == digest:
                return
            row = {"number": release.number, "release_id": release.release_id, "digest": digest}
            size = {"files": len(release.manifest.files), "total_bytes": release.manifest.total_bytes}
            connection.execute(releases.insert().values(session_id=session_id, **row, **size))
            self._note(connection, "release", execution_id, **row, **size)

    def releases(self, execution_id: str) -> list[ReleaseRecord]:
        """The session's releases, newest first."""
        query = (
            select(releases)
            .join(executions, executions.c.session_id == releases.c.session_id)
            .where(executions.c.execution_id == execution_id)
            .order_by(releases.c.number.desc())
        )
        with self._read() as connection:
            return [
                ReleaseRecord(row.number, row.release_id, row.digest, row.files, row.total_bytes, row.created_at)
                for row in connection.execute(query)
            ]

    def record_published(self, execution_id: str, site: Site, lease: Lease | None = None) -> None:
        """Keep where the site is and which release it serves. ``last_deployed`` is the time of this call.

        With the lease, only its holder's word counts: raises SiteBusy, and writes nothing, where it was lost.
        Raises UnknownExecution, and UnknownSite where the site is another execution's.
        """
        values = {"url": site.url, "dial": site.dial, "live_release": site.release_id, "last_deployed": db_clock()}
        own = sites.c.site_name == site.name, sites.c.execution_id == execution_id
        with self._write() as connection:
            self._lock_execution(connection, execution_id)
            if lease is not None:
                hold(connection, lease)
            if connection.execute(sites.update().where(*own).values(**values)).rowcount == 0:
                raise UnknownSite(site.name)
            this = executions.c.execution_id == execution_id
            connection.execute(executions.update().where(this).values(updated_at=db_clock()))
            self._note(connection, "published", execution_id, url=site.url, release_id=site.release_id)

    def record_good(self, execution_id: str, release_id: str) -> None:
        """Keep that this release serves and has passed our gates: it is the one to go back to."""
        with self._write() as connection:
            self._lock_execution(connection, execution_id)
            this = sites.c.execution_id == execution_id
            connection.execute(sites.update().where(this).values(good_release=release_id))
            self._note(connection, "good_release", execution_id, release_id=release_id)

    def record_taken_down(self, execution_id: str, lease: Lease | None = None) -> None:
        """Keep that nothing is served at the site's address. Raises SiteBusy where the lease was lost."""
        gone = {"live_release": None, "good_release": None, "url": None, "dial": None, "state": SiteState.TAKEN_DOWN}
        with self._write() as connection:
            self._lock_execution(connection, execution_id)
            if lease is not None:
                hold(connection, lease)
            connection.execute(sites.update().where(sites.c.execution_id == execution_id).values(**gone))
            self._note(connection, "taken_down", execution_id)

    def set_expiry(self, execution_id: str, days: float | None) -> None:
        """Have the site taken down so many days from now; None: never. Raises UnknownExecution."""
        moment = None if days is None else db_clock(days * 86_400)
        with self._write() as connection:
            self._lock_execution(connection, execution_id)
            connection.execute(sites.update().where(sites.c.execution_id == execution_id).values(expires_at=moment))

    def set_site_state(self, site_name: str, state: SiteState, release_id: str | None = None) -> bool:
        """Keep what the last verification said. True where that is news. Raises UnknownSite.

        With ``release_id``, only while that is the live one.
        """
        this = sites.c.site_name == site_name
        with self._write() as connection:
            execution_id = connection.execute(select(sites.c.execution_id).where(this)).scalar()
            if execution_id is None:
                raise UnknownSite(site_name)
            self._lock_execution(connection, execution_id)
            old, live = connection.execute(select(sites.c.state, sites.c.live_release).where(this)).one()
            if old == state or release_id not in (None, live):
                return False
            connection.execute(sites.update().where(this).values(state=state))
            self._note(connection, "site_state", execution_id, old=old, new=state)
        return True

    def record_check(self, run_id: str, check: Check) -> None:
        """Keep what a verification found. Of a check that a run repeats, the last one stands; its event stays."""
        row = {"outcome": check.outcome, "document": check.model_dump(mode="json"), "recorded_at": db_clock()}
        with self._write() as connection:
            execution, run = self._lock_run(connection, run_id)
            statement = self._insert(checks).values(
                run_id=run_id, name=check.name, execution_id=execution.execution_id, **row
            )
            connection.execute(statement.on_conflict_do_update(index_elements=["run_id", "name"], set_=row))
            found = {"name": check.name, "outcome": check.outcome, "red_gates": check.red_gates}
            self._note(connection, "check", execution.execution_id, run.run_id, **found)

    def checks(self, execution_id: str) -> list[Check]:
        """Everything that was verified for this execution, oldest first."""
        query = select(checks.c.document).where(checks.c.execution_id == execution_id)
        with self._read() as connection:
            found = connection.execute(query.order_by(checks.c.recorded_at, checks.c.run_id, checks.c.name)).scalars()
            return [Check.model_validate(document) for document in found]
