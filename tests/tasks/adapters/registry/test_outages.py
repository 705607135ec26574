"""When the database is away or busy: a transient error in plain words, and everything as before once it is back."""

import signal
import sqlite3
import subprocess
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import IntegrityError

from deployments.postgres import PrivateCluster
from tasks.adapters.registry import Registry, migrate, schema
from tasks.adapters.registry.database import engine_for, parse
from tasks.domain.errors import is_transient
from tasks.domain.pipeline import Status
from tests.support.databases import free_port
from tests.tasks.adapters.registry.orders import a_request, an_execution, at_once, counts


def trouble(call: Callable[[], object]) -> ConnectionError:
    with pytest.raises(ConnectionError) as found:
        call()
    assert is_transient(found.value)
    assert "registry at" in str(found.value)
    return found.value


def test_a_server_that_is_not_there_is_a_transient_error_without_the_password() -> None:
    url = f"postgresql://someone:s3cr3t@127.0.0.1:{free_port()}/registry"
    for use in (Registry.open, migrate):
        error = trouble(lambda use=use: use(url))
        assert "make up" in str(error)
        assert "s3cr3t" not in str(error)


def test_a_server_that_stops_and_comes_back_is_used_again(tmp_path: Path) -> None:
    cluster = PrivateCluster(tmp_path / "cluster", free_port())
    cluster.init()

    def start() -> "subprocess.Popen[bytes]":
        # Where processes of one that was killed still hold its shared memory, a server refuses to start.
        for _ in range(20):
            process = subprocess.Popen(cluster.argv(), stderr=subprocess.DEVNULL)
            with suppress(subprocess.TimeoutExpired):
                process.wait(1)
                continue
            break
        cluster.wait_ready(60)
        return process

    server = start()
    try:
        cluster.create_database("registry")
        migrate(cluster.url("registry"))
        registry = Registry.open(cluster.url("registry"))
        accepted = registry.accept(a_request(), "k")
        server.kill()
        server.wait()
        trouble(lambda: registry.progress(accepted.execution_id))
        trouble(lambda: registry.accept(a_request(), "other"))
        server = start()
        assert registry.progress(accepted.execution_id).status is Status.PENDING
        assert registry.accept(a_request(), "other").created
        registry.close()
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(60)


def test_connections_that_the_server_ended_are_not_even_noticed(postgres_database: str) -> None:
    migrate(postgres_database)
    registry, killer = Registry.open(postgres_database), engine_for(parse(postgres_database))
    try:
        accepted = an_execution(registry)
        at_once([lambda: registry.progress(accepted.execution_id)] * 5)
        with killer.connect() as connection:
            others = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
            others += "AND datname = current_database()"
            assert connection.execute(text(others)).scalar_one() >= 1
        assert registry.progress(accepted.execution_id).status is Status.RUNNING
    finally:
        killer.dispose()
        registry.close()


def test_an_acceptance_that_is_cut_off_before_its_commit_leaves_nothing(postgres_database: str) -> None:
    def cut_off(connection: Connection) -> None:
        connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")

    migrate(postgres_database)
    registry = Registry.open(postgres_database)
    try:
        event.listen(registry.engine, "commit", cut_off)
        trouble(lambda: registry.accept(a_request(), "k"))
        event.remove(registry.engine, "commit", cut_off)
        assert counts(registry) == {}
    finally:
        registry.close()


def test_a_full_disk_of_sqlite_is_told_and_the_record_stays_whole(migrated_sqlite: Path, tmp_path: Path) -> None:
    file = tmp_path / "registry.db"
    file.write_bytes(migrated_sqlite.read_bytes())
    registry = Registry.open(f"sqlite:///{file}")
    try:
        accepted = registry.accept(a_request(), "k")
        before = counts(registry)
        with registry.engine.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        registry.engine.dispose()
        full = Registry.open(f"sqlite:///{file}")
        with full.engine.connect() as connection:
            connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")
        error = trouble(lambda: full.post_message(accepted.execution_id, "agent", "x" * 1_000_000))
        assert "full" in str(error)
        full.close()
        assert counts(registry) == before
        assert registry.post_message(accepted.execution_id, "agent", "x" * 1_000_000)
    finally:
        registry.close()


def test_a_reader_does_not_wait_for_a_writer(registry: Registry) -> None:
    accepted = an_execution(registry)
    with registry._write() as connection:
        registry._lock_execution(connection, accepted.execution_id)
        assert registry.progress(accepted.execution_id).status is Status.RUNNING
        assert registry.execution(accepted.execution_id).execution_id == accepted.execution_id


def test_a_busy_sqlite_is_waited_for(migrated_sqlite: Path, tmp_path: Path) -> None:
    file = tmp_path / "registry.db"
    file.write_bytes(migrated_sqlite.read_bytes())
    registry = Registry.open(f"sqlite:///{file}")
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    try:
        other.execute("BEGIN IMMEDIATE")

        def let_go() -> None:
            other.execute("COMMIT")

        found = at_once([lambda: registry.accept(a_request(), "k").created, let_go])
        assert found == [True, None]
    finally:
        other.close()
        registry.close()


def test_error_texts_do_not_carry_what_people_wrote(registry: Registry) -> None:
    accepted = an_execution(registry)
    broken = schema.executions.update().where(schema.executions.c.execution_id == accepted.execution_id)
    secret = broken.values(status="secret", request={"email": "secret@example.com"})
    with pytest.raises(IntegrityError) as found, registry.engine.begin() as connection:
        connection.execute(secret)
    story = "".join(traceback.format_exception(found.value))
    assert "ck_executions_status_known" in story or "CHECK constraint failed" in story
    assert "secret" not in story.replace("connection.execute(secret)", "")
