"""Runs: who asked for one, which Prefect flow run does it, and which wait for the dispatcher."""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, Row, func, select

from tasks.adapters.registry.database import Database
from tasks.adapters.registry.errors import RunWaits
from tasks.adapters.registry.intake import check_key, digest
from tasks.adapters.registry.records import RunRecord
from tasks.adapters.registry.schema import FINAL, UNDER_WAY, db_clock, deliveries, events, runs, steps
from tasks.adapters.registry.wakeup import ring
from tasks.domain.errors import DeliveryConflict
from tasks.domain.pipeline import Status, Step, Verb


def run_record(row: Row[Any]) -> RunRecord:
    return RunRecord(
        run_id=row.run_id,
        execution_id=row.execution_id,
        verb=Verb(row.verb),
        status=Status(row.status),
        attempt=row.attempt,
        flow_run_id=row.flow_run_id,
        leads=row.leads,
        created_at=row.created_at,
        dispatched_at=row.dispatched_at,
        ended_at=row.ended_at,
        machine_id=row.machine_id,
        parameters=row.parameters,
        cancel_requested=row.cancel_requested_at is not None,
    )


_WAITING = runs.c.flow_run_id.is_(None), runs.c.status == Status.PENDING


class Runs(Database):
    def request_run(
        self, execution_id: str, verb: Verb, delivery_key: str, parameters: Mapping[str, Any] | None = None
    ) -> str:
        """The id of the run that will do this. Asking twice before it is dispatched asks for one run.

        ``parameters`` are what its flow is told beside the execution's id. Raises UnknownExecution, DeliveryConflict
        where the key stands for something else, and RunWaits where such a run waits with other parameters.
        """
        check_key(delivery_key)
        told = dict(parameters) if parameters else None
        body_sha256 = digest({"verb": verb, "execution_id": execution_id, **({"parameters": told} if told else {})})
        with self._write() as connection:
            execution = self._lock_execution(connection, execution_id)
            known = select(deliveries.c.body_sha256, deliveries.c.run_id).where(
                deliveries.c.delivery_key == delivery_key
            )
            before = connection.execute(known).one_or_none()
            if before is not None and before.run_id is not None:
                if before.body_sha256 != body_sha256:
                    raise DeliveryConflict(delivery_key)
                return str(before.run_id)
            same = runs.c.execution_id == execution_id, runs.c.verb == verb
            waiting = connection.execute(select(runs.c.run_id, runs.c.parameters).where(*same, *_WAITING)).one_or_none()
            if waiting is not None and waiting.parameters != told:
                raise RunWaits(execution_id, verb)
            run_id = waiting.run_id if waiting is not None else None
            if run_id is None:
                run_id = self._add_run(connection, execution, verb, None, 1)
                if told:
                    connection.execute(runs.update().where(runs.c.run_id == run_id).values(parameters=told))
                ring(connection)
            row = {"body_sha256": body_sha256, "run_id": run_id, "refusal": None, "refused_body": None}
            statement = self._insert(deliveries).values(delivery_key=delivery_key, **row)
            statement = statement.on_conflict_do_update(
                index_elements=[deliveries.c.delivery_key], set_=row, where=deliveries.c.run_id.is_(None)
            )
            if connection.execute(statement.returning(deliveries.c.delivery_key)).scalar() is None:
                raise DeliveryConflict(delivery_key)  # somebody took the key meanwhile, for another execution
            self._note(connection, "requested", execution_id, run_id, verb=verb, delivery_key=delivery_key)
        return str(run_id)

    def adopt_run(
        self,
        execution_id: str,
        verb: Verb,
        flow_run_id: str,
        attempt: int = 1,
        run_id: str | None = None,
        machine_id: str | None = None,
    ) -> RunRecord:
        """The run that this Prefect flow run does: its own from before, else the one that waits to be dispatched,
        else a new one, as for a run that somebody started in the Prefect UI.

        ``attempt`` is Prefect's count of starts; a higher one than before opens a run that was over again. ``run_id``,
        where the caller knows it, says which run was dispatched, also where that was cancelled since; begin_step then
        refuses. ``machine_id``: where the caller works. Raises UnknownExecution.
        """
        with self._write() as connection:
            execution = self._lock_execution(connection, execution_id)
            run = self._adopt(connection, execution, verb, flow_run_id, attempt, run_id)
            if machine_id is not None and run.machine_id != machine_id:
                connection.execute(runs.update().where(runs.c.run_id == run.run_id).values(machine_id=machine_id))
            return self._run(connection, run.run_id)

    def _adopt(
        self,
        connection: Connection,
        execution: Row[Any],
        verb: Verb,
        flow_run_id: str,
        attempt: int,
        run_id: str | None,
    ) -> RunRecord:
        execution_id = execution.execution_id
        same = runs.c.execution_id == execution_id, runs.c.verb == verb
        mine = connection.execute(select(runs).where(*same, runs.c.flow_run_id == flow_run_id)).one_or_none()
        if mine is None:
            free = (runs.c.run_id == run_id, runs.c.flow_run_id.is_(None)) if run_id else _WAITING
            mine = connection.execute(select(runs).where(*same, *free)).one_or_none()
            if mine is None:
                added = self._add_run(connection, execution, verb, flow_run_id, attempt)
                return self._run(connection, added)
            values = {"flow_run_id": flow_run_id, "dispatched_at": db_clock(), "attempt": attempt}
            connection.execute(runs.update().where(runs.c.run_id == mine.run_id).values(**values))
            self._note(connection, "dispatched", execution_id, mine.run_id, flow_run_id=flow_run_id)
        elif attempt > mine.attempt:
            self._next_attempt(connection, execution, mine, attempt)
        return self._run(connection, mine.run_id)

    def request_cancel(self, execution_id: str) -> list[str]:
        """Ask for the end of the runs that build or redeploy this and are not over; their ids. The dispatcher, which
        may speak to Prefect, ends them. Asking again changes nothing. Raises UnknownExecution.
        """
        mine = runs.c.execution_id == execution_id, runs.c.verb.in_([verb.value for verb in Verb if verb.leads])
        with self._write() as connection:
            self._lock_execution(connection, execution_id)
            found = connection.execute(select(runs).where(*mine, runs.c.status.not_in(FINAL))).all()
            for run in found:
                if run.cancel_requested_at is None:
                    this = runs.update().where(runs.c.run_id == run.run_id)
                    connection.execute(this.values(cancel_requested_at=db_clock()))
                    self._note(connection, "cancel_requested", execution_id, run.run_id, verb=run.verb)
            ring(connection)
        return [run.run_id for run in found]

    def cancel_requests(self) -> list[RunRecord]:
        """Runs that somebody wants to end and that are not over, oldest first."""
        return self._list(runs.c.cancel_requested_at.is_not(None), UNDER_WAY)

    def undispatched(self) -> list[RunRecord]:
        """Runs that no Prefect flow run does yet, oldest first."""
        return self._list(*_WAITING)

    def active_runs(self) -> list[RunRecord]:
        """Runs that Prefect has and that are not over, oldest first."""
        return self._list(runs.c.flow_run_id.is_not(None), UNDER_WAY)

    def leading_runs(self, execution_ids: Iterable[str]) -> dict[str, RunRecord]:
        """Of each execution the run that it shows."""
        found = self._list(runs.c.leads, runs.c.execution_id.in_(sorted(set(execution_ids))))
        return {run.execution_id: run for run in found}

    def last_run(self, execution_id: str, verb: Verb) -> RunRecord | None:
        """The one that was asked for last, over or not."""
        found = self._list(runs.c.execution_id == execution_id, runs.c.verb == verb)
        return found[-1] if found else None

    def unfinished_runs(self, execution_id: str) -> list[RunRecord]:
        """What is being done to one execution, or waits to be, oldest first."""
        return self._list(runs.c.execution_id == execution_id, runs.c.status.not_in(FINAL))

    def count_runs(self) -> dict[Status, int]:
        """How many runs have each status that is not final; those without any are left out."""
        query = select(runs.c.status, func.count()).where(UNDER_WAY).group_by(runs.c.status)
        with self._read() as connection:
            return {Status(status): count for status, count in connection.execute(query)}

    def runs_of(self, flow_run_id: str) -> list[RunRecord]:
        """What one Prefect flow run works on: one run, or one an execution for a re-verification of many."""
        return self._list(runs.c.flow_run_id == flow_run_id)

    def note_crash(self, run_id: str, crash_id: str) -> tuple[int, bool]:
        """Keep that the run's engine died: how often it was by then, and whether this crash is news.

        Several who see the same crash agree on who starts the run again.
        """
        seen = select(events.c.data).where(events.c.run_id == run_id, events.c.kind == "crashed")
        with self._write() as connection:
            execution, run = self._lock_run(connection, run_id)
            known = [data["crash_id"] for data in connection.execute(seen.order_by(events.c.seq)).scalars()]
            if crash_id in known:
                return known.index(crash_id) + 1, False
            self._note(connection, "crashed", execution.execution_id, run_id, attempt=run.attempt, crash_id=crash_id)
            return len(known) + 1, True

    def mark_dispatched(self, run_id: str, flow_run_id: str) -> bool:
        """Keep which flow run does this run. False where another one does by then; that one stands.

        The flow run may have been faster and have adopted its run before.
        """
        with self._write() as connection:
            execution, run = self._lock_run(connection, run_id)
            if run.flow_run_id is not None:
                return bool(run.flow_run_id == flow_run_id)
            same = runs.c.execution_id == execution.execution_id, runs.c.flow_run_id == flow_run_id
            if connection.execute(select(runs.c.run_id).where(*same)).scalar() is not None:
                return False
            values = {"flow_run_id": flow_run_id, "dispatched_at": db_clock()}
            connection.execute(runs.update().where(runs.c.run_id == run_id).values(**values))
            self._note(connection, "dispatched", execution.execution_id, run_id, flow_run_id=flow_run_id)
        return True

    def _add_run(
        self, connection: Connection, execution: Row[Any], verb: Verb, flow_run_id: str | None, attempt: int
    ) -> str:
        run_id = str(self._mint())
        connection.execute(
            runs.insert().values(
                run_id=run_id,
                execution_id=execution.execution_id,
                verb=verb,
                status=Status.PENDING,
                attempt=attempt,
                flow_run_id=flow_run_id,
                dispatched_at=db_clock() if flow_run_id else None,
                leads=False,
            )
        )
        if flow_run_id:
            details = {"verb": verb, "flow_run_id": flow_run_id}
            self._note(connection, "started", execution.execution_id, run_id, **details)
        run = connection.execute(select(runs).where(runs.c.run_id == run_id)).one()
        self._takes_lead(connection, execution, run)
        if verb is Verb.FULL_BUILD:
            self._inherit(connection, run)
        return run_id

    def _inherit(self, connection: Connection, run: Row[Any]) -> None:
        """A build goes on from where the execution's build before it failed: what that did is done.

        Not steps 1 and 2, which say which run this is, and cost nothing.
        """
        same = runs.c.execution_id == run.execution_id, runs.c.verb == run.verb, runs.c.run_id != run.run_id
        before = connection.execute(select(runs).where(*same).order_by(runs.c.created_at.desc()).limit(1)).one_or_none()
        if before is None or Status(before.status) not in (Status.FAILED, Status.CANCELLED):
            return
        done = steps.c.run_id == before.run_id, steps.c.status == "done", steps.c.step > Step.CREATE_SESSION
        for row in connection.execute(select(steps).where(*done).order_by(steps.c.step)):
            values = {**row._mapping, "run_id": run.run_id}
            connection.execute(steps.insert().values(**values))
            details = {"step": row.step, "step_name": Step(row.step).task_name, "from_run": before.run_id}
            self._note(connection, "step_inherited", run.execution_id, run.run_id, **details)

    def _next_attempt(self, connection: Connection, execution: Row[Any], run: Row[Any], attempt: int) -> None:
        over = Status(run.status).is_final
        values: dict[str, Any] = {"attempt": attempt}
        if over:
            values |= {"status": Status.PENDING, "ended_at": None, "cancel_requested_at": None}
        connection.execute(runs.update().where(runs.c.run_id == run.run_id).values(**values))
        self._note(connection, "attempt", execution.execution_id, run.run_id, attempt=attempt)
        if over and run.leads:
            self._start_over(connection, execution, run.run_id)
        elif over:
            self._takes_lead(connection, execution, run)

    def _run(self, connection: Connection, run_id: str) -> RunRecord:
        return run_record(connection.execute(select(runs).where(runs.c.run_id == run_id)).one())

    def _list(self, *conditions: Any) -> list[RunRecord]:
        query = select(runs).where(*conditions).order_by(runs.c.created_at, runs.c.run_id)
        with self._read() as connection:
            return [run_record(row) for row in connection.execute(query)]
