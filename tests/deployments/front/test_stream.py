"""Events as they happen: from the first, from where one was, and none left out."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from deployments.front.stream import LOOK_S, PAGE, PER_CALLER
from tasks.domain.pipeline import Status
from tests.support.front import Door, OpenDoor, a_running_execution, problem
from tests.tasks.adapters.registry.orders import a_finished_execution

Told = tuple[str | None, str, Any]


@contextmanager
def listening(door: Door, execution_id: str, headers: dict[str, str], query: str = "") -> Iterator[Iterator[Told]]:
    """Events as (id, kind, data); comments as (None, "comment", text)."""
    path = f"{door.url}/api/executions/{execution_id}/events{query}"
    with httpx.stream("GET", path, headers=headers, timeout=20, trust_env=False) as response:
        if response.status_code != 200:
            response.read()
            raise AssertionError(response.text)
        assert response.headers["content-type"].startswith("text/event-stream")

        def told() -> Iterator[Told]:
            found: dict[str, str] = {}
            for line in response.iter_lines():
                if line.startswith(":"):
                    yield None, "comment", line[1:].strip()
                elif line:
                    name, _, value = line.partition(": ")
                    found[name] = value
                elif "event" in found:
                    yield found.pop("id", None), found.pop("event"), json.loads(found.pop("data"))
                else:
                    found.clear()

        yield told()


def take(told: Iterator[Told], count: int) -> list[Told]:
    return [next(told) for _ in range(count)]


def test_all_events_come_in_order_and_new_ones_at_once(door: Door) -> None:
    accepted = a_running_execution(door.registry)
    known = door.registry.events(accepted.execution_id)
    with listening(door, accepted.execution_id, door.key()) as told:
        first = take(told, len(known))
        assert [(int(seq or 0), kind) for seq, kind, _data in first] == [(each.seq, each.kind) for each in known]
        assert first[0][2]["data"] == {"site_name": accepted.site_name}, "the delivery's key is nobody's business"
        delays = []
        for number in range(10):
            written = time.monotonic()
            door.registry.post_message(accepted.execution_id, "agent", f"{number}")
            seq, kind, data = next(told)
            delays.append(time.monotonic() - written)
            assert (kind, data["kind"], str(data["seq"])) == ("message", "message", seq)
        assert sorted(delays)[-2] < 0.6, delays


def test_who_comes_back_gets_what_was_missed_and_nothing_twice(door: Door) -> None:
    accepted = a_running_execution(door.registry)
    key, stop = door.key(), threading.Event()

    def write() -> None:
        while not stop.is_set():
            door.registry.post_message(accepted.execution_id, "agent", "x")
            time.sleep(0.005)

    writer = threading.Thread(target=write)
    writer.start()
    seen: list[str] = []
    try:
        for _ in range(6):
            headers = {**key, "Last-Event-ID": seen[-1]} if seen else key
            with listening(door, accepted.execution_id, headers) as told:
                seen += [seq for seq, _kind, _data in take(told, 15) if seq]
    finally:
        stop.set()
        writer.join()
    events = door.registry.events(accepted.execution_id, limit=10_000)
    assert seen == [str(event.seq) for event in events][: len(seen)]
    assert len(seen) == 90


def test_a_long_past_comes_page_after_page(door: Door) -> None:
    accepted = a_running_execution(door.registry)
    for _ in range(2 * PAGE):
        door.registry.post_message(accepted.execution_id, "agent", "x")
    events = door.registry.events(accepted.execution_id, limit=10_000)
    with listening(door, accepted.execution_id, door.key()) as told:
        assert [seq for seq, _kind, _data in take(told, len(events))] == [str(event.seq) for event in events]


def test_a_place_that_was_forgotten_is_told_as_a_gap(door: Door) -> None:
    accepted = a_running_execution(door.registry)
    other = a_finished_execution(door.registry, "other")
    foreign = door.registry.events(other.execution_id)[-1].seq
    events = door.registry.events(accepted.execution_id)
    for place in (str(foreign), "999999999"):
        with listening(door, accepted.execution_id, {**door.key(), "Last-Event-ID": place}) as told:
            seq, kind, data = next(told)
            assert (seq, kind, data["after"]) == (None, "gap", int(place))
            assert next(told)[0] == str(events[0].seq)
    with listening(door, accepted.execution_id, {**door.key(), "Last-Event-ID": str(events[0].seq)}) as told:
        assert next(told)[0] == str(events[1].seq)


@pytest.mark.parametrize("place", ["-1", "1e3", "x", "9" * 40, "١"])
def test_a_place_that_is_none_is_refused(door: Door, place: str) -> None:
    accepted = a_running_execution(door.registry)
    headers = [(b"last-event-id", place.encode()), *[(k.encode(), v.encode()) for k, v in door.key().items()]]
    problem(door.client.get(f"/api/executions/{accepted.execution_id}/events", headers=headers), 400)


def test_a_quiet_stream_says_that_it_lives_and_ends_some_time(door: Door) -> None:
    accepted = a_running_execution(door.registry)
    streams = door.app.state.streams
    streams.heartbeat_s, streams.lifetime_s = 0.1, 1.0
    count = len(door.registry.events(accepted.execution_id))
    with listening(door, accepted.execution_id, door.key()) as told:
        rest = list(told)[count:]
    assert len(rest) >= 3
    assert {each[1] for each in rest} == {"comment"}


def test_the_terminal_is_streamed_where_it_is_asked_for(door: Door) -> None:
    accepted = a_running_execution(door.registry)
    count = len(door.registry.events(accepted.execution_id))
    with listening(door, accepted.execution_id, door.key(), "?screen=true") as told:
        take(told, count)
        for body in ("one", "two\x1b[2J"):
            door.registry.write_screen(accepted.execution_id, body)
            seq, kind, data = next(told)
            assert (seq, kind, data["output"]) == (None, "screen", body.replace("\x1b", ""))
        door.registry.set_status(accepted.execution_id, Status.CANCELLED)
        assert next(told)[1] == "status"


def test_streams_are_counted_and_what_was_closed_is_free(open_door: OpenDoor) -> None:
    door = open_door(web_streams=PER_CALLER + 1)
    accepted = a_running_execution(door.registry)
    mine, other = door.key(), door.key()
    path = f"/api/executions/{accepted.execution_id}/events"
    streams = door.app.state.streams

    async def crowd() -> None:
        async with httpx.AsyncClient(base_url=door.url, timeout=20, trust_env=False) as client:
            requests = [client.build_request("GET", path, headers=mine) for _ in range(PER_CALLER)]
            opened = [await client.send(request, stream=True) for request in requests]
            assert {each.status_code for each in opened} == {200}
            problem(await client.get(path, headers=mine), 429)
            last = await client.send(client.build_request("GET", path, headers=other), stream=True)
            assert last.status_code == 200
            problem(await client.get(path, headers=door.key()), 503)
            for each in [*opened, last]:
                await each.aclose()

    asyncio.run(crowd())
    end = time.monotonic() + 10
    while streams._open:
        assert time.monotonic() < end, streams._open
        time.sleep(0.05)
    with listening(door, accepted.execution_id, mine) as told:
        next(told)


def test_who_reads_nothing_is_let_go(door: Door) -> None:
    accepted = a_running_execution(door.registry)
    streams = door.app.state.streams
    streams.unread_s = 0.3
    host, port = door.url.removeprefix("http://").split(":")
    key = door.key()["Authorization"]
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect((host, int(port)))
        path = f"/api/executions/{accepted.execution_id}/events?screen=true"
        deaf.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {key}\r\n\r\n".encode())
        end = time.monotonic() + 30
        began = False
        while not began or streams._open:
            began = began or bool(streams._open)
            assert time.monotonic() < end, "it is still fed"
            door.registry.write_screen(accepted.execution_id, f"{time.monotonic()}" + "x" * 2_000_000)
            time.sleep(0.1)


def test_many_listeners_are_one_look_at_the_record(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    accepted = a_running_execution(door.registry)
    looks: list[list[str]] = []
    look = door.registry.newest

    def counted(ids: Any) -> Any:
        looks.append(sorted(ids))
        return look(ids)

    monkeypatch.setattr(door.registry, "newest", counted)
    count = len(door.registry.events(accepted.execution_id))
    with (
        listening(door, accepted.execution_id, door.key()) as one,
        listening(door, accepted.execution_id, door.key()) as two,
    ):
        take(one, count)
        take(two, count)
        looks.clear()
        began = time.monotonic()
        while len(looks) < 6:
            assert time.monotonic() < began + 30
            time.sleep(0.01)
        assert time.monotonic() - began > 5 * LOOK_S * 0.8, "by the clock, and not by the listener"
    end = time.monotonic() + 10
    while True:
        looks.clear()
        time.sleep(0.5)
        if not looks:
            break
        assert time.monotonic() < end, "nobody listens, and it still looks"
