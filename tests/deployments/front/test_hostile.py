"""Bodies that nobody means well: refused with a reason, nothing started, nothing echoed, never our fault."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest

from deployments.front.limits import BODY_LIMIT, BODY_S, Doorway
from tasks.adapters.registry import Registry
from tests.support.databases import a_registry_url
from tests.support.front import ORDER, Door, a_running_execution, opened, problem
from tests.tasks.adapters.registry.orders import counts


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def door(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """One for all: nothing that is sent here leaves a trace."""
    home = tmp_path_factory.mktemp("home")
    RUNNING.clear()
    with a_registry_url(request, home) as url:
        registry = Registry.open(url)
        with opened(registry, home) as found:
            yield found
        registry.close()


@pytest.fixture(autouse=True)
def _nothing_is_started(door: Door) -> Iterator[None]:
    yield
    found = counts(door.registry)
    assert found.get("runs", 0) == found.get("executions", 0) == found.get("users", 0) == len(RUNNING)
    assert "messages" not in found


RUNNING: list[str] = []


def running(door: Door) -> str:
    """An execution that an agent works on."""
    if not RUNNING:
        RUNNING.append(a_running_execution(door.registry).execution_id)
    return RUNNING[0]


CANARY = "zwielicht-4711"


def body(**more: object) -> bytes:
    return json.dumps({**ORDER, **more}).encode()


def raw_value(text: bytes, field: str = "keep_days") -> bytes:
    return body()[:-1] + b', "' + field.encode() + b'": ' + text + b"}"


HOSTILE = {
    "nothing": b"",
    "no JSON": b"hello " + CANARY.encode(),
    "cut": body()[:-5],
    "two values": body() + body(),
    "a list": b"[" + body() + b"]",
    "null": b"null",
    "a number": b"1",
    "NaN": raw_value(b"NaN"),
    "Infinity": raw_value(b"-Infinity"),
    "1e999": raw_value(b"1e999"),
    "huge integer": raw_value(b"9" * 5000),
    "lone surrogate": raw_value(b'"\\ud800' + CANARY.encode() + b'"', "agent"),
    "lone surrogate in a name": raw_value(b"1", "\\udfff"),
    "NUL": raw_value(b'"\\u0000"', "agent"),
    "escape": body(requirements=f"\x1b]0;{CANARY}\x07"),
    "C1": body(requirements="a\u009bb"),
    "DEL": body(requirements="a\x7fb"),
    "raw control character": body(requirements="a").replace(b'"a"', b'"a\x01b"'),
    "not UTF-8": b'{"email": "\xff\xfe"}',
    "UTF-16": json.dumps(ORDER).encode("utf-16"),
    "BOM": b"\xef\xbb\xbf" + body(),
    "deep list": raw_value(b"[" * 100_000 + b"]" * 100_000, "agent"),
    "deep object": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "unclosed depth": b"[" * 200_000,
    "name twice": body()[:-1] + b', "email": "other@example.com"}',
    "unknown field": body(**{CANARY: CANARY}),
    "prototype": body(__proto__={"admin": True}),
    "email wrong type": body(email=["ana@example.com"]),
    "email object": body(email={"$ne": ""}),
    "email of somebody": body(email=f"{CANARY}@"),
    "email that cannot be": body(email=f"{CANARY}@-example.com"),
    "email with a line": body(email="ana@example.com\nBcc: all@example.com"),
    "phone text": body(phone=CANARY),
    "phone of no country": body(phone="+9990000000"),
    "host unknown": body(host_provider=CANARY),
    "site type number": body(site_type=7),
    "requirements empty": body(requirements=""),
    "requirements blank": body(requirements="  \n "),
    "requirements long": body(requirements="x" * 20_001),
    "requirements null": body(requirements=None),
    "requirements without words": body(requirements="... !!!"),
    "hosting path": body(hosting="../../etc/passwd"),
    "keep_days bool as text": body(keep_days="many"),
    "keep_days beyond": body(keep_days=10**30),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_body_is_refused_and_starts_nothing(door: Door, what: str) -> None:
    headers = {**door.key(), "Content-Type": "application/json"}
    response = door.client.post("/api/create-user", content=HOSTILE[what], headers=headers)
    told = problem(response, response.status_code)
    assert 400 <= response.status_code < 500, response.text
    assert response.status_code in (400, 413, 422)
    assert told["errors"] or response.status_code == 413
    assert CANARY not in response.text
    assert "Traceback" not in response.text


CHATS = {
    "NaN": b'{"message": NaN}',
    "surrogate": b'{"message": "\\ud800"}',
    "escape": b'{"message": "\\u001b[201~"}',
    "empty": b'{"message": "  "}',
    "long": b'{"message": "' + b"x" * 20_001 + b'"}',
    "list": b'{"message": ["x"]}',
    "flag": b'{"message": "x", "interrupt": "perhaps"}',
}


@pytest.mark.parametrize("what", CHATS)
def test_a_hostile_message_is_refused(door: Door, what: str) -> None:
    headers = {**door.key(), "Content-Type": "application/json"}
    response = door.client.post(f"/api/chat/{running(door)}", content=CHATS[what], headers=headers)
    problem(response, response.status_code)
    assert response.status_code in (400, 422)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonp"])
def test_what_a_page_of_elsewhere_can_send_is_not_read(door: Door, kind: str) -> None:
    """A browser asks before it sends JSON to another origin, and nobody answers that it may."""
    headers = {**door.key(), "Content-Type": kind}
    problem(door.client.post("/api/create-user", content=body(), headers=headers), 415)
    problem(door.client.options("/api/create-user", headers={"Origin": "https://evil.example"}), 405)


@pytest.mark.parametrize("size", [BODY_LIMIT + 1, 10 * 2**20])
def test_ten_megabytes_are_refused_unread(door: Door, size: int) -> None:
    def chunks():
        for _ in range(size // 65536 + 1):
            yield b"x" * 65536

    headers = {**door.key(), "Content-Type": "application/json"}
    problem(door.client.post("/api/create-user", content=b"x" * size, headers=headers), 413)
    with suppress(httpx.WriteError, httpx.RemoteProtocolError):  # it may hang up while we still talk
        problem(door.client.post("/api/create-user", content=chunks(), headers=headers), 413)


def head(door: Door, *lines: str) -> bytes:
    key = door.key()["Authorization"]
    host = door.url.removeprefix("http://")
    told = [
        "POST /api/create-user HTTP/1.1",
        f"Host: {host}",
        f"Authorization: {key}",
        "Content-Type: application/json",
    ]
    return "\r\n".join([*told, *lines, "", ""]).encode()


def test_a_body_in_chunks_without_end_is_cut_off(door: Door) -> None:
    host, port = door.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(head(door, "Transfer-Encoding: chunked"))
        sent = 0
        with pytest.raises(OSError):  # noqa: PT012, PT011  # it is closed under our hands
            while sent < 200 * 2**20:
                connection.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
                sent += 65536
    assert sent < 20 * 2**20


def test_a_body_that_is_announced_too_long_is_not_waited_for(door: Door) -> None:
    began = time.monotonic()
    answer = door.raw(head(door, f"Content-Length: {10 * 2**20}"))
    assert b" 413 " in answer.splitlines()[0]
    assert time.monotonic() - began < BODY_S / 2


def test_a_body_that_dribbles_is_not_waited_for(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    for middleware in door.app.user_middleware:
        assert middleware.cls is Doorway
    stack = door.app.middleware_stack
    while not isinstance(stack, Doorway):
        stack = stack.app  # type: ignore[union-attr]
    monkeypatch.setattr(stack, "body_s", 0.5)
    began = time.monotonic()
    answer = door.raw(head(door, "Content-Length: 100") + b"{")
    assert b" 408 " in answer.splitlines()[0]
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "lines",
    [("Content-Length: -1",), ("Content-Length: 1", "Content-Length: 2"), ("Content-Length: 1e3",)],
)
def test_lengths_that_lie_are_refused(door: Door, lines: tuple[str, ...]) -> None:
    host, port = door.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(head(door, *lines) + b"{}")
        assert b" 4" in connection.recv(65536).splitlines()[0]


PATHS = [
    "/api/executions/..%2f..%2fetc",
    "/api/executions/%2e%2e",
    "/api/executions/a1b2c3d4_sess20260124143022%0a",
    "/api/executions/A1B2C3D4_SESS20260124143022",
    "/api/executions/%00",
    "/api/executions/%ff%fe",
    "/api/executions/" + "x" * 5000,
    "/api/users/%00/executions",
    "/api/users/%ed%a0%80/executions",
    "/api/users/' OR 1=1 --/executions",
    "/api/executions/a1b2c3d4_sess20260124143022'--",
]


@pytest.mark.parametrize("path", PATHS)
def test_an_id_that_is_none_finds_nothing(door: Door, path: str) -> None:
    response = door.client.get(path, headers=door.key())
    problem(response, 404)


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1e3",
        "limit=99999999999999999999",
        "cursor=-1",
        "cursor=%00",
        "cursor=9" + "9" * 30,
        "limit=NaN",
    ],
)
def test_a_query_out_of_bounds_is_named(door: Door, query: str) -> None:
    response = door.client.get(f"/api/chat/{running(door)}/history?{query}", headers=door.key())
    told = problem(response, 422)
    assert told["errors"][0]["field"] in ("limit", "cursor")


@pytest.mark.parametrize("query", ["q=%00", "q=%ed%a0%80", "q=" + "x" * 300, "status=done", "cursor=%ff", "q=%25"])
def test_a_search_of_nonsense_is_no_fault_of_ours(door: Door, query: str) -> None:
    response = door.client.get(f"/api/executions?{query}", headers=door.key())
    assert response.status_code in (200, 422), response.text


@pytest.mark.parametrize("token", ["tbk_\xe9", "tbk_" + "x" * 20_000, "tbl_'; DROP TABLE links; --", "tbk_\x7f"])
def test_a_token_of_nonsense_is_no_fault_of_ours(door: Door, token: str) -> None:
    headers = [(b"authorization", b"Bearer " + token.encode("latin-1"))]
    problem(door.client.get("/api/executions", headers=headers), 401)


def test_the_words_of_a_problem_say_what_is_allowed(door: Door) -> None:
    told = problem(door.order(site_type="both", email="nobody", unheard_of=1), 422)
    errors = {each["field"]: each for each in told["errors"]}
    assert errors["site_type"]["allowed"] == "static, dynamic"
    assert "ana@example.com" in errors["email"]["allowed"]
    assert "requirements" in errors["(a field that is not known)"]["allowed"]
