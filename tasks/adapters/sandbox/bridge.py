"""The one address that a sandbox can reach: a unix socket on the host that leads there."""

import asyncio
import contextlib
import shutil
import socket
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

_CONNECTIONS = 128
_IDLE_S = 60.0
_DIAL_S = 10.0
_CHUNK = 1 << 16
_SOCKET_PATH_BYTES = 100  # sun_path holds 108


class SiteBridge:
    """Pipes what comes in on ``path`` to ``dial`` (``address:port``) and to nowhere else, unread.

    For `Confinement.bridge`. It serves from entering to leaving the context, from a thread of its own. Connections
    beyond a bound are closed at once, silent ones after ``idle_s``.
    """

    def __init__(self, dial: str, idle_s: float = _IDLE_S, connections: int = _CONNECTIONS) -> None:
        host, _, port = dial.rpartition(":")
        self._host, self._port = host.strip("[]"), int(port)
        self._idle_s, self._most = idle_s, connections
        self._open: dict[asyncio.Task[None], socket.socket] = {}
        self._folder: Path | None = None

    @property
    def path(self) -> Path:
        if self._folder is None:
            raise RuntimeError("a SiteBridge has a path only inside its with block")
        return self._folder / "bridge.sock"

    def __enter__(self) -> Self:
        roomy = len(tempfile.gettempdir()) + 30 < _SOCKET_PATH_BYTES
        self._folder = Path(tempfile.mkdtemp(prefix="tb-", dir=None if roomy else "/tmp"))  # noqa: S108 (mkdtemp, 0700)
        self._loop = asyncio.new_event_loop()
        name = f"bridge to {self._host}:{self._port}"
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
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
            async with asyncio.timeout(_DIAL_S):
                far_in, far_out = await asyncio.open_connection(self._host, self._port)
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

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while True:
            async with asyncio.timeout(self._idle_s):
                data = await source.read(_CHUNK)
                target.write(data)
                await target.drain()
            if not data:
                with contextlib.suppress(OSError):
                    target.write_eof()
                return
