"""Talking to supervisord over its control socket (http://supervisord.org/api.html)."""

import http.client
import os
import signal
import socket
import subprocess
import time
import xmlrpc.client
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployments.configuration import Service, ServiceRefused
from deployments.processes import Record


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class _Transport(xmlrpc.client.Transport):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__()
        self._path, self._timeout_s = path, timeout_s

    def make_connection(self, host: Any) -> http.client.HTTPConnection:  # noqa: ARG002  # there is one host
        return _Connection(self._path, self._timeout_s)


@dataclass(frozen=True)
class Member:
    """A program as supervisord sees it. ``started_at`` is in seconds since the epoch."""

    name: str
    state: str
    pid: int
    started_at: int
    trouble: str

    @property
    def up(self) -> bool:
        return self.state in ("RUNNING", "STARTING")


class Supervisor:
    def __init__(self, service: Service) -> None:
        self.service = service

    def _call(self, method: str, *arguments: Any, timeout_s: float = 10) -> Any:
        transport = _Transport(self.service.control_socket, timeout_s)
        with xmlrpc.client.ServerProxy("http://localhost", transport=transport) as server:
            return getattr(server, method)(*arguments)

    def running(self) -> bool:
        try:
            return bool(self._call("supervisor.getState")["statename"] == "RUNNING")
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError as error:
            raise ServiceRefused(
                f"supervisord does not answer on {self.service.control_socket}: {error}; "
                f"read {self.service.logs / 'supervisord.log'}, then try make down"
            ) from error

    def members(self) -> dict[str, Member]:
        return {
            info["name"]: Member(
                info["name"], info["statename"], info["pid"], info["start"], info["spawnerr"] or info["description"]
            )
            for info in self._call("supervisor.getAllProcessInfo")
        }

    def start(self, name: str) -> None:
        """Begin to start it, unless it is up."""
        if not self.members()[name].up:
            self._call("supervisor.startProcess", name, False)

    def stop(self, name: str) -> None:
        """Stop it and wait; safe to call when it is stopped."""
        try:
            self._call("supervisor.stopProcess", name, True, timeout_s=90)
        except xmlrpc.client.Fault as fault:
            if not fault.faultString.startswith(("NOT_RUNNING", "BAD_NAME")):
                raise

    def spawn(self, configuration: Path, environment: Mapping[str, str]) -> None:
        """Start supervisord itself, out of reach of what happens to this terminal. Returns when it answers."""
        launch = [str(self.service.python), "-S", "-E", "-m", "deployments.launch"]
        launch += ["--session", "--record", str(self.service.records / "supervisord"), "--"]
        said = self.service.logs / "supervisord.out"
        with said.open("ab") as output:
            process = subprocess.Popen(
                [*launch, str(self.service.python), "-m", "supervisor.supervisord", "-c", str(configuration)],
                cwd=self.service.root,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        deadline = time.monotonic() + 20
        while not self.running():
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServiceRefused(f"supervisord did not start; read {said} and {self.service.logs}/supervisord.log")
            time.sleep(0.05)

    def shutdown(self) -> None:
        """Stop every program, the last started first, then supervisord. Returns when it is gone."""
        record = Record.read(self.service.records / "supervisord")
        self._call("supervisor.shutdown")
        if record is not None and not record.process.ended_within(150):
            record.process.send(signal.SIGKILL)


def ambient(environment: Mapping[str, str], python: Path) -> dict[str, str]:
    """What supervisord inherits: everything but what would turn Prefect or Python elsewhere.

    The folder of ``python`` comes first on PATH, so that ``engine.sh`` finds the same.

    >>> ambient({"PREFECT_API_URL": "https://x", "AWS_PROFILE": "p", "PATH": "/bin"}, Path("/v/bin/python"))
    {'AWS_PROFILE': 'p', 'PATH': '/v/bin:/bin'}
    """
    dropped = ("PREFECT_", "PYTHON", "PYTEST_", "MAKE", "MFLAGS", "VIRTUAL_ENV", "SUPERVISOR_")
    kept = {name: value for name, value in environment.items() if not name.startswith(dropped)}
    path = environment.get("PATH", os.defpath)
    return kept | {"PATH": f"{python.parent}:{path}"}
