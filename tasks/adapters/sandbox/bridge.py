"""The one address that a sandbox can reach: a unix socket on the host that leads there, or to a few named ones."""

import asyncio
import contextlib
import ipaddress
import shutil
import socket
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

_CONNECTIONS = 128
_IDLE_S = 60.0
_DIAL_S = 10.0
_CHUNK = 1 << 16
_REFUSALS_KEPT = 20
_SOCKET_PATH_BYTES = 100  # sun_path holds 108


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Bridge(ABC):
    """Pipes what comes in on ``path`` to where `dialled` leads, unread.

    For `Confinement.bridge`. It serves from entering to leaving the context, from a thread of its own. Connections
    beyond a bound are closed at once, silent ones after ``idle_s``.
    """

    def __init__(
        self, name: str, idle_s: float = _IDLE_S, connections: int = _CONNECTIONS, dial_s: float = _DIAL_S
    ) -> None:
        self._bridge_name = name
        self._idle_s, self._most, self._dial_s = idle_s, connections, dial_s
        self._open: dict[asyncio.Task[None], socket.socket] = {}
        self._folder: Path | None = None
        self._at: Path | None = None

    def at(self, socket_path: Path) -> Self:
        """Listen there, in place of a folder of its own; a socket that lies there is replaced."""
        self._at = socket_path
        return self

    @property
    def path(self) -> Path:
        if self._at is not None:
            return self._at
        if self._folder is None:
            raise RuntimeError("a bridge has a path only inside its with block")
        return self._folder / "bridge.sock"

    def __enter__(self) -> Self:
        if self._at is None:
            roomy = len(tempfile.gettempdir()) + 30 < _SOCKET_PATH_BYTES
            self._folder = Path(tempfile.mkdtemp(prefix="tb-", dir=None if roomy else "/tmp"))  # noqa: S108 (mkdtemp, 0700)
        else:
            self._at.unlink(missing_ok=True)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=self._bridge_name, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(_DIAL_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            asyncio.run_coroutine_threadsafe(self._hang_up(), self._loop).result(_DIAL_S)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_DIAL_S)
            self._loop.close()
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
            if self._at is not None:
                self._at.unlink(missing_ok=True)

    async def _listen(self) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._listener.bind(str(self.path))
        self.path.chmod(0o600)
        self._listener.listen(self._most)
        self._loop.add_reader(self._listener, self._accept, self._listener)

    def _accept(self, listener: socket.socket) -> None:
        """Not by asyncio's own accept: a connection that is taken while that is cancelled stays open for ever."""
        try:
            near, _ = listener.accept()
        except OSError:
            return
        if len(self._open) >= self._most:
            near.close()
            return
        near.setblocking(False)
        task = self._loop.create_task(self._serve(near))
        self._open[task] = near
        task.add_done_callback(self._open.pop)

    async def _hang_up(self) -> None:
        self._loop.remove_reader(self._listener)
        self._listener.close()
        serving = dict(self._open)
        for task, near in serving.items():
            with contextlib.suppress(OSError):
                near.shutdown(socket.SHUT_RDWR)  # at once, in whichever state the task is
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def _serve(self, near: socket.socket) -> None:
        ends: list[asyncio.StreamWriter] = []
        try:
            near_in, near_out = await asyncio.open_unix_connection(sock=near)
            ends.append(near_out)
            async with asyncio.timeout(self._dial_s):
                far_in, far_out = await self.dialled(near_in, near_out)
            ends.append(far_out)
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(near_in, far_out))
                both.create_task(self._pump(far_in, near_out))
            while ends:
                ends[-1].close()
                async with asyncio.timeout(self._idle_s):  # what was written is still on its way
                    await ends[-1].wait_closed()
                ends.pop()  # a transport that has closed cannot be aborted
        except* (OSError, TimeoutError):
            pass  # either side went away; the other learns it from its closed connection
        finally:
            for end in ends:
                end.transport.abort()
            near.close()

    @abstractmethod
    async def dialled(self, near_in: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> Streams:
        """The far end for a connection that came in. Raises OSError to refuse it."""

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while True:
            async with asyncio.timeout(self._idle_s):
                data = await source.read(_CHUNK)
                target.write(data)
                await target.drain()
            if not data:
                with contextlib.suppress(OSError):
                    if target.can_write_eof():  # TLS has no half of a connection to close
                        target.write_eof()
                return


class SiteBridge(Bridge):
    """Leads to ``dial`` (``address:port``) and to nowhere else."""

    def __init__(self, dial: str, idle_s: float = _IDLE_S, connections: int = _CONNECTIONS) -> None:
        super().__init__(f"bridge to {dial}", idle_s, connections)
        host, _, port = dial.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)

    async def dialled(self, *_near: object) -> Streams:
        return await asyncio.open_connection(self._host, self._port)


class Egress(Bridge):
    """A proxy for CONNECT (RFC 9110, section 9.3.6) to the ``allowed`` names (``host:port``), and to nowhere else.

    A name that leads to this machine, its link or a cloud's metadata is refused, whatever the list says: who answers
    for a name may be somebody else tomorrow. One that leads into a private network is refused but for those that
    ``private`` names too, which an operator has chosen. ``refused`` collects what was asked for and not allowed, for
    the error's text.
    """

    def __init__(self, allowed: Collection[str], idle_s: float = _IDLE_S, private: Collection[str] = ()) -> None:
        super().__init__(f"egress to {', '.join(sorted(allowed))}", idle_s)
        self._allowed = frozenset(name.lower() for name in allowed)
        self._private = frozenset(name.lower() for name in private)
        self.refused: list[str] = []

    async def dialled(self, near_in: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> Streams:
        try:
            head = await near_in.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise ConnectionError("no request for a proxy") from error
        method, _, rest = head.decode("latin-1").partition(" ")
        target = rest.partition(" ")[0].lower()
        if method != "CONNECT" or target not in self._allowed:
            await self._refuse(near_out, target)
        host, _, port = target.rpartition(":")
        address = await resolved(host, int(port), private=target in self._private)
        if address is None:
            await self._refuse(near_out, target)
        streams = await asyncio.open_connection(address, int(port))
        near_out.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        return streams

    async def _refuse(self, near_out: asyncio.StreamWriter, target: str) -> NoReturn:
        if len(self.refused) < _REFUSALS_KEPT:
            self.refused.append(target[:200])
        near_out.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await near_out.drain()
        near_out.close()
        raise PermissionError(f"{target} is not allowed")


async def resolved(host: str, port: int, private: bool = False) -> str | None:
    """An address of that name which may be dialled; None where there is none. Raises OSError.

    It is somebody else's and of the internet, or with ``private`` of any network but this machine's own link.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    return next((str(address[0]) for *_, address in found if may_be_dialled(str(address[0]), private)), None)


_METADATA = frozenset(map(ipaddress.ip_address, ("168.63.129.16", "100.100.100.200", "192.0.0.192", "fd00:ec2::254")))
"""Where Azure, Alibaba, Oracle and AWS answer their machines, besides 169.254.169.254."""

_CARRIERS = tuple(map(ipaddress.IPv6Network, ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")))
"""Networks of IPv6 whose last 32 bits are an address of IPv4 (RFC 4291, 2765 and 6052)."""

_ROUTED = tuple(map(ipaddress.IPv6Network, ("2000::/3", "::ffff:0:0/96", "64:ff9b::/96")))


def may_be_dialled(address: str, private: bool = False) -> bool:
    """
    >>> may_be_dialled("93.184.216.34"), may_be_dialled("64:ff9b::10.0.0.1"), may_be_dialled("127.0.0.1", private=True)
    (True, False, False)
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if any(_is_close(each) for each in (ip, *_carried(ip))):
        return False
    return private or (_is_routed(ip) and all(each.is_global for each in _carried(ip) or (ip,)))


def _is_routed(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Of IPv6, what is given out to the internet (https://www.iana.org/assignments/ipv6-address-space), and NAT64."""
    return ip.version == 4 or any(ip in network for network in _ROUTED)


def _is_close(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    own = ip.is_loopback or ip.is_link_local or ip.is_unspecified or ip.is_multicast
    return own or ip in _METADATA or (ip.version == 4 and int(ip) >> 24 == 0)


def _carried(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> tuple[ipaddress.IPv4Address, ...]:
    """The addresses of IPv4 that a packet to this one of IPv6 may end at."""
    if ip.version == 4:
        return ()
    ip = ipaddress.IPv6Address(int(ip))
    found = [*(ip.teredo or ()), *([ip.sixtofour] if ip.sixtofour else ())]
    if any(ip in network for network in _CARRIERS):
        found.append(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF))
    return tuple(found)
