"""The one way out of a sandbox, over real sockets."""

import gc
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.adapters.sandbox import SiteBridge


class Echo:
    """Answers each connection with what it heard, once the other side has finished speaking."""

    def __init__(self, server: socket.socket) -> None:
        self._server = server
        self.dial = "{}:{}".format(*server.getsockname())
        self.connections = 0

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.answer, args=(connection,), daemon=True).start()

    def answer(self, connection: socket.socket) -> None:
        with connection:
            heard = b""
            while data := connection.recv(1 << 16):
                heard += data
            connection.sendall(heard)


@pytest.fixture
def echo() -> Iterator[Echo]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        made = Echo(server)
        threading.Thread(target=made.serve, daemon=True).start()
        yield made
        server.shutdown(socket.SHUT_RDWR)


def dial(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    client.connect(str(path))
    return client


def heard_back(client: socket.socket) -> bytes:
    """What comes until the other side closes; a connection that was never taken ends in a reset."""
    answer = b""
    try:
        while data := client.recv(1 << 16):
            answer += data
    except ConnectionResetError:
        return answer
    return answer


def test_bytes_pass_unread_both_ways_and_half_closed_connections_stay_open(
    echo: Echo, caplog: pytest.LogCaptureFixture
) -> None:
    payload = bytes(range(256)) * 20_000
    with SiteBridge(echo.dial) as bridge:
        for _ in range(5):
            with dial(bridge.path) as client:
                client.sendall(payload)
                client.shutdown(socket.SHUT_WR)
                assert heard_back(client) == payload
    gc.collect()
    assert caplog.text == ""  # asyncio logs what a task raised and nobody looked at


def test_its_socket_is_private_and_gone_afterwards(echo: Echo) -> None:
    with SiteBridge(echo.dial) as bridge:
        path = bridge.path
        assert path.parent.stat().st_mode & 0o077 == 0
        assert len(str(path)) < 100
    assert not path.parent.exists()
    with pytest.raises(RuntimeError, match="inside its with block"):
        SiteBridge(echo.dial).path  # noqa: B018 (that it raises is the point)


def test_connections_beyond_the_bound_are_closed_at_once(echo: Echo) -> None:
    with SiteBridge(echo.dial, connections=2) as bridge, dial(bridge.path) as one, dial(bridge.path) as two:
        for client in (one, two):
            client.sendall(b"x")
        until = time.monotonic() + 5
        while echo.connections < 2 and time.monotonic() < until:
            time.sleep(0.01)
        with dial(bridge.path) as third:
            assert heard_back(third) == b""
        assert echo.connections == 2
        one.shutdown(socket.SHUT_WR)
        assert heard_back(one) == b"x"


def test_a_silent_connection_is_closed(echo: Echo) -> None:
    with SiteBridge(echo.dial, idle_s=0.2) as bridge, dial(bridge.path) as client:
        assert heard_back(client) == b""


def test_a_site_that_is_not_there_closes_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with SiteBridge(f"127.0.0.1:{port}") as bridge, dial(bridge.path) as client:
        assert heard_back(client) == b""


def test_leaving_closes_what_is_open_and_ends_its_thread(echo: Echo) -> None:
    threads = threading.active_count()
    bridge = SiteBridge(echo.dial)
    with bridge:
        client = dial(bridge.path)
        client.sendall(b"x")
    with client:
        assert heard_back(client) == b""
    assert not any(thread.name.startswith("bridge to") for thread in threading.enumerate())
    assert threading.active_count() <= threads + 1  # the echo's own
