"""The schema: migrations and models agree, the database itself refuses nonsense, and old and new programs say so."""

import json
import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError

from tasks.adapters.registry import Registry, RevisionMismatch, migrate, schema
from tasks.adapters.registry.database import engine_for, parse
from tasks.adapters.registry.migrations import config_for
from tasks.domain.pipeline import Step
from tests.tasks.adapters.registry.orders import a_request, an_execution, counts, migrate_at
from tests.tasks.adapters.registry.processes import in_processes

ROOT = Path(__file__).parents[4]


@pytest.fixture
def engine(empty_registry_url: str) -> Iterator[Engine]:
    """A database without a schema."""
    made = engine_for(parse(empty_registry_url), migrating=True)
    yield made
    made.dispose()


def as_built(connection: Connection) -> Any:
    """Everything that the database knows of its tables: columns, keys, checks, indexes."""
    if connection.dialect.name == "sqlite":
        query = "SELECT name, sql FROM sqlite_master WHERE type IN ('table', 'index') AND tbl_name <> 'alembic_version'"
        written = {name: re.sub(r"[\s\"]+", " ", sql or "") for name, sql in connection.execute(text(query))}
        parts = {name: re.split(r" (?=CONSTRAINT )", sql) for name, sql in written.items()}
        return {name: sorted(part.rstrip(" ,)") for part in each) for name, each in parts.items()}
    constraints = (
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE connamespace = 'public'::regnamespace"
    )
    indexes = "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
    columns = (
        "SELECT table_name, column_name, data_type || ' ' || is_nullable || coalesce(' ' || column_default, '') "
        "FROM information_schema.columns WHERE table_schema = 'public'"
    )
    return {
        (table, name): definition
        for query in (constraints, indexes, columns)
        for table, name, definition in connection.execute(text(query))
        if table != "alembic_version"
    }


def test_migrations_end_where_the_models_are(engine: Engine) -> None:
    with engine.begin() as connection:
        config = config_for(connection)
        assert ScriptDirectory.from_config(config).get_heads() == [schema.REVISION]
        command.upgrade(config, "head")
        command.check(config)
        migrated = as_built(connection)
        command.downgrade(config, "base")
        schema.metadata.create_all(connection)
        assert as_built(connection) == migrated, "checks and conditions of indexes, too, which alembic does not compare"
        assert len(migrated) > len(schema.metadata.tables)


def test_a_migration_can_be_taken_back_and_made_again(engine: Engine) -> None:
    with engine.begin() as connection:
        for _ in range(2):
            command.upgrade(config_for(connection), "head")
            assert set(inspect(connection).get_table_names()) == {*schema.metadata.tables, "alembic_version"}
            inspect(connection).clear_cache()
            command.downgrade(config_for(connection), "base")
            assert set(inspect(connection).get_table_names()) == {"alembic_version"}


def test_migrating_again_changes_nothing_and_keeps_the_rows(empty_registry_url: str) -> None:
    migrate(empty_registry_url)
    registry = Registry.open(empty_registry_url)
    accepted = registry.accept(a_request(), "k")
    before = counts(registry)
    migrate(empty_registry_url)
    assert counts(registry) == before
    assert registry.execution(accepted.execution_id).request == a_request()
    registry.close()


def test_the_rows_of_an_older_revision_come_along(engine: Engine, empty_registry_url: str) -> None:
    """A live site of revision 0001 is a good one in 0002, and all else stays."""
    migrate(empty_registry_url)
    registry = Registry.open(empty_registry_url)
    accepted = registry.accept(a_request(), "k", "flow")
    registry.close()
    with engine.begin() as connection:
        command.downgrade(config_for(connection), "0001")
        connection.execute(text("UPDATE sites SET live_release = 'r1-abc', state = 'live'"))
    migrate(empty_registry_url)
    registry = Registry.open(empty_registry_url)
    with registry.engine.connect() as connection:
        assert connection.execute(select(schema.sites.c.good_release)).scalar_one() == "r1-abc"
        assert connection.execute(select(schema.runs.c.run_id)).scalar_one() == accepted.run_id
    assert registry.execution(accepted.execution_id).request == a_request()
    registry.close()


def test_three_processes_that_migrate_at_once_take_turns(empty_registry_url: str) -> None:
    assert in_processes(migrate_at, empty_registry_url, [1, 2, 3]) == ["migrated"] * 3
    Registry.open(empty_registry_url).close()


def test_a_migration_that_fails_leaves_the_database_as_it_was(engine: Engine, empty_registry_url: str) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE steps (mine INTEGER)"))
    with pytest.raises((DBAPIError, ConnectionError)):
        migrate(empty_registry_url)
    with engine.connect() as connection:
        assert inspect(connection).get_table_names() == ["steps"]


def test_a_database_without_a_schema_is_refused_with_the_command_that_makes_it(empty_registry_url: str) -> None:
    with pytest.raises(RevisionMismatch) as refused:
        Registry.open(empty_registry_url)
    assert "has no schema yet; this program needs revision 0005" in str(refused.value)
    assert "python -m tasks.adapters.registry" in str(refused.value)
    if parse(empty_registry_url).get_backend_name() == "sqlite":
        assert not Path(str(parse(empty_registry_url).database)).exists(), "looking did not make the file"


@pytest.mark.parametrize(
    ("found", "words"),
    [("9999", "has schema revision 9999, which this program does not know"), ("", "has schema revision")],
)
def test_a_database_of_a_newer_program_is_refused_and_not_touched(registry_url: str, found: str, words: str) -> None:
    engine = engine_for(parse(registry_url))
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :found"), {"found": found})
    for use in (Registry.open, migrate):
        with pytest.raises(RevisionMismatch) as refused:
            use(registry_url)
        assert words in str(refused.value)
        assert "needs revision 0005" in str(refused.value)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == found
    engine.dispose()


def test_an_older_revision_is_told_from_a_newer_one() -> None:
    older = RevisionMismatch("sqlite:////r.db", "0001", "0005", True)
    newer = RevisionMismatch("sqlite:////r.db", "0006", "0005", False)
    assert "which is older; this program needs revision 0005; stop the service, then: python -m" in str(older)
    assert "which this program does not know; this program needs revision 0005; run the newer program" in str(newer)


def test_the_command_migrates_the_database_of_the_settings(empty_registry_url: str, tmp_path: Path) -> None:
    environment = {"TMUX_BUILDER_HOME": str(tmp_path), "TMUX_BUILDER_DATABASE_URL": empty_registry_url}
    done = subprocess.run(
        [sys.executable, "-m", "tasks.adapters.registry"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("is at revision 0005\n")
    if password := parse(empty_registry_url).password:
        assert password not in done.stdout
    Registry.open(empty_registry_url).close()


@pytest.mark.parametrize(
    ("table", "values"),
    [
        ("executions", {"status": "done"}),
        ("executions", {"status": "COMPLETED"}),
        ("executions", {"status": None}),
        ("executions", {"verdict": "fine"}),
        ("executions", {"current_step": 10}),
        ("executions", {"user_id": "nobody"}),
        ("runs", {"status": "completed"}),  # without ended_at
        ("runs", {"status": "crashed"}),
        ("runs", {"verb": "rollback"}),
        ("runs", {"verb": "reverify"}),  # it leads
        ("runs", {"attempt": 0}),
        ("steps", {"status": "skipped"}),
        ("steps", {"status": "done"}),  # without an outcome
        ("steps", {"step": 0}),
        ("sites", {"state": "dead"}),
        ("leases", {"owner": "nobody's"}),  # without an end
        ("deliveries", {"run_id": None}),  # and no refusal
        ("deliveries", {"refusal": "both"}),
        ("events", {"kind": "rewritten"}),
    ],
)
def test_the_database_itself_refuses(registry: Registry, table: str, values: dict[str, Any]) -> None:
    an_execution(registry)
    with pytest.raises(IntegrityError), registry.engine.begin() as connection:
        connection.execute(update(schema.metadata.tables[table]).values(values))


def test_events_are_only_ever_added(registry: Registry) -> None:
    an_execution(registry)
    before = counts(registry)["events"]
    changes = ["DELETE FROM events", "UPDATE events SET data = '{}'"]
    if registry.engine.dialect.name == "postgresql":
        changes.append("TRUNCATE events")
    for change in changes:
        with pytest.raises(IntegrityError, match="only ever added"), registry.engine.begin() as connection:
            connection.execute(text(change))
    assert counts(registry)["events"] == before


def test_one_execution_shows_one_run(registry: Registry) -> None:
    accepted = an_execution(registry)
    row = {"run_id": "second", "execution_id": accepted.execution_id, "verb": "redeploy", "status": "pending"}
    with pytest.raises(IntegrityError), registry.engine.begin() as connection:
        connection.execute(schema.runs.insert().values(**row, leads=True))


def test_one_run_of_a_verb_waits_for_the_dispatcher(registry: Registry) -> None:
    accepted = registry.accept(a_request(), "k")
    row = {"run_id": "second", "execution_id": accepted.execution_id, "verb": "full-build", "status": "pending"}
    with pytest.raises(IntegrityError), registry.engine.begin() as connection:
        connection.execute(schema.runs.insert().values(**row, leads=False))


def test_moments_come_back_aware_and_in_utc(registry: Registry) -> None:
    moment = datetime.fromisoformat("2026-01-24T14:30:22.123456+05:30")
    with registry.engine.begin() as connection:
        connection.execute(schema.users.insert().values(user_id="u", email="e", phone="p", created_at=moment))
        found = connection.execute(select(schema.users.c.created_at)).scalar_one()
        assert found == moment
        assert found.isoformat() == "2026-01-24T09:00:22.123456+00:00"
        with pytest.raises(StatementError, match="has no time zone"):
            connection.execute(schema.users.update().values(created_at=moment.replace(tzinfo=None)))


def test_the_databases_clock_goes_on_inside_a_transaction(registry: Registry) -> None:
    with registry.engine.begin() as connection:

        def clock(seconds: float = 0) -> datetime:
            return connection.execute(select(schema.db_clock(seconds))).scalar_one()

        first, end = clock(), time.monotonic() + 10
        while clock() == first:
            assert time.monotonic() < end, "it stands still"
        assert 3599 < (clock(3600) - first).total_seconds() < 3660
        before, shifted, after = clock(), clock(0.25), clock()
        assert timedelta(seconds=0.249) < shifted - before
        assert shifted - after < timedelta(seconds=0.251)


def test_outcomes_keep_the_order_of_their_keys(registry: Registry) -> None:
    accepted = an_execution(registry)
    outcome = {"zebra": 1, "a": {"long name": 1, "b": 2}}
    registry.finish_step(accepted.run_id, Step.CREATE_USER, outcome)
    assert json.dumps(registry.stored_outcome(accepted.run_id, Step.CREATE_USER)) == json.dumps(outcome)


def test_sqlite_is_durable_checked_and_private(tmp_path: Path) -> None:
    file = tmp_path / "new" / "registry.db"
    migrate(f"sqlite:///{file}")
    registry = Registry.open(f"sqlite:///{file}")
    try:
        with registry.engine.connect() as connection:
            pragmas = ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
            found = [connection.exec_driver_sql(f"PRAGMA {pragma}").scalar() for pragma in pragmas]
            assert found == ["wal", 2, 30000, 1]
        registry.accept(a_request(), "k")
        for each in file.parent.iterdir():
            assert stat.S_IMODE(each.stat().st_mode) == 0o600, each
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    finally:
        registry.close()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://root:hidden@h/d"])
def test_a_url_that_cannot_keep_the_record_is_refused(url: str) -> None:
    for use in (Registry.open, migrate):
        with pytest.raises(ValueError, match="cannot keep the record; allowed: postgresql://") as refused:
            use(url)
        assert "hidden" not in str(refused.value)


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg2", "postgresql+asyncpg"])
def test_any_spelling_of_a_postgresql_url_uses_the_driver_that_is_there(scheme: str) -> None:
    assert parse(f"{scheme}://u:p@h/d").drivername == "postgresql+psycopg"


def test_a_flow_process_loads_neither_alembic_nor_the_orm_nor_the_other_driver(migrated_sqlite: Path) -> None:
    program = (
        "import sys; from tasks.adapters.registry import Registry; "
        f"Registry.open('sqlite:///{migrated_sqlite}').close(); "
        "print([name for name in ('alembic', 'sqlalchemy.orm', 'psycopg', 'mako') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
