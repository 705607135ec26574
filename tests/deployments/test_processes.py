import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from deployments.processes import Process, Record, end, records

STUBBORN = "import signal, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"


@pytest.fixture
def sleeper() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen(["sleep", "600"]) as child:
        yield child
        child.kill()


def process_of(child: "subprocess.Popen[bytes]") -> Process:
    process = Process.of(child.pid)
    assert process is not None
    return process


def test_a_process_is_alive_until_it_ends_and_also_before_its_parent_has_noticed(
    sleeper: "subprocess.Popen[bytes]",
) -> None:
    process = process_of(sleeper)
    assert process.alive()
    os.kill(sleeper.pid, signal.SIGKILL)
    assert process.ended_within(5)
    assert not process.alive()  # a zombie: nobody has waited for it
    assert not process.send(signal.SIGTERM)


@pytest.mark.parametrize("other", [{"started": 1}, {"boot": "another"}])
def test_a_process_that_only_has_the_number_is_neither_alive_nor_signalled(
    sleeper: "subprocess.Popen[bytes]", other: dict[str, object]
) -> None:
    impostor = replace(process_of(sleeper), **other)  # type: ignore[arg-type]  # one field of either type
    assert not impostor.alive()
    assert not impostor.send(signal.SIGKILL)
    assert impostor.ended_within(0)
    assert end([impostor], 0) == []
    assert sleeper.poll() is None


def test_no_process_has_a_number_that_is_free() -> None:
    with subprocess.Popen(["true"]) as child:
        child.wait()
    assert Process.of(child.pid) is None


def test_waiting_for_a_process_that_lives_ends_at_the_deadline(sleeper: "subprocess.Popen[bytes]") -> None:
    began = time.monotonic()
    assert not process_of(sleeper).ended_within(0.2)
    assert time.monotonic() - began < 2


def test_who_does_not_hear_sigterm_is_killed_and_named(sleeper: "subprocess.Popen[bytes]") -> None:
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE) as stubborn:
        assert stubborn.stdout is not None
        stubborn.stdout.readline()
        killed = end([process_of(sleeper), process_of(stubborn)], 0.3)
        assert killed == [Process(stubborn.pid, killed[0].started, killed[0].boot)]
        assert sleeper.wait(5) == -signal.SIGTERM
        assert stubborn.wait(5) == -signal.SIGKILL


def test_a_record_tells_who_wrote_it_and_who_watches(tmp_path: Path) -> None:
    path = tmp_path / "run" / "me"
    Record.write(path, Process.of(os.getppid()))
    record = Record.read(path)
    assert record is not None
    assert record.process == Process.of(os.getpid())
    assert record.watcher == Process.of(os.getppid())
    assert records(tmp_path / "run") == [record]
    assert [entry.name for entry in (tmp_path / "run").iterdir()] == ["me"]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"process": {}}', '{"process": {"pid": 1}, "watcher": null}', "\x00\xff"]
)
def test_what_is_no_record_is_passed_over(tmp_path: Path, content: str) -> None:
    (tmp_path / "x").write_text(content)
    (tmp_path / "folder").mkdir()
    assert Record.read(tmp_path / "x") is None
    assert records(tmp_path) == []
    assert records(tmp_path / "missing") == []
