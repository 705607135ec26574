"""The dispatcher against a real Prefect server and registry. The service's own and the worker are stopped meanwhile."""

import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from uuid import UUID, uuid4

import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import State, StateType
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from blocks.settings import settings
from deployments.dispatcher import RESUME_AFTER_S, Dispatcher, parameters_of, status_of
from deployments.processes import Process, Record
from tasks import record
from tasks.adapters.registry import Accepted, Registry
from tasks.domain.pipeline import Failure, Status, Step, Verb
from tasks.domain.request import SiteRequest
from tests.support.service import ROOT, ServiceUnderTest, until

REQUEST = SiteRequest(requirements="A bakery", email="ana@example.com", phone="+4915112345678")


@pytest.fixture(scope="module")
def quiet(service: ServiceUnderTest) -> Iterator[ServiceUnderTest]:
    """Nobody takes runs up: neither dispatcher nor worker runs."""
    control = [sys.executable, "-m", "supervisor.supervisorctl", "-s", f"unix://{service.home}/service/supervisor.sock"]
    subprocess.run([*control, "stop", "dispatcher", "worker"], check=True, capture_output=True, timeout=60)
    yield service
    again = service.make("up")
    assert again.returncode == 0, again.stderr


@pytest.fixture
def registry(quiet: ServiceUnderTest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """The service's, also for `flows.closing`, which finds it by this process's settings."""
    monkeypatch.setenv("TMUX_BUILDER_HOME", str(quiet.home))
    settings.cache_clear()
    record.registry.cache_clear()
    opened = quiet.registry()
    yield opened
    for run in opened.active_runs() + opened.undispatched():  # leave nothing for the service's own to find
        opened.set_status(run.execution_id, Status.CANCELLED, run_id=run.run_id)
    opened.close()
    record.registry().close()
    record.registry.cache_clear()
    monkeypatch.undo()
    settings.cache_clear()


@pytest.fixture
async def client(quiet: ServiceUnderTest) -> AsyncIterator[PrefectClient]:
    """Connected to the service's server, as everything in this process that asks for blocks."""
    told = {
        PREFECT_API_URL: quiet.told["PREFECT_API_URL"],
        PREFECT_API_AUTH_STRING: quiet.told["PREFECT_API_AUTH_STRING"],
    }
    with temporary_settings(told):
        async with quiet.client() as connected:
            yield connected


@pytest.fixture
def dispatcher(registry: Registry, client: PrefectClient, tmp_path: Path) -> Dispatcher:
    made = Dispatcher(registry, client, tmp_path / "engines", hooks_s=0)
    made.last_word_s = 0
    return made


@pytest.fixture
def accepted(registry: Registry) -> Accepted:
    return registry.accept(REQUEST, f"test-{uuid4()}")


def flow_run_of(registry: Registry, accepted: Accepted) -> UUID:
    (run,) = [run for run in registry.active_runs() if run.run_id == accepted.run_id]
    assert run.flow_run_id is not None
    return UUID(run.flow_run_id)


async def test_a_waiting_run_becomes_one_flow_run_that_people_find_by_execution_and_user(
    dispatcher: Dispatcher, registry: Registry, client: PrefectClient, accepted: Accepted
) -> None:
    await dispatcher.dispatch()
    flow_run_id = flow_run_of(registry, accepted)
    flow_run = await client.read_flow_run(flow_run_id)
    assert flow_run.name == f"full-build {accepted.execution_id}"
    assert {f"ExecutionID:{accepted.execution_id}", f"UserGUID:{accepted.user_id}"} <= set(flow_run.tags)
    assert flow_run.parameters["execution_id"] == accepted.execution_id
    assert SiteRequest.model_validate(flow_run.parameters["request"]) == REQUEST
    assert flow_run.idempotency_key == f"full-build:{accepted.run_id}"
    await dispatcher.dispatch()
    assert flow_run_of(registry, accepted) == flow_run_id


async def test_a_dispatcher_that_dies_between_prefect_and_registry_starts_no_second_run(
    dispatcher: Dispatcher, registry: Registry, client: PrefectClient, accepted: Accepted, tmp_path: Path
) -> None:
    class Dying:
        def __getattr__(self, name: str) -> object:
            return getattr(registry, name)

        def mark_dispatched(self, run_id: str, flow_run_id: str) -> bool:
            made.append(flow_run_id)
            raise ConnectionError("the database went away")

    made: list[str] = []
    with pytest.raises(ConnectionError):
        await Dispatcher(Dying(), client, tmp_path).dispatch()  # type: ignore[arg-type]  # the registry, cut off once
    await dispatcher.dispatch()
    assert made == [str(flow_run_of(registry, accepted))]


@pytest.mark.parametrize(
    ("verb", "expected"),
    [(Verb.REDEPLOY, {"execution_id": "x"}), (Verb.REVERIFY, {"execution_ids": ["x"]})],
)
def test_what_a_run_is_told_fits_its_flow(verb: Verb, expected: dict[str, object]) -> None:
    run = SimpleNamespace(verb=verb, execution_id="x")
    assert parameters_of(run, SimpleNamespace()) == expected  # type: ignore[arg-type]  # what it reads is there


async def test_redeploy_and_reverify_are_taken_by_their_deployments(
    dispatcher: Dispatcher, registry: Registry, client: PrefectClient, accepted: Accepted
) -> None:
    wanted = {verb: registry.request_run(accepted.execution_id, verb, f"test-{uuid4()}") for verb in list(Verb)[1:]}
    await dispatcher.dispatch()
    flow_runs = {run.run_id: run.flow_run_id for run in registry.active_runs()}
    for verb, run_id in wanted.items():
        flow_run = await client.read_flow_run(UUID(flow_runs[run_id]))
        deployment = await client.read_deployment(flow_run.deployment_id)  # type: ignore[arg-type]  # it has one
        assert deployment.id == (await client.read_deployment_by_name(verb.deployment)).id
        assert flow_run.name == f"{verb} {accepted.execution_id}"


async def test_one_run_that_cannot_be_read_does_not_keep_the_others_waiting(
    registry: Registry, client: PrefectClient, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken, sound = (registry.accept(REQUEST, f"test-{uuid4()}") for _ in range(2))

    class Broken:
        def __getattr__(self, name: str) -> object:
            return getattr(registry, name)

        def execution(self, execution_id: str) -> object:
            if execution_id == broken.execution_id:
                raise ValueError("its request does not fit this version")
            return registry.execution(execution_id)

    dispatcher = Dispatcher(Broken(), client, tmp_path)  # type: ignore[arg-type]  # the registry, with one bad row
    await dispatcher.dispatch()
    await dispatcher.dispatch()
    assert flow_run_of(registry, sound)
    assert [run.run_id for run in registry.undispatched()] == [broken.run_id]
    assert len([line for line in caplog.records if "passed over" in line.message]) == 1


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (StateType.SCHEDULED, None),
        (StateType.PENDING, None),
        (StateType.CANCELLING, None),
        (StateType.PAUSED, Status.WAITING_INPUT),
        (StateType.COMPLETED, Status.COMPLETED),
        (StateType.CANCELLED, Status.CANCELLED),
        (StateType.FAILED, Status.FAILED),
        (StateType.CRASHED, None),
        (StateType.RUNNING, None),
    ],
)
def test_every_state_of_prefect_means_one_status(state: StateType, status: Status | None) -> None:
    assert status_of(state, Status.RUNNING) is status
    assert status_of(StateType.RUNNING, Status.WAITING_INPUT) is Status.RUNNING


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (StateType.RUNNING, Status.RUNNING),
        (StateType.COMPLETED, Status.COMPLETED),
        (StateType.CANCELLED, Status.CANCELLED),
        (StateType.FAILED, Status.FAILED),
    ],
)
async def test_what_became_of_a_flow_run_is_written_to_the_registry(
    dispatcher: Dispatcher,
    registry: Registry,
    client: PrefectClient,
    accepted: Accepted,
    state: StateType,
    status: Status,
) -> None:
    await dispatcher.dispatch()
    flow_run_id = flow_run_of(registry, accepted)
    await client.set_flow_run_state(flow_run_id, State(type=state, message="because"), force=True)
    await dispatcher.reconcile()
    progress = registry.progress(accepted.execution_id)
    assert progress.status is status
    if status is Status.FAILED:
        assert progress.error is not None
        assert "because" in progress.error.message
        assert "again" in progress.error.message


async def test_a_question_shows_as_waiting_and_its_answer_as_running(
    dispatcher: Dispatcher, registry: Registry, client: PrefectClient, accepted: Accepted
) -> None:
    await dispatcher.dispatch()
    flow_run_id = flow_run_of(registry, accepted)
    for state, status in (
        (StateType.RUNNING, Status.RUNNING),
        (StateType.PAUSED, Status.WAITING_INPUT),
        (StateType.RUNNING, Status.RUNNING),
    ):
        await client.set_flow_run_state(flow_run_id, State(type=state), force=True)
        await dispatcher.reconcile()
        assert registry.progress(accepted.execution_id).status is status


async def test_the_error_that_a_step_recorded_stands(
    dispatcher: Dispatcher, registry: Registry, client: PrefectClient, accepted: Accepted
) -> None:
    await dispatcher.dispatch()
    registry.begin_step(accepted.run_id, Step.CREATE_USER)
    registry.fail_step(accepted.run_id, Step.CREATE_USER, "email: it does not exist; use another")
    failed = State(type=StateType.FAILED, message="Flow run encountered an exception")
    await client.set_flow_run_state(flow_run_of(registry, accepted), failed, force=True)
    await dispatcher.reconcile()
    error = registry.progress(accepted.execution_id).error
    assert error is not None
    assert (error.step, error.message) == (1, "email: it does not exist; use another")


async def test_hooks_have_their_time_before_the_sweep_writes(
    registry: Registry, client: PrefectClient, accepted: Accepted, tmp_path: Path
) -> None:
    dispatcher = Dispatcher(registry, client, tmp_path, hooks_s=60)
    await dispatcher.dispatch()
    await client.set_flow_run_state(flow_run_of(registry, accepted), State(type=StateType.FAILED), force=True)
    await dispatcher.reconcile()
    assert registry.progress(accepted.execution_id).status is Status.PENDING


async def test_a_crashed_run_is_started_again_later_and_later_and_given_up_in_the_end(
    dispatcher: Dispatcher, registry: Registry, client: PrefectClient, accepted: Accepted
) -> None:
    await dispatcher.dispatch()
    flow_run_id = flow_run_of(registry, accepted)
    registry.begin_step(accepted.run_id, Step.CREATE_USER)
    for wait_s in RESUME_AFTER_S:
        await client.set_flow_run_state(flow_run_id, State(type=StateType.CRASHED, message="killed"), force=True)
        await dispatcher.reconcile()
        await dispatcher.reconcile()
        state = (await client.read_flow_run(flow_run_id)).state
        assert state is not None
        assert state.name == "AwaitingRetry"
        assert state.state_details.scheduled_time is not None
        assert abs((state.state_details.scheduled_time - state.timestamp).total_seconds() - wait_s) < 5
        assert registry.progress(accepted.execution_id).status is Status.RUNNING
    await client.set_flow_run_state(flow_run_id, State(type=StateType.CRASHED, message="killed"), force=True)
    await dispatcher.reconcile()
    progress = registry.progress(accepted.execution_id)
    assert progress.status is Status.FAILED
    assert progress.error is not None
    assert "killed" in progress.error.message
    assert registry.active_runs() == []


async def test_of_two_who_see_a_crash_one_starts_the_run_again(
    dispatcher: Dispatcher, registry: Registry, client: PrefectClient, accepted: Accepted, tmp_path: Path
) -> None:
    await dispatcher.dispatch()
    flow_run_id = flow_run_of(registry, accepted)
    await client.set_flow_run_state(flow_run_id, State(type=StateType.CRASHED), force=True)
    crash = (await client.read_flow_run(flow_run_id)).state
    assert crash is not None
    assert registry.note_crash(accepted.run_id, str(crash.id)) == (1, True), "the other machine's dispatcher"
    await dispatcher.reconcile()
    assert (await client.read_flow_run(flow_run_id)).state.is_crashed()  # type: ignore[union-attr]
    dispatcher.stuck_s = 0  # the other one died in between
    await dispatcher.reconcile()
    assert (await client.read_flow_run(flow_run_id)).state.is_scheduled()  # type: ignore[union-attr]


async def test_a_flow_run_that_somebody_deleted_is_a_failure_with_a_next_move(
    dispatcher: Dispatcher, registry: Registry, client: PrefectClient, accepted: Accepted
) -> None:
    await dispatcher.dispatch()
    await client.delete_flow_run(flow_run_of(registry, accepted))
    await dispatcher.reconcile()
    progress = registry.progress(accepted.execution_id)
    assert progress.status is Status.FAILED
    assert progress.error is not None
    assert "redeploy/on-demand" in progress.error.message


class Orphan:
    """An engine whose wrapper has ended, doing nothing."""

    def __init__(self, engines: Path, flow_run_id: UUID) -> None:
        self.path = engines / str(flow_run_id)
        launch = [sys.executable, "-S", "-E", "-m", "deployments.launch", "--record", str(self.path), "--session", "--"]
        starter = ["sh", "-c", '"$@" >/dev/null 2>&1 &', "sh", *launch, "sleep", "600"]
        subprocess.run(starter, cwd=ROOT, check=True)
        until(lambda: None if self.path.exists() else "no record of the engine", 20)

    @property
    def process(self) -> Process:
        found = Record.read(self.path)
        assert found is not None
        return found.process


async def test_a_cancellation_reaches_an_engine_that_lost_its_worker(
    dispatcher: Dispatcher, registry: Registry, client: PrefectClient, accepted: Accepted
) -> None:
    await dispatcher.dispatch()
    flow_run_id = flow_run_of(registry, accepted)
    await client.set_flow_run_state(flow_run_id, State(type=StateType.RUNNING), force=True)
    orphan = Orphan(dispatcher.engines, flow_run_id)
    process = orphan.process
    try:
        await dispatcher.look_after_orphans()
        assert process.alive()
        await client.set_flow_run_state(flow_run_id, State(type=StateType.CANCELLING), force=True)
        await dispatcher.look_after_orphans()
        assert process.ended_within(5)
        # An engine that is ended from outside says so itself, to both.
        failure = Failure(step=0, step_name="", message="Execution was cancelled by the runtime environment.")
        assert not registry.set_status(accepted.execution_id, Status.FAILED, failure, run_id=accepted.run_id)
        await client.set_flow_run_state(flow_run_id, State(type=StateType.CRASHED), force=True)
        await dispatcher.look_after_orphans()
    finally:
        process.send(signal.SIGKILL)
    assert (await client.read_flow_run(flow_run_id)).state.is_cancelled()  # type: ignore[union-attr]
    assert not orphan.path.exists()
    await dispatcher.reconcile()
    assert registry.progress(accepted.execution_id).status is Status.CANCELLED


async def test_an_engine_that_died_unwatched_is_a_crash_and_not_a_run_for_ever(
    dispatcher: Dispatcher, registry: Registry, client: PrefectClient, accepted: Accepted
) -> None:
    await dispatcher.dispatch()
    flow_run_id = flow_run_of(registry, accepted)
    await client.set_flow_run_state(flow_run_id, State(type=StateType.RUNNING), force=True)
    process = Orphan(dispatcher.engines, flow_run_id).process
    process.send(signal.SIGKILL)
    assert process.ended_within(5)
    await dispatcher.look_after_orphans()
    assert (await client.read_flow_run(flow_run_id)).state.is_crashed()  # type: ignore[union-attr]
    await dispatcher.reconcile()
    assert (await client.read_flow_run(flow_run_id)).state.is_scheduled()  # type: ignore[union-attr]
    assert not registry.progress(accepted.execution_id).status.is_final


async def test_a_run_whose_worker_died_before_it_began_is_scheduled_again(
    dispatcher: Dispatcher, registry: Registry, client: PrefectClient, accepted: Accepted
) -> None:
    await dispatcher.dispatch()
    flow_run_id = flow_run_of(registry, accepted)
    await client.set_flow_run_state(flow_run_id, State(type=StateType.PENDING), force=True)
    await dispatcher.reconcile()
    assert (await client.read_flow_run(flow_run_id)).state.is_pending()  # type: ignore[union-attr]
    dispatcher.stuck_s = 0
    await dispatcher.reconcile()
    assert (await client.read_flow_run(flow_run_id)).state.is_scheduled()  # type: ignore[union-attr]


async def test_a_cancellation_that_no_engine_heeds_is_an_end(
    dispatcher: Dispatcher, registry: Registry, client: PrefectClient, accepted: Accepted
) -> None:
    """The engine of a run that was cancelled while it was started ends at once, and says nothing."""
    await dispatcher.dispatch()
    flow_run_id = flow_run_of(registry, accepted)
    await client.set_flow_run_state(flow_run_id, State(type=StateType.PENDING), force=True)
    await client.set_flow_run_state(flow_run_id, State(type=StateType.CANCELLING), force=True)
    await dispatcher.reconcile()
    assert not registry.progress(accepted.execution_id).status.is_final, "an engine may be about to start"
    dispatcher.unheeded_s = 0
    await dispatcher.reconcile()
    assert (await client.read_flow_run(flow_run_id)).state.is_cancelled()  # type: ignore[union-attr]
    assert registry.progress(accepted.execution_id).status is Status.CANCELLED


async def test_a_cancellation_that_an_engine_heeds_is_left_to_it(
    dispatcher: Dispatcher, registry: Registry, client: PrefectClient, accepted: Accepted
) -> None:
    await dispatcher.dispatch()
    flow_run_id = flow_run_of(registry, accepted)
    process = Orphan(dispatcher.engines, flow_run_id).process
    try:
        await client.set_flow_run_state(flow_run_id, State(type=StateType.RUNNING), force=True)
        await client.set_flow_run_state(flow_run_id, State(type=StateType.CANCELLING), force=True)
        dispatcher.unheeded_s = 0
        await dispatcher.reconcile()
    finally:
        process.send(signal.SIGKILL)
    assert not registry.progress(accepted.execution_id).status.is_final


async def test_a_run_that_prefect_does_not_have_is_cancelled_in_the_registry(
    dispatcher: Dispatcher, registry: Registry, accepted: Accepted
) -> None:
    registry.request_cancel(accepted.execution_id)
    await dispatcher.cancel()
    assert registry.progress(accepted.execution_id).status is Status.CANCELLED
    await dispatcher.dispatch()
    assert accepted.run_id not in [run.run_id for run in registry.active_runs()], "it is not started any more"


async def test_a_run_that_prefect_has_is_cancelled_there_and_once(
    dispatcher: Dispatcher, registry: Registry, client: PrefectClient, accepted: Accepted
) -> None:
    await dispatcher.dispatch()
    flow_run_id = flow_run_of(registry, accepted)
    process = Orphan(dispatcher.engines, flow_run_id).process
    try:
        await client.set_flow_run_state(flow_run_id, State(type=StateType.PENDING), force=True)
        await client.set_flow_run_state(flow_run_id, State(type=StateType.RUNNING), force=True)
        await dispatcher.cancel()
        assert (await client.read_flow_run(flow_run_id)).state.is_running()  # type: ignore[union-attr]
        registry.request_cancel(accepted.execution_id)
        await dispatcher.cancel()
        first = (await client.read_flow_run(flow_run_id)).state
        assert first is not None
        assert first.type is StateType.CANCELLING
        await dispatcher.cancel()
        assert (await client.read_flow_run(flow_run_id)).state == first
    finally:
        process.send(signal.SIGKILL)


async def test_a_run_that_waits_for_its_turn_is_cancelled_at_once(
    dispatcher: Dispatcher, registry: Registry, client: PrefectClient, accepted: Accepted
) -> None:
    await dispatcher.dispatch()
    registry.request_cancel(accepted.execution_id)
    await dispatcher.cancel()
    assert (await client.read_flow_run(flow_run_of(registry, accepted))).state.is_cancelled()  # type: ignore[union-attr]
    await dispatcher.reconcile()
    assert registry.progress(accepted.execution_id).status is Status.CANCELLED
    assert registry.cancel_requests() == []


async def test_a_crashed_run_that_nobody_wants_is_not_started_again(
    dispatcher: Dispatcher, registry: Registry, client: PrefectClient, accepted: Accepted
) -> None:
    await dispatcher.dispatch()
    flow_run_id = flow_run_of(registry, accepted)
    await client.set_flow_run_state(flow_run_id, State(type=StateType.CRASHED), force=True)
    registry.request_cancel(accepted.execution_id)
    await dispatcher.cancel()
    await dispatcher.reconcile()
    assert (await client.read_flow_run(flow_run_id)).state.is_cancelled()  # type: ignore[union-attr]
    assert registry.progress(accepted.execution_id).status is Status.CANCELLED


def test_what_was_asked_for_with_a_run_is_told_to_its_flow() -> None:
    run = SimpleNamespace(verb=Verb.ROLLBACK, execution_id="x", parameters={"release": "r1-0123456789ab"})
    told = parameters_of(run, SimpleNamespace())  # type: ignore[arg-type]  # what it reads is there
    assert told == {"execution_id": "x", "release": "r1-0123456789ab"}


def test_without_a_service_it_says_how_to_start_one(quiet: ServiceUnderTest) -> None:
    told = quiet.run("deployments.dispatcher", environment=quiet.base, timeout_s=60)
    assert told.returncode == 1
    assert "make up" in told.stderr
