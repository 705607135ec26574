import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from prefect.client.schemas.objects import StateType

from deployments.engines import GRACE_S, WORKER_S, Engine, Move, next_move
from deployments.processes import Record
from tests.support.service import ROOT

LONG, SHORT = GRACE_S + 1, GRACE_S - 1


@pytest.mark.parametrize(
    ("state", "in_state_s", "signalled_s", "move"),
    [
        (StateType.RUNNING, LONG, None, Move.LEAVE),
        (StateType.PAUSED, LONG, None, Move.LEAVE),
        (StateType.PENDING, LONG, None, Move.LEAVE),
        (StateType.CANCELLING, 0, None, Move.TERMINATE),
        (StateType.CANCELLING, LONG, SHORT, Move.LEAVE),
        (StateType.CANCELLING, LONG, LONG, Move.KILL),
        (StateType.COMPLETED, SHORT, None, Move.LEAVE),
        (StateType.COMPLETED, LONG, None, Move.TERMINATE),
        (StateType.CANCELLED, LONG, None, Move.TERMINATE),
        (StateType.CANCELLED, LONG, SHORT, Move.LEAVE),
        (StateType.CRASHED, LONG, LONG, Move.KILL),
        (None, 0, None, Move.TERMINATE),
    ],
)
def test_what_happens_to_an_engine_that_lives_without_a_worker(
    state: StateType | None, in_state_s: float, signalled_s: float | None, move: Move
) -> None:
    decided = next_move(
        alive=True, state=state, suspended=False, in_state_s=in_state_s, signalled_s=signalled_s, cancelled_here=False
    )
    assert decided is move


@pytest.mark.parametrize(
    ("alive", "state", "in_state_s", "move"),
    [
        (True, StateType.RUNNING, LONG, Move.LEAVE),
        (True, StateType.COMPLETED, LONG, Move.LEAVE),
        (True, StateType.CANCELLING, 2.0, Move.LEAVE),
        (True, StateType.CANCELLING, WORKER_S + 1, Move.TERMINATE),
        (False, StateType.RUNNING, LONG, Move.LEAVE),
        (False, StateType.CANCELLING, LONG, Move.LEAVE),
    ],
)
def test_an_engine_with_a_worker_is_left_to_it_unless_it_ignores_a_cancellation(
    alive: bool, state: StateType, in_state_s: float, move: Move
) -> None:
    """As after an outage of the server: its worker lives, and hears of no cancellation any more."""
    decided = next_move(
        alive=alive,
        state=state,
        suspended=False,
        in_state_s=in_state_s,
        signalled_s=None,
        cancelled_here=False,
        watched=True,
    )
    assert decided is move


@pytest.mark.parametrize(
    ("state", "suspended", "cancelled_here", "move"),
    [
        (StateType.RUNNING, False, False, Move.RECORD_CRASHED),
        (StateType.PENDING, False, False, Move.RECORD_CRASHED),
        (StateType.PAUSED, False, False, Move.RECORD_CRASHED),
        (StateType.PAUSED, True, False, Move.FORGET),
        (StateType.SCHEDULED, False, False, Move.FORGET),
        (StateType.CANCELLING, False, False, Move.RECORD_CANCELLED),
        (StateType.CRASHED, False, True, Move.RECORD_CANCELLED),
        (StateType.CRASHED, False, False, Move.FORGET),
        (StateType.COMPLETED, False, True, Move.FORGET),
        (None, False, False, Move.FORGET),
    ],
)
def test_what_is_recorded_of_an_engine_that_died_without_a_worker(
    state: StateType | None, suspended: bool, cancelled_here: bool, move: Move
) -> None:
    decided = next_move(
        alive=False, state=state, suspended=suspended, in_state_s=0, signalled_s=None, cancelled_here=cancelled_here
    )
    assert decided is move


@pytest.fixture
def recorded(tmp_path: Path) -> Iterator[tuple[UUID, Path, "subprocess.Popen[bytes]"]]:
    """An engine started by a wrapper that has ended since."""
    flow_run_id = uuid4()
    path = tmp_path / str(flow_run_id)
    argv = [
        sys.executable,
        "-S",
        "-E",
        "-m",
        "deployments.launch",
        "--record",
        str(path),
        "--watcher",
        str(os.getpid()),
        "--",
    ]
    with subprocess.Popen([*argv, "sh", "-c", "echo; exec sleep 600"], stdout=subprocess.PIPE, cwd=ROOT) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield flow_run_id, path, child
        child.kill()


def test_an_engine_is_watched_while_its_wrapper_lives(
    recorded: tuple[UUID, Path, "subprocess.Popen[bytes]"], tmp_path: Path
) -> None:
    flow_run_id, path, _ = recorded
    (tmp_path / "not-a-flow-run").write_text(path.read_text())
    (engine,) = Engine.below(tmp_path)  # the wrapper is this test
    assert (engine.flow_run_id, engine.watched, engine.alive) == (flow_run_id, True, True)
    record = Record.read(path)
    assert record is not None
    path.write_text(path.read_text().replace(f'"pid": {record.watcher.pid}', '"pid": 4194303'))  # type: ignore[union-attr]
    (orphan,) = Engine.below(tmp_path)
    assert not orphan.watched
    orphan.terminate()
    assert orphan.process.ended_within(5)
    orphan.forget()
    assert Engine.below(tmp_path) == []
