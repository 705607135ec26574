import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

from tasks.adapters.waiting import NET_S, NEVER, AnyOf, Changes, until_content


def test_a_change_ends_the_wait_long_before_the_net(tmp_path: Path) -> None:
    with Changes(tmp_path) as changes:
        threading.Timer(0.05, (tmp_path / "done").touch).start()
        began = time.monotonic()
        changes.wait(30, NEVER)
    assert time.monotonic() - began < 10


def test_a_change_between_the_look_and_the_wait_is_not_missed(tmp_path: Path) -> None:
    with Changes(tmp_path) as changes:
        (tmp_path / "done").touch()
        began = time.monotonic()
        changes.wait(30, NEVER)
    assert time.monotonic() - began < 10


def test_reading_the_watched_file_wakes_nobody(tmp_path: Path) -> None:
    (tmp_path / "status.txt").write_text("x")
    with Changes(tmp_path) as changes:
        (tmp_path / "status.txt").read_text()
        began = time.monotonic()
        changes.wait(0.3, NEVER)
    assert time.monotonic() - began >= 0.3


def test_a_flag_ends_the_wait(tmp_path: Path) -> None:
    flag = threading.Event()
    with Changes(tmp_path) as changes:
        threading.Timer(0.05, flag.set).start()
        began = time.monotonic()
        assert until_content(lambda: "not yet", changes, 30, AnyOf(NEVER, flag)) == "not yet"
    assert time.monotonic() - began < 10


def test_the_last_complaint_is_returned_when_the_time_is_over(tmp_path: Path) -> None:
    looks: list[int] = []

    def complaint() -> str:
        looks.append(1)
        return f"look {len(looks)}"

    with Changes(tmp_path) as changes:
        assert until_content(complaint, changes, 0.05, NEVER) == f"look {len(looks)}"


def test_what_is_content_already_is_not_waited_for(tmp_path: Path) -> None:
    with Changes(tmp_path) as changes:
        assert until_content(lambda: None, changes, 0, NEVER) is None


def test_what_nobody_notifies_about_is_seen_by_the_net(tmp_path: Path) -> None:
    done = threading.Event()
    threading.Timer(0.1, done.set).start()
    with Changes(tmp_path) as changes:
        began = time.monotonic()
        assert until_content(lambda: None if done.is_set() else "not yet", changes, 30, NEVER) is None
    assert time.monotonic() - began < 10 * NET_S


WITHOUT_NOTIFICATION = """
import sys, threading, time
from pathlib import Path
from tasks.adapters.waiting import NEVER, Changes, until_content
folder = Path(sys.argv[1])
held = []
while (changes := Changes(folder))._notify is not None:
    held.append(changes)
threading.Timer(0.05, (folder / "done").touch).start()
with changes:
    assert until_content(lambda: None if (folder / "done").exists() else "not yet", changes, 10, NEVER) is None
"""


def test_waiting_works_where_the_machine_has_no_notification_left(tmp_path: Path) -> None:
    files = 64
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_NOTIFICATION, str(tmp_path)],
        cwd=Path.cwd(),
        capture_output=True,
        text=True,
        timeout=30,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files)),
    )
    assert run.returncode == 0, run.stderr
    assert "file notification unavailable, polling instead" in run.stderr
