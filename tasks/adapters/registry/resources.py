"""What exists at a provider, written down before it is created, so that a crash leaves nothing unowned."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from tasks.adapters.registry.database import Database
from tasks.adapters.registry.records import Resource
from tasks.adapters.registry.schema import db_clock, resources


class Resources(Database):
    """``kind`` and ``name`` name one living thing; a thing that is gone may be planned again."""

    def plan_resource(self, execution_id: str, kind: str, name: str, details: Mapping[str, Any] | None = None) -> None:
        """Write down what is about to be created. Safe to repeat; what was created already stays so.

        Raises UnknownExecution, and an IntegrityError where the living thing of this name is another execution's.
        """
        with self._write() as connection:
            self._lock_execution(connection, execution_id)
            if connection.execute(select(resources.c.state).where(*_living(execution_id, kind, name))).scalar():
                return
            row: dict[str, Any] = {"kind": kind, "name": name, "details": dict(details or {})}
            connection.execute(
                resources.insert().values(
                    resource_id=str(self._mint()), execution_id=execution_id, state="planned", **row
                )
            )
            self._note(connection, "resource_planned", execution_id, **row)

    def resource_created(
        self, execution_id: str, kind: str, name: str, details: Mapping[str, Any] | None = None
    ) -> None:
        """It exists. ``details``, such as the provider's id, are added to the planned ones. Raises LookupError where
        it was not planned.
        """
        with self._write() as connection:
            self._lock_execution(connection, execution_id)
            this = _living(execution_id, kind, name)
            row = connection.execute(select(resources).where(*this)).one_or_none()
            if row is None:
                raise LookupError(
                    f"{kind} {name} of {execution_id} was never planned; call plan_resource before creating"
                )
            if row.state == "created" and not details:
                return
            merged = {**row.details, **(details or {})}
            values = {"state": "created", "created_at": row.created_at or db_clock(), "details": merged}
            connection.execute(resources.update().where(*this).values(**values))
            self._note(connection, "resource_created", execution_id, kind=kind, name=name, details=merged)

    def resource_gone(self, execution_id: str, kind: str, name: str) -> bool:
        """It was seen to be gone. False where the record had no living one."""
        with self._write() as connection:
            self._lock_execution(connection, execution_id)
            gone = resources.update().where(*_living(execution_id, kind, name))
            if connection.execute(gone.values(state="gone", gone_at=db_clock())).rowcount == 0:
                return False
            self._note(connection, "resource_gone", execution_id, kind=kind, name=name)
        return True

    def resources(self, execution_id: str) -> list[Resource]:
        """Everything that was ever planned for this execution, oldest first."""
        query = select(resources).where(resources.c.execution_id == execution_id)
        with self._read() as connection:
            return [
                Resource(row.execution_id, row.kind, row.name, row.state, row.details)
                for row in connection.execute(query.order_by(resources.c.planned_at, resources.c.resource_id))
            ]


def _living(execution_id: str, kind: str, name: str) -> tuple[Any, ...]:
    same = resources.c.execution_id == execution_id, resources.c.kind == kind, resources.c.name == name
    return *same, resources.c.state != "gone"
