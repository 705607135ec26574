"""The real site server, on a free port, over a home of its own."""

import http.client
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.adapters.hosts.caddy import site_server_argv, write_config


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class SiteServer:
    home: Path
    port: int
    pid: int

    def get(self, site: str, path: str, method: str = "GET", address: str = "127.0.0.1", **headers: str) -> Answer:
        """One request as it stands: nothing is normalised, followed or decoded. ``if_none_match=`` is If-None-Match."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        named.setdefault("host", f"{site}.localhost:{self.port}")
        connection = http.client.HTTPConnection(address, self.port, timeout=10)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in named.items():
                connection.putheader(name, value)
            connection.endheaders()
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()


@pytest.fixture(scope="session")
def site_server() -> Iterator[SiteServer]:
    """One for the whole test session; tests tell their sites apart by name."""
    with tempfile.TemporaryDirectory(prefix="sites-") as folder:
        home = Path(folder) / "a home"
        home.mkdir()
        port = free_port()
        write_config(home, port)
        log = Path(folder) / "caddy.log"
        with log.open("wb") as output:
            process = subprocess.Popen(site_server_argv(home), stdout=output, stderr=subprocess.STDOUT)
        try:
            _wait_until_it_listens(port, process, log)
            yield SiteServer(home, port, process.pid)
        finally:
            process.terminate()
            process.wait(timeout=15)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_it_listens(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"the site server did not start: {log.read_text()[-2000:]}")
