"""A private PostgreSQL: made once, reached with a password, and each database apart from the others."""

import os
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from deployments.postgres import ClusterError, PrivateCluster
from tests.support.databases import free_port, postgres_cluster  # noqa: F401  # pytest finds fixtures by name


def url(cluster: PrivateCluster, database: str) -> str:
    return cluster.url(database).replace("+psycopg", "")


def started(cluster: PrivateCluster) -> "subprocess.Popen[bytes]":
    """A server that answers. Started again where it ends at once, as supervisord does: after a kill -9 the old one's
    children may be there for a moment longer, and PostgreSQL refuses to start beside them.
    """
    end = time.monotonic() + 30
    while True:
        server = subprocess.Popen(cluster.argv(), stderr=subprocess.DEVNULL)
        while server.poll() is None:
            try:
                cluster.wait_ready(1)
            except ClusterError:
                assert time.monotonic() < end, "PostgreSQL did not answer within 30 s"
            else:
                return server
        assert time.monotonic() < end, f"PostgreSQL ended with exit code {server.returncode}"


@contextmanager
def running(cluster: PrivateCluster) -> Iterator["subprocess.Popen[bytes]"]:
    with started(cluster) as server:
        try:
            yield server
        finally:
            server.send_signal(signal.SIGINT)


@pytest.fixture
def two_databases(postgres_cluster: PrivateCluster) -> Iterator[PrivateCluster]:  # noqa: F811  # the fixture
    for name in ("ours", "theirs"):
        postgres_cluster.create_database(name)
    yield postgres_cluster
    for name in ("ours", "theirs"):
        postgres_cluster.drop_database(name)


def test_the_service_keeps_what_it_committed_when_it_is_killed(tmp_path: Path) -> None:
    cluster = PrivateCluster(tmp_path / "new" / "cluster", free_port())
    cluster.init()
    with running(cluster) as server:
        cluster.create_database("registry")
        with psycopg.connect(url(cluster, "registry")) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 7 AS number")
            settings = ("fsync", "synchronous_commit", "full_page_writes", "data_checksums", "server_encoding")
            found = [connection.execute(f"SHOW {name}").fetchone() for name in settings]
            assert found == [("on",), ("on",), ("on",), ("on",), ("UTF8",)]
        server.kill()
        server.wait()
    before = (cluster.data / "PG_VERSION").stat()
    cluster.init()
    assert (cluster.data / "PG_VERSION").stat() == before, "a second init makes nothing"
    with running(cluster), psycopg.connect(url(cluster, "registry")) as connection:
        assert connection.execute("SELECT number FROM kept").fetchone() == (7,)


def test_an_interrupt_ends_the_server_cleanly_though_clients_are_connected(tmp_path: Path) -> None:
    cluster = PrivateCluster(tmp_path / "cluster", free_port(), durable=False)
    cluster.init()
    with running(cluster) as server:
        assert int((cluster.data / "postmaster.pid").read_text().splitlines()[0]) == server.pid
        connection = cluster.connect()
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 0
        connection.close()
    assert not (cluster.data / "postmaster.pid").exists()


def test_a_set_up_that_was_killed_is_made_again(tmp_path: Path) -> None:
    cluster = PrivateCluster(tmp_path, free_port(), durable=False)
    (tmp_path / "data.new" / "base").mkdir(parents=True)
    (tmp_path / "data.new" / "PG_VERSION").write_text("18")
    cluster.init()
    with running(cluster):
        cluster.create_database("registry")
    assert not (tmp_path / "data.new").exists()


def test_a_set_up_that_is_impossible_says_why_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "cluster").mkdir()
    (tmp_path / "cluster" / "data.new").symlink_to(tmp_path / "file")
    with pytest.raises(ClusterError, match=r"could not be set up in .*TMUX_BUILDER_DATABASE_URL"):
        PrivateCluster(tmp_path / "cluster", free_port()).init()


def test_a_server_that_is_not_there_is_told(tmp_path: Path) -> None:
    cluster = PrivateCluster(tmp_path, free_port())
    started = time.monotonic()
    with pytest.raises(ClusterError, match=rf"127\.0\.0\.1:{cluster.port} was not ready after 0 s: .*refused"):
        cluster.wait_ready(0.2)
    assert time.monotonic() - started < 10


def test_passwords_are_ours_alone_and_not_on_any_command_line(two_databases: PrivateCluster) -> None:
    files = sorted((two_databases.root / "passwords").iterdir())
    assert {"ours", "postgres", "theirs"} <= {file.name for file in files}
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in files)
    assert len({file.read_text() for file in files}) == len(files)
    assert not any(file.read_text() in " ".join(two_databases.argv()) for file in files)
    assert stat.S_IMODE(two_databases.data.stat().st_mode) == 0o700


def test_only_loopback_is_listened_on(two_databases: PrivateCluster) -> None:
    with two_databases.connect() as connection:
        found = [
            connection.execute(f"SHOW {name}").fetchone() for name in ("listen_addresses", "unix_socket_directories")
        ]
    assert found == [("127.0.0.1",), ("",)]


def test_nobody_comes_in_without_the_password(two_databases: PrivateCluster) -> None:
    for password in ("", "wrong"):
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(
                host="127.0.0.1",
                port=two_databases.port,
                user="ours",
                dbname="ours",
                password=password,
                passfile="/dev/null",
            )


def test_a_role_reaches_its_own_database_and_no_other(two_databases: PrivateCluster) -> None:
    with psycopg.connect(url(two_databases, "ours")) as connection:
        connection.execute("CREATE TABLE mine ()")
    for other in ("theirs", "postgres", "template1"):
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(url(two_databases, "ours").removesuffix("ours") + other)


@pytest.mark.parametrize(
    "attempt",
    [
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "COPY (SELECT 1) TO '/tmp/out'",
        "SELECT pg_read_file('/etc/passwd')",
        "CREATE ROLE mine SUPERUSER",
        "ALTER ROLE ours SUPERUSER",
        "CREATE DATABASE mine",
        "ALTER SYSTEM SET archive_command = 'true'",
        "SET SESSION AUTHORIZATION postgres",
    ],
)
def test_a_role_cannot_reach_the_machine(two_databases: PrivateCluster, attempt: str) -> None:
    with (
        psycopg.connect(url(two_databases, "ours"), autocommit=True) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(attempt)


def test_creating_a_database_again_keeps_its_rows(two_databases: PrivateCluster) -> None:
    with psycopg.connect(url(two_databases, "ours")) as connection:
        connection.execute("CREATE TABLE kept ()")
    two_databases.create_database("ours")
    with psycopg.connect(url(two_databases, "ours")) as connection:
        assert connection.execute("SELECT to_regclass('kept') IS NOT NULL").fetchone() == (True,)


@pytest.mark.parametrize("name", ["postgres", "template1", "pg_x", "", "A", "a-b", "a;b", "a\nb", "1a", "a" * 60])
def test_a_database_has_a_plain_name_of_its_own(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="allowed: a to z"):
        PrivateCluster(tmp_path, free_port()).create_database(name)


def test_the_server_does_not_run_as_root_in_its_own_eyes(two_databases: PrivateCluster) -> None:
    pid = int((two_databases.data / "postmaster.pid").read_text().splitlines()[0])
    outside, inside = Path("/proc/self/ns/user"), Path(f"/proc/{pid}/ns/user")
    assert (outside.readlink() == inside.readlink()) == (os.geteuid() != 0)


def test_two_objects_of_one_cluster_agree_on_the_password(tmp_path: Path) -> None:
    one, other = PrivateCluster(tmp_path, 1), PrivateCluster(tmp_path, 1)
    assert one.url("registry") == other.url("registry")
    assert one.url("registry", driver="asyncpg").startswith("postgresql+asyncpg://registry:")
