"""Keeps secrets out of logs: what this process knows as secret, and what looks like one.

`make up` writes a logging configuration for Prefect's server, worker and engines that runs every record through
`Redact`, before it reaches a file or Prefect's own log store. A secret that is printed past the logging stays one's own
responsibility.
"""

import logging
import os
import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any
from urllib.parse import unquote

SHOWN = "[redacted]"

_SECRET_NAME = re.compile(
    r"SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|AUTH_STRING|API_KEY|ACCESS_KEY|CONNECTION_STRING|_(?:KEY|AUTH|SAS)$",
    re.IGNORECASE,
)
_SHORTEST = 8
"""A shorter value would blacken innocent words, and is no secret worth the name."""

# A port is no password. Bounded, for a text of many "://" must not be read to its end at each.
_AFTER_USER = r"(?!\d{1,5}(?:[/?#\s]|$))[^\s@]{1,300}(?:@[^\s@/?#]{0,300}){0,9}(?=@)"

_LOOKS_SECRET = (
    r"A(?:KIA|SIA)[0-9A-Z]{16}",
    r"sk-ant-[\w-]{20,}",
    r"(?<=://)[^/\s:@]{0,300}:" + _AFTER_USER,
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----(?:[^-]|-(?!----)){1,20000}-----END [A-Z ]{0,40}PRIVATE KEY-----",
)
_NAMED = (
    r"(?i:\b(?:Account|SharedAccess|Access)Key|\bSharedAccessSignature|(?<![\w-])sig|(?<=[?&;])(?:"
    r"password|passwd|pwd|secret|token|key|api[_-]?key|code|signature|access[_-]token|client[_-]secret"
    r"|x-amz-(?:signature|credential|security-token)))="
)
"""Names whose value is a secret: in Azure's connection strings and signed addresses, and in queries of addresses."""

_IN_ADDRESS = re.compile(r"://[^/\s:@]{0,300}:(" + _AFTER_USER + ")")
_IN_CONNECTION_STRING = re.compile(r"(?i:AccountKey|SharedAccessKey|SharedAccessSignature)=([^;\s]+)")


def secrets_of(environment: Mapping[str, str]) -> list[str]:
    """Values that must not be shown: those of variables that are named like secrets, and passwords inside URLs.

    >>> secrets_of({"PREFECT_API_AUTH_STRING": "admin:abcdefgh", "HOME": "/root", "X_URL": "postgresql://u:pass%20word@h/d"})
    ['admin:abcdefgh', 'abcdefgh', 'pass%20word', 'pass word']
    """
    found = []
    for name, value in environment.items():
        if _SECRET_NAME.search(name):
            found.append(value)
            if name.endswith("AUTH_STRING"):
                found.append(value.partition(":")[2])
        for password in _IN_ADDRESS.findall(value):
            found += [password, unquote(password)]
        found += _IN_CONNECTION_STRING.findall(value)
    return list(dict.fromkeys(value for value in found if len(value) >= _SHORTEST))


class Redactor:
    def __init__(self, secrets: Iterable[str]) -> None:
        longest_first = sorted(secrets, key=len, reverse=True)
        named = f"(?P<name>{_NAMED})[^&;\\s\"'<>]{{1,4000}}"
        self._pattern = re.compile("|".join([*map(re.escape, longest_first), *_LOOKS_SECRET, named]))

    def __call__(self, text: str) -> str:
        """
        >>> Redactor(["hunter2hunter2"])("pw=hunter2hunter2 at postgresql://u:p4ssw0rd@h/d")
        'pw=[redacted] at postgresql://[redacted]@h/d'
        """
        return self._pattern.sub(lambda found: f"{found['name'] or ''}{SHOWN}", text)


@cache
def own() -> Redactor:
    """Of this process: what its environment held when something was logged first."""
    return Redactor(secrets_of(os.environ))


def redact(text: str) -> str:
    """``text`` as it may be shown and stored: an exception's words quote addresses and connection strings."""
    return own()(text)


class Redact(logging.Filter):
    """Rewrites message and traceback of each record; lets every record pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        redactor = own()
        try:
            message = record.getMessage()
        except (TypeError, ValueError):  # arguments that do not fit the format; logging would report them
            message = f"{record.msg} {record.args}"
        record.msg, record.args = redactor(message), None
        if record.exc_info:
            record.exc_text = redactor(record.exc_text or logging.Formatter().formatException(record.exc_info))
        return True


def with_redaction(configuration: dict[str, Any]) -> dict[str, Any]:
    """A ``logging.config`` dictionary whose every handler redacts."""
    handlers = {name: {**handler, "filters": ["redact"]} for name, handler in configuration["handlers"].items()}
    return {**configuration, "filters": {"redact": {"()": "tasks.adapters.redaction.Redact"}}, "handlers": handlers}
