"""Runs the fault matrix and writes FAULTS.md: ``python -m tests.faults.page [--keep] [pytest's arguments]``.

Each row is one fault with what became of it. Cases that a ``-k`` left out, or that an interrupted run did not come to,
are rows that say "not run". ``--keep``: rows of earlier runs stand until they are run again, with their own date.
"""
# ruff: noqa: T201 (it prints where the page is)

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE, RESULTS = ROOT / "FAULTS.md", ROOT / "bench-results" / "faults.json"

NOT_RUN = "not run"


class Row(TypedDict):
    did: str
    case: str
    expected: str
    sampled: bool
    outcome: str
    seconds: float
    at: str
    commit: str


class Recorder:
    """What pytest found and what became of it, written down after each case."""

    def __init__(self, earlier: dict[str, Row], keep: Callable[[dict[str, Row]], None]) -> None:
        self.rows: dict[str, Row] = {}
        self._keep = keep
        self._earlier = earlier
        self._at = f"{datetime.now(UTC):%Y-%m-%d}"
        self._commit = commit()

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Before ``-k`` takes any away."""
        for item in items:
            for mark in item.iter_markers("fault"):
                told = self._earlier.get(item.nodeid)
                self.rows[item.nodeid] = Row(
                    did=mark.kwargs["did"],
                    case=case_of(item.nodeid),
                    expected=mark.kwargs["expected"],
                    sampled=item.get_closest_marker("faults") is None,
                    outcome=told["outcome"] if told else NOT_RUN,
                    seconds=told["seconds"] if told else 0.0,
                    at=told["at"] if told else "",
                    commit=told["commit"] if told else "",
                )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        row = self.rows.get(report.nodeid)
        if row is None:
            return
        if report.when == "setup":
            row["outcome"], row["seconds"], row["at"], row["commit"] = "did not end", 0.0, self._at, self._commit
        if report.failed:
            part = {"setup": "could not be tried", "call": "failed", "teardown": "failed: an invariant does not hold"}
            row["outcome"] = f"{part[report.when or 'call']}: {last_words(report)}"
        elif report.when == "call":
            row["outcome"] = "as expected"
            row["seconds"] = report.duration
        self._keep(self.rows)


def last_words(report: pytest.TestReport) -> str:
    crash = getattr(report.longrepr, "reprcrash", None)
    words = str(crash.message) if crash is not None else str(report.longrepr)
    return " ".join(words.split())[:160]


def case_of(nodeid: str) -> str:
    """
    >>> case_of("tests/faults/test_x.py::test_y[6 deploy]"), case_of("tests/faults/test_x.py::test_y")
    ('6 deploy', '')
    """
    return nodeid.partition("[")[2].removesuffix("]")


def commit() -> str:
    def said(*command: str) -> str:
        return subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True, check=False).stdout.strip()

    changed = " with changes" if said("status", "--porcelain", "--untracked-files=no") else ""
    return f"{said('rev-parse', '--short', 'HEAD') or 'unknown'}{changed}"


def write(rows: dict[str, Row]) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(rows.values()), encoding="utf-8")


def page(rows: Iterable[Row]) -> str:
    """The page. The machine's own words are code, so that nothing in them is markup."""
    rows = list(rows)
    ran = [row for row in rows if row["outcome"] != NOT_RUN]
    good = [row for row in ran if row["outcome"] == "as expected"]
    when = sorted({f"{row['at']}, commit {row['commit']}" for row in ran})
    lines = [
        "# Faults",
        "",
        "Written by `make test-faults`; do not edit. Each row was done to real processes, and after each of them the",
        "invariants of `tests/support/invariants.py` were asserted where a service was involved: no resource without",
        "a row, no writer without its lease, no agent without an execution, every site serves its recorded release,",
        "Prefect and the record agree, no secret is told anywhere.",
        "",
        f"{len(good)} of {len(rows)} as expected, {len(ran) - len(good)} not, {len(rows) - len(ran)} not run.",
        f"Run: {'; '.join(when) or 'never'}. `make test` samples the rows that say so.",
        "",
        "| what was done | case | what is expected | outcome | seconds | in `make test` |",
        "|---|---|---|---|---:|---|",
    ]
    for row in rows:
        outcome = row["outcome"] if row["outcome"] in ("as expected", NOT_RUN) else f"**{cell(row['outcome'])}**"
        seconds = f"{row['seconds']:.1f}" if row["seconds"] else ""
        sampled = "yes" if row["sampled"] else ""
        cells = cell(row["did"]), cell(row["case"]), cell(row["expected"]), outcome, seconds, sampled
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def cell(text: str) -> str:
    """
    >>> cell("a | b <c>")
    'a \\\\| b &lt;c&gt;'
    """
    for character, instead in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("*", "\\*"), ("`", "'")):
        text = text.replace(character, instead)
    return " ".join(text.split())


def main(arguments: list[str]) -> int:
    keep = "--keep" in arguments
    earlier = json.loads(RESULTS.read_text(encoding="utf-8")) if keep and RESULTS.exists() else {}
    recorder = Recorder(earlier, write)
    rest = [argument for argument in arguments if argument != "--keep"]
    code = pytest.main(["tests/faults", "-p", "no:cacheprovider", *rest], plugins=[recorder])
    print(f"written to {PAGE.relative_to(ROOT)}")
    return int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
