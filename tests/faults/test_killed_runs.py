"""The process of a run is killed in each of the nine steps: the run goes on from the step that was not done."""

import signal

import pytest

from tasks.adapters.agents.runtime import RuntimeFolder
from tasks.adapters.registry import Accepted
from tasks.domain.pipeline import Status, Step, Verb
from tests.support.faults import LEAVING, Battered, edit, fault
from tests.support.service import until

pytestmark = pytest.mark.timeout(900)

ONCE = ["planning", "coding", "test_generation", "verification"]


def assert_went_on(battered: Battered, run_id: str, step: Step) -> None:
    """Steps before the killed one were done once, that one began again, and the run needed a second start."""
    begun = battered.steps_begun(run_id)
    assert begun == {number: 2 if number == step else 1 for number in range(1, 10)}
    assert battered.run_of(run_id).attempt >= 2


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(step, marks=[] if step is Step.DEPLOY else pytest.mark.faults, id=f"{step:d} {step.task_name}")
        for step in Step
    ],
)
@fault(
    "kill -9 of the run's process when the step's work is done and not yet noted",
    "started again by itself; goes on with that step, earlier ones are not repeated; agent adopted, no prompt repeated",
    sampled=True,
)
def test_a_run_killed_in_a_step_goes_on_with_that_step(battered: Battered, step: Step) -> None:
    built = battered.accept()
    with battered.gate(built.run_id, step, LEAVING) as gate:
        gate.wait()
        agent = RuntimeFolder(battered.home, built.execution_id).session()
        battered.engine(built.run_id).process.send(signal.SIGKILL)
        gate.open()
        if agent is not None:
            assert RuntimeFolder(battered.home, built.execution_id).session() == agent
    battered.becomes(built.run_id, Status.COMPLETED)

    assert_went_on(battered, built.run_id, step)
    assert battered.prompts(built) == ONCE


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(
            step, marks=[] if step is Step.CREATE_PLAN else pytest.mark.faults, id=f"{step:d} {step.task_name}"
        )
        for step in (Step.CREATE_PLAN, Step.GENERATE_CODE, Step.E2E_TESTS)
    ],
)
@fault(
    "kill -9 of the run's process while its agent works",
    "the agent works on meanwhile; the run is started again, adopts it and repeats no prompt",
    sampled=True,
)
def test_a_run_killed_while_its_agent_works_adopts_the_agent(battered: Battered, step: Step) -> None:
    built = battered.accept()
    with battered.frozen_agent(built, step):
        agent = RuntimeFolder(battered.home, built.execution_id).session()
        battered.engine(built.run_id).process.send(signal.SIGKILL)
        until(lambda: None if battered.run_of(built.run_id).attempt > 1 else "it was not started again", 90)
        assert RuntimeFolder(battered.home, built.execution_id).session() == agent
    battered.becomes(built.run_id, Status.COMPLETED)

    assert_went_on(battered, built.run_id, step)
    assert battered.prompts(built) == ONCE


@fault(
    "kill -9 of the run's process twice, in steps 3 and 6",
    "goes on both times, the second time five seconds later",
)
def test_a_run_killed_twice_goes_on_twice(battered: Battered) -> None:
    built = battered.accept()
    for step in (Step.GATHER_REQUIREMENTS, Step.DEPLOY):
        with battered.gate(built.run_id, step, LEAVING) as gate:
            gate.wait()
            battered.engine(built.run_id).process.send(signal.SIGKILL)
            gate.open()
    battered.becomes(built.run_id, Status.COMPLETED)

    assert battered.run_of(built.run_id).attempt == 3
    assert battered.prompts(built) == ONCE


@pytest.mark.parametrize("step", [Step.DEPLOY, Step.HEALTH_CHECK, Step.E2E_TESTS], ids=lambda step: step.task_name)
@fault(
    "kill -9 of a redeploy's process in steps 6, 7 and 9",
    "goes on with that step; the new release serves in the end, and some release all the time",
)
def test_a_killed_redeploy_goes_on(battered: Battered, site: Accepted, step: Step) -> None:
    edit(battered, site, f"<p>killed in step {step}</p>")
    before = battered.execution(site).live_release
    run_id = battered.ask_for(site, Verb.REDEPLOY)
    with battered.gate(run_id, step, LEAVING) as gate:
        gate.wait()
        battered.engine(run_id).process.send(signal.SIGKILL)
        gate.open()
    battered.becomes(run_id, Status.COMPLETED)

    assert battered.execution(site).live_release not in (None, before)
    assert battered.steps_begun(run_id)[step] == 2
