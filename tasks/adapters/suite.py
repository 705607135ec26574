"""The generated browser suite, run in the sandbox against the one site that it is about.

Its author controls the suite and the process that it runs in, and so every result. What can be demanded is that the
evidence agrees with itself: `passed` takes pytest's exit code 0, a readable JUnit file in which at least one test
passed and none failed, the same tests in the signed report of a process that never imported the suite and was told each
phase of each test as it happened, and all of them in the suite's text. A file that a suite writes itself passes
nothing. A suite that plays pytest's part towards that process still does, for it runs where pytest runs, and so does
one that asserts nothing: it stays evidence, never a gate, our own checks decide, and its report is shown to people in a
frame that can reach nothing.
"""

import hashlib
import hmac
import html
import json
import logging
import re
import secrets
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

import defusedxml.ElementTree
from defusedxml.common import DefusedXmlException
from pydantic import BaseModel

from tasks.adapters.browser import Sight, browser_folders, find_browser, sight_of
from tasks.adapters.inside.suite_supervisor import MARK
from tasks.adapters.sandbox import Confinement, Finished, Mode, python_runtime, run
from tasks.adapters.trees import sandbox_folder
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
_WITNESS, _ORDER = _INSIDE / "suite_supervisor.py", "order.json"
_SUPERVISOR, _RUNNER, _SUITE, _OUT = "/run/supervisor.py", "/run/suite_runner.py", "/suite/e2e_test.py", "/out"

NO_SUITE = "No tests generated"

_ASIDE_AT_MOST = 5
_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "form-action 'none'; base-uri 'none'"
)
_STORAGE = """<script>
for (const name of ["sessionStorage", "localStorage"]) {
  const kept = new Map();
  Object.defineProperty(window, name, {value: {
    getItem: key => kept.get(key) ?? null, setItem: (key, value) => kept.set(key, String(value)),
    removeItem: key => kept.delete(key), clear: () => kept.clear(),
  }});
}
const Parsed = URL;
let address = "http://report.invalid/";
window.URL = function (text, base) { return new Parsed(text === location.href ? address : text, base); };
history.pushState = (state, title, next) => { address = next; };
</script>"""
"""What pytest-html's script asks of its window, and a document without an origin does not have: storage, and an
address to keep the order and the filters in."""


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
    Without a Chromium the result is `skipped`, with the reason. Raises BrowserError where the run was stopped.
    """
    suite = read_bounded(workspace.suite, SUITE_LIMIT_BYTES)
    if suite is None:
        found = workspace.suite.is_symlink() or workspace.suite.exists()
        reason = (
            f"{NO_SUITE}: e2e_test.py is not a plain file of at most {SUITE_LIMIT_BYTES} bytes" if found else NO_SUITE
        )
        return _filed(workspace, _result(site, "skipped", None, reason=reason), _page_without_report(reason, ""))
    try:
        program = find_browser(browser)
    except BrowserError as error:
        return _filed(
            workspace, _result(site, "skipped", None, reason=str(error)), _page_without_report(str(error), "")
        )
    with tempfile.TemporaryDirectory(prefix="tb-suite-") as taken, sight_of(site, mode) as sight:
        copy = Path(taken, "e2e_test.py")
        copy.write_bytes(suite)
        runner = _Runner(site, copy, program, sight, mode, stop)
        with sandbox_folder("tb-suite-out-") as out:
            finished, sworn = runner.run(out, deadline_s)
            cases = read_cases(read_bounded(out / "junit.xml", _JUNIT_BYTES))
            report = read_bounded(out / "report.html", _REPORT_BYTES)
        counts = None if cases is None else counted(cases)
        status, reason = verdict(finished.exit_code, counts)
        complaint = complaint_about(cases or [], sworn, finished.exit_code) if status == "passed" else None
        if sworn is not None and sworn.complaints:
            complaint = "; ".join([*sworn.complaints, *([reason] if reason else [])])[:1000]
        if complaint is not None:
            status, reason = "failed", complaint
    result = _result(site, status, finished, counts or Counts(), reason)
    page = _page_around(report, result) if report else _page_without_report(reason, result.stdout + result.stderr)
    return _filed(workspace, result, page)


@dataclass(frozen=True)
class _Runner:
    """One suite in its sandbox."""

    site: Site
    suite: Path
    program: Path
    sight: Sight
    mode: Mode
    stop: Flag | None

    def run(self, out: Path, deadline_s: float) -> "tuple[Finished, Sworn | None]":
        """How it ended, and what its supervisor tells under a key that the suite never sees."""
        confined, key = self.mode == "bwrap", secrets.token_bytes(32)
        order = {
            "key": key.hex(),
            "runner": _RUNNER if confined else str(_INSIDE / "suite_runner.py"),
            "suite": _SUITE if confined else str(self.suite),
            "folder": _OUT if confined else str(out),
            "url": self.site.url,
            "executable": str(self.program),
            "arguments": list(self.sight.arguments),
            "budget_s": max(deadline_s - _CLOSING_S, deadline_s / 2),
            "test_s": _TEST_S,
        }
        (out / _ORDER).write_text(json.dumps(order))
        confinement = Confinement(
            command=(
                *(sys.executable, "-I", "-B"),
                *((_SUPERVISOR, f"{_OUT}/{_ORDER}") if confined else (str(_WITNESS), str(out / _ORDER))),
            ),
            readonly={
                **python_runtime(),
                **browser_folders(self.program),
                _SUPERVISOR: _WITNESS,
                _RUNNER: _INSIDE / "suite_runner.py",
                "/suite": self.suite.parent,
            },
            writable={_OUT: out},
            env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONUNBUFFERED": "1"},
            cwd="/suite",
            bridge=self.sight.bridge,
            bridge_port=self.sight.port,
            hosts=self.sight.hosts,
        )
        finished = run(confinement, self.mode, deadline_s, stop=self.stop)
        if finished.stopped:
            raise BrowserError("running the suite", "it was stopped")
        sworn, output = read_sworn(finished.stdout, key)
        return replace(finished, stdout=output), sworn


class Sworn(BaseModel):
    """What `inside.suite_supervisor` tells: the tests in the suite's text, and those that ran, with their outcomes."""

    exit_code: int
    certain: list[tuple[str, str]]
    possible: list[tuple[str, str]]
    ran: list[tuple[str, str, str]]
    complaints: list[str]


def read_sworn(stdout: str, key: bytes) -> tuple[Sworn | None, str]:
    """The one line of the output that is signed with that key, and the output without it."""
    kept, found = [], None
    for line in stdout.split("\n"):
        mark, _, rest = line.partition(" ")
        mac, _, text = rest.partition(" ")
        signed = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
        if found is None and mark == MARK and hmac.compare_digest(mac.encode(), signed.encode()):
            found = Sworn.model_validate_json(text)
        else:
            kept.append(line)
    return found, "\n".join(kept)


def complaint_about(cases: "Sequence[Case]", sworn: Sworn | None, exit_code: int | None) -> str | None:
    """Where the JUnit file, the supervisor and the suite's text do not tell the same; None where they do."""
    if sworn is None or sworn.exit_code != exit_code:
        return f"pytest ended with exit code {exit_code}, and who watched it did not tell the same"
    told = Counter((case.classname, case.name, case.kind) for case in cases)
    ran = Counter(sworn.ran)
    if missing := ran - told:
        return f"{missing.total()} of {ran.total()} tests that ran are not in the JUnit file{_such_as(missing)}"
    if foreign := told - ran:
        return f"the JUnit file names {foreign.total()} tests that were not seen to run{_such_as(foreign)}"
    seen = {(owner, name.partition("[")[0]) for owner, name, _ in ran}
    if missed := set(sworn.certain) - seen:
        return f"{len(missed)} tests of the suite did not run{_such_as(missed)}"
    if unwritten := seen - set(sworn.certain) - set(sworn.possible):
        return f"{len(unwritten)} tests ran that are not in the suite's text{_such_as(unwritten)}"
    return None


def _such_as(tests: Iterable[tuple[str, ...]]) -> str:
    return f", {'::'.join(min(tests)[:2])[:200]} for one"


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


@dataclass(frozen=True)
class Case:
    classname: str
    name: str
    kind: str


def read_cases(junit: bytes | None) -> list[Case] | None:
    """What a JUnit file says case by case; its own sums are not believed. None where it is none.

    >>> read_cases(b'<testsuites><testsuite><testcase classname="t" name="a"/></testsuite></testsuites>')
    [Case(classname='t', name='a', kind='passed')]
    """
    if junit is None:
        return None
    try:
        root: Element = defusedxml.ElementTree.fromstring(junit, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError, RecursionError):
        return None
    if root.tag not in ("testsuites", "testsuite"):
        return None
    return [Case(case.get("classname", ""), case.get("name", ""), _kind(case)) for case in root.iter("testcase")]


def counted(cases: Sequence[Case]) -> Counts:
    kinds = Counter(case.kind for case in cases)
    return Counts(*(kinds[kind] for kind in ("passed", "failure", "skipped", "error")))


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
    _put(workspace.report, report)
    _put(workspace.results, result.model_dump_json(indent=2).encode() + b"\n")
    return result


def _put(path: Path, content: bytes) -> None:
    """Replace the file; a folder that the agent put in its place is moved aside, as often as it does so."""
    for _ in range(_ASIDE_AT_MOST):
        with suppress(IsADirectoryError):
            return write_atomic(path, content, mode=0o644)
        with suppress(FileNotFoundError, NotADirectoryError):
            path.rename(path.with_name(f"{path.name}.{secrets.token_hex(6)}"))
    return write_atomic(path, content, mode=0o644)


def _page_around(report: bytes, result: SuiteResult) -> bytes:
    """The suite's own report in a frame of an origin of its own, which can run its scripts and nothing else.

    The frame's document inherits the policy of the page around it, and no markup in an escaped attribute can end it
    (https://html.spec.whatwg.org/multipage/iframe-embed-object.html#attr-iframe-srcdoc). What a policy cannot forbid,
    such as forms, dialogs, windows, and other addresses in this window, the frame's sandbox does.
    """
    said = f"{result.status}: {result.reason}" if result.reason else result.status
    inner = "<!doctype html>" + _STORAGE + report.decode("utf-8", "replace")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Browser tests of {html.escape(result.url_tested)}</title>"
        "<style>html,body{height:100%;margin:0}"
        "body{display:flex;flex-direction:column;font:15px/1.5 system-ui,sans-serif}"
        "p{margin:0;padding:.6rem 1rem;background:#1f2937;color:#fff}iframe{flex:1;border:0;width:100%;background:#fff}"
        "</style></head><body>"
        f"<p>tmux-builder: {html.escape(said)}. Everything below this line was written by the generated suite itself; "
        "it is evidence, and asks you for nothing.</p>"
        f'<iframe sandbox="allow-scripts" referrerpolicy="no-referrer" title="The suite\'s report" '
        f'srcdoc="{html.escape(inner)}"></iframe></body></html>\n'
    ).encode()


def _page_without_report(reason: str, output: str) -> bytes:
    """In place of a report that the suite did not leave."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>No report</title>'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        "<style>body{font:16px/1.5 system-ui,sans-serif;margin:2rem;max-width:60rem}"
        "pre{background:#f4f4f4;padding:1rem;overflow:auto}</style></head><body><h1>The suite left no report</h1>"
        f"<p>{html.escape(reason)}</p><pre>{html.escape(output)}</pre></body></html>\n"
    ).encode()
