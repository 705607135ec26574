"""Faults injected into the real service, and into adapters in processes of their own."""

from collections.abc import Generator
from typing import Any

import pytest

from tests.support.faults import PASSED, battered, site, started_battered, started_site

__all__ = ["battered", "site", "started_battered", "started_site"]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fault(did, expected, sampled): one row of FAULTS.md")
    config.addinivalue_line("markers", "faults: of the whole matrix only, which make test-faults runs")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, Any]:
    """Fixtures learn whether their test passed: a case that failed is not searched for what follows from that."""
    report = yield
    if report.when == "setup":
        item.stash[PASSED] = False
    elif report.when == "call":
        item.stash[PASSED] = report.passed
    return report
