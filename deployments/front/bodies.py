"""JSON from strangers, read strictly: what other readers of it may take for something else is refused (RFC 8259).

No NaN and no number beyond a double, no name twice, no control character, no half of a surrogate pair, no deep nesting.
"""

import json
import re
from collections.abc import Callable, Coroutine
from email.message import Message
from typing import Any
from urllib.parse import parse_qsl

from fastapi import Request, Response
from fastapi.routing import APIRoute

from deployments.front.problems import Problem

DEPTH = 12
FORM, FIELDS = "application/x-www-form-urlencoded", 50
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKETS = re.compile(r"[\[\]{}]")
_OBEYED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_LONGEST_NUMBER = 40


def parse(body: bytes) -> Any:
    """The JSON value. Raises Problem, which names what is wrong and quotes nothing.

    >>> parse(b'{"a": [1, 2.5, "b"]}')
    {'a': [1, 2.5, 'b']}
    """
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise _refused("it is not UTF-8", "JSON in UTF-8") from None
    depth = 0
    for bracket in _BRACKETS.findall(_STRING.sub("", text)):
        depth += 1 if bracket in "[{" else -1
        if depth > DEPTH:
            raise _refused("it is nested too deeply", f"at most {DEPTH} levels")
    try:
        value = json.loads(
            text, parse_constant=_constant, parse_float=_number, parse_int=_integer, object_pairs_hook=_object
        )
    except (ValueError, RecursionError):
        raise _refused("it is not JSON", "one JSON object, as RFC 8259 has it") from None
    _look_at_texts(value)
    return value


def _refused(reason: str, allowed: str) -> Problem:
    return Problem.about("body", reason, allowed, status=400)


def _constant(_name: str) -> None:
    raise _refused("there is a NaN or an infinity in it", "finite numbers")


def _number(digits: str) -> float:
    value = float(digits)
    if value in (float("inf"), float("-inf")):
        raise _refused("a number in it is too large", "finite numbers")
    return value


def _integer(digits: str) -> int:
    if len(digits) > _LONGEST_NUMBER:
        raise _refused("a number in it is too large", f"at most {_LONGEST_NUMBER} digits")
    return int(digits)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _refused("a name stands in an object twice", "each name once")
    return value


def _look_at_texts(value: Any) -> None:
    if isinstance(value, str) and _OBEYED.search(value):
        raise _refused(
            "there is a control character or half of a surrogate pair in it", "text, line breaks and tabs included"
        )
    if isinstance(value, dict):
        for name, item in value.items():
            _look_at_texts(name)
            _look_at_texts(item)
    elif isinstance(value, list):
        for item in value:
            _look_at_texts(item)


def is_json(content_type: str) -> bool:
    """
    >>> is_json("application/json; charset=utf-8"), is_json("text/plain")
    (True, False)
    """
    message = Message()
    message["content-type"] = content_type
    kind = message.get_content_type()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


def form(body: bytes, content_type: str) -> dict[str, str]:
    """The fields of a page's form. Raises Problem; a file upload is none.

    >>> form(b"a=1+2&b=", "application/x-www-form-urlencoded")
    {'a': '1 2', 'b': ''}
    """
    if not body:
        return {}
    message = Message()
    message["content-type"] = content_type
    if message.get_content_type() != FORM:
        raise Problem.about("Content-Type", "it is not a form", FORM, status=415)
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=FIELDS)
    except ValueError:
        raise _refused("it cannot be read", f"a form in UTF-8 with at most {FIELDS} fields") from None
    fields = {name: value.replace("\r\n", "\n") for name, value in pairs}
    if len(fields) != len(pairs):
        raise _refused("a field stands in it twice", "each field once")
    _look_at_texts(fields)
    return fields


class JsonRoute(APIRoute):
    """A route whose body, where there is one, was read by `parse`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def strict(request: Request) -> Response:
            body = await request.body()
            if body:
                if not is_json(request.headers.get("content-type", "")):
                    raise Problem.about("Content-Type", "it is not JSON", "application/json", status=415)
                request._json = parse(body)  # where Request.json() looks first
            return await handle(request)

        return strict
