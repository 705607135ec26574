"""How far a run has come. These rows are the truth for resuming; statuses go one way, from Prefect to here."""

from typing import Any

from sqlalchemy import Connection, Row, select

from tasks.adapters.registry.database import Database, refuse_ended, refuse_superseded
from tasks.adapters.registry.schema import db_clock, executions, questions, runs, sites, steps
from tasks.domain.errors import UnknownExecution
from tasks.domain.notice import Occasion
from tasks.domain.pipeline import (
    TOTAL_STEPS,
    Failure,
    Progress,
    Status,
    Step,
    Verb,
    Verdict,
    can_follow,
    percent,
)


class Steps(Database):
    def begin_step(self, run_id: str, step: Step, attempt: int | None = None) -> dict[str, Any] | None:
        """Begin the step, or hand out its outcome where it is done: then do it not again.

        ``attempt`` is the caller's. Raises RunEnded where the run is over, and Superseded where a later attempt of it
        has begun.
        """
        with self._write() as connection:
            execution, run = self._lock_run(connection, run_id)
            refuse_superseded(run, attempt)
            refuse_ended(run)
            return self._begin(connection, execution, run, step)

    def finish_step(
        self,
        run_id: str,
        step: Step,
        outcome: dict[str, Any],
        begin_next: Step | None = None,
        attempt: int | None = None,
    ) -> dict[str, Any] | None:
        """Keep the outcome, and begin the next step in the same transaction; what that returns is returned.

        An outcome is kept also where the run was cancelled meanwhile; only the next step is then refused, by RunEnded.
        Raises Superseded, and keeps nothing, where a later attempt has begun.
        """
        values = {"status": "done", "outcome": outcome, "error": None, "finished_at": db_clock()}
        with self._write() as connection:
            execution, run = self._lock_run(connection, run_id)
            refuse_superseded(run, attempt)
            statement = self._insert(steps).values(run_id=run_id, step=step, **values)
            connection.execute(statement.on_conflict_do_update(index_elements=["run_id", "step"], set_=values))
            self._note_step(connection, run, step, "done")
            if begin_next is not None and not Status(run.status).is_final:
                return self._begin(connection, execution, run, begin_next)
        if begin_next is not None:
            refuse_ended(run)
        return None

    def fail_step(self, run_id: str, step: Step, message: str, attempt: int | None = None) -> None:
        """Keep why the step failed. The run goes on until set_status says otherwise: the step may be tried again.

        A step that is done stays done. Raises Superseded where a later attempt has begun.
        """
        values = {"status": "failed", "error": message, "finished_at": db_clock()}
        statement = self._insert(steps).values(run_id=run_id, step=step, **values)
        statement = statement.on_conflict_do_update(
            index_elements=["run_id", "step"], set_=values, where=steps.c.status != "done"
        )
        with self._write() as connection:
            _execution, run = self._lock_run(connection, run_id)
            refuse_superseded(run, attempt)
            if connection.execute(statement.returning(steps.c.step)).scalar() is not None:
                self._note_step(connection, run, step, "failed", error=message)

    def undo_steps(self, run_id: str, first: Step) -> list[Step]:
        """Forget that this step and those after it are done: what they did was taken back. They will be done again."""
        undone = steps.c.run_id == run_id, steps.c.step >= first, steps.c.status == "done"
        with self._write() as connection:
            _execution, run = self._lock_run(connection, run_id)
            found = connection.execute(steps.delete().where(*undone).returning(steps.c.step)).scalars().all()
            for step in sorted(found):
                self._note_step(connection, run, Step(step), "undone")
        return [Step(step) for step in sorted(found)]

    def stored_outcome(self, run_id: str, step: Step) -> dict[str, Any] | None:
        """The outcome of a step that is done; None for any other."""
        with self._read() as connection:
            return self._outcome(connection, run_id, step)

    def failure_of(self, run_id: str) -> Failure | None:
        """The step of this run that failed last, and its words; None where none is failed."""
        failed = steps.c.run_id == run_id, steps.c.status == "failed"
        with self._read() as connection:
            row = connection.execute(select(steps).where(*failed).order_by(steps.c.step.desc()).limit(1)).one_or_none()
        if row is None:
            return None
        return Failure(step=row.step, step_name=Step(row.step).task_name, message=row.error)

    def set_status(
        self,
        execution_id: str,
        status: Status,
        error: Failure | None = None,
        verdict: Verdict | None = None,
        run_id: str | None = None,
    ) -> bool:
        """Write the status of a run, and of its execution where that shows this run; without ``run_id``, of the run
        that it shows. True where something changed.

        A status that cannot follow the present one changes nothing: what comes late cannot revive a run that is over.
        Raises UnknownExecution.
        """
        with self._write() as connection:
            self._lock_execution(connection, execution_id)
            this = runs.c.run_id == run_id if run_id else runs.c.leads
            run = connection.execute(select(runs).where(runs.c.execution_id == execution_id, this)).one_or_none()
            if run is None:
                raise LookupError(f"{execution_id} has no run {run_id!r}; take the id that adopt_run gave")
            if not can_follow(Status(run.status), status):
                return False
            ended = db_clock() if status.is_final else None
            connection.execute(runs.update().where(runs.c.run_id == run.run_id).values(status=status, ended_at=ended))
            details: dict[str, Any] = {"old": run.status, "new": status}
            if error is not None:
                details["error"] = error.model_dump()
            if run.leads:
                values = {"status": status, "updated_at": db_clock(), "error": details.get("error")}
                if verdict is not None:
                    values["verdict"] = details["verdict"] = verdict
                connection.execute(
                    executions.update().where(executions.c.execution_id == execution_id).values(**values)
                )
            self._note(connection, "status" if run.leads else "run_status", execution_id, run.run_id, **details)
            if run.leads and self._is_news(connection, status, run.run_id):
                told = {**details, "verb": run.verb}
                self._announce(connection, Occasion(status), execution_id, run.run_id, told)
        return True

    def _is_news(self, connection: Connection, status: Status, run_id: str) -> bool:
        """Whether people are told of the status. A question was told of when it was asked."""
        match status:
            case Status.COMPLETED | Status.FAILED:
                return True
            case Status.WAITING_INPUT:
                return not self._asks(connection, run_id)
            case Status.PENDING | Status.RUNNING | Status.CANCELLED:
                return False

    def _asks(self, connection: Connection, run_id: str) -> bool:
        waits = questions.c.run_id == run_id, questions.c.answer.is_(None), questions.c.expires_at > db_clock()
        return connection.execute(select(questions.c.question_id).where(*waits).limit(1)).first() is not None

    def set_verdict(self, execution_id: str, verdict: Verdict) -> bool:
        """Keep what is known of the site that is live. True where that changed. Raises UnknownExecution."""
        with self._write() as connection:
            execution = self._lock_execution(connection, execution_id)
            if execution.verdict == verdict:
                return False
            values = {"verdict": verdict, "updated_at": db_clock()}
            connection.execute(executions.update().where(executions.c.execution_id == execution_id).values(**values))
            self._note(connection, "verdict", execution_id, old=execution.verdict, new=verdict)
        return True

    def progress(self, execution_id: str) -> Progress:
        """What to show of an execution. A run that begins later than step 1 counts what it builds on as done.

        Raises UnknownExecution.
        """
        query = (
            select(executions, runs.c.verb, sites.c.url, sites.c.last_deployed, steps.c.step)
            .join(sites, sites.c.execution_id == executions.c.execution_id)
            .join(runs, (runs.c.execution_id == executions.c.execution_id) & runs.c.leads)
            .outerjoin(steps, (steps.c.run_id == runs.c.run_id) & (steps.c.status == "done"))
            .where(executions.c.execution_id == execution_id)
        )
        with self._read() as connection:
            rows = connection.execute(query).all() if execution_id.isprintable() else []
        if not rows:
            raise UnknownExecution(execution_id)
        row = rows[0]
        done = Verb(row.verb).first_step - 1 + sum(other.step is not None for other in rows)
        return Progress(
            execution_id=execution_id,
            status=Status(row.status),
            current_step=row.current_step,
            current_step_name=Step(row.current_step).task_name if row.current_step else "",
            percent_complete=percent(min(done, TOTAL_STEPS)),
            deployed_url=row.url,
            last_deployed=row.last_deployed,
            verdict=Verdict(row.verdict) if row.verdict else None,
            error=Failure.model_validate(row.error) if row.error else None,
        )

    def _begin(self, connection: Connection, execution: Row[Any], run: Row[Any], step: Step) -> dict[str, Any] | None:
        fresh = {"status": "running", "error": None, "started_at": db_clock(), "finished_at": None}
        statement = self._insert(steps).values(run_id=run.run_id, step=step, **fresh)
        statement = statement.on_conflict_do_update(
            index_elements=["run_id", "step"],
            set_={**fresh, "attempt": steps.c.attempt + 1},
            where=steps.c.status != "done",
        )
        attempt = connection.execute(statement.returning(steps.c.attempt)).scalar()
        if attempt is None:
            return self._outcome(connection, run.run_id, step)
        if run.status != Status.RUNNING:
            running = runs.update().where(runs.c.run_id == run.run_id)
            connection.execute(running.values(status=Status.RUNNING))
        shown = run.leads
        if self._takes_lead(connection, execution, run):
            values = {"status": Status.RUNNING, "current_step": step, "updated_at": db_clock()}
            this = executions.c.execution_id == execution.execution_id
            connection.execute(executions.update().where(this).values(**values))
            old = execution.status if shown else Status.PENDING
            if old != Status.RUNNING:
                self._note(connection, "status", execution.execution_id, run.run_id, old=old, new=Status.RUNNING)
        self._note_step(connection, run, step, "began", attempt=attempt)
        return None

    def _outcome(self, connection: Connection, run_id: str, step: Step) -> dict[str, Any] | None:
        done = steps.c.run_id == run_id, steps.c.step == step, steps.c.status == "done"
        outcome: dict[str, Any] | None = connection.execute(select(steps.c.outcome).where(*done)).scalar()
        return outcome

    def _note_step(self, connection: Connection, run: Row[Any], step: Step, what: str, **more: Any) -> None:
        details = {"step": step, "step_name": step.task_name, **more}
        self._note(connection, f"step_{what}", run.execution_id, run.run_id, **details)
