"""Databases for tests: PostgreSQL as `make up` runs it, and SQLite. Each test has one of its own."""

import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deployments.postgres import ClusterError, PrivateCluster
from tasks.adapters.registry import Registry, migrate


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[PrivateCluster]:
    """A running cluster that keeps nothing after the tests."""
    root = Path(tempfile.mkdtemp(prefix="tb-pg-"))
    try:
        for attempt in range(3):
            cluster = PrivateCluster(root, free_port(), durable=False)
            cluster.init()
            with (root / "log").open("wb") as log, subprocess.Popen(cluster.argv(), stdout=log, stderr=log) as server:
                try:
                    cluster.wait_ready()
                    yield cluster
                    return
                except ClusterError:
                    if attempt == 2 or server.poll() is None:  # it ended: somebody else was faster at the port
                        raise
                finally:
                    server.send_signal(signal.SIGINT)
    finally:
        shutil.rmtree(root)


@pytest.fixture
def postgres_database(postgres_cluster: PrivateCluster) -> Iterator[str]:
    """URL of an empty database, as a role that owns it and nothing else."""
    name = f"t_{secrets.token_hex(6)}"
    postgres_cluster.create_database(name)
    yield postgres_cluster.url(name)
    postgres_cluster.drop_database(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_registry_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a database without a schema, on each of the two kinds."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/registry.db"
    return str(request.getfixturevalue("postgres_database"))


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("migrated") / "registry.db"
    migrate(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def migrated_postgresql(postgres_cluster: PrivateCluster) -> str:
    """Name of a database, and of its role, that others are copied from."""
    postgres_cluster.create_database("migrated")
    migrate(postgres_cluster.url("migrated"))
    return "migrated"


@pytest.fixture(params=["sqlite", "postgresql"])
def registry_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a database with the registry's schema, on each of the two kinds."""
    with a_registry_url(request, tmp_path) as url:
        yield url


@contextmanager
def a_registry_url(request: pytest.FixtureRequest, folder: Path) -> Iterator[str]:
    """For a fixture whose parameter is the kind of database. Copied: it is faster than migrating."""
    if request.param == "sqlite":
        file = shutil.copy(request.getfixturevalue("migrated_sqlite"), folder / "registry.db")
        yield f"sqlite:///{file}"
        return
    cluster: PrivateCluster = request.getfixturevalue("postgres_cluster")
    template: str = request.getfixturevalue("migrated_postgresql")
    copy = f"copy_{secrets.token_hex(6)}"
    with cluster.connect() as connection:
        connection.execute(f"CREATE DATABASE {copy} TEMPLATE {template} OWNER {template}")
    yield cluster.url(template).removesuffix(template) + copy
    with cluster.connect() as connection:
        connection.execute(f"DROP DATABASE {copy} WITH (FORCE)")


@pytest.fixture
def registry(registry_url: str) -> Iterator[Registry]:
    opened = Registry.open(registry_url)
    yield opened
    opened.close()
