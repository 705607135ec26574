"""Cancel in each step: the agent is gone within ten seconds, nothing is half-published, the lease is free."""

import signal

import pytest

from tasks.adapters.registry import Accepted
from tasks.domain.pipeline import SiteState, Status, Step, Verb
from tests.support.faults import LEAVING, PHASES, Battered, edit, fault, gone_within, pending_signal
from tests.support.service import until

pytestmark = pytest.mark.timeout(900)

GONE_S = 10.0


def cancel_in(battered: Battered, run_id: str, step: Step) -> None:
    """The cancellation reaches the run's process when the step's work is done and its note is on the way."""
    with battered.gate(run_id, step, LEAVING) as gate:
        gate.wait()
        engine = battered.engine(run_id).process
        engine.send(signal.SIGSTOP)
        try:
            gate.open()
            battered.cancel(run_id)
            until(lambda: None if pending_signal(engine, signal.SIGTERM) else "the worker passed nothing on", 30)
        finally:
            engine.send(signal.SIGCONT)


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(
            step, marks=[] if step is Step.GENERATE_CODE else pytest.mark.faults, id=f"{step:d} {step.task_name}"
        )
        for step in Step
    ],
)
@fault(
    "cancel in the step (4, 5 and 9: while the agent works)",
    "cancelled; agent and all its processes gone within 10 s; nothing is served; lease and turn free",
    sampled=True,
)
def test_cancel_in_each_step(battered: Battered, step: Step) -> None:
    built = battered.accept()
    if step in PHASES:
        with battered.frozen_agent(built, step):
            battered.cancel(built.run_id)
            gone_within(battered, GONE_S)
    else:
        cancel_in(battered, built.run_id, step)
        gone_within(battered, GONE_S)
    battered.becomes(built.run_id, Status.CANCELLED, 60)

    record = battered.execution(built)
    until(lambda: None if not agents_lease(battered, built) else "the lease is held", 10)
    if step < Step.E2E_TESTS:
        assert battered.execution(built).live_release is None
    else:  # it has passed our gates by then
        assert record.good_release == record.live_release is not None


def agents_lease(battered: Battered, built: Accepted) -> bool:
    return battered.record.lease_of(built.site_name) is not None


@pytest.mark.parametrize("step", [Step.DEPLOY, Step.HEALTH_CHECK, Step.SCREENSHOT], ids=lambda step: step.task_name)
@fault(
    "cancel of a redeploy in steps 6 to 8, its release published and not yet verified",
    "cancelled; the last good release serves again",
)
def test_a_cancelled_redeploy_leaves_the_last_good_release(battered: Battered, site: Accepted, step: Step) -> None:
    edit(battered, site, f"<p>cancelled in step {step}</p>")
    good = battered.execution(site).good_release
    run_id = battered.ask_for(site, Verb.REDEPLOY)
    cancel_in(battered, run_id, step)
    battered.becomes(run_id, Status.CANCELLED, 60)

    until(lambda: None if battered.execution(site).live_release == good else "the cancelled release serves", 60)
    assert battered.execution(site).site_state is SiteState.ROLLED_BACK


@fault(
    "cancel of a build whose worker was killed before",
    "the dispatcher passes it on; cancelled, agent gone within 10 s",
)
def test_cancel_reaches_a_build_without_a_worker(battered: Battered) -> None:
    built = battered.accept()
    with battered.frozen_agent(built, Step.GENERATE_CODE):
        before = battered.kill("worker")
        battered.cancel(built.run_id)
        gone_within(battered, GONE_S)
    battered.is_back("worker", before)
    battered.becomes(built.run_id, Status.CANCELLED, 60)


@fault(
    "cancel of a build after the Prefect server was killed with -9 and away for ten seconds",
    "cancelled, agent gone within 10 s of the request",
)
def test_cancel_reaches_a_build_after_an_outage_of_the_server(battered: Battered) -> None:
    built = battered.accept()
    with battered.frozen_agent(built, Step.GENERATE_CODE):
        with battered.away("prefect-server", 10):
            pass
        battered.cancel(built.run_id)
        gone_within(battered, GONE_S)
    battered.becomes(built.run_id, Status.CANCELLED, 60)
