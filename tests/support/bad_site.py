"""A web site on loopback that misbehaves in every way in which a published site can fail its health check."""

import asyncio
import gzip
import json
import ssl
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tasks.domain.hosting import Site
from tasks.domain.release import MARKER_PATH

Behaviour = Callable[[asyncio.StreamWriter], Awaitable[None]]
"""What is written after a request was read."""


def answer(status: int = 200, body: bytes = b"<html>ok</html>", **headers: str) -> Behaviour:
    named = {"Content-Length": str(len(body)), "Connection": "close"}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return raw(f"HTTP/1.1 {status} X\r\n{head}\r\n".encode() + body)


def marker(release_id: object) -> Behaviour:
    return answer(200, json.dumps({"release_id": release_id}).encode())


def redirect(location: str) -> Behaviour:
    return answer(302, b"", Location=location)


def raw(data: bytes) -> Behaviour:
    async def behave(writer: asyncio.StreamWriter) -> None:
        writer.write(data)

    return behave


async def hang(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def reset(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def slow_header(writer: asyncio.StreamWriter) -> None:
    await _drip(writer, b"HTTP/1.1 200 OK\r\nX: ", b"y")


async def slow_body(writer: asyncio.StreamWriter) -> None:
    await _drip(writer, b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"x")


async def endless_header(writer: asyncio.StreamWriter) -> None:
    await _pour(writer, b"HTTP/1.1 200 OK\r\nX: ", b"y")


async def endless_body(writer: asyncio.StreamWriter) -> None:
    await _pour(writer, b"HTTP/1.1 200 OK\r\n\r\n", b"x")


async def endless_continue(writer: asyncio.StreamWriter) -> None:
    await _pour(writer, b"", b"HTTP/1.1 103 Early Hints\r\n\r\n")


bomb = answer(200, gzip.compress(bytes(50 << 20)), Content_Encoding="gzip")
short = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
garbage = raw(b"\x00\xff\x00 nonsense\r\n\r\n")


async def _drip(writer: asyncio.StreamWriter, start: bytes, piece: bytes) -> None:
    writer.write(start)
    while True:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0.05)


async def _pour(writer: asyncio.StreamWriter, start: bytes, piece: bytes) -> None:
    writer.write(start)
    while True:
        writer.write(piece * (65536 // len(piece)))
        await writer.drain()


@dataclass
class BadSite:
    """``paths`` says what each path does: one behaviour, or several, of which the last stays."""

    port: int = 0
    paths: dict[str, Behaviour | list[Behaviour]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    hosts: list[str] = field(default_factory=list)

    def site(self, release_id: str, scheme: str = "http") -> Site:
        name = "tmux-00000000-00000000"
        url = f"{scheme}://{name}.localhost:{self.port}"
        return Site(name=name, url=url, release_id=release_id, dial=f"127.0.0.1:{self.port}")

    def serve(self, root: Behaviour | list[Behaviour], marked: Behaviour | list[Behaviour]) -> None:
        self.paths = {"/": root, f"/{MARKER_PATH}": marked}

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            parts = (await reader.readline()).decode("latin-1").split(" ")
            path = parts[1] if len(parts) > 1 else ""
            while (line := await reader.readline()) not in (b"\r\n", b""):
                name, _, value = line.decode("latin-1").partition(":")
                if name.lower() == "host":
                    self.hosts.append(value.strip())
            self.requests.append(path)
            behaviours = self.paths.get(path, answer(404, b"nothing here"))
            if isinstance(behaviours, list):
                behaviours = behaviours.pop(0) if len(behaviours) > 1 else behaviours[0]
            await behaviours(writer)
            await writer.drain()
        except (OSError, asyncio.CancelledError):
            pass  # the client left, or the test is over
        finally:
            writer.close()


@pytest.fixture
def bad_site() -> Iterator[BadSite]:
    with serving(BadSite()) as site:
        yield site


class serving:  # noqa: N801 -- reads as a verb where it is used
    """Runs a BadSite on a free port, in a thread of its own; with a certificate it speaks TLS."""

    def __init__(self, site: BadSite, certificate: Path | None = None) -> None:
        self._site, self._certificate = site, certificate
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()

    def __enter__(self) -> BadSite:
        self._thread.start()
        assert self._ready.wait(10)
        return self._site

    def __exit__(self, *exception: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        context = None
        if self._certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self._certificate)
        server = await asyncio.start_server(self._site.handle, "127.0.0.1", 0, ssl=context)
        self._site.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
