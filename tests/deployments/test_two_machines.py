"""Two homes that share a Prefect server, a registry and a store: what one builds, the other one publishes again."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelling

from tasks.adapters.registry import Registry
from tests.flows.conftest import REQUEST, Seen, agents_of, run_deployment
from tests.support.databases import free_port
from tests.support.service import ServiceUnderTest, dispose, new_service, processes_of, until

Pair = tuple[ServiceUnderTest, ServiceUnderTest]


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """The first machine and one that joined it; one flow run at a time, on both together."""
    first, second = new_service(), new_service()
    try:
        started = first.make("up", TMUX_BUILDER_MAX_EXECUTIONS="1")
        assert started.returncode == 0, started.stdout + started.stderr
        invited = first.make("invite")
        assert invited.returncode == 0, invited.stderr
        joined = second.make("join", "--from", invited.stdout.splitlines()[0])
        assert joined.returncode == 0, joined.stdout + joined.stderr
        yield first, second
    finally:
        dispose(second)
        again = first.make("up", TMUX_BUILDER_MAX_EXECUTIONS="1")  # the guest took nothing along
        dispose(first)
    assert "starting the service" not in again.stdout


@pytest.fixture
def record(pair: Pair) -> Iterator[Registry]:
    registry = pair[0].registry()
    yield registry
    registry.close()


@pytest.fixture(scope="module")
def built(pair: Pair) -> Seen:
    """A build on the first machine, while the second one takes no work."""
    first, second = pair
    second.supervise("stop", "worker")
    try:
        return asyncio.run(run_deployment(first, "full-build/on-demand", {"request": REQUEST}))
    finally:
        second.supervise("start", "worker")


@pytest.fixture
def second_alone(pair: Pair) -> Iterator[ServiceUnderTest]:
    """The second machine, while the first one takes no work."""
    first, second = pair
    first.supervise("stop", "worker")
    yield second
    first.supervise("start", "worker")


async def until_state(
    client: PrefectClient, flow_run_id: UUID, wanted: Callable[[FlowRun], bool], deadline_s: float
) -> FlowRun:
    """The flow run, as soon as it is as wanted."""
    async with asyncio.timeout(deadline_s):
        while not wanted(flow_run := await client.read_flow_run(flow_run_id)):
            await asyncio.sleep(0.1)
    return flow_run


async def started(client: PrefectClient, name: str, parameters: dict[str, object]) -> UUID:
    deployment = await client.read_deployment_by_name(name)
    return (await client.create_flow_run_from_deployment(deployment.id, parameters=parameters)).id


def is_in(*types: StateType) -> Callable[[FlowRun], bool]:
    return lambda flow_run: flow_run.state is not None and flow_run.state.type in types


async def test_both_workers_poll_one_pool_under_names_of_their_own(pair: Pair):
    first, second = pair
    async with first.client() as client:
        workers = await client.read_workers_for_work_pool("tmux-builder")
    assert {worker.name for worker in workers} == {f"tmux-builder-{each.machine_id[:8]}" for each in pair}
    assert first.machine_id != second.machine_id


def test_the_guest_has_neither_a_database_nor_a_prefect_server(pair: Pair):
    _first, second = pair
    assert {path.name for path in (second.home / "run" / "programs").iterdir()} >= {"sites", "worker", "dispatcher"}
    assert not (second.home / "run" / "programs" / "prefect-server").exists()
    assert not (second.home / "postgresql").exists()
    assert not any("postgres -D" in line or "server start" in line for line in processes_of(second.home))


def test_a_second_join_changes_nothing_and_needs_no_file_any_more(pair: Pair):
    _first, second = pair
    before = {program: second.process(program) for program in ("sites", "worker", "dispatcher", "supervisord")}
    again = second.make("up")
    assert again.returncode == 0, again.stderr
    assert "takes part" in again.stdout
    assert {program: second.process(program) for program in before} == before


def test_a_guest_invites_nobody(pair: Pair):
    refused = pair[1].make("invite")
    assert refused.returncode == 1
    assert "the first machine invites" in refused.stderr


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("PREFECT_API_AUTH_STRING", "admin:wrong", "is another service's"),
        ("PREFECT_API_URL", "http://127.0.0.1:{free}/api", "does not answer"),
        ("TMUX_BUILDER_DATABASE_URL", "sqlite:////tmp/r.db", "is SQLite, which is for one machine"),
        ("TMUX_BUILDER_STORE", "/nowhere/store", "both machines see the same"),
        ("TMUX_BUILDER_STORE", "memory://store", "keeps nothing that another process finds"),
    ],
)
def test_an_invitation_with_one_wrong_line_is_refused_by_that_line(
    pair: Pair, own_service: ServiceUnderTest, tmp_path: Path, name: str, value: str, words: str
):
    lines = (pair[0].home / "service" / "invitation.env").read_text().splitlines()
    changed = [f"{name}='{value.format(free=free_port())}'" if line.startswith(f"{name}=") else line for line in lines]
    assert changed != lines
    (tmp_path / "invitation.env").write_text("\n".join(changed) + "\n")
    (tmp_path / "invitation.env").chmod(0o600)
    refused = own_service.make("join", "--from", str(tmp_path / "invitation.env"))
    assert refused.returncode == 1
    assert words in refused.stderr
    assert name in refused.stderr
    assert processes_of(own_service.home) == []


async def test_a_redeploy_runs_on_the_machine_that_did_not_build(
    pair: Pair, built: Seen, record: Registry, second_alone: ServiceUnderTest
):
    first, second = pair
    assert built.flow_run.state_name == "Completed", built.lines
    before = record.execution(built.execution_id)
    workspace = f"users/{before.user_id}/sessions/{before.session_id}"
    assert (first.home / workspace).exists()
    assert not (second.home / workspace).exists()

    again = await run_deployment(first, "redeploy/on-demand", {"execution_id": built.execution_id})

    assert again.flow_run.state_name == "Completed", again.lines
    assert any("restored from the archive" in line for line in again.lines)
    assert (second.home / "logs" / "engines" / f"{again.flow_run.id}.log").exists()
    after = record.execution(built.execution_id)
    assert after.live_release == before.live_release, "the same release, not one like it"
    assert before.live_release is not None
    assert after.dial == f"127.0.0.1:{second.told['TMUX_BUILDER_SITES_PORT']}"
    pages = [
        httpx.get(f"http://{each.dial}/", headers={"Host": f"{each.site_name}.localhost"}, trust_env=False)
        for each in (before, after)
    ]
    assert [page.status_code for page in pages] == [200, 200]
    assert pages[0].text == pages[1].text
    assert (second.home / workspace / "source" / "index.html").exists()


async def test_a_cancel_reaches_an_engine_of_the_other_machine_and_what_waited_for_it_starts(
    pair: Pair, second_alone: ServiceUnderTest
):
    """The pool's limit is one: the second run waits without a process until the first one is ended.

    Prefect counts a run that is being cancelled as one that has ended, so the next may start while it cleans up.
    """
    first, second = pair
    async with first.client() as client:
        assert (await client.read_work_pool("tmux-builder")).concurrency_limit == 1
        building = await started(client, "full-build/on-demand", {"request": {**REQUEST, "email": "ben@example.com"}})
        await until_state(client, building, is_in(StateType.RUNNING), 90)
        waiting = await started(client, "reverify/nightly", {})
        until(lambda: None if agents_of(second) else "no agent works yet", 60)
        assert second.engines == {str(building)}
        assert first.engines == set()
        held_back = await client.read_flow_run(waiting)
        assert is_in(StateType.SCHEDULED)(held_back)
        assert held_back.start_time is None

        asked = datetime.now(UTC)
        await client.set_flow_run_state(building, Cancelling())
        cancelled = await until_state(client, building, is_in(StateType.CANCELLED, StateType.CRASHED), 120)
        until(lambda: "the engine is there" if str(building) in second.engines else None, 30)
        until(lambda: f"agents are left: {agents_of(second)}" if agents_of(second) else None, 30)
        assert is_in(StateType.CANCELLED)(cancelled), cancelled.state

        looked = await until_state(client, waiting, is_in(StateType.COMPLETED, StateType.FAILED), 90)
    assert is_in(StateType.COMPLETED)(looked), looked.state
    assert looked.start_time is not None
    assert looked.start_time >= asked, "it did not begin beside the one that worked"
