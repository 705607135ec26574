import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from deployments.processes import Process, Record

ROOT = Path(__file__).resolve().parent.parent.parent

TELL = (
    "import os, signal, json; print(json.dumps({"
    "'pid': os.getpid(), 'sid': os.getsid(0), 'environment': dict(os.environ), "
    "'sigint_ignored': signal.getsignal(signal.SIGINT) is signal.SIG_IGN, "
    "'blocked': sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))}))"
)


def launch(record: Path, *options: str, deaf: bool = False, **environment: str) -> tuple[int, dict[str, object]]:
    def become_deaf() -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])

    argv = [sys.executable, "-S", "-E", "-m", "deployments.launch", "--record", str(record), *options]
    with subprocess.Popen(
        [*argv, "--", sys.executable, "-c", TELL],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        preexec_fn=become_deaf if deaf else None,
    ) as child:
        said, _ = child.communicate(timeout=20)
        assert child.returncode == 0
        return child.pid, json.loads(said)


def test_the_program_is_the_recorded_process(tmp_path: Path) -> None:
    pid, told = launch(tmp_path / "record", "--watcher", str(os.getpid()))
    record = Record.read(tmp_path / "record")
    assert record is not None
    assert told["pid"] == pid == record.process.pid
    assert record.watcher == Process.of(os.getpid())


def test_a_watcher_that_has_died_before_the_program_begins_is_nobody(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    launch(tmp_path / "record", "--watcher", str(gone.pid))
    record = Record.read(tmp_path / "record")
    assert record is not None
    assert record.watcher is None


def test_a_program_sees_only_what_it_may(tmp_path: Path) -> None:
    secret = {"AWS_SECRET_ACCESS_KEY": "x", "ANTHROPIC_API_KEY": "y", "PATH": "/bin", "LC_ALL": "C"}
    _, told = launch(tmp_path / "record", "--keep", "PATH,LC_*", **secret)
    assert told["environment"] == {"PATH": "/bin", "LC_ALL": "C"}
    _, told = launch(tmp_path / "record", **secret)
    assert told["environment"] == {**secret}


def test_a_program_hears_signals_that_its_starter_was_deaf_to(tmp_path: Path) -> None:
    _, told = launch(tmp_path / "record", deaf=True)
    assert told["sigint_ignored"] is False
    assert told["blocked"] == []


def test_a_session_of_its_own_is_out_of_reach_of_its_starters_group(tmp_path: Path) -> None:
    _, own = launch(tmp_path / "record", "--session")
    assert own["sid"] == own["pid"]
    _, shared = launch(tmp_path / "record")
    assert shared["sid"] == os.getsid(0)
