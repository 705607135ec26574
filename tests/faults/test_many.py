"""Many at once, and anything in any order."""

import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from deployments.engines import Engine
from tasks.adapters.registry import Accepted, RunRecord
from tasks.domain.pipeline import Status, Verb
from tests.support.faults import Battered, fault
from tests.support.invariants import assert_invariants
from tests.support.service import until

pytestmark = pytest.mark.timeout(1500)

CARRIED_OUT = 3


@fault(
    "100 requests at once, ten at a time; the dispatcher is killed with -9 meanwhile",
    "each is accepted and started once; the first three are built, the others are cancelled while they wait or work",
)
def test_a_hundred_requests_at_once(battered: Battered) -> None:
    began = time.monotonic()
    with ThreadPoolExecutor(10) as pool:
        pending = [pool.submit(battered.accept) for _ in range(100)]
        before = battered.kill("dispatcher")
        accepted = [future.result(60) for future in pending]
    assert time.monotonic() - began < 60
    assert len({one.execution_id for one in accepted}) == 100
    battered.is_back("dispatcher", before)
    until(lambda: f"{len(left)} wait" if (left := battered.record.undispatched()) else None, 180)
    flow_runs = {run.run_id: run.flow_run_id for run in map(battered.run_of, (one.run_id for one in accepted))}
    assert len(set(flow_runs.values())) == 100
    for one in accepted[CARRIED_OUT:]:
        with suppress(Exception):  # it may be over
            battered.cancel(one.run_id)
    for one in accepted[:CARRIED_OUT]:
        battered.becomes(one.run_id, Status.COMPLETED)
    for one in accepted[CARRIED_OUT:]:
        until(lambda one=one: None if battered.run_of(one.run_id).status.is_final else "it is not over", 120)  # type: ignore[misc]  # mypy does not see the default
    ends = {battered.run_of(one.run_id).status for one in accepted[CARRIED_OUT:]}
    assert ends <= {Status.CANCELLED, Status.COMPLETED}


class Battery(RuleBasedStateMachine):
    """People and kill -9, in any order, at any moment. What must hold in the end is asserted in the end."""

    service: ClassVar[Battered]

    def __init__(self) -> None:
        super().__init__()
        self.built: list[Accepted] = []

    @initialize()
    def order(self) -> None:
        self.built.append(self.service.accept())

    @rule()
    @precondition(lambda self: len(self.built) < 3)
    def order_another(self) -> None:
        self.order()

    @rule(verb=st.sampled_from([Verb.REDEPLOY, Verb.ROLLBACK, Verb.TEARDOWN]), data=st.data())
    def ask_for(self, verb: Verb, data: st.DataObject) -> None:
        self.service.ask_for(data.draw(st.sampled_from(self.built)), verb)

    @rule(after_s=st.floats(0, 8))
    def kill_an_engine(self, after_s: float) -> None:
        time.sleep(after_s)
        for engine in Engine.below(self.service.home / "run" / "engines"):
            if engine.process.send(signal.SIGKILL):
                return

    @rule(program=st.sampled_from(["worker", "dispatcher", "sites", "prefect-server"]), after_s=st.floats(0, 5))
    def kill_a_program(self, program: str, after_s: float) -> None:
        time.sleep(after_s)
        self.service.process(program).send(signal.SIGKILL)

    @rule(after_s=st.floats(0, 5))
    def cancel(self, after_s: float) -> None:
        time.sleep(after_s)
        active = self.active()
        if active:
            with suppress(Exception):  # the server may be away, the run over
                self.service.cancel(active[-1].run_id)

    def active(self) -> list[RunRecord]:
        return self.service.record.active_runs()

    def teardown(self) -> None:
        def complaint() -> str | None:
            left = [*self.active(), *self.service.record.undispatched()]
            return f"not over: {[(run.verb.value, run.status.value, run.attempt) for run in left]}" if left else None

        until(complaint, 420)
        assert_invariants(self.service)


@fault(
    "orders, redeploys, rollbacks, teardowns, cancels and kill -9 of anything, in random order and at random moments",
    "every run ends in a true state, and every invariant holds",
)
def test_anything_in_any_order(battered: Battered) -> None:
    Battery.service = battered
    chosen = settings(
        max_examples=int(os.environ.get("FAULTS_EXAMPLES", "2")),
        stateful_step_count=8,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        database=None,
        print_blob=True,
    )
    random.seed()
    run_state_machine_as_test(Battery, settings=chosen)
