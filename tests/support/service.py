"""The whole service, as `make up` starts it: real PostgreSQL, Prefect server, worker, dispatcher and site server.

One per test session, in a home and on ports of its own. Tests that use it share one xdist worker, so that it starts
once; say which they are by the annotation ``service: ServiceUnderTest``.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values
from prefect.client.orchestration import PrefectClient
from xdist.scheduler import LoadScopeScheduling

from deployments.processes import Process, Record
from tasks.adapters.registry import Registry
from tests.support.databases import free_port

PROGRAMS = ("postgresql", "prefect-server", "sites", "apps", "worker", "dispatcher", "web")

ROOT = Path(__file__).resolve().parent.parent.parent


def until(complaint: Callable[[], str | None], deadline_s: float) -> None:
    """Return when there is no complaint; fail with the last one."""
    end = time.monotonic() + deadline_s
    while (words := complaint()) is not None:
        if time.monotonic() > end:
            pytest.fail(f"after {deadline_s:.0f} s: {words}")
        time.sleep(0.05)


def processes_of(home: Path) -> list[str]:
    """Command lines of living processes that have the home in their command line or environment, but this one."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit() or int(folder.name) == os.getpid():
            continue
        try:
            said = (folder / "cmdline").read_bytes() + b"\0" + (folder / "environ").read_bytes()
        except OSError:
            continue
        process = Process.of(int(folder.name))
        if str(home).encode() in said and process is not None and process.alive():
            found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


@dataclass
class ServiceUnderTest:
    """``environment`` is what a shell has after reading ``service.env``, on top of the bare needs of a program."""

    home: Path
    base: Mapping[str, str]

    def make(self, *arguments: str, timeout_s: float = 240, **more: str) -> "subprocess.CompletedProcess[str]":
        """``deployments.service up`` or ``down``, as make calls it."""
        return self.run("deployments.service", *arguments, timeout_s=timeout_s, environment={**self.base, **more})

    def run(
        self, module: str, *arguments: str, timeout_s: float = 240, environment: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT,
            env=dict(environment if environment is not None else self.environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    @property
    def told(self) -> dict[str, str]:
        """What ``service.env`` says."""
        return {name: value or "" for name, value in dotenv_values(self.home / "service" / "service.env").items()}

    @property
    def environment(self) -> dict[str, str]:
        return {**self.base, **self.told}

    @property
    def auth_string(self) -> str:
        return self.told["PREFECT_API_AUTH_STRING"]

    @property
    def ui_url(self) -> str:
        return self.told["PREFECT_API_URL"].removesuffix("/api")

    def client(self) -> PrefectClient:
        """To be entered: ``async with service.client() as client``."""
        return PrefectClient(self.told["PREFECT_API_URL"], auth_string=self.auth_string)

    def registry(self) -> Registry:
        """To be closed by who asked for it."""
        return Registry.open(self.told["TMUX_BUILDER_DATABASE_URL"])

    def process(self, program: str) -> Process:
        """The present process of one of PROGRAMS, or of supervisord."""
        record = Record.read(self.home / "run" / "programs" / program)
        assert record is not None
        return record.process

    def supervise(self, word: str, program: str) -> None:
        """``start`` or ``stop`` one program by supervisord, and wait until it has."""
        socket = f"unix://{self.home}/service/supervisor.sock"
        done = self.run("supervisor.supervisorctl", "-s", socket, word, program, timeout_s=60)
        assert done.returncode == 0, done.stdout + done.stderr

    @property
    def engines(self) -> set[str]:
        """Flow runs that an engine of this home works on."""
        return {path.name for path in (self.home / "run" / "engines").glob("*") if not path.name.startswith(".")}

    @property
    def machine_id(self) -> str:
        return (self.home / "machine-id").read_text().strip()

    def log(self, program: str) -> str:
        return (self.home / "logs" / f"{program}.log").read_text()


def new_service() -> ServiceUnderTest:
    """A home on free ports, with nothing in it. Short, since paths of sockets are."""
    home = Path(tempfile.mkdtemp(prefix="tb-", dir="/tmp"))
    base = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    ports = (
        "PREFECT_SERVER_API_PORT",
        "TMUX_BUILDER_WEB_PORT",
        "TMUX_BUILDER_SITES_PORT",
        "TMUX_BUILDER_POSTGRES_PORT",
    )
    base |= {name: str(free_port()) for name in ports}
    return ServiceUnderTest(home, {**base, "TMUX_BUILDER_HOME": str(home)})


def dispose(service: ServiceUnderTest) -> None:
    stopped = service.make("down")
    left = processes_of(service.home)
    shutil.rmtree(service.home, ignore_errors=True)
    assert stopped.returncode == 0, stopped.stderr
    assert left == []


@pytest.fixture(scope="session")
def service() -> Iterator[ServiceUnderTest]:
    """A running service. Leave it as you found it: up, and with nothing of yours running."""
    running = new_service()
    started = running.make("up")
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        yield running
    finally:
        dispose(running)


@pytest.fixture
def own_service() -> Iterator[ServiceUnderTest]:
    """A home of the test's own, where nothing runs yet."""
    prepared = new_service()
    try:
        yield prepared
    finally:
        dispose(prepared)


_USES_SERVICE = re.compile(r"(?<!\w)service: ServiceUnderTest")


class OneServicePerSession(LoadScopeScheduling):
    """Tests of files that use `service` go to one worker; every other file goes where there is room.

    xdist has ``--dist loadgroup`` for this; under pytest 9.2 its groups get lost (xdist 3.8 writes ``_nodeid``, which
    pytest no longer reads).
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::")[0]
        if file.startswith("tests/faults/"):
            return "faults"  # they batter a service of their own, one for all of them
        return "service" if _USES_SERVICE.search((ROOT / file).read_text(encoding="utf-8")) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling:
    return OneServicePerSession(config, log)
