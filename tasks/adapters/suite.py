"""The generated browser suite, run in the sandbox against the one site that it is about.

Its author controls the suite and the process that it runs in, and so every result. What can be demanded is that the
evidence agrees with itself: `passed` takes pytest's exit code 0 *and* a readable JUnit file in which at least one test
passed and none failed. It stays evidence, never a gate.
"""

import html
import json
import logging
import re
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml.common import DefusedXmlException

from tasks.adapters.browser import browser_folders, find_browser, sight_of
from tasks.adapters.sandbox import Confinement, Finished, Mode, python_runtime, run
from tasks.adapters.waiting import Flag
from tasks.adapters.workspace import Workspace, read_bounded, write_atomic
from tasks.domain.check import SuiteResult
from tasks.domain.errors import BrowserError
from tasks.domain.hosting import Site

log = logging.getLogger(__name__)

SUITE_LIMIT_BYTES = 512 * 1024
_JUNIT_BYTES, _REPORT_BYTES = 4 << 20, 24 << 20
_OUTPUT_CHARACTERS = 100_000
_TEST_S = 30.0
_CLOSING_S = 8.0
"""What is left of the deadline, once no more test begins, to close the browser and write the report."""

_INSIDE = Path(__file__).parent / "inside"
_RUNNER, _SUITE, _OUT = "/run/suite_runner.py", "/suite/e2e_test.py", "/out"

NO_SUITE = "No tests generated"


@dataclass(frozen=True)
class Counts:
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    errors: int = 0

    @property
    def total(self) -> int:
        return self.passed + self.failed + self.skipped + self.errors


def run_suite(
    workspace: Workspace,
    site: Site,
    mode: Mode,
    deadline_s: float,
    browser: Path | None = None,
    *,
    stop: Flag | None = None,
) -> SuiteResult:
    """Run ``deployment/tests/e2e_test.py``; leave ``report.html`` and ``results.json`` beside it.

    Only that one file is taken along: a conftest, an ini file or a module next to it is not there when it runs.
    Raises BrowserError where there is no Chromium, or the run was stopped.
    """
    suite = read_bounded(workspace.suite, SUITE_LIMIT_BYTES)
    if suite is None:
        found = workspace.suite.is_symlink() or workspace.suite.exists()
        reason = (
            f"{NO_SUITE}: e2e_test.py is not a plain file of at most {SUITE_LIMIT_BYTES} bytes" if found else NO_SUITE
        )
        return _filed(workspace, _result(site, "skipped", None, reason=reason), _page_without_report(reason, ""))
    program = find_browser(browser)
    with (
        tempfile.TemporaryDirectory(prefix="tb-suite-") as taken,
        tempfile.TemporaryDirectory(prefix="tb-suite-out-") as private,
        sight_of(site, mode) as sight,
    ):
        copy, out = Path(taken, "e2e_test.py"), Path(private)
        copy.write_bytes(suite)
        order = {
            "suite": _SUITE if mode == "bwrap" else str(copy),
            "folder": _OUT if mode == "bwrap" else str(out),
            "url": site.url,
            "executable": str(program),
            "arguments": list(sight.arguments),
            "budget_s": max(deadline_s - _CLOSING_S, deadline_s / 2),
            "test_s": _TEST_S,
        }
        confinement = Confinement(
            command=(sys.executable, "-I", "-B", _RUNNER, json.dumps(order)),
            readonly={
                **python_runtime(),
                **browser_folders(program),
                _RUNNER: _INSIDE / "suite_runner.py",
                "/suite": Path(taken),
            },
            writable={_OUT: out},
            env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONUNBUFFERED": "1"},
            cwd="/suite",
            bridge=sight.bridge,
            bridge_port=sight.port,
            hosts=sight.hosts,
        )
        finished = run(confinement, mode, deadline_s, stop=stop)
        if finished.stopped:
            raise BrowserError("running the suite", "it was stopped")
        counts = read_counts(read_bounded(out / "junit.xml", _JUNIT_BYTES))
        report = read_bounded(out / "report.html", _REPORT_BYTES)
    status, reason = verdict(finished.exit_code, counts)
    result = _result(site, status, finished, counts or Counts(), reason)
    return _filed(workspace, result, report or _page_without_report(reason, result.stdout + result.stderr))


def verdict(exit_code: int | None, counts: Counts | None) -> tuple[str, str]:
    """Status and reason. Never better than the weakest piece of evidence.

    >>> verdict(0, Counts(passed=5))
    ('passed', '')
    >>> verdict(0, None)
    ('failed', 'pytest ended with exit code 0 and left no readable JUnit file')
    >>> verdict(0, Counts(passed=5, failed=1))
    ('failed', 'pytest ended with exit code 0, but 1 of 6 tests failed')
    """
    if exit_code is None:
        return "failed", "the suite was killed at its deadline"
    if exit_code == 5 or (counts is not None and counts.total == 0):
        return "failed", "the suite holds no test"
    if counts is None:
        return "failed", f"pytest ended with exit code {exit_code} and left no readable JUnit file"
    red = counts.failed + counts.errors
    if exit_code == 2:
        red_ones = f"; {red} of {counts.total} tests failed" if red else ""
        return "failed", f"the suite was interrupted before its last test{red_ones}"
    if exit_code != 0:
        return "failed", f"{red} of {counts.total} tests failed" if red else f"pytest ended with exit code {exit_code}"
    if red:
        return "failed", f"pytest ended with exit code 0, but {red} of {counts.total} tests failed"
    if counts.passed == 0:
        return "skipped", f"all {counts.total} tests skipped themselves"
    return "passed", ""


def read_counts(junit: bytes | None) -> Counts | None:
    """What a JUnit file says case by case; its own sums are not believed. None where it is none.

    >>> read_counts(b'<testsuites><testsuite><testcase/><testcase><failure/></testcase></testsuite></testsuites>')
    Counts(passed=1, failed=1, skipped=0, errors=0)
    """
    if junit is None:
        return None
    try:
        root: Element = defusedxml.ElementTree.fromstring(junit, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError, RecursionError):
        return None
    if root.tag not in ("testsuites", "testsuite"):
        return None
    kinds = [_kind(case) for case in root.iter("testcase")]
    return Counts(*(kinds.count(kind) for kind in ("passed", "failure", "skipped", "error")))


def _kind(case: Element) -> str:
    found = {child.tag for child in case}
    return next((kind for kind in ("error", "failure", "skipped") if kind in found), "passed")


def readable(text: str) -> str:
    """Output without control characters, cut in the middle where it is long."""
    text = re.sub(r"\x1b\[[0-?]*[ -/]*[@-~]", "", text)
    text = "".join(character for character in text if character in "\n\t" or character.isprintable())
    if len(text) <= _OUTPUT_CHARACTERS:
        return text
    half = _OUTPUT_CHARACTERS // 2
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters left out ...]\n{text[-half:]}"


def _result(
    site: Site, status: str, finished: Finished | None, counts: Counts | None = None, reason: str = ""
) -> SuiteResult:
    counts = counts or Counts()
    return SuiteResult.model_validate(
        {
            "status": status,
            "exit_code": finished.exit_code if finished else None,
            "stdout": readable(finished.stdout) if finished else "",
            "stderr": readable(finished.stderr) if finished else "",
            "report_path": "deployment/tests/report.html",
            "timestamp": datetime.now(UTC),
            "url_tested": site.url,
            "passed": counts.passed,
            "failed": counts.failed,
            "skipped": counts.skipped,
            "errors": counts.errors,
            "seconds": round(finished.seconds, 3) if finished else 0.0,
            "reason": reason,
        }
    )


def _filed(workspace: Workspace, result: SuiteResult, report: bytes) -> SuiteResult:
    """The report first: whoever sees the results finds their report."""
    write_atomic(workspace.report, report, mode=0o644)
    write_atomic(workspace.results, result.model_dump_json(indent=2) + "\n", mode=0o644)
    return result


def _page_without_report(reason: str, output: str) -> bytes:
    """In place of a report that the suite did not leave."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>No report</title>'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        "<style>body{font:16px/1.5 system-ui,sans-serif;margin:2rem;max-width:60rem}"
        "pre{background:#f4f4f4;padding:1rem;overflow:auto}</style></head><body><h1>The suite left no report</h1>"
        f"<p>{html.escape(reason)}</p><pre>{html.escape(output)}</pre></body></html>\n"
    ).encode()
