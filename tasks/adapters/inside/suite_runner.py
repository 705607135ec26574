"""Runs a generated suite under pytest. Runs inside the sandbox, in one process with the suite.

`python -I -B suite_runner.py`, started by `suite_supervisor.py` with a socket as its stdin: one line of JSON comes in
(see `Order`), then each test and each phase of it is told there. The suite may do anything to this process, so what
comes out is its author's word: `tasks.adapters.suite` reads it that way.
"""

import base64
import dataclasses
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

import pytest
from _pytest.junitxml import bin_xml_escape, mangle_test_address  # what the names in its files are made by
from playwright.sync_api import Browser, BrowserContext, Error, Page

NAME = "tmux_builder_suite"
ACTION_S = 10.0
PICTURES = 3
PICTURE_BYTES = 1_500_000
CSS = ".media-container__viewport img { object-position: top; }"


@dataclasses.dataclass(frozen=True)
class Order:
    """``budget_s``: no test begins after it; ``test_s``: none takes longer."""

    suite: str
    folder: str
    url: str
    executable: str
    arguments: list[str]
    budget_s: float
    test_s: float


class TooLong(Exception):
    """Raised in the middle of a test by the alarm."""


def _taken_from_stdin() -> socket.socket:
    """The socket that is our stdin, for nobody whom we start."""
    link = socket.socket(fileno=os.dup(0))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    return link


SUPERVISOR = _taken_from_stdin()
SAID = SUPERVISOR.makefile("rb")
ORDER = Order(**json.loads(SAID.readline()))
TOKEN = ""
BROWSERS: list[Browser] = []
STARTED = time.monotonic()


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, Any]:
    """In place of pytest-playwright's: the browser that the machine has, with the way to the site."""
    return {"executable_path": ORDER.executable, "args": ORDER.arguments}


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup() -> Generator[None, object, object]:
    value = yield
    if isinstance(value, Browser):
        BROWSERS.append(value)
    elif isinstance(value, BrowserContext | Page):
        value.set_default_timeout(ACTION_S * 1000)
    return value


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _tell({"token": TOKEN, "phase": report.when, "outcome": report.outcome})


def _tell(what: dict[str, object]) -> None:
    SUPERVISOR.sendall(json.dumps(what).encode() + b"\n")


def _begin(item: pytest.Item) -> None:
    global TOKEN
    _tell({"begins": [str(bin_xml_escape(part)) for part in _junit_name(item.nodeid)]})
    TOKEN = SAID.readline().decode().strip()


def _junit_name(nodeid: str) -> tuple[str, str]:
    *classes, name = mangle_test_address(nodeid)
    return ".".join(classes), name


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Generator[None, object, object]:
    _begin(item)
    limit = max(0.1, min(ORDER.test_s, left_s()))

    def ring(_: int, __: FrameType | None) -> None:
        raise TooLong(f"this test took longer than {limit:.0f} s")

    signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        if nextitem is not None and left_s() <= 0:
            item.session.shouldstop = f"the suite's {ORDER.budget_s:.0f} s were up"


def left_s() -> float:
    return ORDER.budget_s - (time.monotonic() - STARTED)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, object]:
    report = yield
    if report.when == "call" and report.failed:
        signal.setitimer(signal.ITIMER_REAL, 0)
        report.extras = [*getattr(report, "extras", []), *pictures()]
    return report


def pictures() -> Iterator[dict[str, Any]]:
    """What the open pages show, for the report."""
    from pytest_html import extras  # type: ignore[import-untyped]  # it carries no types

    pages = [page for browser in BROWSERS for context in browser.contexts for page in context.pages]
    for page in pages[-PICTURES:]:
        for full in (True, False):
            try:
                data = page.screenshot(type="jpeg", quality=60, full_page=full, timeout=5000)
            except Error:
                break
            if len(data) <= PICTURE_BYTES:
                yield extras.jpg(base64.b64encode(data).decode(), name=urlsplit(page.url).path[:60] or page.url[:60])
                break


def pytest_metadata(metadata: dict[str, Any]) -> None:
    """The report's environment table: what was looked at, not what the worker has installed."""
    metadata.clear()
    metadata["Site"] = ORDER.url


def pytest_html_report_title(report: Any) -> None:
    report.title = f"Browser tests of {ORDER.url}"


def arguments(order: Order) -> list[str]:
    """Nothing that lies beside the suite changes how it runs: no configuration, no conftest, plugins by name only."""
    out = Path(order.folder)
    (out / "report.css").write_text(CSS)
    return [
        *("-c", "/dev/null", f"--rootdir={Path(order.suite).parent}", "--noconftest", "--import-mode=importlib"),
        *("-p", "no:cacheprovider", "-p", "no:warnings", "-p", "pytest_metadata.plugin", "-p", "pytest_html.plugin"),
        *("-p", "pytest_playwright.pytest_playwright", "-p", NAME),
        *(f"--base-url={order.url}", "--output=/tmp/artifacts", "-ra", "--tb=short", "--color=no", "--maxfail=25"),
        *(
            f"--junitxml={out / 'junit.xml'}",
            f"--html={out / 'report.html'}",
            "--self-contained-html",
            f"--css={out / 'report.css'}",
        ),
        order.suite,
    ]


if __name__ == "__main__":
    sys.modules[NAME] = sys.modules["__main__"]
    sys.exit(pytest.main(arguments(ORDER)))
