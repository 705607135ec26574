"""Chat between people and the agent. The flow that owns the agent delivers it."""

from collections.abc import Sequence
from typing import Any, Literal

from sqlalchemy import Row, func, select

from tasks.adapters.registry.database import Database
from tasks.adapters.registry.records import Message
from tasks.adapters.registry.schema import db_clock, messages

SAID_AT_MOST = 20_000
_ROWS_AT_ONCE = 100


def _message(row: Row[Any]) -> Message:
    return Message(row.message_id, row.execution_id, row.author, row.body, row.created_at, row.delivered_at, row.kind)


class Messages(Database):
    def post_message(
        self,
        execution_id: str,
        author: Literal["user", "agent", "system"],
        body: str,
        kind: Literal["say", "interrupt"] = "say",
    ) -> int:
        """The new message's id. Ids grow with time inside one execution. Raises UnknownExecution."""
        with self._write() as connection:
            self._lock_execution(connection, execution_id)
            row = {"execution_id": execution_id, "author": author, "body": body, "kind": kind}
            message_id = int(
                connection.execute(messages.insert().values(**row).returning(messages.c.message_id)).scalar_one()
            )
            self._note(connection, "message", execution_id, message_id=message_id, author=author)
        return message_id

    def note_said(self, execution_id: str, said: Sequence[tuple[str, str, str, str]]) -> int:
        """Add what the agent's own transcript tells, each as (source_id, author, kind, body); how many were new.

        What was noted before, told by its ``source_id``, is passed over, and so is what comes after SAID_AT_MOST of one
        execution: whoever writes the transcript can write without end. Raises UnknownExecution.
        """
        rows = [
            {"execution_id": execution_id, "source_id": source_id, "author": author, "kind": kind, "body": body}
            for source_id, author, kind, body in said
        ]
        told = messages.c.execution_id == execution_id, messages.c.source_id.is_not(None)
        with self._write() as connection:
            self._lock_execution(connection, execution_id)
            before = connection.execute(select(func.count()).select_from(messages).where(*told)).scalar_one()
            new = 0
            room = rows[: max(0, SAID_AT_MOST - before)]
            for first in range(0, len(room), _ROWS_AT_ONCE):
                statement = self._insert(messages).values(room[first : first + _ROWS_AT_ONCE])
                unknown = statement.on_conflict_do_nothing(index_elements=["execution_id", "source_id"])
                new += connection.execute(unknown).rowcount
            if new:
                self._note(connection, "said", execution_id, messages=new)
        return new

    def messages(self, execution_id: str, after_id: int = 0, limit: int = 100) -> list[Message]:
        """The conversation, oldest first."""
        query = select(messages).where(messages.c.execution_id == execution_id, messages.c.message_id > after_id)
        with self._read() as connection:
            rows = connection.execute(query.order_by(messages.c.message_id).limit(limit))
            return [_message(row) for row in rows]

    def last_messages(self, execution_id: str, before_id: int | None = None, limit: int = 100) -> list[Message]:
        """The end of the conversation, or of what came before ``before_id``; oldest first."""
        query = select(messages).where(messages.c.execution_id == execution_id)
        if before_id is not None:
            query = query.where(messages.c.message_id < before_id)
        with self._read() as connection:
            rows = connection.execute(query.order_by(messages.c.message_id.desc()).limit(limit)).all()
        return [_message(row) for row in reversed(rows)]

    def undelivered_messages(self, execution_id: str) -> list[Message]:
        """What people wrote and the agent has not been given yet, oldest first."""
        waiting = messages.c.author == "user", messages.c.delivered_at.is_(None)
        query = select(messages).where(messages.c.execution_id == execution_id, *waiting)
        with self._read() as connection:
            return [_message(row) for row in connection.execute(query.order_by(messages.c.message_id))]

    def message_delivered(self, message_id: int) -> bool:
        """False where it was marked before: what was delivered is never delivered again."""
        waiting = messages.c.message_id == message_id, messages.c.delivered_at.is_(None)
        with self._write() as connection:
            return connection.execute(messages.update().where(*waiting).values(delivered_at=db_clock())).rowcount == 1
