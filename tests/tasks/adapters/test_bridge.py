"""The one way out of a sandbox, over real sockets."""

import gc
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.adapters.sandbox import Egress, SiteBridge, bridge
from tasks.adapters.sandbox.bridge import may_be_dialled


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


# --- where a proxy may lead to -----------------------------------------------------------------------------------

PUBLIC = ["93.184.216.34", "1.1.1.1", "2606:4700:4700::1111", "64:ff9b::1.1.1.1", "2002:101:101::1"]
PRIVATE = [
    *("10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "198.18.0.1", "203.0.113.80", "240.0.0.1"),
    *("fc00::1", "fd12:3456::1", "fec0::1", "::ffff:10.0.0.1", "::10.0.0.1", "::ffff:0:10.0.0.1", "64:ff9b::10.0.0.1"),
    *("2002:a00:1::1", "2001:0:a00:1::f5ff:fffe", "2001:0:5db8:d822::f5ff:fffe", "64:ff9b:1::a00:1"),
]
CLOSE = [
    *("127.0.0.1", "127.9.9.9", "0.0.0.0", "0.0.0.1", "169.254.169.254", "224.0.0.1", "::1", "::", "fe80::1%eth0"),
    *("ff02::1", "168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254"),
    *("::ffff:127.0.0.1", "::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::169.254.169.254"),
    *("2002:7f00:1::1", "2002:a9fe:a9fe::", "2001:0:7f00:1::", "2001:0:5db8:d822::80ff:fffe", "::ffff:168.63.129.16"),
    "64:ff9b::100.100.100.200",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_internet_may_be_dialled(address: str) -> None:
    assert may_be_dialled(address)


@pytest.mark.parametrize("address", PRIVATE)
def test_one_of_a_private_network_may_be_dialled_only_where_an_operator_says_so(address: str) -> None:
    assert not may_be_dialled(address)
    assert may_be_dialled(address, private=True)


@pytest.mark.parametrize("address", CLOSE)
def test_this_machine_its_link_and_a_clouds_metadata_may_never_be_dialled(address: str) -> None:
    assert not may_be_dialled(address)
    assert not may_be_dialled(address, private=True)


@pytest.mark.parametrize(("target", "private"), [("Registry.Example:443", True), ("other.example:443", False)])
def test_a_registry_of_the_operators_may_lie_in_a_private_network_and_no_other_name(
    monkeypatch: pytest.MonkeyPatch, target: str, private: bool
) -> None:
    asked = []

    async def resolved(host: str, port: int, private: bool) -> None:
        asked.append((f"{host}:{port}", private))

    monkeypatch.setattr(bridge, "resolved", resolved)
    names = {"registry.example:443", "other.example:443"}
    with Egress(names, private={"Registry.example:443"}) as egress, dial(egress.path) as client:
        client.sendall(f"CONNECT {target} HTTP/1.1\r\n\r\n".encode())
        assert heard_back(client).startswith(b"HTTP/1.1 403 ")
    assert asked == [(target.lower(), private)]
