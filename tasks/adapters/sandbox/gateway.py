"""The way out of an agent's sandbox, and the program of its pane: serves it, and runs the agent beside it.

`python -m tasks.adapters.sandbox.gateway SOCKET FIFO LOG PHASE -- COMMAND…` reads its `Way` as JSON from FIFO, listens
on SOCKET, and becomes the parent of COMMAND, whose exit code is its own. It belongs to the terminal, not to the flow: a
flow that is killed leaves both alive, and neither outlives the other. The model's key is here alone: it came through a
pipe, it is in no file, environment or command line, and is put into each request on its way out.
"""

import asyncio
import contextlib
import ctypes
import ipaddress
import json
import os
import re
import resource
import signal
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import urlsplit

from tasks.adapters.sandbox.bridge import Bridge, Streams, resolved

MODEL_PATHS = ("/v1/messages", "/v1/messages/count_tokens")
"""What is asked of the model's API. Its files and batches would be a place to leave things in."""

_HEAD_BYTES = 64 << 10
_IDLE_S = 900.0
"""A model may think for minutes before its first word."""

_ASKED_WITHIN_S = 60.0
_REACH_S, _LINGER_S = 8.0, 2.0  # both end before the bridge gives up on a connection
_CHUNK = 1 << 16
_TLS_PORT = "443"
_HELLO_S, _LOOK_EVERY_S = 10.0, 2.0
_ENCRYPTED_HELLO = 0xFE0D
_TOLD_WITHIN_S = 60.0
_PR_SET_DUMPABLE = 4

_LOG_BYTES = {"deny": 2 << 20, "allow": 2 << 20, "budget": 1 << 20, "model": 32 << 20}
"""The room of each kind of line, so that refusals, which an agent can have without end, take none from what counts: the
model's requests. What is unreachable is noted beside the refusals.
"""

_LEFT_OUT = (b"proxy-", b"connection:", b"host:", b"keep-alive:", b"expect:", b"upgrade:", b"te:", b"trailer:")
_REPLACED = (b"x-api-key:", b"authorization:")
"""Whose key it is, and what is between two machines only."""

_BODY_BYTES, _BODIES = 32 << 20, 4
"""What Anthropic's API takes (https://docs.claude.com/en/api/overview), and how many of them are read at a time."""

_PARTS = 500_000
_TEXT = re.compile(rb'"(?:[^"\\]+|\\.)*+"?', re.DOTALL)

_ELSEWHERE = ("mcp_servers", "container", "file_id")
_SOURCES = ("base64", "text", "content")
_CLIENT_TOOL = re.compile(r"custom|(?:bash|text_editor|memory)_[0-9]{8}")
_SERVER_TOOLS = (
    *("server_tool", "web_search", "web_fetch", "code_execution", "bash_code", "text_editor_code", "mcp_", "advisor"),
    *("container_upload", "tool_search_tool"),
)
"""Beginnings of the types of tools of the model's side, and of the blocks that call them and tell what they found."""

_BETAS = (b"mcp-", b"code-execution-", b"web-fetch-", b"web-search-", b"files-api-", b"advisor-tool-")

_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r\n]")
_HEAD_END = re.compile(rb"\n\r?\n")

_TARGET = re.compile(r"[!-~]+")
_HEADER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\x00-\x08\x0a-\x1f\x7f]*")
"""RFC 9112, sections 3 and 5. What deviates is read by one server like this and by the next one like that."""


@dataclass(frozen=True)
class Way:
    """``api`` is the model API's address; ``allowed`` are ``host:port`` by phase, with ``*`` for all of them.

    ``requests``: how many model requests the execution may make; 0: as many as it likes. ``private`` are those of the
    allowed that may lie in a private network, such as an operator's own registry. ``server_tools``: whether the model's
    side may search and fetch for it; what it then reads and tells is on no list, and in no log.
    """

    api: str
    key: str = field(repr=False)
    allowed: dict[str, list[str]] = field(default_factory=dict)
    requests: int = 0
    private: list[str] = field(default_factory=list)
    server_tools: bool = False

    def as_json(self) -> str:
        return json.dumps(asdict(self))


class Gateway(Bridge):
    """Two kinds of request: for a path of the model API, which gets the key, and CONNECT to a name that is allowed."""

    def __init__(self, way: Way, log: Path, phase: Path) -> None:
        super().__init__("gateway", _IDLE_S, dial_s=_ASKED_WITHIN_S)
        self._reading = asyncio.Semaphore(_BODIES)
        self._tunnels: dict[asyncio.Task[Any], str] = {}
        self._way, self._log, self._phase = way, log, phase
        parts = urlsplit(way.api)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{way.api!r} is no address of a model API; expected https://host")
        if not (way.key.isascii() and way.key.isprintable()):
            raise ValueError("the model's key holds a line break or another character that no header may hold")
        self._tls = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port or (443 if self._tls else 80)
        self._authority, self._prefix = parts.netloc.rpartition("@")[2], parts.path.rstrip("/")
        self._made = 0
        self._used, self._unnoted = Counter[str](), Counter[str]()
        self._count_before()

    def _count_before(self) -> None:
        """What an earlier gateway of this execution has noted."""
        with contextlib.suppress(FileNotFoundError), self._log.open("r+") as file:
            for text in file:
                if not text.endswith("\n"):  # of one that was killed: what follows shall not be a part of it
                    file.write("\n")
                    return
                with contextlib.suppress(ValueError):
                    line = json.loads(text)
                    room = _room(line["verdict"], line["target"])
                    self._used[room] += len(text)
                    self._made += line["verdict"] == "model" and room == "model"

    def note(self, verdict: str, target: str, **more: object) -> None:
        """One line for whoever owns the execution. Kept short, and not without end: what finds no room is counted, and
        told of at the first and at each tenfold.
        """
        line = {"at": round(time.time(), 3), "verdict": verdict, "target": target[:300], **more}
        text, room = json.dumps(line) + "\n", _room(verdict, target)
        if self._used[room] + len(text) > _LOG_BYTES[room]:
            self._unnoted[room] += 1
            if str(self._unnoted[room]).rstrip("0") != "1":
                return
            what, line["verdict"] = ("refusals", "deny") if room == "deny" else ("lines", verdict)
            line |= {"reason": f"the log is full; further {what} are counted only", "count": self._unnoted[room]}
            text = json.dumps(line) + "\n"
        self._used[room] += len(text)
        with self._log.open("a") as file:
            file.write(text)

    async def dialled(self, near_in: asyncio.StreamReader, near_out: asyncio.StreamWriter) -> Streams:
        try:
            head = await near_in.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            raise ConnectionError("no request") from error
        line, *headers = head[:_HEAD_BYTES].split(b"\r\n")
        method, _, rest = line.decode("latin-1").partition(" ")
        target = rest.partition(" ")[0]
        headers, near = [header for header in headers if header], (near_in, near_out)
        if not _TARGET.fullmatch(target) or not all(map(_HEADER.fullmatch, headers)):
            await self._refuse(near, repr(target), "it is no request of HTTP/1.1")
        if method == "CONNECT":
            return await self._tunnel(near, target.lower())
        return await self._model(near, method, target, headers)

    # -- other hosts --

    def _allowed(self) -> set[str]:
        try:
            phase = self._phase.read_text().strip()
        except OSError:
            phase = ""
        return {name.lower() for key in ("*", phase) for name in self._way.allowed.get(key, [])}

    async def _tunnel(self, near: Streams, target: str) -> Streams:
        if target not in self._allowed():
            await self._refuse(near, target, "it is not on the list of this phase")
        host, _, port = target.rpartition(":")
        private = target in {name.lower() for name in self._way.private}
        try:
            address = await resolved(host, int(port), private)
            streams = await self._reached(address, int(port), tls=False) if address else None
        except OSError as error:
            await self._away(near, target, error)
        if streams is None:
            await self._refuse(near, target, "it leads to this machine, or into a private network")
        near[1].write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        if port == _TLS_PORT:
            try:
                streams[1].write(await self._hello(near[0], host))
            except ValueError as error:
                streams[1].transport.abort()
                self.note("deny", target, reason=str(error))
                raise PermissionError(str(error)) from error
            except BaseException:
                streams[1].transport.abort()
                raise
        self.note("allow", target)
        if task := asyncio.current_task():
            self._tunnels[task] = target
            task.add_done_callback(lambda ended: self._tunnels.pop(ended, None))
        return streams

    async def _hello(self, near_in: asyncio.StreamReader, host: str) -> bytes:
        """The client's first words in TLS, once they name that host. Raises ValueError where they do not."""
        try:
            async with asyncio.timeout(_HELLO_S):
                sent, hello = await client_hello(near_in)
        except (asyncio.IncompleteReadError, TimeoutError) as error:
            raise ValueError("it sends no whole ClientHello of TLS") from error
        named = server_named(hello)
        if named != _name_in_tls(host):
            raise ValueError(f"its TLS is for {named[:100] if named else 'nobody by name'}")
        return sent

    async def _listen(self) -> None:
        await super()._listen()
        self._look()

    def _look(self) -> None:
        """Tunnels of a phase that is over end."""
        allowed = self._allowed() if self._tunnels else set()
        for task, target in list(self._tunnels.items()):
            if target not in allowed:
                del self._tunnels[task]
                self.note("deny", target, reason="it is not on the list of the phase that has begun")
                task.cancel()
        self._loop.call_later(_LOOK_EVERY_S, self._look)

    async def _refuse(self, near: Streams, target: str, reason: str) -> NoReturn:
        self.note("deny", target, reason=reason)
        await self._answer(near, 403, "permission_error", f"{target[:100]}: not allowed, {reason}")

    async def _reached(self, host: str, port: int, tls: bool) -> Streams:
        async with asyncio.timeout(_REACH_S):
            return await asyncio.open_connection(host, port, ssl=ssl.create_default_context() if tls else None)

    async def _away(self, near: Streams, target: str, error: OSError) -> NoReturn:
        self.note("unreachable", target, reason=(str(error) or "it does not answer in time")[:200])
        await self._answer(near, 502, "api_error", f"{target[:100]} does not answer")

    # -- the model --

    async def _model(self, near: Streams, method: str, target: str, headers: list[bytes]) -> Streams:
        path = target.partition("?")[0]
        if method == "HEAD" and path == "/":  # whether there is anybody
            await self._answer(near, 200, "", "")
        if not target.startswith("/"):
            await self._refuse(near, target, "plain HTTP goes nowhere from here")
        if method != "POST" or path not in MODEL_PATHS:
            await self._refuse(near, f"{method} {path}", "it is no request for a message")
        body = await self._body(near, path, headers)
        if path == MODEL_PATHS[0]:
            if self._way.requests and self._made >= self._way.requests:
                self.note("budget", path, requests=self._made)
                await self._answer(near, 403, "permission_error", "the execution's budget of requests is spent")
            self._made += 1
        try:
            far_in, far_out = await self._reached(self._host, self._port, self._tls)
        except OSError as error:
            self._made -= path == MODEL_PATHS[0]
            await self._away(near, self._authority, error)
        dropped = (*_LEFT_OUT, *(_REPLACED if self._way.key else ()))
        kept = [header for header in headers if not header.lower().startswith(dropped)]
        if not self._way.server_tools:
            kept = [left for header in kept if (left := _without_betas(header))]
        sent = [
            f"{method} {self._prefix}{target} HTTP/1.1".encode("latin-1"),
            f"Host: {self._authority}".encode(),
            *([f"x-api-key: {self._way.key}".encode()] if self._way.key else []),
            b"Connection: close",
            *kept,
        ]
        far_out.write(b"\r\n".join(sent) + b"\r\n\r\n" + body)
        return _Overheard(far_in, lambda status: self._answered(path, status)), _Spoken(far_out)

    async def _body(self, near: Streams, path: str, headers: list[bytes]) -> bytes:
        """What is asked, read to its end and looked into: the model's side can reach out for whoever asks it to."""
        fields = [(name.lower(), value.strip()) for name, _, value in (each.partition(b":") for each in headers)]
        lengths = [value for name, value in fields if name == b"content-length"]
        if any(name in (b"transfer-encoding", b"content-encoding") for name, _ in fields):
            await self._refuse(near, path, "its body is encoded")
        if len(lengths) != 1 or not re.fullmatch(rb"[0-9]{1,9}", lengths[0]) or int(lengths[0]) > _BODY_BYTES:
            await self._refuse(near, path, f"it does not say its length once, of {_BODY_BYTES >> 20} MiB at most")
        async with self._reading:
            try:
                body = await near[0].readexactly(int(lengths[0]))
            except asyncio.IncompleteReadError as error:
                raise ConnectionError("half a request") from error
            complaint = complaint_about(body, self._way.server_tools)
        if complaint is not None:
            await self._refuse(near, path, complaint)
        return body

    def _answered(self, path: str, status: int) -> None:
        self.note("model", path, status=status)

    async def _answer(self, near: Streams, status: int, kind: str, words: str) -> NoReturn:
        near_in, near_out = near
        body = json.dumps({"type": "error", "error": {"type": kind, "message": words}}).encode() if kind else b""
        reason = {200: "OK", 403: "Forbidden", 502: "Bad Gateway"}[status]
        near_out.write(
            f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n".encode()
            + body
        )
        with contextlib.suppress(OSError):
            near_out.write_eof()
            async with asyncio.timeout(_LINGER_S):  # who still sends a body would lose the answer
                while await near_in.read(_CHUNK):
                    pass
        near_out.close()
        raise PermissionError(words)


async def client_hello(source: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """What a client of TLS sends first: as it came, and the message in it (RFC 8446, sections 4 and 5.1).

    Raises ValueError where it is none.
    """
    sent = message = b""
    while len(message) < 4 or len(message) < 4 + int.from_bytes(message[1:4], "big"):
        head = await source.readexactly(5)
        length = int.from_bytes(head[3:], "big")
        if head[:2] != b"\x16\x03" or not 0 < length <= 1 << 14 or len(sent) > _HEAD_BYTES:
            raise ValueError("it does not begin with a ClientHello of TLS")
        part = await source.readexactly(length)
        sent, message = sent + head + part, message + part
        if message[0] != 1:
            raise ValueError("it does not begin with a ClientHello of TLS")
    return sent, message


def server_named(hello: bytes) -> str | None:
    """The host that a ClientHello is for (RFC 6066, section 3), in small letters; None where it names none.

    Raises ValueError where that cannot be told: it is malformed, names several, or hides one (Encrypted Client Hello).
    """
    body, end = _vector(hello, 1, 3)
    _, at = _vector(body, 34, 1)  # after version and random: the session's id,
    _, at = _vector(body, at, 2)  # the ciphers,
    _, at = _vector(body, at, 1)  # and the compressions
    extensions, at = _vector(body, at, 2) if at < len(body) else (b"", at)
    if at != len(body) or end != len(hello):
        raise ValueError("its ClientHello is malformed")
    names, at = [], 0
    while at < len(extensions):
        kind = int.from_bytes(extensions[at : at + 2], "big")
        value, at = _vector(extensions, at + 2, 2)
        if kind == _ENCRYPTED_HELLO:
            raise ValueError("its ClientHello hides whom it is for")
        if kind == 0:
            listed, _ = _vector(value, 0, 2)
            name, end = _vector(listed, 1, 2)
            if listed[:1] != b"\0" or end != len(listed) or len(listed) + 2 != len(value):
                raise ValueError("its ClientHello is malformed")
            names.append(name)
    if len(names) > 1:
        raise ValueError("its ClientHello is malformed")
    return names[0].decode("ascii").lower() if names else None


def _vector(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    """What follows its length of ``size`` bytes, and where it ends."""
    end = at + size + int.from_bytes(data[at : at + size], "big")
    if end > len(data):
        raise ValueError("its ClientHello is malformed")
    return data[at + size : end], end


def _name_in_tls(host: str) -> str | None:
    """An address is never named there."""
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host.strip("[]"))
        return None
    return host.rstrip(".")


class _Spoken(asyncio.StreamWriter):
    """The far side of a connection on which all is said: what its sender says further is read, and goes nowhere."""

    def __init__(self, said: asyncio.StreamWriter) -> None:
        super().__init__(said.transport, said.transport.get_protocol(), None, asyncio.get_running_loop())
        self._said = said  # who drops it closes it

    def write(self, data: object) -> None: ...


def complaint_about(body: bytes, server_tools: bool = False) -> str | None:
    """Why a request for a message must not go out: what in it has the model's side fetch, run or keep something.

    Strict, for what is read here in one way must not be read there in another.

    >>> complaint_about(b'{"messages": [{"content": [{"type": "image", "source": {"type": "url", "url": "x"}}]}]}')
    "a source of type 'url' has the model's side fetch it"
    """
    outside = _TEXT.sub(b"", body)
    if sum(map(outside.count, (b",", b"[", b"{"))) > _PARTS:
        return f"its body has more than {_PARTS} parts"
    try:
        told = json.loads(body.decode(), object_pairs_hook=_named_once, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return "its body is no JSON that every reader reads alike"
    if not isinstance(told, dict):
        return "its body is no object"
    waiting: list[tuple[str, object]] = [("", told)]
    while waiting:
        at, node = waiting.pop()
        if isinstance(node, list):
            waiting += [(at, each) for each in node]
        elif isinstance(node, dict):
            named = {name.casefold(): value for name, value in node.items()}
            if len(named) < len(node):
                return "two names in its body differ by their case only"
            if complaint := _complaint_about_object(at, named, server_tools):
                return complaint
            waiting += [(name, value) for name, value in named.items() if not _is_free(named, name)]
    return None


def _complaint_about_object(at: str, node: dict[str, object], server_tools: bool) -> str | None:
    """``at`` is the name that it stands at, alone or in a list."""
    kind = node.get("type")
    word, shown = kind.casefold() if isinstance(kind, str) else "", repr(kind)[:60]
    if word in ("url", "file") or (at == "source" and word not in _SOURCES):
        return f"a source of type {shown} has the model's side fetch it"
    for name in _ELSEWHERE:
        if node.get(name):
            return f"{name!r} leads to another place than the model"
    if server_tools:
        return None
    if (at == "tools" and kind is not None and not _CLIENT_TOOL.fullmatch(word)) or word.startswith(_SERVER_TOOLS):
        return f"a tool of type {shown} works at the model's side"
    return None


def _is_free(node: dict[str, object], name: str) -> bool:
    """Whether what stands there is any JSON, which the model reads as text: a tool's input, or the shape of one."""
    kind = node.get("type")
    inputs = (name == "input" and kind == "tool_use") or (name == "schema" and kind == "json_schema")
    return inputs or name in ("input_schema", "input_examples")


def _named_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _without_betas(header: bytes) -> bytes | None:
    """The header without what asks for tools of the model's side; None where nothing of it is left."""
    name, _, value = header.partition(b":")
    if name.lower() != b"anthropic-beta":
        return header
    asked = [each.strip() for each in value.split(b",")]
    left = [each for each in asked if not each.lower().startswith(_BETAS)]
    return header if left == asked else name + b": " + b",".join(left) if left else None


def _room(verdict: str, target: str) -> str:
    """Of `_LOG_BYTES`. Tokens may be counted without end, and no budget depends on it."""
    if verdict == "model" and target != MODEL_PATHS[0]:
        return "allow"
    return verdict if verdict in _LOG_BYTES else "deny"


class _Overheard(asyncio.StreamReader):
    """Hands through what is read, and tells the status of the answer: 0 where none came, or it is no HTTP.

    The sender learns that the connection ends with this answer, even from a server that does not say so: what it
    sent next would be lost.
    """

    def __init__(self, source: asyncio.StreamReader, tell: Callable[[int], None]) -> None:
        super().__init__()
        self._source, self._tell, self._first = source, tell, True

    async def read(self, n: int = -1) -> bytes:
        if not self._first:
            return await self._source.read(n)
        self._first, status = False, 0
        try:
            interim, head, rest = await self._heads(n)
            if said := _STATUS.match(head):
                status = int(said[1])
                if not re.search(rb"\nconnection:[ \t]*close[ \t]*\r?\n", head.lower()):
                    line, end, more = head.partition(b"\n")
                    head = line + end + b"Connection: close\r\n" * bool(end) + more
            return interim + head + rest
        finally:  # also where the sender has hung up: that it asked is on record
            self._tell(status)

    async def _heads(self, n: int) -> tuple[bytes, bytes, bytes]:
        """Those of interim answers (RFC 9110, section 15.2), the answer's own, and what came with it."""
        heard, begin = b"", 0
        while True:
            end = _HEAD_END.search(heard, begin)
            if end and (said := _STATUS.match(heard, begin)) and said[1].startswith(b"1") and said[1] != b"101":
                begin = end.end()
                continue
            here = heard[begin : begin + 5]
            data = (
                b"" if end or not b"HTTP/".startswith(here) or len(heard) > _HEAD_BYTES else await self._source.read(n)
            )
            if not data:
                cut = end.end() if end else len(heard)
                return heard[:begin], heard[begin:cut], heard[cut:]
            heard += data


def run(socket: Path, way: Way, log: Path, phase: Path, command: Sequence[str]) -> int:
    """Serve ``socket`` while ``command`` runs. Its exit code, or 128 and the signal that ended it."""
    for typed in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(typed, lambda *_: None)  # for the agent; what is ignored, it would inherit
    with Gateway(way, log, phase).at(socket):
        code = subprocess.run(command, check=False).returncode
    return 128 - code if code < 0 else code


def hide() -> None:
    """Nobody but root reads this process's memory, and it leaves none in a file: the key is in it (prctl(2))."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        sys.exit("gateway: its memory could not be closed to others")


def read_way(fifo: Path) -> Way:
    """What stands in the pipe, which is removed. Exits where nobody writes to it in time."""

    def late(*_: object) -> NoReturn:
        fifo.unlink(missing_ok=True)
        sys.exit(f"gateway: nobody told it the way within {_TOLD_WITHIN_S:.0f} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, _TOLD_WITHIN_S)
    text = fifo.read_text()
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)
    fifo.unlink()
    try:
        return Way(**json.loads(text))
    except (ValueError, TypeError):
        sys.exit("gateway: what it was told is no way")


def main() -> None:
    socket, fifo, log, phase, separator, *command = sys.argv[1:]
    if separator != "--":
        sys.exit("gateway: expected SOCKET FIFO LOG PHASE -- COMMAND")
    os.umask(0o077)
    hide()
    sys.exit(run(Path(socket), read_way(Path(fifo)), Path(log), Path(phase), command))


if __name__ == "__main__":
    main()
