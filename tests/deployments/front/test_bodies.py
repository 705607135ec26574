"""JSON is read strictly also where nobody looks at the value afterwards."""

import pytest

from deployments.front.bodies import DEPTH, parse
from deployments.front.problems import Problem

REFUSED = {
    "NaN": (b'{"unused": NaN}', "a NaN or an infinity"),
    "Infinity": (b'{"unused": [-Infinity]}', "a NaN or an infinity"),
    "1e999": (b'{"unused": 1e999}', "too large"),
    "a long integer": (b'{"unused": ' + b"9" * 41 + b"}", "too large"),
    "too deep": (b"[" * (DEPTH + 1) + b"]" * (DEPTH + 1), "nested too deeply"),
    "too deep after a string of brackets": (b'["]]]]", ' + b"[" * DEPTH + b"]" * DEPTH + b"]", "nested too deeply"),
    "a surrogate": (b'{"unused": ["\\udc00"]}', "surrogate"),
    "a control character": (b'{"un\\u001bused": 1}', "control character"),
    "a name twice": (b'{"a": 1, "b": {"c": 1, "c": 2}}', "twice"),
    "not UTF-8": (b'"\xff"', "not UTF-8"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "not JSON"),
    "two values": (b"{}{}", "not JSON"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_readers_of_json_understand_differently_is_refused(what: str) -> None:
    body, reason = REFUSED[what]
    with pytest.raises(Problem) as refused:
        parse(body)
    assert refused.value.status == 400
    assert reason in refused.value.errors[0].reason


def test_what_is_plain_json_is_taken() -> None:
    deep = b"[" * DEPTH + b"]" * DEPTH
    assert parse(b'{"a": "\\ud83d\\ude00 [[[[[[[[[[[[[[[ \\n\\t", "b": [1, -2.5e3, true, null]}') == {
        "a": "\U0001f600 [[[[[[[[[[[[[[[ \n\t",
        "b": [1, -2500.0, True, None],
    }
    assert str(parse(deep)).count("[") == DEPTH
