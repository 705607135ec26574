"""Each measurement in miniature: what `make bench` calls still runs. How quick it is, is not judged here."""

import pytest

from tests.benchmarks import claude_turns, record, start, whole
from tests.benchmarks.__main__ import signals_in_their_own_process
from tests.support.service import ServiceUnderTest

pytestmark = pytest.mark.timeout(300)


def test_signals_are_measured(service: ServiceUnderTest) -> None:
    found = signals_in_their_own_process(service, 2)
    assert found["signals"] == 2
    assert 0 < found["median_ms"] <= found["max_ms"]


@pytest.mark.asyncio
async def test_the_start_is_measured(service: ServiceUnderTest) -> None:
    found = await start.measure(service, 1)
    assert found["ratio"] > 0


def test_the_shell_script_does_the_same_work() -> None:
    assert 0 < whole.raw_seconds() < 300


def test_the_record_is_measured() -> None:
    assert record.measure(count=1000, rounds=2)["executions"] == 1000


def test_turns_of_claude_are_measured() -> None:
    found = claude_turns.measure(2)
    assert 0 < found["median_ms"] <= found["max_ms"]
