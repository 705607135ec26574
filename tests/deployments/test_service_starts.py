"""`make up` where something stands in its way, and `make down`. Each test has a home of its own."""

import json
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from deployments.configuration import ServiceRefused
from deployments.databases import create_beside
from deployments.postgres import PrivateCluster
from deployments.processes import Process
from deployments.service import beside, refuse_taken
from tests.support.databases import free_port
from tests.support.service import PROGRAMS, ServiceUnderTest, processes_of


def test_a_port_that_is_taken_is_named_with_the_variable_that_changes_it(own_service: ServiceUnderTest) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(own_service.base["TMUX_BUILDER_SITES_PORT"])))
        taken.listen()
        refused = own_service.make("up")
    assert refused.returncode == 1
    assert own_service.base["TMUX_BUILDER_SITES_PORT"] in refused.stderr
    assert "TMUX_BUILDER_SITES_PORT=" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert processes_of(own_service.home) == []


def test_a_port_that_was_just_left_may_be_taken_again() -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            server.accept()[0].close()  # who closes first keeps the port in TIME_WAIT
        with pytest.raises(ServiceRefused, match=f"port {port} .*X="):
            refuse_taken("X", port)
    refuse_taken("X", port)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PREFECT_SERVER_API_PORT", "http", "is not a port"),
        ("PREFECT_SERVER_API_PORT", "70000", "is not a port"),
        ("TMUX_BUILDER_DATABASE_URL", "sqlite:////tmp/x.db", "private PostgreSQL"),
        ("TMUX_BUILDER_DATABASE_URL", "nonsense", "private PostgreSQL"),
        ("TMUX_BUILDER_HOME", "/tmp/" + "x" * 90, "at most"),  # noqa: S108  # never made
    ],
)
def test_a_setting_that_cannot_work_is_refused_by_name(
    own_service: ServiceUnderTest, name: str, value: str, words: str
) -> None:
    refused = own_service.make("up", **{name: value})
    assert refused.returncode == 1
    assert name in refused.stderr
    assert words in refused.stderr
    assert "Traceback" not in refused.stderr
    assert processes_of(own_service.home) == []


def test_a_database_server_that_is_away_is_named_without_its_password(own_service: ServiceUnderTest) -> None:
    url = f"postgresql://me:secret-pass@127.0.0.1:{free_port()}/sites"
    refused = own_service.make("up", TMUX_BUILDER_DATABASE_URL=url)
    assert refused.returncode == 1
    assert "TMUX_BUILDER_DATABASE_URL" in refused.stderr
    assert "secret-pass" not in refused.stdout + refused.stderr


def test_down_is_safe_where_nothing_runs(own_service: ServiceUnderTest) -> None:
    for _ in range(2):
        stopped = own_service.make("down")
        assert stopped.returncode == 0, stopped.stderr
        assert "nothing" in stopped.stdout


@pytest.fixture
def bystanders(tmp_path: Path) -> Iterator[list[Process]]:
    """A tmux server and a process that are none of the home's business."""
    other = tmp_path / "other"
    subprocess.run(["tmux", "-S", str(other), "new-session", "-d", "sleep 600"], check=True)
    told = subprocess.run(["tmux", "-S", str(other), "display", "-p", "#{pid}"], check=True, capture_output=True)
    with subprocess.Popen(["sleep", "600"]) as sleeper:
        found = [Process.of(int(told.stdout)), Process.of(sleeper.pid)]
        yield [process for process in found if process]
        sleeper.kill()
    subprocess.run(["tmux", "-S", str(other), "kill-server"], check=True)


def test_down_ends_agents_and_runs_of_this_home_and_nothing_else(
    own_service: ServiceUnderTest, bystanders: list[Process]
) -> None:
    run = own_service.home / "run"
    (run / "engines").mkdir(parents=True)
    subprocess.run(["tmux", "-S", str(run / "0a1b2c3d"), "new-session", "-d", "sleep 600"], check=True)
    (run / "stale").touch()
    with socket.socket(socket.AF_UNIX) as stranger, subprocess.Popen(["sleep", "600"]) as engine:
        stranger.bind(str(run / "egress"))
        stranger.listen()
        started = Process.of(engine.pid)
        assert started is not None
        told = {"pid": started.pid, "started": started.started, "boot": started.boot}
        (run / "engines" / "one").write_text(json.dumps({"process": told, "watcher": None}))
        recycled = {**told, "pid": bystanders[1].pid}
        (run / "engines" / "two").write_text(json.dumps({"process": recycled, "watcher": None}))
        stopped = own_service.make("down")
        assert stopped.returncode == 0, stopped.stderr
        assert engine.wait(5) == -signal.SIGTERM
    assert "1 run and 1 agent session" in stopped.stdout
    assert not (run / "0a1b2c3d").exists()
    assert len(bystanders) == 2
    assert all(process.alive() for process in bystanders)


def test_two_starts_at_once_are_one_and_programs_that_lost_supervisord_are_found_again(
    own_service: ServiceUnderTest,
) -> None:
    with ThreadPoolExecutor() as pool:  # two at once: the second waits, and finds the work done
        first, second = pool.map(own_service.make, ("up", "up"))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert sorted("starting the service" in started.stdout for started in (first, second)) == [False, True]
    orphans = [own_service.process(program) for program in PROGRAMS]
    own_service.process("supervisord").send(signal.SIGKILL)
    again = own_service.make("up")
    assert again.returncode == 0, again.stderr
    assert not any(orphan.alive() for orphan in orphans)
    own_service.process("supervisord").send(signal.SIGKILL)
    stopped = own_service.make("down")
    assert stopped.returncode == 0, stopped.stderr
    assert processes_of(own_service.home) == []


@pytest.fixture
def registry_role(postgres_cluster: PrivateCluster) -> Iterator[str]:
    """URL of a database whose role may do nothing else."""
    postgres_cluster.create_database("sites")
    yield postgres_cluster.url("sites")
    with postgres_cluster.connect() as connection:
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS sites_prefect WITH (FORCE)"))
    postgres_cluster.drop_database("sites")


def test_a_role_that_may_not_make_prefects_database_is_told_what_its_owner_types(registry_role: str) -> None:
    with pytest.raises(ServiceRefused, match=re.escape('CREATE DATABASE "sites_prefect" OWNER "sites"')) as refusal:
        create_beside(*beside(registry_role))
    assert registry_role.split(":")[2].split("@")[0] not in str(refusal.value)


def test_prefects_database_is_made_beside_the_registrys_once(
    registry_role: str,
    postgres_cluster: PrivateCluster,
) -> None:
    with postgres_cluster.connect() as connection:
        connection.execute("ALTER ROLE sites CREATEDB")
    registry_url, prefect_url = beside(registry_role)
    create_beside(registry_url, prefect_url)
    create_beside(registry_url, prefect_url)
    with psycopg.connect(prefect_url.replace("+asyncpg", "")) as connection:
        assert connection.execute("SELECT current_database()").fetchone() == ("sites_prefect",)


def test_a_database_server_that_somebody_runs_is_used_and_remembered(
    own_service: ServiceUnderTest, registry_role: str, postgres_cluster: PrivateCluster
) -> None:
    with postgres_cluster.connect() as connection:
        connection.execute("ALTER ROLE sites CREATEDB")
    started = own_service.make("up", TMUX_BUILDER_DATABASE_URL=registry_role)
    assert started.returncode == 0, started.stderr
    assert not (own_service.home / "postgresql").exists()
    registry = own_service.registry()
    assert registry.executions() == []
    registry.close()
    with psycopg.connect(beside(registry_role)[1].replace("+asyncpg", "")) as connection:
        assert connection.execute("SELECT count(*) FROM deployment").fetchone() == (6,)
    assert own_service.make("up").stdout == started.stdout.replace("starting the service\n", "")
    assert own_service.make("down").returncode == 0  # before its database goes
