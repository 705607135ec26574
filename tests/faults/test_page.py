"""The page says what ran, what did not, and nothing that it was not told."""

import json
import subprocess
import sys
from pathlib import Path

from tests.faults.page import NOT_RUN, ROOT, Row, page

ROW = Row(
    did="kill -9", case="6 deploy", expected="goes on", sampled=True, outcome="as expected", seconds=12.34,
    at="2026-01-24", commit="abc1234",
)  # fmt: skip


def test_each_case_is_one_row_and_the_count_is_said() -> None:
    failed = Row({**ROW, "outcome": "failed: <b>it | broke</b>", "sampled": False})
    told = page([ROW, failed, Row({**ROW, "outcome": NOT_RUN, "seconds": 0.0})])
    assert "1 of 3 as expected, 1 not, 1 not run." in told
    assert "| kill -9 | 6 deploy | goes on | as expected | 12.3 | yes |" in told
    assert "| **failed: &lt;b&gt;it \\| broke&lt;/b&gt;** | 12.3 |  |" in told
    assert "| not run |  | yes |" in told


CASES = """
import pytest

@pytest.mark.fault(did="d", expected="e", sampled=True)
@pytest.mark.parametrize("x", [1, pytest.param(2, marks=pytest.mark.faults)])
def test_a(x):
    assert x

@pytest.mark.fault(did="d", expected="e", sampled=True)
def test_b():
    assert not "so"
"""
RUN = """
import json, sys, pytest
from tests.faults.page import Recorder
recorder = Recorder({}, lambda rows: None)
pytest.main([sys.argv[1], "--rootdir", sys.argv[1], "-q", "-m", "not faults"], plugins=[recorder])
print("\\nROWS" + json.dumps(list(recorder.rows.values())))
"""


def test_cases_that_are_left_out_are_told_as_not_run(tmp_path: Path) -> None:
    (tmp_path / "test_cases.py").write_text(CASES)
    told = subprocess.run(
        [sys.executable, "-c", RUN, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    first, second, third = json.loads(told.stdout.rpartition("ROWS")[2])
    assert (first["case"], first["outcome"], first["sampled"]) == ("1", "as expected", True)
    assert (second["case"], second["outcome"], second["sampled"]) == ("2", NOT_RUN, False)
    assert third["outcome"].startswith("failed: ")


def test_a_row_of_an_earlier_run_stands_until_it_is_run_again() -> None:
    assert "2026-01-24, commit abc1234" in page([ROW])
