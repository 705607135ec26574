"""``output/verification.md``: for each requirement what shows that it is met, and what is missing."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from . import coverage
from .coverage import Claim, Requirement
from .markdown import plain, table
from .pages import Site
from .plan import NATURE, described


@dataclass(frozen=True)
class Outcome:
    """What ``results.json`` tells. ``known`` is False where there is none, or none that can be read."""

    known: bool
    status: str = ""
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    red: frozenset[str] = frozenset()
    """Names of the test functions that failed."""

    @property
    def green(self) -> bool:
        return self.known and self.status == "passed" and not self.red


def outcome(document: object) -> Outcome:
    """From a parsed ``results.json``; anything that is not what it should be counts as unknown."""
    if not isinstance(document, dict) or document.get("status") not in {"passed", "failed", "skipped"}:
        return Outcome(known=False)
    printed = f"{document.get('stdout', '')}\n{document.get('stderr', '')}"
    red = frozenset(re.findall(r"(?:FAILED|ERROR)\s+\S*?::(test_\w+)", printed))
    red |= frozenset(re.findall(r"^_+ (?:ERROR at \w+ of )?(test_\w+)(?:\[[^\]]*\])? _+$", printed, re.MULTILINE))
    counts = [document.get(name) for name in ("passed", "failed", "skipped")]
    passed, failed, skipped = (count if isinstance(count, int) else 0 for count in counts)
    return Outcome(True, document["status"], passed, failed, skipped, red)


def verification(site: Site, requirements: Sequence[Requirement], result: Outcome) -> str:
    rows: list[tuple[str, ...]] = []
    open_points: list[str] = []
    for requirement in requirements:
        found = coverage.claims(site, requirement)
        shown = [
            _evidence(claim, result)
            for claim in found
            if claim.verdict in {coverage.MET, coverage.EXAMPLES, coverage.CHANGED}
        ]
        missing = [_missing(claim, result) for claim in found]
        missing = [text for text in missing if text]
        rows.append(
            (
                plain(requirement.id),
                plain(requirement.text),
                "; ".join(shown) or "nothing",
                "; ".join(missing) or "nothing",
            )
        )
        if missing:
            open_points.append(requirement.id)
    lines = ["# Verification", "", _headline(result), "", NATURE, ""]
    lines += [*table(("id", "requirement", "what shows it", "what is missing"), rows), ""]
    if open_points:
        lines += [f"Open: {', '.join(plain(point) for point in open_points)}.", ""]
    return "\n".join(lines)


def _headline(result: Outcome) -> str:
    if not result.known:
        return (
            "The suite has no readable outcome: deployment/tests/results.json is missing or is not what the runner "
            "writes. What follows tells what the site holds by its making, and nothing about the live page."
        )
    counts = f"{result.passed} passed, {result.failed} failed, {result.skipped} skipped"
    names = f" Red: {', '.join(f'`{name}`' for name in sorted(result.red))}." if result.red else ""
    return f"The suite's outcome is **{result.status}**: {counts}.{names}"


def _state(claim: Claim, result: Outcome) -> str:
    if not claim.test:
        return "no test looks at it"
    if not result.known:
        return f"`{claim.test}` has no outcome"
    if any(name.startswith(claim.test) for name in result.red):
        return f"`{claim.test}` is red"
    if result.green:
        return f"`{claim.test}` is green"
    return f"`{claim.test}` is not among the red tests" if result.red else f"`{claim.test}` has no outcome of its own"


def _evidence(claim: Claim, result: Outcome) -> str:
    return f"{described(claim)}: {_state(claim, result)}"


def _missing(claim: Claim, result: Outcome) -> str:
    if claim.verdict in {coverage.CANNOT, coverage.UNREAD}:
        return claim.what
    if claim.verdict == coverage.EXAMPLES:
        return "content of the requester; examples stand in its place"
    if claim.test and result.known and any(name.startswith(claim.test) for name in result.red):
        return f"`{claim.test}` must turn green"
    return ""
