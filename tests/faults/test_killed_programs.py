"""Programs of the service die, or are away for a while, during a build: it costs time, and no work."""

import os
import signal
import time
from contextlib import suppress

import pytest

from deployments.processes import Process
from tasks.adapters.agents.runtime import RuntimeFolder
from tasks.adapters.registry import Accepted
from tasks.domain.pipeline import Status, Step, Verb
from tests.support.faults import ENTERING, LEAVING, Battered, fault, gone_within
from tests.support.service import until

pytestmark = pytest.mark.timeout(900)

ONCE = ["planning", "coding", "test_generation", "verification"]


def assert_undisturbed(battered: Battered, built: Accepted) -> None:
    """The run's own process lived through it, and noticed nothing."""
    assert battered.run_of(built.run_id).attempt == 1
    assert set(battered.steps_begun(built.run_id).values()) == {1}
    assert battered.prompts(built) == ONCE


@fault("kill -9 of the worker while an agent writes code", "the run's process finishes the build; the worker is back")
def test_a_build_outlives_its_worker(battered: Battered) -> None:
    built = battered.accept()
    with battered.frozen_agent(built, Step.GENERATE_CODE):
        battered.is_back("worker", battered.kill("worker"))
    battered.becomes(built.run_id, Status.COMPLETED)
    assert_undisturbed(battered, built)


@fault("SIGTERM of the worker while an agent writes code", "the run's process finishes the build; the worker is back")
def test_a_build_outlives_a_worker_that_is_asked_to_stop(battered: Battered) -> None:
    built = battered.accept()
    with battered.frozen_agent(built, Step.GENERATE_CODE):
        before = battered.process("worker")
        before.send(signal.SIGTERM)
        battered.is_back("worker", before)
    battered.becomes(built.run_id, Status.COMPLETED)
    assert_undisturbed(battered, built)


@fault(
    "kill -9 of the worker and of the run's process in step 6",
    "seen by the dispatcher though nobody watches; started again, goes on with step 6",
    sampled=True,
)
def test_a_build_whose_worker_and_process_are_killed_goes_on(battered: Battered) -> None:
    built = battered.accept()
    with battered.gate(built.run_id, Step.DEPLOY, LEAVING) as gate:
        gate.wait()
        engine = battered.engine(built.run_id).process
        worker = battered.kill("worker")
        engine.send(signal.SIGKILL)
        gate.open()
    battered.is_back("worker", worker)
    battered.becomes(built.run_id, Status.COMPLETED)
    assert battered.steps_begun(built.run_id) == {number: 2 if number == 6 else 1 for number in range(1, 10)}
    assert battered.prompts(built) == ONCE


@fault(
    "kill -9 of the dispatcher before a request comes, and of the run's process before the dispatcher is back",
    "the request is started and the run goes on when the dispatcher is back",
)
def test_a_request_that_comes_while_the_dispatcher_is_away_is_carried_out(battered: Battered) -> None:
    battered.control("stop", "dispatcher")
    built = battered.accept()
    time.sleep(1)
    assert battered.run_of(built.run_id).flow_run_id is None
    battered.control("start", "dispatcher")
    with battered.gate(built.run_id, Step.CREATE_SESSION, LEAVING) as gate:
        gate.wait()
        engine = battered.engine(built.run_id).process
        before = battered.kill("dispatcher")
        engine.send(signal.SIGKILL)
        gate.open()
    battered.is_back("dispatcher", before)
    battered.becomes(built.run_id, Status.COMPLETED)
    assert battered.steps_begun(built.run_id)[Step.CREATE_SESSION] == 2


@pytest.mark.parametrize("seconds", [pytest.param(6, id="6 s"), pytest.param(60, id="60 s", marks=pytest.mark.faults)])
@fault(
    "kill -9 of the Prefect server in step 5; away for so long",
    "the run waits for it and finishes; nothing is done twice",
    sampled=True,
)
def test_a_build_outlives_the_prefect_server(battered: Battered, seconds: int) -> None:
    built = battered.accept()
    with battered.gate(built.run_id, Step.GENERATE_CODE, ENTERING) as gate:
        gate.wait()
        with battered.away("prefect-server", seconds):
            gate.open()
    battered.becomes(built.run_id, Status.COMPLETED)
    assert battered.prompts(built) == ONCE
    assert set(battered.steps_begun(built.run_id).values()) == {1}


@fault(
    "PostgreSQL is restarted while an agent writes code, and killed with -9 while the browser tests run",
    "calls to the record are repeated; the build finishes",
)
def test_a_build_outlives_restarts_of_the_database(battered: Battered) -> None:
    built = battered.accept()
    with battered.frozen_agent(built, Step.GENERATE_CODE):
        battered.control("restart", "postgresql")
    until(lambda: None if 9 in begun(battered, built) else "step 9 did not begin", 150)
    battered.kill("postgresql")
    until(lambda: None if begun(battered, built) else "the database is away", 60)
    battered.becomes(built.run_id, Status.COMPLETED)
    assert battered.prompts(built) == ONCE


def begun(battered: Battered, built: Accepted) -> dict[int, int]:
    """Empty while the database is away."""
    with suppress(Exception):
        return battered.steps_begun(built.run_id)
    return {}


@fault(
    "kill -9 of the tmux server while the agent writes code",
    "the agent's processes are gone, the run failed in step 5 and says so; asked again, it goes on with step 5",
)
def test_a_build_whose_terminal_is_killed_says_so_and_goes_on_when_asked(battered: Battered) -> None:
    built = battered.accept()
    with battered.frozen_agent(built, Step.GENERATE_CODE):
        session = RuntimeFolder(battered.home, built.execution_id).session()
        assert session is not None
        os.kill(session.server_pid, signal.SIGKILL)
    assert_fails_and_goes_on(battered, built, Step.GENERATE_CODE, "the tmux session")


@fault(
    "kill -9 of the agent and all its processes while it writes code",
    "the run failed in step 5 and says with what; asked again, it goes on with step 5",
)
def test_a_build_whose_agent_is_killed_says_so_and_goes_on_when_asked(battered: Battered) -> None:
    built = battered.accept()
    with battered.frozen_agent(built, Step.GENERATE_CODE) as agent:
        for pid in agent:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    assert_fails_and_goes_on(battered, built, Step.GENERATE_CODE, "the agent ended during coding")


def assert_fails_and_goes_on(battered: Battered, built: Accepted, step: Step, words: str) -> None:
    battered.becomes(built.run_id, Status.FAILED)
    error = battered.record.progress(built.execution_id).error
    assert error is not None
    assert (error.step, words in error.message) == (step, True), error.message
    gone_within(battered, 10)
    again = battered.ask_for(built, Verb.FULL_BUILD)
    battered.becomes(again, Status.COMPLETED)
    done_before = set(range(Step.GATHER_REQUIREMENTS, step))
    noted = [event for event in battered.record.events(built.execution_id, limit=500) if event.run_id == again]
    began = {event.data["step"] for event in noted if event.kind == "step_began"}
    assert began == set(range(1, 10)) - done_before


@fault(
    "kill -9 of the site server when step 7 begins",
    "it is back at once; the health check waits for it, the build finishes",
)
def test_a_build_outlives_the_site_server(battered: Battered) -> None:
    built = battered.accept()
    with battered.gate(built.run_id, Step.HEALTH_CHECK, ENTERING) as gate:
        gate.wait()
        before = battered.kill("sites")
        gate.open()
    battered.is_back("sites", before)
    battered.becomes(built.run_id, Status.COMPLETED)
    assert_undisturbed(battered, built)


@pytest.mark.parametrize("step", [Step.SCREENSHOT, Step.E2E_TESTS], ids=["8 screenshot", "9 e2e_tests"])
@fault(
    "kill -9 of the browser in steps 8 and 9",
    "no fault of the site: it stays live, and the check says that it was not made or not passed",
)
def test_a_killed_browser_does_not_take_the_site_down(battered: Battered, step: Step) -> None:
    built = battered.accept()
    with battered.gate(built.run_id, step, ENTERING) as gate:
        gate.wait()
        gate.open()
        killed = kill_browser(battered)
    assert killed
    battered.becomes(built.run_id, Status.COMPLETED)
    record = battered.execution(built)
    assert record.live_release is not None
    name = {Step.SCREENSHOT: "screenshot", Step.E2E_TESTS: "e2e_tests"}[step]
    checks = {check.name: check.outcome for check in battered.record.checks(built.execution_id)}
    assert checks[name] != "passed", checks


def kill_browser(battered: Battered) -> list[str]:
    """Kill -9 of every browser process of this service, as soon as there is one."""
    killed: list[str] = []

    def complaint() -> str | None:
        for process, command in browsers():
            if process.send(signal.SIGKILL):
                killed.append(command)
        return None if killed else "no browser was started"

    def browsers() -> list[tuple[Process, str]]:
        return [
            (process, command)
            for pid, command in of_home(battered)
            if "chrom" in command.split()[0] and (process := Process.of(pid))
        ]

    until(complaint, 60)
    return killed


def of_home(battered: Battered) -> list[tuple[int, str]]:
    """The service's processes with their numbers: the descendants of its engines."""
    from pathlib import Path

    parents, commands = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError, IndexError):
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                commands[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    from deployments.engines import Engine

    found = {engine.process.pid for engine in Engine.below(battered.home / "run" / "engines")}
    grew = True
    while grew:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        found |= more
        grew = bool(more)
    return [(pid, commands.get(pid, "")) for pid in sorted(found) if commands.get(pid)]
