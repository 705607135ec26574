"""The processes that work on flow runs, as `engine.sh` recorded them, and what to do with those nobody watches.

A worker that stops leaves its engines running (see `engine.sh`). From then on nobody passes on a cancellation, and
nobody notices their death, unless somebody looks: Prefect's own net takes 300 s and leaves the process alive.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from signal import SIGKILL, SIGTERM
from uuid import UUID

from prefect.client.schemas.objects import StateType

from deployments.processes import Process, Record, records

GRACE_S = 30.0
"""How long an engine may take to clean up after SIGTERM; the same as Prefect's workers give."""


WORKER_S = 6.0
"""A worker passes a cancellation on within two seconds. After a long outage of the server it never does so again."""


class Move(StrEnum):
    LEAVE = "leave"
    TERMINATE = "terminate"
    KILL = "kill"
    RECORD_CANCELLED = "record_cancelled"
    RECORD_CRASHED = "record_crashed"
    FORGET = "forget"


def next_move(
    *,
    alive: bool,
    state: StateType | None,
    suspended: bool,
    in_state_s: float,
    signalled_s: float | None,
    cancelled_here: bool,
    watched: bool = False,
) -> Move:
    """What to do with an engine whose worker is gone; with one that is ``watched``, only what its worker fails to do.

    ``state`` is its flow run's, None where the flow run was deleted; ``signalled_s`` is how long ago it got SIGTERM
    from here; ``cancelled_here``: that was for a cancellation.
    """
    if watched and not (alive and state is StateType.CANCELLING and in_state_s > WORKER_S):
        return Move.LEAVE
    if alive:
        over = state is None or (state in _FINAL and in_state_s > GRACE_S)
        if state is not StateType.CANCELLING and not over:
            return Move.LEAVE
        if signalled_s is None:
            return Move.TERMINATE
        return Move.KILL if signalled_s > GRACE_S else Move.LEAVE
    # An engine that is ended from outside reports itself as crashed; somebody asked for it, so it was cancelled.
    if state is StateType.CANCELLING or (cancelled_here and state is StateType.CRASHED):
        return Move.RECORD_CANCELLED
    if state in (StateType.RUNNING, StateType.PENDING) or (state is StateType.PAUSED and not suspended):
        return Move.RECORD_CRASHED
    return Move.FORGET


_FINAL = (StateType.COMPLETED, StateType.FAILED, StateType.CANCELLED, StateType.CRASHED)


@dataclass(frozen=True)
class Engine:
    """``watched``: its wrapper lives, so that its worker hears of everything."""

    flow_run_id: UUID
    path: Path
    process: Process
    watched: bool

    @classmethod
    def below(cls, folder: Path) -> list["Engine"]:
        return [engine for record in records(folder) if (engine := cls._of(record))]

    @classmethod
    def _of(cls, record: Record) -> "Engine | None":
        try:
            flow_run_id = UUID(record.path.name)
        except ValueError:
            return None
        watched = record.watcher is not None and record.watcher.alive()
        return cls(flow_run_id, record.path, record.process, watched)

    @property
    def alive(self) -> bool:
        return self.process.alive()

    def terminate(self) -> None:
        self.process.send(SIGTERM)

    def kill(self) -> None:
        self.process.send(SIGKILL)

    def forget(self) -> None:
        self.path.unlink(missing_ok=True)
