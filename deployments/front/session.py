"""Who has a page open. A browser brings a cookie in place of a key or a link, and nothing else counts as itself.

The cookie holds the hash of the key or link, sealed with a secret of this service: it cannot be made by who knows the
hash, it is no key for the API, and it is worth nothing once the key or link is revoked, or its time is over.

A browser sends cookies also when another site tells it to. So whatever changes something is taken only from a page of
this origin, as the browser itself says it: Sec-Fetch-Site, or Origin where that is missing.
"""

import base64
import hashlib
import hmac
import logging
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import get_args
from urllib.parse import urlsplit

from fastapi import Request, Response

from deployments.front.access import Caller, Kind, known
from deployments.front.limits import client_of
from deployments.front.problems import Problem
from deployments.front.service import Front

SECRET_FILE = "front.key"  # noqa: S105  # the name of a file
VISIT, OPERATOR = "tb_visit", "tb_operator"
LIFETIME_S = {"link": 30 * 86_400, "key": 12 * 3600}
_PURPOSE = b"tmux-builder page session 1\n"

log = logging.getLogger("front")


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a cookie says: the hash of a key or link, and until when (Unix time) it counts."""

    kind: Kind
    sha256: str
    until: int


class Seal:
    """Makes cookies that nobody else can make.

    >>> seal = Seal(b"secret", clock=lambda: 0)
    >>> seal.opened(seal.sealed("link", "ab12")).sha256
    'ab12'
    >>> Seal(b"another", clock=lambda: 0).opened(seal.sealed("link", "ab12")) is None
    True
    """

    def __init__(self, secret: bytes, clock: Callable[[], float] = time.time) -> None:
        self._secret, self._clock = secret, clock

    def sealed(self, kind: Kind, sha256: str) -> str:
        told = f"{kind}.{sha256}.{int(self._clock()) + LIFETIME_S[kind]}"
        return f"{told}.{self._mark(told)}"

    def opened(self, value: str) -> Ticket | None:
        """None for a cookie that is not ours, or whose time is over."""
        told, _dot, mark = value.rpartition(".")
        parts = told.split(".")
        if len(parts) != 3 or not hmac.compare_digest(self._mark(told).encode(), mark.encode("utf-8", "replace")):
            return None
        kind, sha256, until = parts
        if int(until) < self._clock():
            return None
        return next((Ticket(name, sha256, int(until)) for name in get_args(Kind) if name == kind), None)

    def _mark(self, told: str) -> str:
        digest = hmac.digest(self._secret, _PURPOSE + told.encode("utf-8", "replace"), hashlib.sha256)
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def secret_in(home: Path) -> bytes:
    """32 random bytes that stay: whoever loses them has only to open their link again, or to log in."""
    file = home / SECRET_FILE
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        new = home / f".{SECRET_FILE}.{secrets.token_hex(6)}"
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(handle, secrets.token_bytes(32))
            os.fsync(handle)
            os.link(new, file)  # the first one counts, also of two processes at once
        except FileExistsError:
            log.debug("the sessions' secret is there")
        finally:
            os.close(handle)
            new.unlink(missing_ok=True)
        found = file.read_bytes()
        if len(found) == 32:
            return found
        log.warning("%s does not hold 32 bytes; sessions end with this process: remove the file", file)
    except OSError as error:
        log.warning("sessions end with this process, for their secret cannot be kept: %s", error)
    return secrets.token_bytes(32)


def caller_of(request: Request, front: Front, seal: Seal) -> Caller:
    """Who looks at a page: who opened its link, else the operator who logged in, else a stranger. Blocks."""
    address = client_of(request.scope)
    wanted = request.path_params.get("execution_id")
    for name, kind in ((VISIT, "link"), (OPERATOR, "key")):
        ticket = seal.opened(request.cookies.get(name, ""))
        if ticket is None or ticket.kind != kind:
            continue
        caller = known(front, ticket.kind, ticket.sha256, address)
        if caller is not None and caller.execution_id in (None, wanted):
            return caller
    return Caller("", address)


def open_session(response: Response, front: Front, seal: Seal, kind: Kind, sha256: str, path: str) -> None:
    """The browser brings it back to ``path`` and below, in requests that come from here or from a link."""
    response.set_cookie(
        VISIT if kind == "link" else OPERATOR,
        seal.sealed(kind, sha256),
        max_age=LIFETIME_S[kind],
        path=path,
        httponly=True,
        samesite="lax",
        secure=is_https(front),
    )


def close_session(response: Response, front: Front) -> None:
    response.delete_cookie(OPERATOR, path="/", httponly=True, samesite="lax", secure=is_https(front))


def is_https(front: Front) -> bool:
    return front.settings.base_url.startswith("https://")


def same_origin(request: Request) -> None:
    """Raises Problem 403 unless the browser says that a page of this origin sent it.

    Our pages send no referrer, and a browser then calls the origin of a form ``null``
    (https://fetch.spec.whatwg.org/#append-a-request-origin-header): alone, that is no proof.
    """
    sites, origins = request.headers.getlist("sec-fetch-site"), request.headers.getlist("origin")
    told = [origin for origin in origins if origin != "null"]
    own = all(_host_of(origin) == request.headers["host"].lower() for origin in told)
    if len(sites) > 1 or len(origins) > 1 or not own or any(site != "same-origin" for site in sites):
        raise Problem(403, "this came from another site, so nothing was done; open the page here and press again")
    if not sites and not told:
        words = "the browser does not say where this came from; use https, or a browser of 2023 or later"
        raise Problem(403, words)


def _host_of(origin: str) -> str:
    """
    >>> _host_of("https://Build.example:8400"), _host_of("http://[")
    ('build.example:8400', '')
    """
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
