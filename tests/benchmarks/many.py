"""Many executions at once: what our share costs beside the agents' own, and how long a rollback takes.

``waiting``: builds that stopped after their plan for a person's answer, all of them at the same time; their processes'
memory is proportional (PSS), so that what they share is counted once. ``built``: whole builds that are asked for at
once, from acceptance to the last one's end, with the limits that a service has when nobody sets any: the others wait.
"""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tasks.domain.pipeline import Status, Verb
from tests.support.faults import Battered, edit
from tests.support.service import dispose, new_service

LIMITS = {
    "TMUX_BUILDER_WORKER_LIMIT": "60",
    "TMUX_BUILDER_MAX_EXECUTIONS": "60",
    "TMUX_BUILDER_MAX_AGENTS": "60",
}
"""For the environment of the service whose executions wait: none waits for its turn."""

DEADLINE_S = 1800.0


def measure(counts: list[int], rollbacks: int) -> dict[str, Any]:
    with _service(LIMITS) as service:
        waited = {str(count): waiting(service, count) for count in counts}
    with _service({}) as service:
        limits = {name: service.told[name] for name in LIMITS}
        builds = {str(count): built(service, count) for count in counts}
        return {"waiting": waited, "limits": limits, "built": builds, "rollback": rollback(service, rollbacks)}


@contextmanager
def _service(limits: dict[str, str]) -> Iterator[Battered]:
    plain = new_service()
    service = Battered(plain.home, {**plain.base, **limits})
    started = service.make("up")
    try:
        if started.returncode:
            raise RuntimeError(started.stdout + started.stderr)
        yield service
    finally:
        service.close()
        dispose(service)


def waiting(service: Battered, count: int) -> dict[str, Any]:
    began = time.monotonic()
    accepted = [service.accept(approve_plan=True) for _ in range(count)]
    try:
        for one in accepted:
            service.becomes(one.run_id, Status.WAITING_INPUT, DEADLINE_S)
        seconds = time.monotonic() - began
        ours = [pss_mb(family(service.engine(one.run_id).process.pid)) for one in accepted]
        agents = [pss_mb(service.session_of(one)) for one in accepted]
    finally:
        for one in accepted:
            service.cancel(one.run_id)
        for one in accepted:
            service.becomes(one.run_id, Status.CANCELLED, DEADLINE_S)
    return {
        "plans_per_minute": round(60 * count / seconds, 1),
        "memory_of_ours_per_waiting_execution_mb": round(statistics.mean(ours), 1),
        "memory_of_its_agent_mb": round(statistics.mean(agents), 1),
    }


def built(service: Battered, count: int) -> dict[str, Any]:
    began = time.monotonic()
    accepted = [service.accept() for _ in range(count)]
    for one in accepted:
        service.becomes(one.run_id, Status.COMPLETED, DEADLINE_S)
    seconds = time.monotonic() - began
    return {"executions_per_minute": round(60 * count / seconds, 1), "seconds": round(seconds, 1)}


def rollback(service: Battered, rounds: int) -> dict[str, Any]:
    """Back and forth between two releases; the run's own time, and from asking to the run's end."""
    one = service.accept()
    service.becomes(one.run_id, Status.COMPLETED, DEADLINE_S)
    edit(service, one, "<p>second</p>")
    service.becomes(service.ask_for(one, Verb.REDEPLOY), Status.COMPLETED, DEADLINE_S)
    asked, worked = [], []
    for _ in range(rounds):
        began = time.monotonic()
        run_id = service.ask_for(one, Verb.ROLLBACK)
        service.becomes(run_id, Status.COMPLETED, DEADLINE_S)
        asked.append(time.monotonic() - began)
        worked.append(service.flow_run(run_id).total_run_time.total_seconds())
        service.becomes(service.ask_for(one, Verb.REDEPLOY), Status.COMPLETED, DEADLINE_S)
    return {
        "rounds": rounds,
        "from_asking_median_s": round(statistics.median(asked), 2),
        "run_median_s": round(statistics.median(worked), 2),
    }


def family(pid: int) -> list[int]:
    """A process and its children, and theirs; not those that left for a session of their own, such as an agent."""
    found, left = [], [pid]
    while left:
        parent = left.pop()
        found.append(parent)
        for task in Path("/proc", str(parent), "task").glob("*/children"):
            left += [int(child) for child in task.read_text().split()]
    return found


def pss_mb(pids: list[int]) -> float:
    total = 0
    for pid in pids:
        try:
            lines = Path("/proc", str(pid), "smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024
