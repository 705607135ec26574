"""Who may come in: keys of operators and programs, and links that are good for one execution. Only hashes are kept."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Row, select

from tasks.adapters.registry.database import Database
from tasks.adapters.registry.records import ApiKey
from tasks.adapters.registry.schema import api_keys, db_clock, links

LINKS_KEPT = 50
"""How many links of one execution are good at a time, beside its first: each request that is repeated, and each mail,
makes one more."""


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(row.key_id, row.user_id, row.label, frozenset(row.scopes), row.created_at, row.revoked_at)


def add_link(connection: Connection, sha256: str, execution_id: str) -> None:
    """Make the link good; beyond LINKS_KEPT the oldest but the first is good no more. Call it inside a transaction."""
    connection.execute(links.insert().values(sha256=sha256, execution_id=execution_id))
    mine = select(links.c.sha256).where(links.c.execution_id == execution_id).order_by(links.c.created_at.desc())
    spare = connection.execute(mine.offset(LINKS_KEPT)).scalars().all()[:-1]
    if spare:
        connection.execute(links.delete().where(links.c.sha256.in_(spare)))


class Keys(Database):
    def add_key(self, label: str, sha256: str, scopes: Iterable[str], user_id: str | None = None) -> ApiKey:
        key_id = str(self._mint())
        row = {"key_id": key_id, "user_id": user_id, "label": label, "sha256": sha256, "scopes": sorted(scopes)}
        with self._write() as connection:
            return _key(connection.execute(api_keys.insert().values(**row).returning(api_keys)).one())

    def key_of(self, sha256: str) -> ApiKey | None:
        """The key with this hash; None where there is none, or it was revoked."""
        query = select(api_keys).where(api_keys.c.sha256 == sha256, api_keys.c.revoked_at.is_(None))
        with self._read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _key(row)

    def api_keys(self) -> list[ApiKey]:
        """All of them, the oldest first."""
        with self._read() as connection:
            return [_key(row) for row in connection.execute(select(api_keys).order_by(api_keys.c.created_at))]

    def revoke_key(self, key_id: str) -> bool:
        """False where there is no such key that is good."""
        this = api_keys.c.key_id == key_id, api_keys.c.revoked_at.is_(None)
        with self._write() as connection:
            return connection.execute(api_keys.update().where(*this).values(revoked_at=db_clock())).rowcount == 1

    def add_link(self, execution_id: str, sha256: str) -> None:
        """One more link to this execution. Raises UnknownExecution."""
        with self._write() as connection:
            self._lock_execution(connection, execution_id)
            add_link(connection, sha256, execution_id)

    def drop_link(self, sha256: str) -> None:
        """One that nobody got."""
        with self._write() as connection:
            connection.execute(links.delete().where(links.c.sha256 == sha256))

    def linked_execution(self, sha256: str) -> str | None:
        """The execution that the link with this hash is good for."""
        with self._read() as connection:
            found: str | None = connection.execute(
                select(links.c.execution_id).where(links.c.sha256 == sha256)
            ).scalar()
        return found

    def revoke_links(self, execution_id: str) -> int:
        """Make all links to this execution worthless; how many there were."""
        with self._write() as connection:
            return connection.execute(links.delete().where(links.c.execution_id == execution_id)).rowcount or 0
