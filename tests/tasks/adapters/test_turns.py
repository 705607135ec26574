"""So many at a time, across processes and kills."""

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from tasks.adapters.turns import turn
from tasks.adapters.waiting import NEVER

HOLD = """
import sys, time
from pathlib import Path
from tasks.adapters.turns import turn
from tasks.adapters.waiting import NEVER
with turn(Path(sys.argv[1]), "browser", 1, NEVER):
    print("held", flush=True)
    time.sleep(60)
"""


def test_no_more_than_so_many_at_a_time(tmp_path: Path) -> None:
    inside, most, lock = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal inside, most
        with turn(tmp_path, "browser", 2, NEVER):
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.05)
            with lock:
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == 2


def test_kinds_do_not_wait_for_each_other(tmp_path: Path) -> None:
    with turn(tmp_path, "browser", 1, NEVER), turn(tmp_path, "build", 1, NEVER) as waited_s:
        assert waited_s < 1


def test_a_killed_process_gives_its_turn_back(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        timer = threading.Timer(0.5, holder.send_signal, [signal.SIGKILL])
        timer.start()
        with turn(tmp_path, "browser", 1, NEVER) as waited_s:
            assert 0.4 < waited_s < 20


def test_who_is_stopped_does_not_wait(tmp_path: Path) -> None:
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    with turn(tmp_path, "browser", 1, NEVER), turn(tmp_path, "browser", 1, stop) as waited_s:
        assert 0.2 < waited_s < 20
