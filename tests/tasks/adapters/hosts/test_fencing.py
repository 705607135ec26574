"""One writer at a time: asked of real processes, one of them frozen."""

import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.adapters.hosts import fencing
from tasks.adapters.hosts.fencing import Fence, StaleWriter
from tasks.adapters.hosts.local import LocalHost
from tasks.domain.errors import HostingError
from tests.support.killing import killed_at_each_line
from tests.support.releases import Packager

SITE = "tmux-a1b2c3d4-9f8e7d6c"
ROOT = Path(__file__).parents[4]

HOLDER = """
import sys, time
from pathlib import Path
from tasks.adapters.hosts.fencing import Fence
with Fence(Path(sys.argv[1]), sys.argv[2], "x").passed(int(sys.argv[3]), 1):
    print("in", flush=True)
    time.sleep(600)
"""


@contextmanager
def holder(home: Path, number: int) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the lock."""
    command = [sys.executable, "-c", HOLDER, str(home), SITE, str(number)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "in\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_frozen_holder_costs_a_bounded_wait_and_the_error_says_that_trying_again_helps(tmp_path: Path) -> None:
    packager = Packager(tmp_path / "workspace")
    host = LocalHost(tmp_path, SITE, 8401, 3, lock_s=0.3)
    first = packager.package({"index.html": "one"})
    host.publish(first, 1)
    second = packager.package({"index.html": "two"})
    with holder(tmp_path, 2) as process:
        process.send_signal(signal.SIGSTOP)
        for attempt in (
            lambda: host.publish(second, 3),
            lambda: host.activate(first.release_id, 3),
            lambda: host.teardown(3),
        ):
            start = time.monotonic()
            with pytest.raises(HostingError, match=r"another process has been writing .*lslocks") as caught:
                attempt()
            assert 0.3 <= time.monotonic() - start < 3
            assert caught.value.transient
            assert not isinstance(caught.value, StaleWriter)
        assert host.live() == first.release_id
    assert host.publish(second, 3).release_id == second.release_id


def test_a_killed_holder_lets_go_at_once(tmp_path: Path) -> None:
    with holder(tmp_path, 2) as process:
        assert Fence(tmp_path, SITE, "x").is_held()
        process.kill()
        process.wait()
        with Fence(tmp_path, SITE, "x").passed(2, 5):
            assert Fence(tmp_path, SITE, "x").is_held()
    assert not Fence(tmp_path, SITE, "x").is_held()


def test_the_number_is_on_disk_before_the_writer_is_let_in(tmp_path: Path) -> None:
    """Killed at any line, the highest number is one that was really seen, and the next writer gets in."""
    fence = Fence(tmp_path, SITE, "x")

    def enter() -> None:
        with fence.passed(9, 1):
            if fence.highest() != 9:
                os._exit(3)

    found = set()
    for _ in killed_at_each_line(enter, (fencing,)):
        found.add(fence.highest())
        with fence.passed(None, 1):
            pass
        fence.path.unlink(missing_ok=True)
    assert found == {0, 9}


def test_a_stale_writer_survives_the_way_between_processes() -> None:
    error = StaleWriter("local-hosting", "a complaint", "a move")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 (our own)
    assert (type(again), str(again), again.transient) == (StaleWriter, str(error), False)


def test_who_comes_without_a_number_may_tear_down_and_the_numbers_stay(tmp_path: Path) -> None:
    host = LocalHost(tmp_path, SITE, 8401, 3)
    host.publish(Packager(tmp_path / "workspace").package({"index.html": "one"}), 5)
    assert host.teardown().left == ()
    assert Fence(tmp_path, SITE, "x").highest() == 5
