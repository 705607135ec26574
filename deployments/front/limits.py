"""What is looked at before anything is read or answered: the host's name, the size of the body, how often one comes."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.front.problems import Problem

BODY_LIMIT = 256 * 1024
"""Bytes: 20,000 characters of requirements, each of them escaped, and room for a form service's envelope."""

BODY_S = 10.0
"""How long a body may take to arrive."""

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
}


class Rates:
    """So many a period, for each name: a generic cell rate algorithm, which keeps one moment a name.

    In this process's memory: a restart forgets, and a second process would count for itself.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, names: int = 50_000) -> None:
        self._clock, self._names = clock, names
        self._due: OrderedDict[str, float] = OrderedDict()

    def take(self, name: str, limit: int, period_s: float = 60.0) -> float:
        """0 where this one may pass; else the seconds until one may.

        >>> rates = Rates(clock=lambda: 0.0)
        >>> [rates.take("ana", 2) for _ in range(3)], rates.take("ben", 2)
        ([0.0, 0.0, 30.0], 0.0)
        """
        now, step = self._clock(), period_s / limit
        due = max(self._due.get(name, now), now)
        wait = due + step - (now + period_s)
        if wait > 1e-9:
            return wait
        self._due[name] = due + step
        self._due.move_to_end(name)
        if len(self._due) > self._names:
            self._due.popitem(last=False)
        return 0.0

    def spend(self, name: str, limit: int, period_s: float = 60.0) -> None:
        """Raises Problem 429 where it was too often."""
        if wait := self.take(name, limit, period_s):
            raise Problem.later(429, f"more than {limit} in {period_s:.0f} seconds; wait, then go on", wait)


def client_of(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else "unknown"


class Doorway:
    """Pure ASGI, around everything: refuses foreign hosts, crowds and bodies that are too long, and sets the headers.

    A body is taken in whole before the application sees the request; it trusts no Content-Length.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Collection[str],
        rates: Rates,
        rate_ip: int,
        body_limit: int = BODY_LIMIT,
        body_s: float = BODY_S,
    ) -> None:
        self.app, self.hosts, self.rates, self.rate_ip = app, hosts, rates, rate_ip
        self.body_limit, self.body_s = body_limit, body_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._look(scope)
            body = await self._body(scope, receive)
        except Problem as problem:
            problem.headers["Connection"] = "close"  # what is left of the body is not read
            await problem(scope, receive, dressed)
            return
        if body is None:
            return
        await self.app(scope, _replayed(body, receive), dressed)

    def _look(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or _without_port(hosts[0]) not in self.hosts:
            raise Problem(421, "the Host header is not one of this service's names; the operator sets them")
        self.rates.spend(f"ip {client_of(scope)}", self.rate_ip)
        told = headers.get("content-length", "0")
        if not told.isdecimal() or int(told) > self.body_limit:
            raise self._too_large()

    async def _body(self, scope: Scope, receive: Receive) -> bytes | None:
        """None where the client has gone."""
        if scope["method"] in ("GET", "HEAD"):
            return b""
        body = bytearray()
        try:
            async with asyncio.timeout(self.body_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    body += message.get("body", b"")
                    if len(body) > self.body_limit:
                        raise self._too_large()
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise Problem(408, f"the body did not arrive within {self.body_s:.0f} seconds") from None

    def _too_large(self) -> Problem:
        return Problem(413, f"a body may have {self.body_limit} bytes; shorten it")


def _without_port(host: str) -> str:
    """
    >>> _without_port("Example.COM:8400"), _without_port("[::1]:8400")
    ('example.com', '[::1]')
    """
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower()


def _replayed(body: bytes, receive: Receive) -> Receive:
    told = False

    async def again() -> Message:
        nonlocal told
        if told:
            return await receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
