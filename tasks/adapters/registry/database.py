"""The database below the record: connections, transactions, and its trouble in words that the pipeline knows."""

import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    ExceptionContext,
    Row,
    Table,
    create_engine,
    event,
    func,
    inspect,
    make_url,
    select,
    text,
)
from sqlalchemy import exc as trouble
from sqlalchemy.dialects import sqlite

from tasks.adapters.registry.errors import RevisionMismatch, RunEnded, Superseded
from tasks.adapters.registry.schema import REVISION, db_clock, events, executions, notices, runs
from tasks.domain.errors import UnknownExecution
from tasks.domain.ids import EXECUTION_ID
from tasks.domain.notice import Channel, Occasion
from tasks.domain.pipeline import Status, Verb

if TYPE_CHECKING:
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

POOL = 5
"""Connections that stay open; as many again come and go under load. A pool that is used up makes callers wait."""

WAIT_S = 30
"""How long a statement waits for a lock, and a caller for a connection."""

_WAIT_TOLD_AFTER_S = 10.0

_POSTGRESQL_OPTIONS = (
    f"-c lock_timeout={WAIT_S}s -c statement_timeout=60s -c idle_in_transaction_session_timeout=60s -c timezone=UTC"
)


def parse(url: str) -> URL:
    """The URL with the driver that is installed. Raises ValueError for what the record cannot be kept in."""
    parsed = make_url(url)
    match parsed.get_backend_name():
        case "postgresql" | "postgres":
            return parsed.set(drivername="postgresql+psycopg")
        case "sqlite" if parsed.database and parsed.database != ":memory:":
            return parsed
        case name:
            shown = parsed.render_as_string(hide_password=True)
            raise ValueError(
                f"TMUX_BUILDER_DATABASE_URL: {shown} ({name}) cannot keep the record; "
                "allowed: postgresql://user:password@host/database, or sqlite:////absolute/path/registry.db"
            )


def engine_for(url: URL, *, migrating: bool = False) -> Engine:
    """An engine whose connections keep what the record promises. Safe to share between threads, not across a fork.

    Statements' parameters stay out of error texts: they hold what people wrote.
    """
    if url.get_backend_name() != "sqlite":
        options = _POSTGRESQL_OPTIONS + (" -c lock_timeout=0 -c statement_timeout=0" if migrating else "")
        engine = create_engine(
            url,
            hide_parameters=True,
            pool_size=POOL,
            max_overflow=POOL,
            pool_timeout=WAIT_S,
            pool_pre_ping=True,  # a server that was restarted is not even noticed
            connect_args={"connect_timeout": 10, "application_name": "tmux-builder", "options": options},
        )
        event.listen(engine, "handle_error", _tell_less)
        return engine
    engine = create_engine(url, hide_parameters=True, pool_size=POOL, max_overflow=POOL, pool_timeout=WAIT_S)

    @event.listens_for(engine, "connect")
    def _prepare(connection: "DBAPIConnection", _entry: "ConnectionPoolEntry") -> None:
        cast("Any", connection).isolation_level = None  # the driver's own BEGIN comes too late, and is not IMMEDIATE
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={WAIT_S * 1000}")
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute(f"PRAGMA foreign_keys={'OFF' if migrating else 'ON'}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A writer that begins as a reader fails when it turns out that somebody wrote in between.
        reads = connection.get_execution_options().get("reads", False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def _tell_less(context: ExceptionContext) -> None:
    """PostgreSQL's details quote whole rows; its first line names the constraint, and that is enough."""
    for error in (context.original_exception, context.sqlalchemy_exception):
        if error is not None and error.args:
            error.args = (str(error.args[0]).partition("\n")[0], *error.args[1:])


@contextmanager
def in_our_words(where: str) -> Iterator[None]:
    """Trouble on the way to the database becomes ConnectionError, which every step repeats."""
    try:
        yield
    except (trouble.OperationalError, trouble.InterfaceError) as error:
        reason = str(error.orig).strip().splitlines()
        raise ConnectionError(
            f"the registry at {where} did not answer: {reason[0] if reason else type(error.orig).__name__}; "
            "if it lasts, see whether the database runs (make up) and its disk has room"
        ) from error
    except trouble.TimeoutError as error:
        raise ConnectionError(
            f"the registry at {where} gave no connection in {WAIT_S} s: {POOL * 2} are in use; try again a little later"
        ) from error


def revision_of(connection: Connection) -> str | None:
    """The schema revision that the database is at; None where it has no schema."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def is_known(revision: str) -> bool:
    """Whether this program has that revision: their files carry it in the name, so alembic need not be loaded."""
    return any((Path(__file__).parent / "migrations" / "versions").glob(f"v{revision}_*.py"))


def check_revision(engine: Engine, where: str) -> None:
    """Raises RevisionMismatch unless the database is at this program's revision."""
    if engine.dialect.name == "sqlite" and not Path(str(engine.url.database)).exists():
        raise RevisionMismatch(where, None, REVISION, False)  # looking inside would create it
    with in_our_words(where), engine.execution_options(reads=True).connect() as connection:
        found = revision_of(connection)
    if found != REVISION:
        raise RevisionMismatch(where, found, REVISION, found is not None and is_known(found))


class Database:
    """What the parts of the record share. Every public method is one transaction; nothing is half written.

    Raises ConnectionError, which is transient, where the database is away or busy for too long.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        mint: Callable[[], uuid.UUID] = uuid.uuid4,
    ) -> None:
        self.engine = engine
        self.where = engine.url.render_as_string(hide_password=True)
        self._reader = engine.execution_options(reads=True)
        self._clock, self._mint = clock, mint
        self._on_postgresql = engine.dialect.name == "postgresql"

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with in_our_words(self.where), self.engine.begin() as connection:
            yield connection

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with in_our_words(self.where), self._reader.connect() as connection:
            yield connection

    def _insert(self, table: Table) -> sqlite.Insert:
        """An INSERT that takes ON CONFLICT; both dialects spell it alike."""
        if not self._on_postgresql:
            return sqlite.insert(table)
        from sqlalchemy.dialects import postgresql

        return cast("sqlite.Insert", postgresql.insert(table))

    def _one_at_a_time(self, connection: Connection, what: str) -> None:
        """Wait until no other transaction does ``what``; until commit, this one does. SQLite's writers queue anyway."""
        if self._on_postgresql:
            connection.execute(select(func.pg_advisory_xact_lock(func.hashtext(what))))

    def _lock_execution(self, connection: Connection, execution_id: str) -> Row[Any]:
        """The execution's row, held until commit: whatever changes an execution or what hangs on it starts here.

        So its changes have one order, and its events' numbers tell it. Raises UnknownExecution.
        """
        row = None
        if EXECUTION_ID.fullmatch(execution_id):
            query = select(executions).where(executions.c.execution_id == execution_id)
            row = connection.execute(query.with_for_update(key_share=True)).one_or_none()
        if row is None:
            raise UnknownExecution(execution_id)
        return row

    def _lock_run(self, connection: Connection, run_id: str) -> tuple[Row[Any], Row[Any]]:
        """The run's execution, held until commit, and the run. Raises LookupError where there is no such run."""
        own = select(runs.c.execution_id).where(runs.c.run_id == run_id).scalar_subquery()
        query = select(executions).where(executions.c.execution_id == own)
        execution = connection.execute(query.with_for_update(key_share=True)).one_or_none()
        if execution is None:
            raise LookupError(
                f"the registry has no run {run_id!r}; take the id that accept, request_run or adopt_run gave"
            )
        return execution, connection.execute(select(runs).where(runs.c.run_id == run_id)).one()

    def _note(
        self, connection: Connection, kind: str, execution_id: str | None, run_id: str | None = None, /, **data: Any
    ) -> None:
        """Append an event. Call it with the execution's row held."""
        row = {"execution_id": execution_id, "run_id": run_id, "kind": kind, "data": data}
        connection.execute(events.insert(), row)

    def _announce(
        self,
        connection: Connection,
        occasion: Occasion,
        execution_id: str,
        run_id: str,
        details: dict[str, Any],
        question_id: str | None = None,
        channels: Iterable[Channel] = tuple(Channel),
    ) -> None:
        """Write a notice for each channel, to be sent once this transaction is there. Whether a channel is switched on
        is the sender's business: what writes here need not know.

        A wait without a question may be over before it is told, such as one that a sweep saw as it ended.
        """
        same = {"execution_id": execution_id, "run_id": run_id, "occasion": occasion, "details": details}
        rows = [
            {**same, "notice_id": str(self._mint()), "question_id": question_id, "channel": channel}
            for channel in channels
        ]
        statement = notices.insert()
        if occasion is Occasion.WAITING_INPUT and question_id is None:
            statement = statement.values(due_at=db_clock(_WAIT_TOLD_AFTER_S))
        connection.execute(statement, rows)

    def _takes_lead(self, connection: Connection, execution: Row[Any], run: Row[Any]) -> bool:
        """Whether the execution shows this run; from here on it does, unless it shows one that is not over.

        Only runs that make a release are shown. Call it with the execution's row held.
        """
        if run.leads or not Verb(run.verb).leads:
            return bool(run.leads)
        shown = runs.c.execution_id == execution.execution_id, runs.c.leads
        leader = connection.execute(select(runs.c.status).where(*shown)).scalar()
        if leader is not None and not Status(leader).is_final:
            return False
        connection.execute(runs.update().where(*shown).values(leads=False))
        connection.execute(runs.update().where(runs.c.run_id == run.run_id).values(leads=True))
        self._start_over(connection, execution, run.run_id)
        return True

    def _start_over(self, connection: Connection, execution: Row[Any], run_id: str) -> None:
        """Set the execution back to pending, for another run or another attempt. The verdict on what is live stays."""
        values = {"status": Status.PENDING, "current_step": 0, "error": None, "updated_at": db_clock()}
        this = executions.c.execution_id == execution.execution_id
        connection.execute(executions.update().where(this).values(**values))
        if execution.status != Status.PENDING:
            old, new = execution.status, Status.PENDING
            self._note(connection, "status", execution.execution_id, run_id, old=old, new=new)


def refuse_superseded(run: Row[Any], attempt: int | None) -> None:
    """Raises Superseded where a later attempt than the caller's has begun."""
    if attempt is not None and run.attempt > attempt:
        raise Superseded(run.run_id, attempt, run.attempt)


def refuse_ended(run: Row[Any]) -> None:
    """Raises RunEnded for a run that is over: what comes late cannot revive it."""
    if Status(run.status).is_final:
        raise RunEnded(run.run_id, run.execution_id, run.status)
