"""What people are asked, and what they answered. Whoever answers first, wherever, has answered."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sqlalchemy import Row, select

from tasks.adapters.registry.database import Database
from tasks.adapters.registry.records import Question
from tasks.adapters.registry.schema import db_clock, questions
from tasks.domain.notice import Occasion


def _question(row: Row[Any]) -> Question:
    return Question(**row._mapping)


class Questions(Database):
    def ask_question(
        self, run_id: str, kind: Literal["plan", "agent"], number: int, body: str, ttl_s: float
    ) -> Question:
        """The question of this run, kind and round: asked before, answered or not, or asked by this call."""
        with self._write() as connection:
            execution, run = self._lock_run(connection, run_id)
            same = questions.c.run_id == run_id, questions.c.kind == kind, questions.c.round == number
            row = connection.execute(select(questions).where(*same)).one_or_none()
            if row is not None:
                return _question(row)
            question_id = str(self._mint())
            values = {"question_id": question_id, "execution_id": execution.execution_id, "run_id": run_id}
            statement = questions.insert().values(
                **values, kind=kind, round=number, body=body, expires_at=db_clock(round(ttl_s, 3))
            )
            row = connection.execute(statement.returning(questions)).one()
            self._note(connection, "asked", execution.execution_id, run_id, question_id=question_id, kind=kind)
            told = {"kind": kind, "verb": run.verb}
            self._announce(connection, Occasion.WAITING_INPUT, execution.execution_id, run_id, told, question_id)
            return _question(row)

    def answer_question(self, question_id: str, answer: Mapping[str, Any], by: str) -> Question:
        """The question with the answer that stands: this one, or the one that somebody gave before.

        An answer after the question's end is not kept: ``answer`` is then still None. Raises LookupError.
        """
        open_ = questions.c.question_id == question_id, questions.c.answer.is_(None)
        values = {"answer": dict(answer), "answered_by": by, "answered_at": db_clock()}
        with self._write() as connection:
            this = select(questions).where(questions.c.question_id == question_id)
            row = connection.execute(this).one_or_none()
            if row is None:
                raise LookupError(f"no question is called {question_id!r}; open_question gives the one that waits")
            self._lock_execution(connection, row.execution_id)
            in_time = questions.c.expires_at > db_clock()
            changed = connection.execute(questions.update().where(*open_, in_time).values(**values)).rowcount
            if changed:
                self._note(connection, "answered", row.execution_id, row.run_id, question_id=question_id, by=by)
            return _question(connection.execute(this).one())

    def questions(self, execution_id: str, kind: Literal["plan", "agent"]) -> list[Question]:
        """All that was asked of this kind, oldest first."""
        query = select(questions).where(questions.c.execution_id == execution_id, questions.c.kind == kind)
        with self._read() as connection:
            rows = connection.execute(query.order_by(questions.c.asked_at, questions.c.round))
            return [_question(row) for row in rows]

    def close_questions(self, run_id: str, by: str) -> None:
        """The agent's questions of this run wait for nobody any more: it was answered, or it went on."""
        mine = questions.c.run_id == run_id, questions.c.kind == "agent", questions.c.answer.is_(None)
        with self._write() as connection:
            execution, _run = self._lock_run(connection, run_id)
            values = {"answer": {}, "answered_by": by, "answered_at": db_clock()}
            if connection.execute(questions.update().where(*mine).values(**values)).rowcount:
                self._note(connection, "answered", execution.execution_id, run_id, by=by)

    def note_refused(self, run_id: str, refused: Sequence[Mapping[str, str | int]]) -> None:
        """Keep what the agent of this run asked of the world and did not get."""
        with self._write() as connection:
            execution, _run = self._lock_run(connection, run_id)
            self._note(connection, "egress_refused", execution.execution_id, run_id, refused=list(refused))

    def waits_for_person(self, run_id: str) -> bool:
        """Whether the run's agent has asked something that nobody has answered."""
        mine = questions.c.run_id == run_id, questions.c.kind == "agent", questions.c.answer.is_(None)
        with self._read() as connection:
            return connection.execute(select(questions.c.question_id).where(*mine).limit(1)).first() is not None

    def question_that_waits(self, question_id: str) -> Question | None:
        """None where it was answered, is too late to answer, or is gone."""
        in_time = questions.c.expires_at > db_clock()
        waiting = questions.c.question_id == question_id, questions.c.answer.is_(None), in_time
        with self._read() as connection:
            row = connection.execute(select(questions).where(*waiting)).one_or_none()
        return None if row is None else _question(row)

    def open_question(self, execution_id: str) -> Question | None:
        """What the execution waits for a person to answer; None where it waits for nothing."""
        waiting = (
            questions.c.execution_id == execution_id,
            questions.c.answer.is_(None),
            questions.c.expires_at > db_clock(),
        )
        query = select(questions).where(*waiting).order_by(questions.c.asked_at.desc()).limit(1)
        with self._read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else _question(row)
