"""Slots: never more than the limit, the oldest first, nobody waits for ever, the dead give theirs back."""

import time
from multiprocessing.synchronize import Barrier

import pytest
from sqlalchemy import func, select

from tasks.adapters.registry import Registry
from tasks.adapters.registry.schema import runs, slots
from tasks.domain.pipeline import Status, Verb
from tests.tasks.adapters.registry.orders import a_request, an_execution
from tests.tasks.adapters.registry.processes import in_processes

PROCESSES, RUNS_EACH, LIMIT, PER_USER = 4, 5, 3, 2


def a_run(registry: Registry, key: str, user: str = "ana") -> str:
    accepted = registry.accept(a_request(email=f"{user}@example.com"), key)
    registry.adopt_run(accepted.execution_id, Verb.FULL_BUILD, f"flow-{key}")
    return accepted.run_id


def held(registry: Registry) -> list[str]:
    with registry.engine.connect() as connection:
        return list(connection.execute(select(slots.c.run_id).where(slots.c.taken_at.is_not(None))).scalars())


def execution_of(registry: Registry, run_id: str) -> str:
    with registry.engine.connect() as connection:
        return str(connection.execute(select(runs.c.execution_id).where(runs.c.run_id == run_id)).scalar_one())


def test_the_limit_holds_and_the_next_one_is_told_its_place(registry: Registry) -> None:
    first, second, third = (a_run(registry, str(n), f"u{n}") for n in range(3))
    assert registry.take_slot("agent", first, 1, 1) == 0
    assert registry.take_slot("agent", first, 1, 1) == 0, "it has it"
    assert registry.take_slot("agent", second, 1, 1) == 1
    assert registry.take_slot("agent", third, 1, 1) == 2
    assert held(registry) == [first]
    assert registry.leave_slot("agent", first)
    assert not registry.leave_slot("agent", first)
    assert registry.take_slot("agent", third, 1, 1) == 2, "who asked before comes before"
    assert registry.take_slot("agent", second, 1, 1) == 0
    assert registry.take_slot("agent", third, 1, 1) == 1


def test_a_place_is_kept_from_the_first_question(registry: Registry) -> None:
    early, late = a_run(registry, "early", "u1"), a_run(registry, "late", "u2")
    registry.ask_slot("agent", early)
    registry.ask_slot("agent", late)
    registry.ask_slot("agent", early)
    assert registry.take_slot("agent", late, 1, 1) == 2
    assert registry.take_slot("agent", early, 1, 1) == 0


def test_a_user_with_many_runs_does_not_keep_the_others_out(registry: Registry) -> None:
    mine = [a_run(registry, f"ana{n}", "ana") for n in range(4)]
    assert [registry.take_slot("agent", run, 3, 2) for run in mine] == [0, 0, 1, 2]
    other = a_run(registry, "ben", "ben")
    assert registry.take_slot("agent", other, 3, 2) == 0, "there is room, and this user has none of it"
    assert registry.take_slot("agent", mine[2], 3, 2) == 1
    registry.leave_slot("agent", mine[0])
    assert registry.take_slot("agent", mine[3], 3, 2) == 2
    assert registry.take_slot("agent", mine[2], 3, 2) == 0


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED, Status.CANCELLED])
def test_a_run_that_is_over_holds_nothing_however_it_ended(registry: Registry, status: Status) -> None:
    accepted = an_execution(registry, "gone")
    assert registry.take_slot("agent", accepted.run_id, 1, 1) == 0
    registry.set_status(accepted.execution_id, status)
    waiting = a_run(registry, "waiting")
    assert registry.take_slot("agent", waiting, 1, 1) == 0
    assert held(registry) == [waiting]
    with pytest.raises(LookupError, match="is over"):
        registry.take_slot("agent", accepted.run_id, 1, 1)


def test_a_run_that_is_over_does_not_block_the_queue(registry: Registry) -> None:
    holder, gone, waiting = a_run(registry, "1", "u1"), an_execution(registry, "2"), a_run(registry, "3", "u3")
    registry.take_slot("agent", holder, 1, 1)
    registry.take_slot("agent", gone.run_id, 1, 1)
    assert registry.take_slot("agent", waiting, 1, 1) == 2
    registry.set_status(gone.execution_id, Status.CANCELLED)
    assert registry.take_slot("agent", waiting, 1, 1) == 1


def test_an_unknown_run_and_a_senseless_limit_are_named(registry: Registry) -> None:
    with pytest.raises(LookupError, match="no run 'nobody'"):
        registry.take_slot("agent", "nobody", 1, 1)
    with pytest.raises(ValueError, match="limit: 0"):
        registry.take_slot("agent", a_run(registry, "1"), 0, 1)


def test_the_place_of_an_execution_that_waits_can_be_seen(registry: Registry) -> None:
    accepted = [registry.accept(a_request(email=f"u{n}@example.com"), str(n)) for n in range(3)]
    places = [registry.queue_position(each.execution_id) for each in accepted]
    assert places == [1, 2, 3]
    for n, each in enumerate(accepted):
        registry.adopt_run(each.execution_id, Verb.FULL_BUILD, f"flow-{n}")
        registry.set_status(each.execution_id, Status.RUNNING)
        assert registry.queue_position(each.execution_id) is None
    for each in accepted:
        registry.take_slot("agent", each.run_id, 1, 1)
    assert [registry.queue_position(each.execution_id) for each in accepted] == [None, 1, 2]
    assert registry.queue_position("00000000_sess20260101000000") is None
    registry.set_status(accepted[1].execution_id, Status.CANCELLED)
    assert [registry.queue_position(each.execution_id) for each in accepted] == [None, None, 1]


def test_the_place_counts_what_a_user_may_have(registry: Registry) -> None:
    mine, second, other = a_run(registry, "1", "ana"), a_run(registry, "2", "ana"), a_run(registry, "3", "ben")
    for run in (mine, second, other):
        registry.set_status(execution_of(registry, run), Status.RUNNING)
        registry.ask_slot("agent", run)
    assert registry.take_slot("agent", mine, 1, 1) == 0
    places = [registry.queue_position(execution_of(registry, run), per_user=1) for run in (second, other)]
    assert places == [2, 1]
    assert [registry.take_slot("agent", run, 1, 1) for run in (second, other)] == places


def compete(url: str, gate: Barrier, work: tuple[list[str], str | None]) -> list[tuple[int, int]]:
    """In a process of its own: take a slot for each run; what was held at those moments, in all and by a user at most.

    A slot is kept while the other runs ask once, so that processes meet. ``work[1]`` is a run that ends without
    leaving, as by a death.
    """
    mine, dies = work
    registry = Registry.open(url)

    def give_up(run_id: str) -> None:
        if run_id == dies:
            registry.set_status(execution_of(registry, run_id), Status.FAILED)
        else:
            registry.leave_slot("agent", run_id)

    gate.wait(60)
    seen, waiting, end = [], list(mine), time.monotonic() + 120
    try:
        while waiting:
            assert time.monotonic() < end, f"still waiting: {waiting}"
            kept = []
            for run_id in list(waiting):
                if registry.take_slot("agent", run_id, LIMIT, PER_USER) == 0:
                    seen.append(most_held(registry))
                    kept.append(run_id)
                    waiting.remove(run_id)
            for run_id in kept:
                give_up(run_id)
        return seen
    finally:
        registry.close()


def most_held(registry: Registry) -> tuple[int, int]:
    from tasks.adapters.registry.schema import FINAL, executions

    query = (
        select(executions.c.user_id, func.count())
        .select_from(slots)
        .join(runs, runs.c.run_id == slots.c.run_id)
        .join(executions, executions.c.execution_id == runs.c.execution_id)
        .where(slots.c.taken_at.is_not(None), runs.c.status.not_in(FINAL))
        .group_by(executions.c.user_id)
    )
    with registry.engine.connect() as connection:
        by_user = [count for _, count in connection.execute(query)]
    return sum(by_user), max(by_user, default=0)


def test_many_processes_never_hold_more_than_the_limit_and_nobody_starves(
    registry: Registry, registry_url: str
) -> None:
    work: list[tuple[list[str], str | None]] = []
    for process in range(PROCESSES):
        mine = [a_run(registry, f"{process}-{n}", f"u{(process + n) % 3}") for n in range(RUNS_EACH)]
        for run_id in mine:
            registry.set_status(execution_of(registry, run_id), Status.RUNNING)
        work.append((mine, mine[0]))
    found = in_processes(compete, registry_url, work)
    assert [len(seen) for seen in found] == [RUNS_EACH] * PROCESSES, "each run had its turn"
    together = [pair for seen in found for pair in seen]
    assert max(total for total, _ in together) <= LIMIT
    assert max(of_user for _, of_user in together) <= PER_USER
    assert max(total for total, _ in together) == LIMIT, "they did meet"
    with registry.engine.connect() as connection:
        left = connection.execute(select(slots.c.run_id)).scalars().all()
    assert set(left) <= {dies for _, dies in work}
