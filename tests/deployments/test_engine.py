"""engine.sh, with a stand-in for Prefect's engine, which is started by `python -m prefect.engine`."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import pytest

from deployments.processes import Process, Record, end
from tests.support.service import ROOT, until

STAND_IN = """\
import pathlib, signal, sys, time
told = pathlib.Path({told!r})
def stop(*_):
    told.write_text("cleaned up")
    sys.exit(7)
signal.signal(signal.SIGTERM, stop)
print("engine starts", flush=True)
told.write_text("works")
time.sleep({seconds})
told.write_text("finished")
sys.exit(3)
"""


class Wrapper:
    def __init__(self, folder: Path, seconds: float, argv: Sequence[str] = ("bash", "deployments/engine.sh")) -> None:
        self.home, self.told, self.run = folder / "home", folder / "told", str(uuid4())
        (folder / "prefect").mkdir(parents=True)
        (folder / "prefect" / "__init__.py").touch()
        (folder / "prefect" / "engine.py").write_text(STAND_IN.format(told=str(self.told), seconds=seconds))
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(folder),
            "TMUX_BUILDER_HOME": str(self.home),
            "PREFECT__FLOW_RUN_ID": self.run,
        }
        # As a worker does: in the folder of the project, whose own modules come first; the stand-in is found behind.
        self.bash = subprocess.Popen(argv, cwd=ROOT, env=environment)

    @property
    def record(self) -> Record | None:
        return Record.read(self.home / "run" / "engines" / self.run)

    def works(self) -> str | None:
        return None if self.told.exists() and self.told.read_text() == "works" else "the engine has not begun"

    def engine(self) -> Process:
        until(self.works, 20)
        assert self.record is not None
        return self.record.process


@pytest.fixture
def wrapper(tmp_path: Path) -> Iterator[Wrapper]:
    started = Wrapper(tmp_path, 600)
    yield started
    record = started.record
    started.bash.kill()
    started.bash.wait()
    if record:
        end([record.process], 0)


def test_a_worker_that_stops_kills_the_wrapper_and_the_engine_goes_on(wrapper: Wrapper) -> None:
    engine = wrapper.engine()
    assert wrapper.record is not None
    assert wrapper.record.watcher == Process.of(os.getpid()), "its worker, here this test"
    assert os.getpgid(engine.pid) != os.getpgid(wrapper.bash.pid)
    wrapper.bash.send_signal(signal.SIGKILL)
    wrapper.bash.wait()
    assert not engine.ended_within(0.5)
    assert wrapper.record is not None, "the dispatcher finds it"
    assert wrapper.told.read_text() == "works"


def test_an_engine_whose_worker_was_killed_leaves_its_record_to_the_dispatcher(tmp_path: Path) -> None:
    """The wrapper lives on, and tells nobody."""
    wrapper = Wrapper(tmp_path, 600, ["sh", "-c", "bash deployments/engine.sh & wait"])
    worker = wrapper.bash
    engine = wrapper.engine()
    assert wrapper.record is not None
    assert wrapper.record.watcher == Process.of(worker.pid)
    worker.kill()
    worker.wait()
    bash = Process.of(int(Path(f"/proc/{engine.pid}/stat").read_text().rpartition(")")[2].split()[1]))
    assert bash is not None
    assert bash.alive()
    engine.send(signal.SIGKILL)
    assert bash.ended_within(10)
    assert wrapper.record is not None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_cancellation_is_passed_on_and_the_engine_cleans_up(wrapper: Wrapper, number: signal.Signals) -> None:
    wrapper.engine()
    wrapper.bash.send_signal(number)
    assert wrapper.bash.wait(10) == 7
    assert wrapper.told.read_text() == "cleaned up"
    assert wrapper.record is None


def test_the_exit_code_is_the_engines_and_its_words_are_kept(tmp_path: Path) -> None:
    wrapper = Wrapper(tmp_path, 0)
    assert wrapper.bash.wait(20) == 3
    assert wrapper.told.read_text() == "finished"
    assert wrapper.record is None
    log = wrapper.home / "logs" / "engines" / f"{wrapper.run}.log"
    assert log.read_text() == "engine starts\n"
    assert log.stat().st_mode & 0o777 == 0o600


def test_an_engine_that_is_killed_shows_in_the_exit_code(wrapper: Wrapper) -> None:
    wrapper.engine().send(signal.SIGKILL)
    assert wrapper.bash.wait(10) == 128 + signal.SIGKILL
    assert wrapper.record is None


@pytest.mark.parametrize("missing", ["TMUX_BUILDER_HOME", "PREFECT__FLOW_RUN_ID"])
def test_started_by_hand_it_says_what_to_do(missing: str) -> None:
    environment = {"PATH": os.environ["PATH"], "TMUX_BUILDER_HOME": "/nowhere", "PREFECT__FLOW_RUN_ID": "x"}
    del environment[missing]
    told = subprocess.run(["bash", "deployments/engine.sh"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert told.returncode != 0
    assert missing in told.stderr
    assert "start" in told.stderr
