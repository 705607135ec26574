import io
import logging
import logging.config
import sys
from pathlib import Path

import pytest

from tasks.adapters import redaction
from tasks.adapters.redaction import SHOWN, Redactor, redact, secrets_of, with_redaction
from tests.support.growth import growth

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


KEY = "Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYg=="


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:pa/ss@host/db", f"postgresql://{SHOWN}@host/db"),
        ("postgresql://me:p@ss@host/db?x=a@b", f"postgresql://{SHOWN}@host/db?x=a@b"),
        ("redis://:pw@host:1", f"redis://{SHOWN}@host:1"),
        ("http://h/x?a=1&password=pw&b=2", f"http://h/x?a=1&password={SHOWN}&b=2"),
        ("http://h/x?Password=pw", f"http://h/x?Password={SHOWN}"),
        (
            f"DefaultEndpointsProtocol=https;AccountName=me;AccountKey={KEY};EndpointSuffix=core.windows.net",
            f"DefaultEndpointsProtocol=https;AccountName=me;AccountKey={SHOWN};EndpointSuffix=core.windows.net",
        ),
        (f"Endpoint=sb://x/;SharedAccessKey={KEY}", f"Endpoint=sb://x/;SharedAccessKey={SHOWN}"),
        (
            "https://me.blob.core.windows.net/c/b?sv=2024-11-04&sp=r&sig=a%2Bb%3D&se=2026",
            f"https://me.blob.core.windows.net/c/b?sv=2024-11-04&sp=r&sig={SHOWN}&se=2026",
        ),
        ("sp=r&sig=abc", f"sp=r&sig={SHOWN}"),
        ("https://b.s3.amazonaws.com/k?X-Amz-Signature=abc", f"https://b.s3.amazonaws.com/k?X-Amz-Signature={SHOWN}"),
    ],
)
def test_what_names_itself_a_secret_is_blackened_and_the_rest_stays(text: str, shown: str) -> None:
    assert Redactor([])(text) == shown
    assert Redactor([])(f"failed: {text} (see above)") == f"failed: {shown} (see above)"


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("AZURE_STORAGE_CONNECTION_STRING", f"AccountName=me;AccountKey={KEY};X=y", KEY),
        ("AZURE_STORAGE_KEY", KEY, KEY),
        ("STORAGE_ACCOUNT_KEY", KEY, KEY),
        ("CONTAINER_SAS", "sv=2024&sig=abcdefgh", "sv=2024&sig=abcdefgh"),
        ("REGISTRY_AUTH", "dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        ("SOME_DSN", "postgresql://me:pa/ss%2Fword@host/db", "pa/ss/word"),
        ("azure_client_secret", "abcdefgh", "abcdefgh"),
    ],
)
def test_a_secret_of_the_environment_is_known_by_its_name_or_form(name: str, value: str, secret: str) -> None:
    assert secret in secrets_of({name: value})
    assert secret not in Redactor(secrets_of({name: value}))(f"said {secret} aloud")


@pytest.mark.usefixtures("written")
def test_an_exceptions_words_can_be_redacted() -> None:
    error = ConnectionError(f"postgresql://u:{SECRET}@h/d refused {SECRET}")
    assert redact(str(error)) == f"postgresql://{SHOWN}@h/d refused {SHOWN}"


@pytest.mark.parametrize(
    "piece", ["://", "://a:", "://a:b@", "sig=", "AccountKey=", "?key=", "a", "-----BEGIN PRIVATE KEY-----"]
)
def test_time_grows_with_the_text_and_no_faster(piece: str) -> None:
    assert growth(Redactor(["correct-horse"]), piece) < 50


def test_ordinary_words_are_left_alone() -> None:
    environment = {"HOME": "/root", "API_KEY": "short", "PREFECT_API_URL": "http://127.0.0.1:4200/api"}
    environment |= {"SSH_AUTH_SOCK": "/run/user/1000/ssh", "KEYBOARD": "a keyboard", "BAD_URL": "http://[nowhere@x"}
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
    assert "tasks.adapters.redaction" in sys.modules
