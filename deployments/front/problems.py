"""Errors as problem documents (RFC 9457): field, reason and what is allowed, and nothing of what was sent.

A stranger's text never comes back in an answer: neither values nor the names of fields that we do not have.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import ErrorDetails
from starlette.exceptions import HTTPException
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from tasks.adapters.registry import QueueFull, QuotaSpent, RunWaits
from tasks.domain.errors import DeliveryConflict, RequestRefused, UnknownExecution

MEDIA_TYPE = "application/problem+json"
UNKNOWN_FIELD = "(a field that is not known)"
SHOWN = 20
"""Complaints that one answer lists."""

log = logging.getLogger("front")


class Complaint(BaseModel):
    """One field that is not as it has to be."""

    field: str = Field(description="Where it is, with dots between.", examples=["email"])
    reason: str = Field(description="What is wrong.", examples=["it is not an e-mail address"])
    allowed: str = Field(description="What may stand there.", examples=["name@domain, such as ana@example.com"])


class ProblemDocument(BaseModel):
    """What every error looks like (RFC 9457), as application/problem+json."""

    model_config = ConfigDict(title="Problem")

    type: str = Field(description="Which kind of problem.", examples=["urn:tmux-builder:problem:invalid"])
    title: str = Field(description="The kind in words.", examples=["The request is not valid"])
    status: int = Field(description="The HTTP status.", examples=[422])
    detail: str = Field(description="What it was this time, and what to do.")
    error: str = Field(description="What it was, without what to do.", examples=["Execution not found"])
    errors: list[Complaint] = Field(default_factory=list, description="The fields that it is about.")


_TITLES = {
    400: ("refused", "This cannot be done"),
    401: ("unauthorized", "Who are you?"),
    403: ("forbidden", "You may not do this"),
    404: ("not-found", "There is no such thing"),
    405: ("method", "Not this way"),
    408: ("too-slow", "The request took too long"),
    409: ("conflict", "This contradicts what was sent before"),
    413: ("too-large", "The request is too large"),
    415: ("media-type", "Only JSON is read here"),
    421: ("host", "Not reached by this name"),
    422: ("invalid", "The request is not valid"),
    429: ("too-many", "Too many requests"),
    500: ("broken", "Something is broken here"),
    503: ("busy", "Not just now"),
}


_OTHER = ("other", "It did not work")


class Problem(Exception):
    """Raise it anywhere in a request. ``detail`` ends in the next move."""

    def __init__(
        self,
        status: int,
        detail: str,
        errors: Sequence[Complaint] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(status, detail)
        self.status, self.detail, self.errors, self.headers = status, detail, tuple(errors), dict(headers or {})

    @classmethod
    def about(cls, field: str, reason: str, allowed: str, status: int = 422) -> "Problem":
        return cls(status, f"{field}: {reason}", [Complaint(field=field, reason=reason, allowed=allowed)])

    @classmethod
    def later(cls, status: int, detail: str, seconds: float) -> "Problem":
        return cls(status, detail, headers={"Retry-After": str(max(1, math.ceil(seconds)))})

    @property
    def title(self) -> str:
        return _TITLES.get(self.status, _OTHER)[1]

    def response(self) -> JSONResponse:
        kind, title = _TITLES.get(self.status, _OTHER)
        document = ProblemDocument(
            type=f"urn:tmux-builder:problem:{kind}",
            title=title,
            status=self.status,
            detail=self.detail,
            error=self.detail.partition(";")[0],
            errors=list(self.errors),
        )
        return JSONResponse(document.model_dump(), self.status, self.headers, MEDIA_TYPE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """For middleware, before there is a route."""
        await self.response()(scope, receive, send)


_REFUSED = {
    "email": "it is not an e-mail address that can exist",
    "phone": "it is not a number that exists in any country",
    "requirements": "there is no word in it",
    "hosting": "it does not belong to the host_provider",
}


def of_refusal(refusal: RequestRefused) -> Problem:
    """The pipeline's own words quote the value; these do not."""
    return Problem.about(refusal.field, _REFUSED.get(refusal.field, "it is not acceptable"), refusal.allowed)


_FOREIGN = frozenset({"value_error", "assertion_error"})
"""Kinds whose message a validator of ours words: none of ours quotes, and none is let through unseen."""


def complaints(errors: Sequence[ErrorDetails | dict[str, Any]], allowed: Mapping[str, str]) -> list[Complaint]:
    """pydantic's errors, without input and context. ``allowed`` says of each known field what may stand there."""
    found = []
    for error in errors[:SHOWN]:
        path = [str(part) for part in error["loc"] if part not in ("body", "query", "path", "header")]
        known = [part for part in path if part in allowed or part.isdecimal()]
        field = ".".join(known) if path and len(known) == len(path) else UNKNOWN_FIELD if path else "body"
        reason = "it is not acceptable" if error["type"] in _FOREIGN else error["msg"]
        names = ", ".join(sorted(allowed))
        may = names if field == UNKNOWN_FIELD else allowed.get(known[-1] if known else "", "a JSON object")
        found.append(Complaint(field=field, reason=reason, allowed=may))
    return found


def allowed_words(openapi: Mapping[str, Any]) -> dict[str, str]:
    """What the API's own description says of each field and parameter."""
    words: dict[str, str] = {}
    for schema in openapi["components"]["schemas"].values():
        for name, field in schema.get("properties", {}).items():
            listed = openapi["components"]["schemas"].get(str(field.get("$ref", "")).rpartition("/")[2], {})
            values = ", ".join(map(str, listed.get("enum", field.get("enum", []))))
            words.setdefault(name, values or str(field.get("description") or f"a {field.get('type', 'value')}"))
    for path in openapi["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", []):
                words.setdefault(parameter["name"], str(parameter.get("description") or parameter["schema"]))
    return words


def problem_of(error: Exception) -> Problem | None:
    """What the record and the pipeline say no with, as a problem; None for what is nobody's fault but ours."""
    match error:
        case Problem():
            return error
        case RequestRefused():
            return of_refusal(error)
        case UnknownExecution():
            return unknown()
        case DeliveryConflict():
            return Problem(409, "this key was used before with another body; send a new request under a new key")
        case RunWaits():
            return Problem(409, str(error))
        case QuotaSpent():
            return Problem.later(429, str(error), error.retry_after_s)
        case QueueFull():
            return Problem.later(503, str(error), 60)
        case ConnectionError():
            log.warning("%s", error)
            return Problem.later(503, "the registry is away; send it again in a moment", 5)
    return None


def install(app: FastAPI, shown: Callable[[Request, Problem], Response | None] | None = None) -> None:
    """Answer every error with a problem document, or as ``shown`` has it."""
    cached: dict[str, str] = {}

    def allowed() -> dict[str, str]:
        if not cached:
            cached.update(allowed_words(app.openapi()))
        return cached

    async def problem(request: Request, error: Exception) -> Response:
        match error:
            case RequestValidationError():
                listed = complaints(error.errors(), allowed())
                detail = "; ".join(f"{each.field}: {each.reason}" for each in listed[:3])
                found = Problem(422, detail, listed)
            case HTTPException():
                known = {404: "there is nothing at this address", 405: "this address takes what Allow says"}
                headers = dict(error.headers or {})
                if error.status_code == 405:
                    headers["Allow"] = ", ".join(_methods(app, request))
                found = Problem(error.status_code, known.get(error.status_code, error.detail), (), headers)
            case _:
                found = problem_of(error) or Problem(500, "it was noted in the log; try again later")
        page = shown(request, found) if shown is not None else None
        return page or found.response()

    for kind in (
        *(Problem, RequestValidationError, RequestRefused, UnknownExecution, DeliveryConflict, RunWaits),
        *(QuotaSpent, QueueFull, ConnectionError, HTTPException, Exception),
    ):
        app.add_exception_handler(kind, problem)


def _methods(app: FastAPI, request: Request) -> list[str]:
    """What this address takes, by all its routes; the router itself names those of the first."""
    known = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
    tried = {method: {**request.scope, "method": method} for method in known}
    return [name for name, scope in tried.items() if any(route.matches(scope)[0] is Match.FULL for route in app.routes)]


def unknown() -> Problem:
    """The same for what is not there and for what is another's."""
    return Problem(404, "Execution not found; none of yours has this id, copy it from the answer to create-user")


def who_are_you() -> Problem:
    words = "send a key, or the token of the execution, as: Authorization: Bearer TOKEN"
    return Problem(401, words, headers={"WWW-Authenticate": "Bearer"})
