"""Verifications: what was looked at, what was found, and the evidence."""

from datetime import datetime
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict


class Outcome(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


class Finding(BaseModel):
    """One thing that was looked at. ``gate`` is True where red stops the run."""

    model_config = ConfigDict(frozen=True)

    name: str
    outcome: Outcome
    detail: str = ""
    gate: bool = True


class Check(BaseModel):
    """One verification step. ``evidence`` are paths relative to the workspace."""

    model_config = ConfigDict(frozen=True)

    name: str
    outcome: Outcome
    findings: tuple[Finding, ...] = ()
    evidence: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def red_gates(self) -> tuple[str, ...]:
        return tuple(
            f"{finding.name}: {finding.detail}" if finding.detail else finding.name
            for finding in self.findings
            if finding.gate and finding.outcome is Outcome.FAILED
        )


class SuiteResult(BaseModel):
    """``deployment/tests/results.json``, with the fields of the functional design and counts beside them.

    ``exit_code`` is pytest's (https://docs.pytest.org/en/stable/reference/exit-codes.html), or None where the suite
    was killed at its deadline. Its author controls the suite: this is evidence, never a gate.
    """

    model_config = ConfigDict(frozen=True)

    status: Literal["passed", "failed", "skipped"]
    exit_code: int | None
    stdout: str
    stderr: str
    report_path: str
    timestamp: datetime
    url_tested: str
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    errors: int = 0
    seconds: float = 0.0
    reason: str = ""
