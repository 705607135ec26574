"""The front door on loopback, as people reach it: real HTTP, a real registry, nothing behind it."""

import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from deployments.front.app import create_app
from deployments.front.scopes import Scope
from deployments.front.settings import FrontSettings
from deployments.front.tokens import KEY, mint, sha256_of
from tasks.adapters.registry import Accepted, Registry
from tasks.domain.pipeline import Step
from tests.support.databases import free_port
from tests.tasks.adapters.registry.orders import an_execution

ROOT = Path(__file__).resolve().parents[2]

ORDER = {
    "email": "ana@example.com",
    "phone": "+4915112345678",
    "host_provider": "local",
    "site_type": "static",
    "requirements": "Build a portfolio website with dark theme, contact form, and projects gallery",
}


@dataclass
class Door:
    """A running front door."""

    app: FastAPI
    registry: Registry
    settings: FrontSettings
    url: str
    client: httpx.Client

    def key(self, *scopes: Scope, user_id: str | None = None) -> dict[str, str]:
        """The header of a new key; of all scopes unless told."""
        key = mint(KEY)
        self.registry.add_key("test", sha256_of(key), scopes or tuple(Scope), user_id)
        return bearer(key)

    def order(self, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
        return self.client.post("/api/create-user", json={**ORDER, **more}, headers=headers or self.key())

    def link(self, execution_id: str) -> dict[str, str]:
        token = mint("tbl_")
        self.registry.add_link(execution_id, sha256_of(token))
        return bearer(token)

    def raw(self, request: bytes, timeout_s: float = 15) -> bytes:
        """What is answered to bytes that no client would send."""
        host, port = self.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=timeout_s) as connection:
            connection.sendall(request)
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
                if b"\r\n\r\n" in answer and b'"errors"' in answer:
                    break
        return answer


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def problem(response: httpx.Response, status: int) -> dict[str, Any]:
    """The problem document of a response that must be one."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = response.json()
    assert set(told) == {"type", "title", "status", "detail", "error", "errors"}
    assert told["status"] == status
    for each in told["errors"]:
        assert set(each) == {"field", "reason", "allowed"}
        assert all(each.values()), each
    return told


@contextmanager
def opened(registry: Registry, home: Path, **told: Any) -> Iterator[Door]:
    settings = FrontSettings(
        home=home, **{"web_rate_ip": 100_000, "web_rate_key": 100_000, "web_rate_user": 100_000, **told}
    )
    app = create_app(registry, settings)
    server = uvicorn.Server(
        uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", ws="none", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        url = f"http://127.0.0.1:{port}"
        with httpx.Client(base_url=url, timeout=30, trust_env=False) as client:
            yield Door(app, registry, settings, url, client)
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


@contextmanager
def serving(home: Path, database_url: str, **told: str) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """The front door as a process of its own, as `make up` starts it, and its URL. Its log is ``log`` in the home."""
    port = free_port()
    environment = {"HOME": str(home), "WEB_PORT": str(port), "DATABASE_URL": database_url, **told}
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "deployments.front"],
            cwd=ROOT,
            env={f"TMUX_BUILDER_{name}": value for name, value in environment.items()},
            stdout=log,
            stderr=log,
        )
    try:
        url = f"http://127.0.0.1:{port}"
        end = time.monotonic() + 60
        while True:
            try:
                assert httpx.get(f"{url}/api/health", trust_env=False).json() == {"status": "ok"}
                break
            except httpx.TransportError:
                assert process.poll() is None, (home / "log").read_text()
                assert time.monotonic() < end
                time.sleep(0.05)
        yield process, url
    finally:
        process.kill()
        process.wait(10)


OpenDoor = Callable[..., Door]


@pytest.fixture
def quick_registry(migrated_sqlite: Path, tmp_path: Path) -> Iterator[Registry]:
    """On SQLite alone, where what is tested is not the database's."""
    file = shutil.copy(migrated_sqlite, tmp_path / "registry.db")
    found = Registry.open(f"sqlite:///{file}")
    yield found
    found.close()


@pytest.fixture
def open_door(quick_registry: Registry, tmp_path: Path) -> Iterator[OpenDoor]:
    """To be called with settings."""
    with ExitStack() as stack:
        yield lambda **told: stack.enter_context(opened(quick_registry, tmp_path, **told))


@pytest.fixture
def door(open_door: OpenDoor) -> Door:
    return open_door()


def a_running_execution(registry: Registry, key: str = "running") -> Accepted:
    accepted = an_execution(registry, key)
    registry.finish_step(accepted.run_id, Step.CREATE_USER, {}, begin_next=Step.CREATE_SESSION)
    return accepted
