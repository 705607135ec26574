"""What happens to an execution, as Server-Sent Events (https://html.spec.whatwg.org/#server-sent-events).

Each event of the record has a number, which is the event's id: who comes back with Last-Event-ID gets what they
missed, all of it and in order. Where the record has forgotten that place, an event ``gap`` says so.
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from deployments.front.problems import Problem
from tasks.adapters.registry import Event, Registry
from tasks.domain.text import plain_text

LOOK_S = 0.15
"""How often the record is looked at, once for all streams together."""

HEARTBEAT_S = 15.0
LIFETIME_S = 600.0
"""Then the client connects anew, and its right is looked at again."""

UNREAD_S = 60.0
"""How long a client may read nothing while there is something for it."""

PER_CALLER = 10
PAGE = 100

_PRIVATE = frozenset({"delivery_key", "flow_run_id", "crash_id"})

Mark = tuple[int, datetime | None]
"""The number of an execution's newest event, and when its screen was written."""


@dataclass
class _Waiter:
    execution_id: str
    seen: Mark
    screen: bool
    found: "asyncio.Future[Mark]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def is_news(self, mark: Mark) -> bool:
        return mark[0] != self.seen[0] or (self.screen and mark[1] != self.seen[1])


class Pulse:
    """Looks at the record for everybody who waits: one query each time, however many they are."""

    def __init__(self, registry: Registry, look_s: float = LOOK_S) -> None:
        self._registry, self._look_s = registry, look_s
        self._waiters: set[_Waiter] = set()
        self._looking: asyncio.Task[None] | None = None

    async def wait(self, execution_id: str, seen: Mark, screen: bool, timeout_s: float) -> bool:
        """True when there is news; False after ``timeout_s`` without any."""
        waiter = _Waiter(execution_id, seen, screen)
        self._waiters.add(waiter)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        try:
            await asyncio.wait_for(waiter.found, timeout_s)
        except TimeoutError:
            return False
        finally:
            self._waiters.discard(waiter)
        return True

    async def _look(self) -> None:
        while self._waiters:
            await asyncio.sleep(self._look_s)
            wanted = {waiter.execution_id for waiter in self._waiters}
            try:
                newest = await asyncio.to_thread(self._registry.newest, wanted)
            except ConnectionError:
                continue  # heartbeats go on, and the record comes back
            for waiter in list(self._waiters):
                mark = newest.get(waiter.execution_id)
                if mark is not None and waiter.is_news(mark) and not waiter.found.done():
                    waiter.found.set_result(mark)


_Waiter.__hash__ = object.__hash__  # type: ignore[method-assign]  # each is itself alone


class Streams:
    """Counts what is open, and feeds it."""

    def __init__(self, registry: Registry, limit: int) -> None:
        self.registry, self.limit = registry, limit
        self.pulse = Pulse(registry)
        self.heartbeat_s, self.lifetime_s, self.unread_s = HEARTBEAT_S, LIFETIME_S, UNREAD_S
        self._open: Counter[str] = Counter()

    def admit(self, caller: str) -> None:
        """Raises Problem where there are too many. What was admitted is to be released."""
        if self._open.total() >= self.limit:
            raise Problem.later(503, "too many event streams are open; ask for the progress instead", 30)
        if self._open[caller] >= PER_CALLER:
            raise Problem.later(429, f"{PER_CALLER} event streams of yours are open; close one", 30)
        self._open[caller] += 1

    def answer(
        self,
        caller: str,
        execution_id: str,
        after: int,
        screen: bool,
        last_event_id: str | None,
        named: str | None = None,
        words: Callable[[str], str] = str,
    ) -> "EventStream":
        """The stream, from ``last_event_id`` where the client comes back with one; ``named``: all events of the record
        under one name; ``words``: what becomes of each text in them. Raises Problem.
        """
        if last_event_id:
            if not last_event_id.isdecimal() or not last_event_id.isascii() or len(last_event_id) > 18:
                raise Problem.about("Last-Event-ID", "it is not one of ours", "the id of an event", status=400)
            after = int(last_event_id)
        self.admit(caller)
        return EventStream(self, caller, self.feed(execution_id, after, screen, named, words))

    def release(self, caller: str) -> None:
        self._open[caller] -= 1
        if self._open[caller] <= 0:
            del self._open[caller]

    async def feed(
        self,
        execution_id: str,
        after: int,
        screen: bool,
        named: str | None = None,
        words: Callable[[str], str] = str,
    ) -> AsyncIterator[bytes]:
        end = time.monotonic() + self.lifetime_s
        yield b"retry: 1000\n\n"
        seen, shown = after, None
        if after and not await asyncio.to_thread(self.registry.has_event, execution_id, after):
            newest = await asyncio.to_thread(self.registry.newest, [execution_id])
            seen = after if after < newest.get(execution_id, (0, None))[0] else 0
            yield _line("gap", {"after": after, "reason": "what came after it may be lost; read the progress again"})
        while time.monotonic() < end:
            page = await asyncio.to_thread(self.registry.events, execution_id, seen, PAGE)
            for event in page:
                yield _event(event, named or event.kind, words)
                seen = event.seq
            if len(page) == PAGE:
                continue
            if screen and (picture := await asyncio.to_thread(self.registry.screen, execution_id)) is not None:
                if picture.shown_at != shown:
                    yield _line("screen", {"output": plain_text(picture.body), "at": picture.shown_at.isoformat()})
                shown = picture.shown_at
            if not await self.pulse.wait(execution_id, (seen, shown), screen, self.heartbeat_s):
                yield b": still here\n\n"


class EventStream(StreamingResponse):
    """One admitted stream; it is released however it ends, also before its first line, and when nobody reads."""

    def __init__(self, streams: Streams, caller: str, lines: AsyncIterator[bytes]) -> None:
        super().__init__(lines, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        self._streams, self._caller = streams, caller

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def patiently(message: Message) -> None:
            async with asyncio.timeout(self._streams.unread_s):
                await send(message)

        try:
            with suppress(TimeoutError):
                await super().__call__(scope, receive, patiently)
        finally:
            self._streams.release(self._caller)


def _event(event: Event, name: str, words: Callable[[str], str]) -> bytes:
    data = _worded({name: value for name, value in event.data.items() if name not in _PRIVATE}, words)
    told = {"seq": event.seq, "kind": event.kind, "at": event.at.isoformat(), "data": data}
    return _line(name, told, event.seq)


def _worded(told: Any, words: Callable[[str], str]) -> Any:
    match told:
        case str():
            return words(told)
        case list():
            return [_worded(each, words) for each in told]
        case dict():
            return {name: _worded(value, words) for name, value in told.items()}
    return told


def _line(kind: str, data: dict[str, Any], seq: int | None = None) -> bytes:
    """JSON holds no line break of its own, so that one line is enough."""
    told = f"event: {kind}\ndata: {json.dumps(data)}\n\n"
    return (f"id: {seq}\n{told}" if seq is not None else told).encode()
