"""The way out of an agent's sandbox, over real sockets, and as the program of a pane with a real sandbox below it."""

import asyncio
import gc
import json
import os
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from tasks.adapters.sandbox import Confinement, argv, gateway, python_runtime
from tasks.adapters.sandbox.gateway import Gateway, Way
from tests.support import messages_api as model
from tests.support.messages_api import MessagesApi, messages_api

ROOT = Path(__file__).parents[3]
KEY = f"sk-ant-{secrets.token_hex(16)}"
MESSAGES = "/v1/messages"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"


class Server:
    """Takes what a connection brings until its end, then answers; ``go`` lets the second half of the answer follow."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.heard: list[bytes] = []
        self.answer: tuple[bytes, ...] = (OK,)
        self.go = threading.Event()

    def serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._hear, args=(connection,), daemon=True).start()

    def _hear(self, connection: socket.socket) -> None:
        with connection:
            heard = b""
            while data := connection.recv(1 << 16):
                heard += data
            self.heard.append(heard)
            for number, part in enumerate(self.answer):
                if number:
                    self.go.wait(30)
                connection.sendall(part)


@pytest.fixture
def api() -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = Server(listener)
        threading.Thread(target=made.serve, daemon=True).start()
        yield made
        listener.shutdown(socket.SHUT_RDWR)


class Place:
    """The files of one gateway, in a folder whose path is short enough for a socket."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket, self.log = folder / "out", folder / "egress.jsonl"
        self.phase, self.fifo = folder / "phase.txt", folder / "way.fifo"

    def gateway(self, api: str, *, key: str = KEY, **more: Any) -> Gateway:
        return Gateway(Way(api, key, **more), self.log, self.phase).at(self.socket)

    def dial(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(30)
        client.connect(str(self.socket))
        return client

    def ask(self, request: bytes) -> bytes:
        with self.dial() as client:
            client.sendall(request)
            client.shutdown(socket.SHUT_WR)
            return until_end(client)

    def noted(self) -> list[dict[str, Any]]:
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [json.loads(line) for line in lines]

    def verdicts(self) -> list[tuple[str, str]]:
        return [(line["verdict"], line["target"]) for line in self.noted()]


@pytest.fixture
def place() -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="tb-", dir="/tmp") as folder:
        made = Place(Path(folder))
        yield made
        assert KEY not in (made.log.read_text() if made.log.exists() else "")


def until_end(client: socket.socket) -> bytes:
    answer = b""
    try:
        while data := client.recv(1 << 16):
            answer += data
    except ConnectionResetError:
        return answer
    return answer


def post(path: str = "/v1/messages", *headers: str, body: bytes = b"{}") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1:3128", *headers, f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def connect(target: str) -> bytes:
    return f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode()


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ")[1])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


# --- to the model ------------------------------------------------------------------------------------------------


def client_of(place: Place) -> httpx.Client:
    transport = httpx.HTTPTransport(uds=str(place.socket))
    return httpx.Client(transport=transport, base_url="http://127.0.0.1:3128", timeout=30)


def request(words: str, **more: Any) -> dict[str, Any]:
    tools = [{"name": "Bash", "input_schema": {}}]
    return {"model": "m", "messages": [{"role": "user", "content": words}], "tools": tools, **more}


@pytest.fixture
def claude() -> Iterator[MessagesApi]:
    with messages_api(lambda asked: [model.text(f"heard {len(asked.prompt)}")]) as api:
        yield api


def test_a_message_arrives_whole_with_the_key_that_its_sender_never_had(place: Place, claude: MessagesApi) -> None:
    mine = {"x-api-key": "placeholder", "authorization": "Bearer placeholder", "anthropic-beta": "one,two"}
    with place.gateway(claude.url), client_of(place) as client:
        answered = client.post("/v1/messages?beta=true&x=%2F", json=request("ä" * 1_000_000), headers=mine)
        assert answered.json()["content"] == [model.text("heard 1000000")]
        assert client.post("/v1/messages/count_tokens", json=request("x"), headers=mine).json() == {"input_tokens": 10}
    (first, path, headers), (_, counted, _) = claude.requests
    assert (first, path, counted) == ("POST", "/v1/messages?beta=true&x=%2F", "/v1/messages/count_tokens")
    assert headers["x-api-key"] == KEY
    assert headers["anthropic-beta"] == "one,two"
    assert headers["host"] == claude.url.removeprefix("http://")
    assert "placeholder" not in str(claude.requests)
    assert place.verdicts() == [("model", "/v1/messages"), ("model", "/v1/messages/count_tokens")]
    assert [line["status"] for line in place.noted()] == [200, 200]


def test_an_answer_of_events_arrives_as_such(place: Place, claude: MessagesApi) -> None:
    streamed = request("x", stream=True)
    with place.gateway(claude.url), client_of(place) as client, client.stream("POST", MESSAGES, json=streamed) as said:
        events = [line for line in said.iter_lines() if line.startswith("event: ")]
    assert (events[0], events[-1]) == ("event: message_start", "event: message_stop")


def test_what_the_model_has_said_so_far_arrives_while_it_thinks(place: Place, api: Server) -> None:
    api.answer = (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\ndata: one\n\n", b"data: two\n\n")
    with place.gateway(api.url), place.dial() as client:
        client.sendall(post())
        client.shutdown(socket.SHUT_WR)
        said = b""
        while b"one" not in said:
            said += client.recv(100)
        assert b"two" not in said
        assert place.verdicts() == [("model", "/v1/messages")]
        api.go.set()
        assert until_end(client) == b"data: two\n\n"


def test_of_the_senders_headers_its_keys_and_what_is_between_two_machines_stay_behind(
    place: Place, api: Server
) -> None:
    own = ("X-API-Key: mine", "authorization:mine", "AUTHORIZATION: Bearer mine", "Proxy-Authorization: Basic mine")
    hops = ("Connection: mine, keep-alive", "Keep-Alive: mine", "Host: mine", "Expect: mine", "Proxy-Connection: mine")
    with place.gateway(f"{api.url}/prefix/"):
        assert place.ask(post("/v1/messages", *own, *hops, "X-Kept: yours")) == OK
    (heard,) = api.heard
    assert heard.decode().split("\r\n") == [
        "POST /prefix/v1/messages HTTP/1.1",
        f"Host: 127.0.0.1:{api.port}",
        f"x-api-key: {KEY}",
        "Connection: close",
        "X-Kept: yours",
        "Content-Length: 2",
        "",
        "{}",
    ]


def test_without_a_key_the_sender_brings_its_own(place: Place, api: Server) -> None:
    with place.gateway(api.url, key=""):
        assert place.ask(post(MESSAGES, "Authorization: Bearer mine", "Proxy-Authorization: Basic mine")) == OK
    (heard,) = api.heard
    assert b"\r\nAuthorization: Bearer mine\r\n" in heard
    assert b"Basic mine" not in heard
    assert b"x-api-key" not in heard


def test_a_second_request_on_the_same_connection_never_gets_the_key(place: Place, api: Server) -> None:
    second = post("/v1/files", "x-api-key: mine")
    with place.gateway(api.url):
        assert place.ask(post() + second) == OK
    (heard,) = api.heard
    assert heard.count(KEY.encode()) == 1
    assert b"\r\nConnection: close\r\n" in heard
    assert heard.endswith(b"\r\n\r\n{}"), "what follows the one request goes nowhere"
    assert b"/v1/files" not in heard


NO_HTTP = [
    post("/v1/messages", "x-api-key : mine"),
    post("/v1/messages", "X-Kept: a", " x-api-key: mine"),
    post("/v1/messages", "X-Kept: a", "\tx-api-key: mine"),
    post("/v1/messages", "X-Kept: a\nx-api-key: mine"),
    post("/v1/messages", "X-Kept: a\rx-api-key: mine"),
    post("/v1/messages", "X-Kept: a\0"),
    post("/v1/messages", "x-api-key"),
    post("/v1/messages", ": mine"),
    post("/v1/messages?a\nx-api-key:mine\nX:"),
    post("/v1/messages?a\rx-api-key:mine"),
    post("/v1/messages?a\tb"),
    post("/v1/messages?\xe4"),
    b"POST\r\n\r\n",
    b"\r\n\r\n",
]


@pytest.mark.parametrize("sent", NO_HTTP, ids=range(len(NO_HTTP)))
def test_what_two_servers_may_read_in_two_ways_goes_to_none(place: Place, api: Server, sent: bytes) -> None:
    with place.gateway(api.url):
        answer = place.ask(sent)
    assert status_of(answer) == 403
    assert api.heard == []
    (line,) = place.noted()
    assert (line["verdict"], line["reason"]) == ("deny", "it is no request of HTTP/1.1")


ELSEWHERE = [
    "GET /v1/files",
    "POST /v1/files",
    "GET /v1/messages",
    "PUT /v1/messages",
    "HEAD /v1/messages",
    "post /v1/messages",
    "POST /v1/messages/batches",
    "POST /v1/messages/",
    "POST //v1/messages",
    "POST /v1/messages/../files",
    "POST /v1/messages%2f..%2ffiles",
    "POST /v1/messages;x",
    "POST /v1/messages#?",
    "GET /",
    "HEAD /v1",
]


@pytest.mark.parametrize("line", ELSEWHERE)
def test_only_requests_for_a_message_go_to_the_model(place: Place, api: Server, line: str) -> None:
    with place.gateway(api.url):
        answer = place.ask(f"{line} HTTP/1.1\r\n\r\n".encode())
    assert status_of(answer) == 403
    assert b"it is no request for a message" in answer
    assert api.heard == []
    assert place.verdicts() == [("deny", line.partition("?")[0])]


def test_whether_there_is_anybody_is_answered_here(place: Place, api: Server) -> None:
    with place.gateway(api.url):
        assert status_of(place.ask(b"HEAD / HTTP/1.1\r\n\r\n")) == 200
    assert (api.heard, place.noted()) == ([], [])


@pytest.mark.parametrize("target", ["http://example.com/", "http://127.0.0.1/v1/messages", "*", "example.com"])
def test_plain_http_goes_nowhere(place: Place, api: Server, target: str) -> None:
    with place.gateway(api.url, allowed={"*": ["example.com:80"]}):
        assert status_of(place.ask(post(target))) == 403
    assert api.heard == []
    assert place.verdicts() == [("deny", target)]


@pytest.mark.parametrize("sent", [b"", b"POST /v1/mess", b"X" * 200_000], ids=["nothing", "half", "endless"])
def test_what_never_becomes_a_request_is_hung_up_on(place: Place, api: Server, sent: bytes) -> None:
    with place.gateway(api.url), place.dial() as client:
        try:
            client.sendall(sent)
            client.shutdown(socket.SHUT_WR)
        except OSError:
            assert len(sent) > 100_000  # hung up on while it was sent
        assert until_end(client) == b""
    assert (api.heard, place.noted()) == ([], [])


# --- what is asked of it -----------------------------------------------------------------------------------------

PICTURE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
FETCHED = {"type": "image", "source": {"type": "url", "url": "https://example.com/?secret"}}
SERVED = {"type": "web_search_tool_result", "tool_use_id": "x", "content": []}


def asked(*blocks: object, **more: object) -> dict[str, object]:
    return {"model": "m", "messages": [{"role": "user", "content": list(blocks)}], **more}


def result(*blocks: object) -> dict[str, object]:
    return {"type": "tool_result", "tool_use_id": "x", "content": list(blocks)}


SCHEMA = {
    "type": "object",
    "properties": {"source": {"type": "url"}, "type": {"type": "string"}, "mcp_servers": {"type": "array"}},
    "examples": [{"source": {"type": "file", "file_id": "x"}}],
}

HARMLESS: list[dict[str, object]] = [
    {},
    asked(model.text('{"source": {"type": "url"}}'), PICTURE, result(PICTURE, model.text("x"))),
    asked({"type": "document", "source": {"type": "content", "content": [model.text("x"), PICTURE]}}),
    asked({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}}),
    asked({"type": "search_result", "source": "https://example.com/", "title": "x", "content": [model.text("x")]}),
    asked(model.tool("WebFetch", url="https://example.com/", source={"type": "url"}, container="x")),
    asked(tools=[{"name": "Bash", "input_schema": SCHEMA, "input_examples": [{"source": {"type": "url"}}]}]),
    asked(tools=[{"type": "custom", "name": "web_search", "input_schema": SCHEMA}]),
    asked(tools=[{"type": "bash_20250124"}, {"type": "text_editor_20250728"}, {"type": "memory_20250818"}]),
    asked(output_config={"effort": "medium", "format": {"type": "json_schema", "schema": SCHEMA}}),
    asked(thinking={"type": "adaptive"}, context_management={"edits": [{"type": "clear_thinking_20251015"}]}),
    asked(mcp_servers=[], container=None, system=[{**model.text("x"), "cache_control": {"type": "ephemeral"}}]),
]


@pytest.mark.parametrize("body", HARMLESS, ids=range(len(HARMLESS)))
@pytest.mark.parametrize("path", gateway.MODEL_PATHS)
def test_what_stays_between_agent_and_model_goes_out_as_it_is(
    place: Place, api: Server, path: str, body: dict[str, object]
) -> None:
    sent = json.dumps(body, ensure_ascii=False).encode()
    with place.gateway(api.url):
        assert place.ask(post(path, body=sent)) == OK
    assert api.heard[0].endswith(b"\r\n\r\n" + sent)


OUTWARD: list[tuple[dict[str, object], str]] = [
    (asked(FETCHED), "source of type 'url'"),
    (asked({"type": "document", "source": {"type": "url", "url": "x"}}), "source of type 'url'"),
    (asked({"type": "document", "source": {"type": "file", "file_id": "x"}}), "source of type 'file'"),
    (asked({"type": "image", "source": {"type": "URL", "url": "x"}}), "source of type 'URL'"),
    (asked({"type": "image", "Source": {"Type": "url", "url": "x"}}), "source of type 'url'"),
    (asked({"type": "image", "\u017fource": {"type": "new"}}), "source of type 'new'"),
    (asked({"type": "image", "source": {"url": "x"}}), "source of type None"),
    (asked({"type": "image", "source": {"type": ["url"]}}), "source of type ['url']"),
    (asked({"type": "image", "source": [{"type": "s3"}]}), "source of type 's3'"),
    (asked(result(FETCHED)), "source of type 'url'"),
    (asked(result({"type": "document", "source": {"type": "content", "content": [FETCHED]}})), "source of type 'url'"),
    (asked({"type": "text", "text": "x", "input": [FETCHED]}), "source of type 'url'"),
    (asked(system=[FETCHED]), "source of type 'url'"),
    (asked(anything={"from": {"type": "url"}}), "source of type 'url'"),
    (asked({"type": "container_upload", "file_id": "x"}), "'file_id'"),
    (asked({"type": "container_upload"}), "container_upload"),
    (asked(mcp_servers=[{"type": "url", "url": "x"}]), "'mcp_servers'"),
    (asked(MCP_Servers=[{"url": "x"}]), "'mcp_servers'"),
    (asked(container="x"), "'container'"),
    (asked(container={"skills": [{"skill_id": "x"}]}), "'container'"),
    *(
        (asked(tools=[{"name": "Bash", "input_schema": {}}, {"type": kind, "name": "x"}]), f"tool of type {kind!r}")
        for kind in (
            *("web_search_20250305", "web_fetch_20250910", "code_execution_20250825", "mcp_toolset", "WEB_SEARCH_1"),
            *(
                "computer_20250124",
                "bash_code_execution_20250825",
                "bash_",
                "memory_20250818_x",
                "advisor_20260301",
                "",
            ),
        )
    ),
    (asked(tools=[{"type": 7}]), "tool of type 7"),
    (asked({"type": "tool_change", "tools": [{"type": "new_20270101"}]}), "tool of type 'new_20270101'"),
    (asked({"type": "tool_change", "tool": {"type": "web_fetch_20250910"}}), "tool of type 'web_fetch_20250910'"),
    (asked({"type": "server_tool_use", "name": "web_fetch", "input": {}}), "tool of type 'server_tool_use'"),
    (asked(SERVED), "tool of type 'web_search_tool_result'"),
    (asked({"type": "mcp_tool_use", "input": {}}), "tool of type 'mcp_tool_use'"),
    ({"Model": "m", "model": "m"}, "differ by their case only"),
]


@pytest.mark.parametrize(("body", "reason"), OUTWARD, ids=range(len(OUTWARD)))
@pytest.mark.parametrize("path", gateway.MODEL_PATHS)
def test_what_has_the_models_side_reach_out_is_refused_and_named(
    place: Place, api: Server, path: str, body: dict[str, object], reason: str
) -> None:
    with place.gateway(api.url):
        answer = place.ask(post(path, body=json.dumps(body).encode()))
    assert status_of(answer) == 403
    assert reason in json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["message"]
    assert api.heard == []
    (line,) = place.noted()
    assert (line["verdict"], line["target"]) == ("deny", path)
    assert reason in line["reason"]


def test_where_an_operator_allows_it_the_models_side_searches_and_no_more(place: Place, api: Server) -> None:
    tools = [{"type": "web_search_20250305", "name": "web_search"}]
    with place.gateway(api.url, server_tools=True):
        beta = "anthropic-beta: web-fetch-2025-09-10"
        assert place.ask(post(MESSAGES, beta, body=json.dumps(asked(SERVED, tools=tools)).encode())) == OK
        for body in (asked(FETCHED), asked(mcp_servers=[{"url": "x"}]), asked(container="x")):
            assert status_of(place.ask(post(body=json.dumps(body).encode()))) == 403
    (heard,) = api.heard
    assert b"web-fetch" in heard


TWO_WAYS = [
    b"",
    b"[]",
    b"null",
    b'"x"',
    b"{",
    b"{}{}",
    b'{"a": 1, "a": 2}',
    b'{"messages": [{"content": [{"type": "text", "type": "x"}]}]}',
    b'{"source": 1, "s\\u006furce": 2}',
    b'{"a": NaN}',
    b'{"a": -Infinity}',
    b"{'a': 1}",
    b'{"a": 1,}',
    b'{"a": "\n"}',
    b"\xef\xbb\xbf{}",
    '{"a": 1}'.encode("utf-16"),
    '{"a": 1}'.encode("utf-32"),
    b'{"a": "\xff"}',
    b'{"a": ' + b"9" * 5000 + b"}",
    b'{"a":' * 300_000 + b"1" + b"}" * 300_000,
    b'{"a": ' + b"[" * 300_000 + b"]" * 300_000 + b"}",
    b'{"a": [' + b"[]," * 600_000 + b"[]]}",
]


@pytest.mark.parametrize("body", TWO_WAYS, ids=range(len(TWO_WAYS)))
def test_a_body_that_two_readers_may_read_in_two_ways_goes_to_none(place: Place, api: Server, body: bytes) -> None:
    with place.gateway(api.url):
        answer = place.ask(post(body=body))
    assert status_of(answer) == 403
    assert api.heard == []
    (line,) = place.noted()
    assert (line["verdict"], line["target"]) == ("deny", MESSAGES)
    assert "its body" in line["reason"]


HEAD = "POST /v1/messages HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ("\r\n{}", "its length"),
        ("Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", "its length"),
        ("Content-Length: 2\r\ncontent-length: 3\r\n\r\n{}x", "its length"),
        ("Content-Length: +2\r\n\r\n{}", "its length"),
        ("Content-Length: 2, 2\r\n\r\n{}", "its length"),
        ("Content-Length: 0x2\r\n\r\n{}", "its length"),
        ("Content-Length: 33554433\r\n\r\n{}", "its length once, of 32 MiB at most"),
        ("Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", "encoded"),
        ("Content-Length: 2\r\nTransfer-Encoding: identity\r\n\r\n{}", "encoded"),
        ("Content-Length: 2\r\nCONTENT-ENCODING: gzip\r\n\r\n{}", "encoded"),
    ],
)
def test_a_body_of_unclear_length_or_code_goes_nowhere(place: Place, api: Server, sent: str, reason: str) -> None:
    with place.gateway(api.url):
        assert status_of(place.ask((HEAD + sent).encode())) == 403
    assert api.heard == []
    (line,) = place.noted()
    assert line["verdict"] == "deny"
    assert reason in line["reason"]


def test_a_request_that_ends_amid_its_body_is_hung_up_on(place: Place, api: Server) -> None:
    with place.gateway(api.url, requests=1):
        assert place.ask((HEAD + "Content-Length: 3\r\n\r\n{}").encode()) == b""
        assert place.ask(post()) == OK, "and costs nothing"
    assert place.verdicts() == [("model", MESSAGES)]


def test_what_is_refused_costs_no_budget(place: Place, api: Server) -> None:
    with place.gateway(api.url, requests=1):
        for _ in range(3):
            assert status_of(place.ask(post(body=json.dumps(asked(FETCHED)).encode()))) == 403
        assert place.ask(post()) == OK


@pytest.mark.parametrize(
    ("sent", "left"),
    [
        ("a-1,mcp-client-2025-11-20, files-api-2025-04-14 ,b-2", b"\r\nanthropic-beta: a-1,b-2\r\n"),
        ("a-1, b-2", b"\r\nanthropic-beta: a-1, b-2\r\n"),
        ("Web-Fetch-2025-09-10,code-execution-2025-08-25,web-search-2025-03-05", None),
    ],
)
def test_what_is_still_tried_out_at_the_models_side_is_not_asked_for_where_it_reaches_out(
    place: Place, api: Server, sent: str, left: bytes | None
) -> None:
    with place.gateway(api.url):
        assert place.ask(post(MESSAGES, f"anthropic-beta: {sent}")) == OK
    (heard,) = api.heard
    assert (left in heard) if left else (b"anthropic-beta" not in heard)


# --- its answers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n", 401),
        (b"HTTP/1.1 403\r\nContent-Length: 0\r\n\r\n", 403),
        (b"HTTP/1.1 529 Overloaded\r\n\r\n", 529),
        (b"SSH-2.0-OpenSSH_9.2\r\n", 0),
        (b"HTTP/1.1 yes no\r\n\r\n", 0),
        (b"", 0),
    ],
)
def test_what_the_model_answered_is_noted_and_handed_on(
    place: Place, api: Server, answer: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    api.answer = (answer,)
    with place.gateway(api.url):
        heard = place.ask(post("/v1/messages?beta=true"))
    gc.collect()
    assert caplog.text == ""  # asyncio logs what a task raised and nobody looked at
    assert heard.replace(b"Connection: close\r\n", b"") == answer
    (line,) = place.noted()
    assert (line["verdict"], line["target"], line["status"]) == ("model", "/v1/messages", status)


EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ((b"HTTP/1.1 4", b"01 Unauthorized\r\nContent-Length: 0\r\n\r\n"), 401),
        ((b"H", b"TTP/1.1 200 OK\r\nConnec", b"tion: close\r\n\r", b"\nhi"), 200),
        ((EARLY, b"HTTP/1.1 529 Overloaded\r\n\r\n"), 529),
        ((EARLY + b"HTTP/1.1 40", b"3 Forbidden\r\n\r\n"), 403),
        ((EARLY,), 0),
        ((b"HTTP/1.1 20",), 0),
        ((b"HTTP/1.1 200 OK\nX: y\n\nhi",), 200),
    ],
)
def test_a_status_that_comes_in_pieces_or_after_others_is_the_one_that_is_noted(
    place: Place, api: Server, parts: tuple[bytes, ...], status: int
) -> None:
    class Slow(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            time.sleep(0.1)
            return True

    api.answer, api.go = parts, Slow()
    with place.gateway(api.url):
        heard = place.ask(post())
    (line,) = place.noted()
    assert (line["verdict"], line["status"]) == ("model", status)
    assert heard.replace(b"Connection: close\r\n", b"") == b"".join(parts).replace(b"Connection: close\r\n", b"")
    assert heard.count(b"Connection: close") == bool(status)


def test_who_hangs_up_before_the_answer_has_asked_all_the_same(place: Place, api: Server) -> None:
    api.answer = (b"", OK)
    with place.gateway(api.url), place.dial() as client:
        client.sendall(post())
        client.shutdown(socket.SHUT_WR)
        until(lambda: api.heard)
        assert place.noted() == []
    assert [(line["target"], line["status"]) for line in place.noted()] == [("/v1/messages", 0)]


@pytest.mark.parametrize("said", ["", "Connection: close\r\n", "connection: keep-alive\r\n"])
def test_the_sender_learns_that_the_connection_ends_with_its_answer(place: Place, api: Server, said: str) -> None:
    """Whoever sent a next request on it would lose that."""
    api.answer = (
        f"HTTP/1.1 200 OK\r\n{said}Content-Length: 17\r\n\r\nHTTP/1.1 200 OK\r\n".encode(),
        b"HTTP/1.1 200 OK\r\n",
    )
    api.go.set()
    with place.gateway(api.url):
        answer = place.ask(post())
    assert answer.count(b"Connection: close\r\n") == 1
    assert answer.replace(b"Connection: close\r\n", b"").endswith(b"\r\n\r\n" + b"HTTP/1.1 200 OK\r\n" * 2)


def test_a_refusal_arrives_even_where_its_request_is_long(place: Place, api: Server) -> None:
    body = b"x" * (8 << 20)
    with place.gateway(api.url), place.dial() as client:
        client.sendall(post("/v1/files", body=body))
        assert status_of(until_end(client)) == 403


def test_who_never_ends_a_refused_request_is_hung_up_on(
    place: Place, api: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "_LINGER_S", 0.2)

    def send_on(client: socket.socket) -> None:
        end = time.monotonic() + 6
        while time.monotonic() < end:
            client.sendall(b"x" * 1000)

    with place.gateway(api.url), place.dial() as client:
        client.sendall(post("/v1/files"))
        with pytest.raises((BrokenPipeError, ConnectionResetError)):
            send_on(client)


def test_a_model_that_is_away_is_said_to_be(place: Place) -> None:
    port = free_port()
    with place.gateway(f"http://127.0.0.1:{port}"):
        answer = place.ask(post())
    assert status_of(answer) == 502
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["type"] == "api_error"
    assert place.verdicts() == [("unreachable", f"127.0.0.1:{port}")]


def test_a_model_that_does_not_take_the_call_is_said_to_be_away(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "_REACH_S", 0.3)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]  # the kernel lets further ones wait for an answer
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(address)
        with place.gateway("http://{}:{}".format(*address)):
            assert status_of(place.ask(post())) == 502
        for each in waiting:
            each.close()
    assert [line["reason"] for line in place.noted()] == ["it does not answer in time"]


def certificate(folder: Path) -> Path:
    made = folder / "127.0.0.1.pem"
    named = ("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2")
    files = ("-keyout", str(made), "-out", str(folder / "certificate.pem"))
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *named, *files]
    subprocess.run(command, check=True, capture_output=True)
    made.write_text(made.read_text() + (folder / "certificate.pem").read_text())
    return made


@pytest.mark.parametrize("trusted", [True, False])
def test_the_key_is_told_to_nobody_whose_certificate_is_not_trusted(
    place: Place, trusted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem = certificate(place.folder)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    heard = []

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        try:
            with context.wrap_socket(connection, server_side=True) as safe:
                said = b""
                while b"{}" not in said:
                    said += safe.recv(1 << 16)
                heard.append(said)
                safe.sendall(OK)
        except OSError:
            return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        with place.gateway(f"https://127.0.0.1:{listener.getsockname()[1]}"):
            assert status_of(place.ask(post())) == (200 if trusted else 502)
        thread.join(10)
    assert [KEY.encode() in each for each in heard] == ([True] if trusted else [])


# --- the budget of requests --------------------------------------------------------------------------------------


def test_a_spent_budget_is_an_error_is_noted_and_outlives_the_gateway(place: Place, api: Server) -> None:
    with place.gateway(api.url, requests=2):
        for path in ("/v1/messages", "/v1/messages/count_tokens", "/v1/messages", "/v1/messages/count_tokens"):
            assert place.ask(post(path)) == OK
        answer = place.ask(post("/v1/messages?x"))
        assert status_of(answer) == 403
        assert b"budget of requests is spent" in answer
    assert place.verdicts()[-1] == ("budget", "/v1/messages")
    with place.gateway(api.url, requests=2):
        assert status_of(place.ask(post())) == 403
        assert place.ask(post("/v1/messages/count_tokens")) == OK
    assert len(api.heard) == 5
    with place.gateway(api.url, requests=3):
        assert place.ask(post()) == OK
    with place.gateway(api.url):
        assert place.ask(post()) == OK


def test_only_requests_that_the_model_got_are_counted(place: Place, api: Server) -> None:
    refused = "GET http://x/%22verdict%22:%20%22model%22"
    with place.gateway(f"http://127.0.0.1:{free_port()}", requests=1) as away:
        for _ in range(3):
            assert status_of(place.ask(post())) == 502
        place.ask(b'GET /"verdict": "model", "target": "/v1/messages" HTTP/1.1\r\n\r\n')
        place.ask(f"{refused} HTTP/1.1\r\n\r\n".encode())
        away.note("deny", '"verdict": "model", "target": "/v1/messages"')
    with place.gateway(api.url, requests=1):
        assert place.ask(post()) == OK


# --- to other hosts ----------------------------------------------------------------------------------------------


@pytest.fixture
def others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every name is somebody else's, and leads to this machine's servers."""

    async def resolved(host: str, port: int, private: bool) -> str:
        return "127.0.0.1"

    monkeypatch.setattr(gateway, "resolved", resolved)


@pytest.mark.usefixtures("others")
def test_a_host_on_the_list_is_reached_by_a_tunnel_that_is_not_looked_into(place: Place, api: Server) -> None:
    payload = bytes(range(256)) * 2000
    target = f"Any.Example:{api.port}"
    with place.gateway("http://127.0.0.1:1", allowed={"*": [f"any.EXAMPLE:{api.port}"]}):
        answer = place.ask(connect(target) + payload)
    assert answer == b"HTTP/1.1 200 Connection established\r\n\r\n" + OK
    assert api.heard == [payload]
    assert place.verdicts() == [("allow", target.lower())]


@pytest.mark.usefixtures("others")
def test_the_list_is_the_one_of_the_phase(place: Place, api: Server) -> None:
    always, npm = f"any.example:{api.port}", f"npm.example:{api.port}"
    allowed = {"*": [always], "coding": [npm], "planning": []}

    def reached() -> list[bool]:
        return [status_of(place.ask(connect(target))) == 200 for target in (always, npm)]

    with place.gateway("http://127.0.0.1:1", allowed=allowed):
        assert reached() == [True, False]
        for phase, expected in (("planning", False), ("coding\n", True), ("verification", False), ("", False)):
            place.phase.write_text(phase)
            assert reached() == [True, expected]
    assert place.verdicts().count(("deny", npm)) == 4
    assert {line["reason"] for line in place.noted() if line["verdict"] == "deny"} == {
        "it is not on the list of this phase"
    }


@pytest.mark.parametrize("target", ["example.com:443", "api.example.com:443", "example.com:80", "example.com", ":443"])
def test_a_host_that_is_not_on_the_list_is_refused_by_name_and_port(place: Place, target: str) -> None:
    with place.gateway("http://127.0.0.1:1", allowed={"*": ["www.example.com:443", "example.com:4430"]}):
        assert status_of(place.ask(connect(target))) == 403
    assert place.verdicts() == [("deny", target)]


@pytest.mark.parametrize(
    "host", ["localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "0.0.0.0"]
)
def test_a_name_on_the_list_that_leads_to_this_machine_is_refused(place: Place, api: Server, host: str) -> None:
    target = f"{host}:{api.port}"
    with place.gateway("http://127.0.0.1:1", allowed={"*": [target]}):
        assert status_of(place.ask(connect(target))) == 403
    assert api.heard == []
    (line,) = place.noted()
    assert (line["verdict"], line["target"]) == ("deny", target)
    assert "leads to this machine" in line["reason"]


@pytest.mark.parametrize("private", [False, True])
def test_a_private_network_is_reached_only_by_names_that_the_operator_chose_for_it(
    place: Place, monkeypatch: pytest.MonkeyPatch, private: bool
) -> None:
    dialled: list[str] = []

    async def reached(_: object, host: str, port: int, tls: bool) -> None:
        dialled.append(f"{host}:{port}")
        raise ConnectionRefusedError("nobody is there")

    monkeypatch.setattr(Gateway, "_reached", reached)
    chosen = ["10.0.0.7:8443"] if private else []
    with place.gateway("http://127.0.0.1:1", allowed={"*": ["10.0.0.7:8443", "10.0.0.8:8443"]}, private=chosen):
        assert status_of(place.ask(connect("10.0.0.7:8443"))) == (502 if private else 403)
        assert status_of(place.ask(connect("10.0.0.8:8443"))) == 403
    assert dialled == (["10.0.0.7:8443"] if private else [])
    assert "into a private network" in place.noted()[-1]["reason"]


def test_a_host_on_the_list_that_nobody_knows_or_that_is_away_is_said_to_be(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def resolved(host: str, port: int, private: bool) -> str:
        if host == "unknown":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return "127.0.0.1"

    monkeypatch.setattr(gateway, "resolved", resolved)
    targets = ["unknown:443", f"away:{free_port()}"]
    with place.gateway("http://127.0.0.1:1", allowed={"*": targets}):
        assert [status_of(place.ask(connect(target))) for target in targets] == [502, 502]
    assert place.verdicts() == [("unreachable", target) for target in targets]


def hello_of(name: str | None) -> bytes:
    """What Python's own TLS says first."""
    context = ssl.create_default_context()
    context.check_hostname = name is not None
    out = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), out, server_hostname=name).do_handshake()
    return out.read()


def sized(size: int, *parts: bytes) -> bytes:
    whole = b"".join(parts)
    return len(whole).to_bytes(size, "big") + whole


def extension(kind: int, *parts: bytes) -> bytes:
    return kind.to_bytes(2, "big") + sized(2, *parts)


def naming(*names: bytes) -> bytes:
    return extension(0, sized(2, *(b"\0" + sized(2, name) for name in names)))


def record(*parts: bytes) -> bytes:
    return b"\x16\x03\x01" + sized(2, *parts)


def message(*extensions: bytes) -> bytes:
    ciphers, compressions = sized(2, b"\x13\x01"), sized(1, b"\0")
    return b"\x01" + sized(3, b"\x03\x03", bytes(32), sized(1, bytes(32)), ciphers, compressions, sized(2, *extensions))


@pytest.fixture
def tls(monkeypatch: pytest.MonkeyPatch, api: Server, others: None) -> Server:
    """Port 443 of every name leads to this server."""

    async def reached(_: object, host: str, port: int, tls: bool) -> Any:
        return await asyncio.open_connection("127.0.0.1", api.port)

    monkeypatch.setattr(Gateway, "_reached", reached)
    return api


@pytest.mark.parametrize(
    ("target", "sent"),
    [
        ("any.example:443", hello_of("any.example")),
        ("Any.Example:443", hello_of("ANY.example") + b"and more"),
        ("any.example:443", record(message(naming(b"any.example"))[:7]) + record(message(naming(b"any.example"))[7:])),
        ("any.example:443", record(message(extension(0x0A0A), naming(b"any.example"), extension(21, bytes(400))))),
        ("93.184.216.34:443", hello_of(None)),
        ("[2606:4700::1]:443", hello_of(None)),
    ],
    ids=range(6),
)
def test_a_tunnel_in_tls_leads_to_the_host_that_it_is_for(place: Place, tls: Server, target: str, sent: bytes) -> None:
    with place.gateway("http://127.0.0.1:1", allowed={"*": [target]}):
        answer = place.ask(connect(target) + sent)
    assert answer == b"HTTP/1.1 200 Connection established\r\n\r\n" + OK
    assert tls.heard == [sent]
    assert place.verdicts() == [("allow", target.lower())]


OTHER_HELLOS = [
    (hello_of("other.example"), "its TLS is for other.example"),
    (hello_of("any.example.evil.example"), "its TLS is for any.example.evil"),
    (hello_of(None), "for nobody by name"),
    (record(message()), "for nobody by name"),
    (record(message(naming(b"any.example", b"other.example"))), "malformed"),
    (record(message(naming(b"any.example"), naming(b"other.example"))), "malformed"),
    (record(message(naming(b"any.example"), extension(0xFE0D, bytes(200)))), "hides whom it is for"),
    (record(message(naming(b"any.example")) + b"x"), "malformed"),
    (record(message(naming(b"any.example")), b"\x01\0\0\0"), "malformed"),
    (record(b"\x01" + sized(3, b"\x03\x03")), "malformed"),
    (record(b"\x01" + sized(3, bytes(34), b"\xff")), "malformed"),
    (record(b"\x02" + sized(3, bytes(60))), "does not begin with"),
    (b"SSH-2.0-OpenSSH_9.2\r\n", "does not begin with"),
    (b"GET / HTTP/1.1\r\nHost: any.example\r\n\r\n", "does not begin with"),
    (b"\x16\x03\x01\0\0" * 3, "does not begin with"),
    (record(b"\x01\xff\xff\xff" + bytes(16_000)) + record(bytes(16_000)) * 6, "does not begin with"),
    (hello_of("any.example")[:50], "no whole ClientHello"),
    (b"\x16", "no whole ClientHello"),
    (b"", "no whole ClientHello"),
]


@pytest.mark.parametrize(("sent", "reason"), OTHER_HELLOS, ids=range(len(OTHER_HELLOS)))
def test_a_tunnel_whose_tls_is_for_somebody_else_is_closed_and_noted(
    place: Place, tls: Server, sent: bytes, reason: str
) -> None:
    with place.gateway("http://127.0.0.1:1", allowed={"*": ["any.example:443"]}):
        assert place.ask(connect("any.example:443") + sent) == b"HTTP/1.1 200 Connection established\r\n\r\n"
    assert b"".join(tls.heard) == b""
    (line,) = place.noted()
    assert (line["verdict"], line["target"]) == ("deny", "any.example:443")
    assert reason in line["reason"]


def test_who_says_nothing_in_a_tunnel_is_hung_up_on(place: Place, tls: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "_HELLO_S", 0.2)
    with place.gateway("http://127.0.0.1:1", allowed={"*": ["any.example:443"]}), place.dial() as client:
        client.sendall(connect("any.example:443"))
        assert until_end(client).endswith(b"established\r\n\r\n")
    assert place.noted()[0]["reason"] == "it sends no whole ClientHello of TLS"


@pytest.mark.usefixtures("others")
def test_a_tunnel_of_a_phase_that_is_over_is_closed_and_others_stay(
    place: Place, api: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(gateway, "_LOOK_EVERY_S", 0.05)
    always, npm = f"any.example:{api.port}", f"npm.example:{api.port}"
    place.phase.write_text("coding")
    allowed = {"*": [always], "coding": [npm], "planning": []}
    with place.gateway("http://127.0.0.1:1", allowed=allowed), place.dial() as stays, place.dial() as ends:
        for client, target in ((stays, always), (ends, npm)):
            client.sendall(connect(target))
            assert client.recv(100).startswith(b"HTTP/1.1 200 ")
        ends.settimeout(0.5)
        with pytest.raises(TimeoutError):
            ends.recv(1)
        place.phase.write_text("planning")
        ends.settimeout(10)
        assert until_end(ends) == b""
        stays.sendall(b"x")
        stays.shutdown(socket.SHUT_WR)
        assert until_end(stays) == OK
    assert place.verdicts() == [("allow", always), ("allow", npm), ("deny", npm)]
    assert place.noted()[-1]["reason"] == "it is not on the list of the phase that has begun"
    gc.collect()
    assert caplog.text == ""


# --- what is noted -----------------------------------------------------------------------------------------------


def test_each_refusal_is_a_line_and_a_long_one_is_cut(place: Place, api: Server) -> None:
    with place.gateway(api.url):
        for number in range(5):
            place.ask(connect(f"{number}.example:443"))
        place.ask(connect("x" * 10_000 + ":443"))
    assert [target for _, target in place.verdicts()][:5] == [f"{number}.example:443" for number in range(5)]
    assert len(place.noted()) == 6
    assert max(map(len, place.log.read_text().splitlines())) < 500


ROOM = {"deny": 2000, "allow": 2000, "budget": 1000, "model": 4000}


def test_a_full_log_says_so_and_counts_on(place: Place, api: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "_LOG_BYTES", ROOM)
    made = place.gateway(api.url)
    for number in range(20):
        made.note("deny", f"{number}.example:443", reason="it is not on the list of this phase")
    before = [line["target"] for line in place.noted() if "count" not in line]
    assert before == [f"{number}.example:443" for number in range(len(before))]
    for number in range(20, len(before) + 250):
        made.note("unreachable", f"{number}.example:443", reason="nobody is there")
    full = [line for line in place.noted() if "count" in line]
    assert [(line["verdict"], line["count"]) for line in full] == [("deny", 1), ("deny", 10), ("deny", 100)]
    assert [line["target"] for line in full] == [f"{len(before) + number}.example:443" for number in (0, 9, 99)]
    assert {line["reason"] for line in full} == {"the log is full; further refusals are counted only"}
    assert len(place.noted()) == len(before) + 3


def test_no_kind_of_line_takes_the_room_of_another(place: Place, api: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "_LOG_BYTES", ROOM)
    made = place.gateway(api.url)
    for verdict in ("deny", "unreachable"):
        for _ in range(500):
            made.note(verdict, "/v1/messages")
    for verdict, target in (("allow", "a.example:443"), ("budget", "/v1/messages"), ("model", "/v1/messages")):
        made.note(verdict, target)
        assert place.verdicts()[-1] == (verdict, target)
    for _ in range(500):
        made.note("model", "/v1/messages/count_tokens", status=200)
    made.note("model", "/v1/messages", status=200)
    assert place.verdicts()[-1] == ("model", "/v1/messages")
    for verdict in ("allow", "budget", "model", "deny") * 500:
        made.note(verdict, "/v1/messages")
    assert sum(ROOM.values()) - 1000 < place.log.stat().st_size < sum(ROOM.values()) + 3000
    size = place.log.stat().st_size
    again = place.gateway(api.url)
    for _ in range(1000):
        again.note("deny", "/v1/messages")
    assert place.log.stat().st_size < size + 1000, "what an earlier gateway has noted counts"


def test_half_a_line_of_one_that_was_killed_costs_nothing(place: Place, api: Server) -> None:
    with place.gateway(api.url) as first:
        first.note("model", "/v1/messages", status=200)
    with place.log.open("a") as file:
        file.write('{"at": 1, "verdict": "mod')
    with place.gateway(api.url, requests=2):
        assert place.ask(post()) == OK
    with place.gateway(api.url, requests=2):
        assert status_of(place.ask(post())) == 403


def test_a_way_that_cannot_be_one_is_refused_and_its_key_not_told(place: Place) -> None:
    assert KEY not in repr(Way("https://example.com", KEY))
    for address in ("example.com", "ftp://example.com", "https://", ""):
        with pytest.raises(ValueError, match="no address of a model API") as caught:
            place.gateway(address)
        assert KEY not in str(caught.value)
    for key in (f"{KEY}\n", f"{KEY}\r\nX: y", f"{KEY}\0", f"{KEY}ä"):
        with pytest.raises(ValueError, match="the model's key holds") as caught:
            place.gateway("https://example.com", key=key)
        assert KEY not in str(caught.value)


# --- the program of a pane ---------------------------------------------------------------------------------------


class Started:
    def __init__(self, place: Place, *command: str) -> None:
        self._place = place
        os.mkfifo(place.fifo, 0o600)
        files = map(str, (place.socket, place.fifo, place.log, place.phase))
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tasks.adapters.sandbox.gateway", *files, "--", *command],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def told(self, way: str) -> "Started":
        pipe: list[int] = []

        def opened() -> bool:
            with suppress(OSError):  # nobody reads yet
                pipe.append(os.open(self._place.fifo, os.O_WRONLY | os.O_NONBLOCK))
            return bool(pipe) or self.process.poll() is not None

        until(opened)
        for descriptor in pipe:
            with os.fdopen(descriptor, "w") as file:
                file.write(way)
        return self

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=60)
        return self.process.returncode, out, err


@pytest.fixture
def start(place: Place, api: Server) -> Iterator[Callable[..., Started]]:
    made: list[Started] = []

    def started(*command: str, url: str = api.url) -> Started:
        made.append(Started(place, *command))
        return made[-1].told(Way(url, KEY, {"*": []}).as_json())

    yield started
    for each in made:
        each.process.kill()
        each.process.communicate()


def until(met: Callable[[], object], deadline_s: float = 60) -> None:
    end = time.monotonic() + deadline_s
    while not met():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def holding(text: str, *names: str) -> list[str]:
    """The files of that name in /proc, but our own, which hold ``text``."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and folder.name != str(os.getpid()):
            for name in names:
                try:
                    content = (folder / name).read_bytes()
                except OSError:
                    continue
                if text.encode() in content:
                    found.append(str(folder / name))
    return found


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", 137), ("kill $$", 143)])
def test_the_exit_code_is_the_commands_and_nothing_is_left(
    place: Place, start: Callable[..., Started], script: str, code: int
) -> None:
    ended = start("/bin/sh", "-c", f'test -S "$0" && test ! -e "$1" && {script}', str(place.socket), str(place.fifo))
    assert ended.end() == (code, "", "")
    assert sorted(path.name for path in place.folder.iterdir()) == []


def test_the_key_is_not_inherited(start: Callable[..., Started]) -> None:
    code, out, err = start("/bin/cat", "/proc/self/environ").end()
    assert (code, err) == (0, "")
    assert "PYTHONPATH=" in out
    assert KEY not in out


def test_the_socket_is_private_and_replaces_one_that_lies_there(place: Place, start: Callable[..., Started]) -> None:
    place.socket.touch(0o666)
    ended = start("/bin/sh", "-c", 'stat -c "%a %F" "$0"', str(place.socket))
    assert ended.end() == (0, "600 socket\n", "")


def test_without_a_way_it_says_so_and_not_what_it_was_told(place: Place) -> None:
    started = Started(place, "true")
    code, out, err = started.told(json.dumps({"api": "https://example.com", "key": f"{KEY}\n"})).end()
    assert (code, out) == (1, "")
    assert "the model's key holds a line break" in err
    assert KEY not in err
    assert not place.fifo.exists()


def test_a_command_line_without_its_separator_is_refused(place: Place) -> None:
    command = [sys.executable, "-P", "-m", "tasks.adapters.sandbox.gateway", *"abcd", "true", "true"]
    done = subprocess.run(command, cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (1, "gateway: expected SOCKET FIFO LOG PHASE -- COMMAND\n")


PROGRAM = """
import ctypes, resource, sys
from tasks.adapters.sandbox import gateway
gateway._TOLD_WITHIN_S = 1
PR_GET_DUMPABLE = 3
gateway.run = lambda *_: print(ctypes.CDLL(None).prctl(PR_GET_DUMPABLE), *resource.getrlimit(resource.RLIMIT_CORE))
gateway.main()
"""


def program(place: Place) -> subprocess.Popen[str]:
    os.mkfifo(place.fifo, 0o600)
    command = [sys.executable, "-c", PROGRAM, *map(str, (place.socket, place.fifo, place.log, place.phase)), "--", "x"]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_its_memory_is_nobody_elses_and_comes_into_no_file(place: Place) -> None:
    with program(place) as started:
        place.fifo.write_text(Way("http://127.0.0.1:1", KEY).as_json())
        assert started.communicate(timeout=60) == ("0 0 0\n", "")


def test_what_it_starts_is_as_any_program(place: Place, start: Callable[..., Started]) -> None:
    script = "import ctypes; print(ctypes.CDLL(None).prctl(3))"
    assert start(sys.executable, "-c", script).end() == (0, "1\n", "")


def test_where_nobody_tells_it_the_way_it_says_so_and_ends(place: Place) -> None:
    with program(place) as started:
        assert started.communicate(timeout=60) == ("", "gateway: nobody told it the way within 1 s\n")
    assert started.returncode == 1
    assert not place.fifo.exists()


@pytest.mark.parametrize("told", ["", "{", "7", "[]", '{"api": "https://example.com"}', '{"key": 7, "no": 8}'])
def test_what_is_no_way_is_not_told_again(place: Place, told: str) -> None:
    with program(place) as started:
        place.fifo.write_text(told)
        assert started.communicate(timeout=60) == ("", "gateway: what it was told is no way\n")
    assert started.returncode == 1


def test_what_a_person_types_reaches_the_command_and_does_not_end_the_gateway(
    place: Place, start: Callable[..., Started]
) -> None:
    """The terminal sends it to both. What the gateway ignored, its child would ignore too."""
    ready, go = place.folder / "ready", place.folder / "go"
    script = 'grep SigIgn /proc/$$/status; echo > "$0"; while [ ! -e "$1" ]; do sleep 0.05; done; exit 4'
    started = start("/bin/sh", "-c", script, str(ready), str(go))
    until(ready.exists)
    for typed in (signal.SIGINT, signal.SIGQUIT):
        started.process.send_signal(typed)
    time.sleep(0.2)
    go.touch()
    code, out, err = started.end()
    assert (code, err) == (4, "")
    ignored = int(out.split()[1], 16)
    assert ignored & (1 << signal.SIGINT - 1 | 1 << signal.SIGQUIT - 1) == 0


ASK = """
import glob, http.client, sys
seen = b"".join(open(path, "rb").read() for name in ("environ", "cmdline") for path in glob.glob(f"/proc/*/{name}"))
connection = http.client.HTTPConnection("127.0.0.1", 3128, timeout=30)
connection.request("POST", "/v1/messages", body="{}", headers={"x-api-key": "placeholder"})
answer = connection.getresponse()
connection = http.client.HTTPConnection("127.0.0.1", 3128, timeout=30)
connection.request("GET", "/v1/files")
print(answer.status, connection.getresponse().status, b"sk-" b"ant-" in seen, len(seen) > 0)
sys.exit(5)
"""


def confined(place: Place, *command: str) -> list[str]:
    made = Confinement(
        command,
        readonly=python_runtime(),
        cwd="/tmp",  # noqa: S108 (the sandbox's own)
        bridge=place.socket,
        bridge_port=3128,
    )
    return argv(made, "bwrap")


def test_a_confined_program_reaches_the_model_and_never_the_key(
    place: Place, start: Callable[..., Started], claude: MessagesApi
) -> None:
    ended = start(*confined(place, sys.executable, "-I", "-c", ASK), url=claude.url)
    assert ended.end() == (5, "200 403 False True\n", "")
    assert [headers["x-api-key"] for _, _, headers in claude.requests] == [KEY]
    assert place.verdicts() == [("model", "/v1/messages"), ("deny", "GET /v1/files")]
    assert place.log.stat().st_mode & 0o077 == 0


def test_the_key_shows_in_no_process_and_a_gateway_that_is_killed_takes_the_sandbox_with_it(
    place: Place, start: Callable[..., Started]
) -> None:
    marker = f"marker-{secrets.token_hex(8)}"
    daemon = f"(setsid sleep 300 & echo); exec -a {marker} sleep 300"
    started = start(*confined(place, "/bin/bash", "-c", f"echo {marker} > /tmp/x; {daemon}"))
    until(lambda: len(holding(marker, "cmdline")) >= 3)
    inside = holding(marker, "cmdline")
    assert holding(KEY, "environ", "cmdline") == []
    started.process.send_signal(signal.SIGKILL)
    until(lambda: holding(marker, "cmdline") == [], 20)
    assert len(inside) >= 3
