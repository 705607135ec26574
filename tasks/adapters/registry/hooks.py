"""How webhooks fare: one that fails again and again is paused until a person has looked."""

from sqlalchemy import case, select

from tasks.adapters.registry.database import Database
from tasks.adapters.registry.records import Hook
from tasks.adapters.registry.schema import db_clock, hooks


class Hooks(Database):
    def hook(self, name: str) -> Hook:
        """One that was never used has no failures."""
        with self._read() as connection:
            row = connection.execute(select(hooks).where(hooks.c.name == name)).one_or_none()
        return Hook(name) if row is None else Hook(**row._mapping)

    def hook_failed(self, name: str, reason: str, limit: int) -> Hook:
        """Count one more delivery that was refused; the ``limit``-th pauses the hook. ``reason`` holds nothing of what
        came.
        """
        first = {"failures": 1, "paused_at": db_clock() if limit <= 1 else None}
        row = {"reason": reason, "failed_at": db_clock()}
        statement = self._insert(hooks).values(name=name, **first, **row)
        paused = case((hooks.c.failures + 1 >= limit, db_clock()), else_=None)
        again = {"failures": hooks.c.failures + 1, "paused_at": paused}
        statement = statement.on_conflict_do_update(index_elements=["name"], set_={**again, **row})
        with self._write() as connection:
            return Hook(**connection.execute(statement.returning(hooks)).one()._mapping)

    def hook_worked(self, name: str) -> None:
        """A delivery was accepted: the count begins anew."""
        row = {"failures": 0, "reason": None, "accepted_at": db_clock()}
        statement = self._insert(hooks).values(name=name, **row)
        with self._write() as connection:
            connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=row))

    def resume_hook(self, name: str) -> bool:
        """False where it was not paused."""
        paused = hooks.c.name == name, hooks.c.paused_at.is_not(None)
        with self._write() as connection:
            return connection.execute(hooks.update().where(*paused).values(failures=0, paused_at=None)).rowcount == 1
