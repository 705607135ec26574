import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tasks.adapters.agents import processes
from tests.support.terminal import eventually

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
STUBBORN = [sys.executable, "-c", "import signal, time\nfor n in (1, 2, 15): signal.signal(n, 1)\ntime.sleep(600)"]


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(SLEEP)
    yield process
    process.kill()
    process.wait()


def test_an_identity_ends_with_its_process(sleeper: subprocess.Popen[bytes]) -> None:
    before = processes.identity(sleeper.pid)
    assert before is not None
    assert before == processes.identity(sleeper.pid)
    assert before != processes.identity(os.getpid())
    sleeper.kill()
    eventually(lambda: processes.identity(sleeper.pid) is None)  # not reaped yet: a zombie is nobody
    sleeper.wait()
    assert processes.identity(sleeper.pid) is None


def test_the_end_of_a_process_that_is_not_a_child_is_seen(sleeper: subprocess.Popen[bytes]) -> None:
    with processes.Watched(sleeper.pid) as watched:
        assert not watched.has_ended()
        sleeper.kill()
        assert watched.has_ended(within_s=5)
    sleeper.wait()
    with pytest.raises(ProcessLookupError):
        processes.Watched(sleeper.pid)


def test_a_family_holds_children_that_left_for_sessions_of_their_own() -> None:
    program = (
        f"import subprocess; p = subprocess.Popen({SLEEP!r}, start_new_session=True); "
        "print(p.pid, flush=True); p.wait()"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        assert {parent.pid, child} <= set(processes.family(parent.pid))
        assert os.getpid() not in processes.family(parent.pid)
    finally:
        assert processes.end([parent.pid, child], 0, 5) == []
        parent.wait()
        parent.stdout.close()


def test_marked_processes_are_found_wherever_they_went() -> None:
    process = subprocess.Popen(SLEEP, env={**os.environ, processes.MARK: "m-41"}, start_new_session=True)
    try:
        eventually(lambda: processes.marked("m-41") == [process.pid])
        assert processes.marked("m-4") == []
    finally:
        process.kill()
        process.wait()


def test_what_outlives_the_grace_is_killed_and_what_is_gone_is_no_trouble() -> None:
    stubborn = subprocess.Popen(STUBBORN)
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert processes.end([stubborn.pid, gone.pid], 0.05, 5) == []
    assert stubborn.wait() == -9
