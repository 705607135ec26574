"""Anthropic's Messages API on loopback, answered by a script in place of a model.

Requests and answers have the real one's shape (https://docs.anthropic.com/en/api/messages, streamed as server-sent
events), so that the real Claude Code CLI talks to it.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any

Block = dict[str, Any]


@dataclass(frozen=True)
class Asked:
    """One request: the last prompt, and what the tools have answered since, oldest first."""

    prompt: str
    results: list[str]
    tools: frozenset[str]
    system: str
    body: Mapping[str, Any]


@dataclass(frozen=True)
class Fault:
    """An answer that is none: an HTTP error, or with ``cut`` a stream that ends amid a block."""

    status: int = 200
    kind: str = ""
    message: str = ""
    cut: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


Script = Callable[[Asked], "list[Block] | Fault"]


def text(words: str) -> Block:
    return {"type": "text", "text": words}


def tool(name: str, **given: Any) -> Block:
    return {"type": "tool_use", "name": name, "input": given}


@dataclass
class MessagesApi:
    """Where it listens, and what came. ``script`` may be changed at any time."""

    script: Script
    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def answer(self, body: Mapping[str, Any]) -> "list[Block] | Fault":
        asked = _asked(body)
        if not asked.tools:  # titles and summaries that nobody waits for
            return [text("ok")]
        self.asked.append(asked)
        return (
            [
                block if block["type"] == "text" else {**block, "id": f"toolu_{time.time_ns()}_{next(self._numbers)}"}
                for block in found
            ]
            if isinstance(found := self.script(asked), list)
            else found
        )

    def message_id(self) -> str:
        """A new one each time: answers of one id are merged by the CLI."""
        return f"msg_{time.time_ns()}_{next(self._numbers)}"


def _blocks(message: Mapping[str, Any]) -> list[Block]:
    content = message.get("content", [])
    return [text(content)] if isinstance(content, str) else list(content)


def _asked(body: Mapping[str, Any]) -> Asked:
    words: list[str] = []
    results: list[str] = []
    for message in body.get("messages", []):
        for block in _blocks(message) if message["role"] == "user" else []:
            if block["type"] == "tool_result":
                inner = block.get("content", "")
                results.append(inner if isinstance(inner, str) else "".join(part.get("text", "") for part in inner))
            elif block["type"] == "text" and not block["text"].startswith("<system-reminder>"):
                words.append(block["text"])
                results.clear()
    system = body.get("system", "")
    return Asked(
        prompt=words[-1] if words else "",
        results=results,
        tools=frozenset(each["name"] for each in body.get("tools", []) if "name" in each),
        system=system if isinstance(system, str) else "\n".join(part.get("text", "") for part in system),
        body=body,
    )


def _events(message: dict[str, Any], blocks: list[Block]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "message_start", {"message": message}
    for index, block in enumerate(blocks):
        if block["type"] == "text":
            opened, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": block["text"]}
        else:
            opened = {**block, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        yield "content_block_start", {"index": index, "content_block": opened}
        yield "content_block_delta", {"index": index, "delta": delta}
        yield "content_block_stop", {"index": index}
    yield "message_delta", {"delta": {"stop_reason": _stop_reason(blocks)}, "usage": {"output_tokens": 5}}
    yield "message_stop", {}


def _stop_reason(blocks: list[Block]) -> str:
    return "tool_use" if any(block["type"] == "tool_use" for block in blocks) else "end_turn"


def _handler(api: MessagesApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None: ...

        def _send(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
            payload = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"content-type": "application/json", **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def _note(self) -> None:
            api.requests.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))

        def do_HEAD(self) -> None:
            self._note()
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def do_GET(self) -> None:
            self._note()
            self._send(404, {})

        def do_POST(self) -> None:
            self._note()
            body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
            if not self.path.startswith("/v1/messages"):
                return self._send(404, {})
            if "count_tokens" in self.path:
                return self._send(200, {"input_tokens": 10})
            blocks = api.answer(body)
            if isinstance(blocks, Fault) and not blocks.cut:
                error = {"type": "error", "error": {"type": blocks.kind, "message": blocks.message}}
                return self._send(blocks.status, error, blocks.headers)
            cut = isinstance(blocks, Fault)
            said = [text("I was about to say")] if isinstance(blocks, Fault) else blocks
            message: dict[str, Any] = {
                **{"id": api.message_id(), "type": "message", "role": "assistant", "model": body.get("model")},
                **{"content": [], "stop_reason": None, "stop_sequence": None},
                "usage": {"input_tokens": 10, "output_tokens": 1},
            }
            if not body.get("stream"):
                return self._send(200, {**message, "content": said, "stop_reason": _stop_reason(said)})
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("connection", "close")
            self.end_headers()
            self.close_connection = True
            for name, data in _events(message, said):
                if cut and name == "content_block_stop":
                    return None
                self.wfile.write(f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n".encode())
                self.wfile.flush()
            return None

    return Handler


@contextmanager
def messages_api(script: Script) -> Iterator[MessagesApi]:
    """Listens on a free port of loopback until the context is left."""
    api = MessagesApi(script)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(api))
    api.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
