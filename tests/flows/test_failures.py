"""What goes wrong inside a run: it is said in the record, in Prefect's state and on a page, alike."""

from collections.abc import Callable
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.states import State

from blocks.settings import settings
from flows.full_build import full_build
from tasks.adapters.registry import Registry
from tasks.domain.pipeline import Status
from tasks.domain.request import SiteRequest
from tests.flows.conftest import REQUEST, Seen, agents_of, finished
from tests.support.bad_site import BadSite, Behaviour, answer, marker
from tests.support.service import ServiceUnderTest

pytestmark = pytest.mark.asyncio


async def build() -> Seen:
    state: State[object] = await full_build(SiteRequest.model_validate(REQUEST), return_state=True)
    flow_run_id = state.state_details.flow_run_id
    assert isinstance(flow_run_id, UUID)
    async with get_client() as client:
        return await finished(client, flow_run_id)


def assert_said_alike(seen: Seen, record: Registry, step_name: str, words: str) -> None:
    assert seen.flow_run.state is not None
    assert seen.flow_run.state_name == "Failed"
    progress = record.progress(seen.execution_id)
    assert progress.status is Status.FAILED
    assert progress.error is not None
    assert progress.error.step_name == step_name
    for said in (progress.error.message, str(seen.flow_run.state.message), seen.page("failure")):
        assert words in said


@pytest.mark.parametrize(
    ("scenario", "words"),
    [
        ("crashes", "the agent ended during planning (exit code 3); its last lines:"),
        ("ends_at_once", "the agent ended during start-up (exit code 7)"),
        ("wrong_phase", "signalled PHASE_COMPLETE: coding while planning was asked for"),
        ("no_outputs", "output/plan.md is missing"),
        ("hangs", "did not signal PHASE_COMPLETE: planning in 2 s"),
        ("symlink", "output/status.txt is not a regular file"),
    ],
)
async def test_an_agent_that_misbehaves_while_planning(
    here: ServiceUnderTest,
    record_of: Registry,
    agent_that: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    scenario: str,
    words: str,
):
    monkeypatch.setenv("TMUX_BUILDER_PHASE_DEADLINE_S", "2")
    settings.cache_clear()
    agent_that(scenario)

    seen = await build()

    assert_said_alike(seen, record_of, "create_plan", words)
    assert seen.tasks == ["create_user", "create_session", "gather_requirements", "create_plan"]
    assert record_of.progress(seen.execution_id).percent_complete == 33
    assert agents_of(here) == []


async def test_an_agent_that_plans_and_writes_nothing(
    here: ServiceUnderTest, record_of: Registry, agent_that: Callable[[str], None]
):
    agent_that("obeys")

    seen = await build()

    assert_said_alike(seen, record_of, "generate_code", "index.html")


@pytest.mark.parametrize(
    ("served", "words"),
    [
        (answer(503), "HTTP 503"),
        (answer(200), "r9-000000000000"),
    ],
    ids=["a dead site", "a stale release"],
)
async def test_a_site_that_does_not_serve_this_release(
    here: ServiceUnderTest,
    record_of: Registry,
    monkeypatch: pytest.MonkeyPatch,
    bad_site: BadSite,
    served: Behaviour,
    words: str,
):
    """Published into its folder as ever; but what answers on the sites' port is not our server."""
    bad_site.serve(served, marker("r9-000000000000"))
    monkeypatch.setenv("TMUX_BUILDER_SITES_PORT", str(bad_site.port))
    monkeypatch.setenv("TMUX_BUILDER_HEALTH_DEADLINE_S", "2")
    settings.cache_clear()

    seen = await build()

    assert_said_alike(seen, record_of, "health_check", words)
    assert seen.tasks[-1] == "health_check"
    assert record_of.progress(seen.execution_id).percent_complete == 55, "the release was taken back"
    progress = record_of.progress(seen.execution_id)
    assert progress.error is not None
    assert "nothing is served, the site had no earlier release" in progress.error.message
    assert progress.deployed_url is None
    execution = record_of.execution(seen.execution_id)
    assert (execution.live_release, execution.site_state) == (None, "taken_down")
    assert not (here.home / "sites" / execution.site_name / "live").exists()
