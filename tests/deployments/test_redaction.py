import io
import logging
import logging.config
import sys
from pathlib import Path

import pytest

from deployments import redaction
from deployments.redaction import SHOWN, Redactor, secrets_of, with_redaction

SECRET = "correct-horse-battery"


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    monkeypatch.setenv("SOME_API_KEY", SECRET)
    redaction.own.cache_clear()
    stream = io.StringIO()
    handlers = {"console": {"class": "logging.StreamHandler", "stream": stream}}
    loggers = {"redaction-test": {"handlers": ["console"], "level": "INFO", "propagate": False}}
    logging.config.dictConfig(
        with_redaction({"version": 1, "disable_existing_loggers": False, "handlers": handlers, "loggers": loggers})
    )
    yield stream
    redaction.own.cache_clear()


def test_a_secret_in_message_arguments_or_traceback_is_blackened(written: io.StringIO) -> None:
    log = logging.getLogger("redaction-test")
    log.info(f"key is {SECRET}")
    log.info("key is %s and %s", SECRET, {"again": SECRET})
    log.info("does not fit %d", SECRET)
    try:
        raise ValueError(SECRET)
    except ValueError:
        log.exception("failed")
    said = written.getvalue()
    assert SECRET not in said
    assert said.count(SHOWN) >= 5
    assert "ValueError" in said


@pytest.mark.parametrize(
    "text",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "sk-ant-api03-" + "a" * 40,
        "-----BEGIN RSA PRIVATE KEY-----\nabc\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_what_looks_like_a_secret_is_blackened_wherever_it_came_from(text: str) -> None:
    assert Redactor([])(f"before {text} after") == f"before {SHOWN} after"


def test_a_url_keeps_its_host_and_loses_its_password() -> None:
    assert Redactor([])("postgresql+psycopg://me:pw@host:5432/db") == f"postgresql+psycopg://{SHOWN}@host:5432/db"


def test_ordinary_words_are_left_alone() -> None:
    environment = {"HOME": "/root", "API_KEY": "short", "PREFECT_API_URL": "http://127.0.0.1:4200/api"}
    assert secrets_of(environment) == []
    text = "run ended user:8a7b0c1d name=full-build http://127.0.0.1:4200/runs?x=a@b"
    assert Redactor(secrets_of(environment))(text) == text


def test_the_longest_secret_goes_first_so_that_no_rest_of_it_is_left() -> None:
    assert Redactor(["abcdefgh", "abcdefghijkl"])("abcdefghijkl") == SHOWN


def test_prefects_own_logging_configuration_takes_the_filter() -> None:
    import prefect
    import yaml

    path = Path(prefect.__file__).parent / "logging" / "logging.yml"
    changed = with_redaction(yaml.safe_load(path.read_text()))
    assert changed["handlers"]
    assert all(handler["filters"] == ["redact"] for handler in changed["handlers"].values())
    assert changed["filters"]["redact"]["()"] == f"{redaction.__name__}.Redact"
    assert "deployments.redaction" in sys.modules
