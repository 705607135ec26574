"""What the agent's terminal shows: one overwritten row an execution, for those who may not touch the terminal."""

from sqlalchemy import select

from tasks.adapters.registry.database import Database
from tasks.adapters.registry.records import Screen
from tasks.adapters.registry.schema import db_clock, executions, screens


class Screens(Database):
    def write_screen(self, execution_id: str, body: str) -> None:
        """Nothing is written for an execution that is not there any more."""
        now = {"body": body, "shown_at": db_clock()}
        with self._write() as connection:
            known = select(executions.c.execution_id).where(executions.c.execution_id == execution_id)
            if connection.execute(known.with_for_update(key_share=True)).scalar() is None:
                return
            statement = self._insert(screens).values(execution_id=execution_id, **now)
            connection.execute(statement.on_conflict_do_update(index_elements=["execution_id"], set_=now))

    def screen(self, execution_id: str) -> Screen | None:
        with self._read() as connection:
            row = connection.execute(select(screens).where(screens.c.execution_id == execution_id)).one_or_none()
        return None if row is None else Screen(row.body, row.shown_at)
