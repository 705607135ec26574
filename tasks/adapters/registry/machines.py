"""Machines: the homes that work on what this record holds, and which of them has which run in hand.

A machine sees its own processes only. What another one has in hand, it learns here, and leaves to it while it lives.
"""

import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID, uuid4

from sqlalchemy import select

from tasks.adapters.registry.database import Database
from tasks.adapters.registry.schema import FINAL, db_clock, machines, runs
from tasks.domain.errors import BuilderError

MACHINE_ID = "machine-id"
"""Below the home: the name that the machine keeps for as long as the home is there."""

GONE_S = 30.0
"""A machine that was not seen for so long is taken for gone; its dispatcher says every few seconds that it is there."""


class SecondMachine(BuilderError):
    """SQLite keeps one machine's record; another one would write to a file that only looks like the same."""

    def __init__(self, where: str, known: str, name: str) -> None:
        super().__init__(where, known, name)
        self.where, self.known, self.name = where, known, name

    def __str__(self) -> str:
        return (
            f"the registry at {self.where} is SQLite, which is for one machine: {self.known}; {self.name} came as a "
            "second; give both the same PostgreSQL as TMUX_BUILDER_DATABASE_URL, or let the one that is there do it"
        )


@dataclass(frozen=True, slots=True)
class Machine:
    """``seen_s``: seconds since it last said that it is there, by the database's clock at the time of the question."""

    machine_id: str
    name: str
    home: str
    first_seen: datetime
    seen_at: datetime
    seen_s: float


def machine_id_of(home: Path) -> str:
    """The home's own id, made once; of two that make it at once, both get the same.

    Raises BuilderError's kin for nothing: a file that holds something else is a ValueError that names it.
    """
    file = home / MACHINE_ID
    try:
        found = file.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        found = _mint(file)
    try:
        return str(UUID(found))
    except ValueError:
        raise ValueError(
            f"{file}: {found[:80]!r} is no machine's id; remove the file, the next start makes one"
        ) from None


def _mint(file: Path) -> str:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    whole = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as new:
        new.write(f"{uuid4()}\n")
        new.flush()
        os.fsync(new.fileno())
    try:
        os.link(whole, file)  # unlike a rename, never over another process's id
    except FileExistsError:
        pass
    finally:
        whole.unlink()
    return file.read_text(encoding="ascii").strip()


class Machines(Database):
    def note_machine(self, machine_id: str, name: str, home: str) -> None:
        """Say that the machine is there. Call it again every few seconds, see GONE_S.

        Raises SecondMachine where the record is SQLite and another machine was here before.
        """
        row = {"machine_id": machine_id, "name": name, "home": home}
        statement = self._insert(machines).values(**row)
        statement = statement.on_conflict_do_update(
            index_elements=[machines.c.machine_id], set_={"name": name, "home": home, "seen_at": db_clock()}
        )
        with self._write() as connection:
            if not self._on_postgresql:
                other = select(machines).where(machines.c.machine_id != machine_id).limit(1)
                if (before := connection.execute(other).one_or_none()) is not None:
                    raise SecondMachine(self.where, f"{before.name} ({before.home})", f"{name} ({home})")
            connection.execute(statement)

    def machines(self) -> list[Machine]:
        """Every machine that was ever here, in the order of their coming."""
        query = select(machines, db_clock().label("now")).order_by(machines.c.first_seen, machines.c.machine_id)
        with self._read() as connection:
            return [
                Machine(
                    *(row.machine_id, row.name, row.home, row.first_seen, row.seen_at),
                    seen_s=(row.now - row.seen_at).total_seconds(),
                )
                for row in connection.execute(query)
            ]

    def claim_runs(self, machine_id: str, flow_run_ids: Iterable[str]) -> None:
        """Keep that the engines of these flow runs are on this machine: the one that has the process says so."""
        wanted = sorted(set(flow_run_ids))
        if not wanted:
            return
        mine = runs.c.flow_run_id.in_(wanted), runs.c.status.not_in(FINAL)
        stale = runs.c.machine_id.is_(None) | (runs.c.machine_id != machine_id)
        with self._write() as connection:
            connection.execute(runs.update().where(*mine, stale).values(machine_id=machine_id))

    def held_elsewhere(self, machine_id: str, gone_s: float = GONE_S) -> frozenset[str]:
        """Flow runs that are another machine's to judge: they are not over, it claimed them, and it was seen lately."""
        query = (
            select(runs.c.flow_run_id)
            .join(machines, machines.c.machine_id == runs.c.machine_id)
            .where(runs.c.flow_run_id.is_not(None), runs.c.status.not_in(FINAL))
            .where(runs.c.machine_id != machine_id, machines.c.seen_at >= db_clock(-gone_s))
        )
        with self._read() as connection:
            return frozenset(connection.execute(query).scalars())
