"""Asking a site over HTTP, guarded: a total deadline, a bounded body, and no address that the site should not have.

Where a connection goes is decided at the moment of connecting, from the address that will be dialled, so that neither
a redirect nor a changed DNS answer leads to the worker's own network or a cloud's metadata service.
"""

import ipaddress
import json
import queue
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpcore
import httpx

from tasks.domain.check import Check, Finding, Outcome
from tasks.domain.errors import NotHealthy
from tasks.domain.hosting import Site
from tasks.domain.release import MARKER_PATH

BODY_LIMIT_BYTES = 4 * 2**20
MARKER_LIMIT_BYTES = 4 * 2**10
MAX_REDIRECTS = 3

_HEADERS: dict[bytes | str, bytes | str] = {
    "Accept": "*/*",
    "Accept-Encoding": "identity",
    "Cache-Control": "no-cache",
    "User-Agent": "tmux-builder",
}
_ATTEMPT_S = 10.0
_CONNECT_S = 5.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0
_RELEASE_ID = re.compile(r"r[0-9]{1,9}-[0-9a-f]{12}")

_NEVER = tuple(
    ipaddress.ip_network(network)
    for network in (
        "168.63.129.16/32",  # Azure's own control plane in each VM
        "192.0.0.0/24",  # IETF protocol assignments; Oracle's metadata service at .192
        "192.88.99.0/24",  # 6to4 relays
        "64:ff9b::/96",  # NAT64: an IPv4 address inside, loopback and metadata included
        "64:ff9b:1::/48",
        "2001::/32",  # Teredo
        "2002::/16",  # 6to4
        "::/96",  # IPv4-compatible
        "fec0::/10",  # site-local
        "fd00:ec2::/32",  # AWS's metadata service
    )
)
"""Addresses that `ipaddress` calls global, or may in another Python, and that no public site has."""

Resolve = Callable[[str, int], list[str]]
"""Addresses of a name, best first. Raises OSError where it has none."""


class Unanswered(Exception):
    """What was seen instead of an answer. ``final`` where asking again cannot help."""

    def __init__(self, complaint: str, final: bool = False, cut_short: bool = False) -> None:
        super().__init__(complaint, final, cut_short)
        self.complaint, self.final, self.cut_short = complaint, final, cut_short

    def __str__(self) -> str:
        return self.complaint


@dataclass(frozen=True)
class Answer:
    """``url`` is where the answer came from, after redirects; header names are in lower case."""

    url: str
    status: int
    headers: dict[str, str]
    body: bytes


def is_public(address: str) -> bool:
    """Whether a public site may have this address.

    >>> is_public("93.184.216.34"), is_public("10.0.0.1"), is_public("::ffff:127.0.0.1"), is_public("168.63.129.16")
    (True, False, False, False)
    """
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped:
        ip = ip.ipv4_mapped
    return ip.is_global and not ip.is_multicast and not any(ip in never for never in _NEVER)


def resolve(name: str, port: int) -> list[str]:
    return [str(info[4][0]) for info in socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)]


def health_check(
    site: Site,
    deadline_s: float,
    *,
    attempt_s: float = _ATTEMPT_S,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    resolve: Resolve = resolve,
    trust: ssl.SSLContext | None = None,
) -> Check:
    """The site's address answers 200, and what answers is this release.

    Asks again with growing pauses until the deadline; a complaint that time cannot mend ends it at once. Raises
    NotHealthy with the last thing seen.
    """
    began = clock()
    until = began + deadline_s
    complaint, pause = "", _FIRST_PAUSE_S
    while (now := clock()) < until:
        try:
            findings = _look(site, _Deadline(clock, min(until, now + attempt_s)), resolve, trust)
        except Unanswered as seen:
            if seen.final:
                complaint = seen.complaint
                break
            # The deadline cuts the last attempt; what an earlier one saw to its end says more than that.
            if not (seen.cut_short and clock() >= until and complaint):
                complaint = seen.complaint
            sleep(max(0.0, min(pause, until - clock())))
            pause = min(pause * 2, _LONGEST_PAUSE_S)
        else:
            return Check(name="health_check", outcome=Outcome.PASSED, findings=findings, seconds=clock() - began)
    raise NotHealthy(site.url, clock() - began, complaint or "its deadline left no time to ask")


def fetch(
    site: Site,
    path: str,
    deadline_s: float,
    *,
    limit: int = BODY_LIMIT_BYTES,
    clock: Callable[[], float] = time.monotonic,
    resolve: Resolve = resolve,
    trust: ssl.SSLContext | None = None,
) -> Answer:
    """One GET of a path of this site, whatever the status. Raises Unanswered."""
    deadline = _Deadline(clock, clock() + deadline_s)
    with _connections(site, deadline, resolve, trust) as pool:
        return _get(pool, site, path, limit, deadline)


def _look(site: Site, deadline: "_Deadline", resolve: Resolve, trust: ssl.SSLContext | None) -> tuple[Finding, ...]:
    with _connections(site, deadline, resolve, trust) as pool:
        root = _get(pool, site, "/", BODY_LIMIT_BYTES, deadline)
        if root.status != 200:
            raise Unanswered(f"HTTP {root.status}")
        marker = _get(pool, site, f"/{MARKER_PATH}", MARKER_LIMIT_BYTES, deadline)
    if complaint := complaint_about_marker(marker.status, marker.body, site.release_id):
        raise Unanswered(complaint)
    return (
        Finding(name="answers", outcome=Outcome.PASSED, detail=f"HTTP 200, {len(root.body):,} bytes from {root.url}"),
        Finding(name="release", outcome=Outcome.PASSED, detail=f"serves {site.release_id}"),
    )


def complaint_about_marker(status: int, body: bytes, expected: str) -> str | None:
    """Why this is not the marker of the expected release. The body is anybody's: it is quoted only where it is an id.

    >>> complaint_about_marker(200, b'{"release_id": "r1-0123456789ab"}', "r2-0123456789ab")
    'serves r1-0123456789ab instead of r2-0123456789ab'
    """
    if status != 200:
        return f"HTTP {status} at /{MARKER_PATH} instead of the marker of {expected}"
    try:
        found = json.loads(body)["release_id"]
    except (ValueError, TypeError, KeyError, RecursionError):
        found = None
    if found == expected:
        return None
    if isinstance(found, str) and _RELEASE_ID.fullmatch(found):
        return f"serves {found} instead of {expected}"
    return f"/{MARKER_PATH} is no release marker; another site answers instead of {expected}"


def _get(pool: httpcore.ConnectionPool, site: Site, path: str, limit: int, deadline: "_Deadline") -> Answer:
    home = _home(site)
    url = _on_site(home, home, path, "the path")
    for _ in range(MAX_REDIRECTS + 1):
        with _in_words(deadline), pool.stream("GET", str(url), headers=_HEADERS) as response:
            headers = dict(httpx.Headers(response.headers))
            location = headers.get("location")
            if not (300 <= response.status < 400 and location):
                return Answer(str(url), response.status, headers, _body(response, headers, limit))
        url = _on_site(home, url, location, "a redirect to")
    raise Unanswered(f"more than {MAX_REDIRECTS} redirects, the last to {_quoted(str(url))}", final=True)


def _home(site: Site) -> httpx.URL:
    try:
        home = httpx.URL(site.url)
    except httpx.InvalidURL:
        home = httpx.URL()
    if home.scheme not in ("http", "https") or not home.host or home.userinfo:
        raise Unanswered(f"{_quoted(site.url)} is no address of a site", final=True)
    return home


def _body(response: httpcore.Response, headers: dict[str, str], limit: int) -> bytes:
    if (encoding := headers.get("content-encoding", "identity")) != "identity":
        raise Unanswered(f"an answer packed as {_quoted(encoding)}, which was not asked for", final=True)
    body = bytearray()
    for chunk in response.iter_stream():
        body += chunk
        if len(body) > limit:
            raise Unanswered(f"an answer of more than {limit:,} bytes", final=True)
    return bytes(body)


def _on_site(home: httpx.URL, base: httpx.URL, reference: str, what: str) -> httpx.URL:
    """Where a reference leads, if it stays on the site: its own origin, or https in place of its http."""
    try:
        target = base.join(reference)
    except (httpx.InvalidURL, ValueError):
        raise Unanswered(f"{what} {_quoted(reference)}, which is no address", final=True) from None
    ours = (target.scheme, target.host, target.port) == (home.scheme, home.host, home.port)
    secured = (home.scheme, home.port, target.scheme, target.port) == ("http", None, "https", None)
    if target.userinfo or not (ours or (secured and target.host == home.host)):
        raise Unanswered(f"{what} {_quoted(str(target))}, which is not this site", final=True)
    return target


def _quoted(text: str) -> str:
    """What a stranger sent, for a log line or an error: escaped and short."""
    text = text if len(text) <= 120 else f"{text[:120]}…"
    return ascii(text)


@contextmanager
def _in_words(deadline: "_Deadline") -> Iterator[None]:
    try:
        yield
    except httpcore.TimeoutException:
        raise Unanswered(f"no whole answer within {deadline.length:.1f} s", cut_short=True) from None
    except _Denied as denied:
        raise Unanswered(str(denied), final=True) from None
    except httpcore.NetworkError as error:
        raise Unanswered(_connection_trouble(error)) from None
    except httpcore.ProtocolError as error:
        raise Unanswered(f"an answer that ends early or is not HTTP: {_quoted(str(error))}") from None


def _connection_trouble(error: BaseException) -> str:
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return f"its certificate is not valid: {text.partition('failed: ')[2].partition(' (_ssl')[0]}"
    cause = re.sub(r"^\[(Errno -?\d+|SSL[^]]*)\] ", "", text)
    return f"no connection: {cause or type(error).__name__}"


class _Denied(Exception):
    """The address must not be dialled."""


class _Deadline:
    """One moment that everything on a connection ends by."""

    def __init__(self, clock: Callable[[], float], at: float) -> None:
        self._clock, self._at = clock, at
        self.length = at - clock()

    def left(self, at_most: float | None = None) -> float:
        left = self._at - self._clock()
        if left <= 0:
            raise httpcore.ReadTimeout("deadline")
        return left if at_most is None else min(left, at_most)


class _Stream(httpcore.NetworkStream):
    """A connection whose reads and writes end by the deadline, however often the other side sends one byte."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.left(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, self._deadline.left(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = self._deadline.left(timeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class _Backend(httpcore.NetworkBackend):
    """Dials the site's ``dial`` address alone; without one, only public addresses of the name."""

    def __init__(self, site: Site, deadline: _Deadline, resolve: Resolve) -> None:
        self._site, self._deadline, self._resolve = site, deadline, resolve
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 -- the base class has it; the deadline counts
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        trouble: Exception | None = None
        for address, target in self._targets(host, port):
            left = self._deadline.left(_CONNECT_S)
            try:
                stream = self._sockets.connect_tcp(address, target, left, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                trouble = error
            else:
                return _Stream(stream, self._deadline)
        raise httpcore.ConnectError(f"{trouble} at {host}:{port}") from trouble

    def _targets(self, host: str, port: int) -> list[tuple[str, int]]:
        if self._site.dial:
            address, _, number = self._site.dial.rpartition(":")
            return [(address.strip("[]"), int(number))]
        addresses = self._resolved(host, port)
        allowed = [(address, port) for address in addresses if is_public(address)]
        if not allowed:
            raise _Denied(f"{host} has no public address, but {', '.join(addresses[:3]) or 'none'}")
        return allowed

    def _resolved(self, host: str, port: int) -> list[str]:
        """Resolve within the deadline: the system's resolver knows none, so it is left behind in its thread."""
        outcome: queue.SimpleQueue[list[str] | OSError] = queue.SimpleQueue()

        def work() -> None:
            try:
                outcome.put(self._resolve(host, port))
            except (OSError, UnicodeError) as error:
                outcome.put(OSError(f"name {host} does not resolve ({error})"))

        threading.Thread(target=work, name=f"resolve {host}", daemon=True).start()
        try:
            found = outcome.get(timeout=self._deadline.left())
        except queue.Empty:
            raise httpcore.ConnectTimeout(f"name {host} was not resolved in time") from None
        if isinstance(found, OSError):
            raise httpcore.ConnectError(str(found))
        return found


@cache
def _public_trust() -> ssl.SSLContext:
    """certifi's authorities; loaded once, since that takes longer than most requests."""
    return httpx.create_ssl_context(trust_env=False)


def _connections(
    site: Site, deadline: _Deadline, resolve: Resolve, trust: ssl.SSLContext | None
) -> httpcore.ConnectionPool:
    """One attempt's connections: no proxies, no retries, HTTP/1.1, nothing from the environment."""
    if trust is None and site.url.startswith("https:"):
        trust = _public_trust()
    return httpcore.ConnectionPool(
        ssl_context=trust, network_backend=_Backend(site, deadline, resolve), http2=False, retries=0
    )
