"""One real build through the service's worker, and what may follow it."""

import asyncio
import json
from pathlib import Path

import httpx
import pytest

from tasks.adapters.registry import Registry
from tasks.adapters.workspace import Workspace
from tasks.domain.pipeline import Status, Step, Verdict
from tests.flows.conftest import REQUEST, Seen, agents_of, finished, look, run_deployment
from tests.support.service import ServiceUnderTest

ALL = [step.task_name for step in Step]

RED_SUITE = """
def test_the_name_is_shown(page, base_url):
    page.goto(base_url)
    assert page.title() == "something else"
"""


@pytest.fixture(scope="module")
def built(service: ServiceUnderTest) -> Seen:
    return asyncio.run(run_deployment(service, "full-build/on-demand", {"request": REQUEST}))


@pytest.fixture
def workspace(service: ServiceUnderTest, built: Seen, record_of: Registry) -> Workspace:
    execution = record_of.execution(built.execution_id)
    return Workspace.of(service.home, execution.user_id, execution.session_id)


pytestmark = pytest.mark.asyncio


async def test_a_build_is_nine_task_runs_in_order_in_one_flow_run(built: Seen):
    assert built.flow_run.state_name == "Completed", built.lines
    assert built.tasks == ALL
    assert [run.state_name for run in built.task_runs] == ["Completed"] * 9


async def test_the_record_says_completed_with_every_check_passed(built: Seen, record_of: Registry):
    progress = record_of.progress(built.execution_id)

    assert (progress.status, progress.verdict) == (Status.COMPLETED, Verdict.PASSED)
    assert (progress.current_step_name, progress.percent_complete) == ("e2e_tests", 100)
    assert progress.error is None
    assert [(check.name, check.outcome) for check in record_of.checks(built.execution_id)] == [
        ("health_check", "passed"),
        ("screenshot", "passed"),
        ("e2e_tests", "passed"),
    ]


async def test_the_site_answers_with_what_was_asked_for(built: Seen, record_of: Registry):
    site = record_of.execution(built.execution_id).site
    host = site.url.removeprefix("http://")

    answer = httpx.get(f"http://{site.dial}/", headers={"Host": host}, trust_env=False)

    assert answer.status_code == 200
    assert "Crumb &amp; Co" in answer.text
    assert "ana@example.com" not in answer.text, "the requester's address is never published"


async def test_a_person_can_follow_it_by_pages_and_find_it_by_name_and_tag(built: Seen):
    user = built.execution_id.split("_")[0]
    assert built.flow_run.name == f"full-build {built.execution_id}"
    assert any(tag.startswith(f"UserGUID:{user}") for tag in built.flow_run.tags)
    keys = {artifact.key for artifact in built.artifacts}
    assert keys >= {
        *("progress", "requirements", "plan", "live-site", "screenshots", "verification"),
        *("health-check", "screenshot", "e2e-tests"),
    }
    assert built.page("progress") == 100
    assert "http://tmux-" in built.page("live-site")
    assert "data:image/" in built.page("screenshots")


async def test_the_log_tells_the_story_in_one_line_per_event(built: Seen):
    story = [line for line in built.lines if line.startswith("step ")]
    assert story == [f"step {step}/9 {step.task_name} {what}" for step in Step for what in ("started", "done")]


async def test_neither_secrets_nor_the_requester_stand_in_logs_and_pages(built: Seen, service: ServiceUnderTest):
    shown = "\n".join(built.lines) + json.dumps([str(artifact.data) for artifact in built.artifacts])
    shown += built.flow_run.name + " ".join(built.flow_run.tags)
    for private in (service.auth_string, service.told["TMUX_BUILDER_DATABASE_URL"], REQUEST["email"], REQUEST["phone"]):
        assert private not in shown


async def test_the_workspace_holds_everything_that_the_design_names(workspace: Workspace):
    for path in (
        *("requirements.json", "requirements.md", "docs/PROJECT_GUIDELINES.md", "prompts/current.txt"),
        *("prompts/01-planning.txt", "prompts/02-coding.txt", "output/plan.md", "output/verification.md"),
        *("output/status.txt", "source/index.html", "deployment/tests/e2e_test.py", "deployment/tests/report.html"),
    ):
        assert (workspace.root / path).stat().st_size > 0, path
    results = json.loads(workspace.results.read_text())
    assert {"status", "exit_code", "stdout", "stderr", "report_path", "timestamp", "url_tested"} <= set(results)
    assert (results["status"], results["exit_code"]) == ("passed", 0)
    assert results["passed"] >= 5
    assert len(list(workspace.screenshots.glob("desktop*"))) >= 1
    assert len(list(workspace.screenshots.glob("phone*"))) >= 1


async def test_what_people_look_at_is_archived_as_well(workspace: Workspace, service: ServiceUnderTest):
    user, session = workspace.root.parts[-3], workspace.root.parts[-1]
    archived = Workspace(service.home / "store" / user / session)
    for view in (workspace.report, workspace.results, *workspace.screenshots.glob("*.jpg")):
        kept = archived.root / view.relative_to(workspace.root)
        assert kept.read_bytes() == view.read_bytes(), view


async def test_no_agent_is_left_when_the_run_is_over(built: Seen, service: ServiceUnderTest):
    assert agents_of(service) == []


async def test_a_redeploy_is_steps_6_to_9_and_publishes_nothing_new(
    built: Seen, service: ServiceUnderTest, record_of: Registry
):
    before = record_of.execution(built.execution_id).live_release

    again = await run_deployment(service, "redeploy/on-demand", {"execution_id": built.execution_id})

    assert again.flow_run.state_name == "Completed", again.lines
    assert again.tasks == ALL[5:]
    assert again.flow_run.name == f"redeploy {built.execution_id}"
    assert record_of.execution(built.execution_id).live_release == before
    assert any("uploaded=0" in line for line in again.lines)
    assert not any("agent phase=" in line for line in again.lines), "the stored suite was used"


async def test_a_changed_source_is_a_new_release_and_the_old_one_is_kept(
    built: Seen, service: ServiceUnderTest, record_of: Registry, workspace: Workspace
):
    page = workspace.source / "index.html"
    page.write_text(page.read_text().replace("</body>", "<p>New.</p></body>"))

    again = await run_deployment(service, "redeploy/on-demand", {"execution_id": built.execution_id})

    assert again.flow_run.state_name == "Completed", again.lines
    execution = record_of.execution(built.execution_id)
    assert execution.live_release is not None
    assert execution.live_release.startswith("r2-")
    kept = {path.name.split("-")[0] for path in (service.home / "sites" / execution.site_name / "releases").iterdir()}
    assert {"r1", "r2"} <= kept


async def test_a_reverification_is_steps_7_to_9_and_leaves_the_execution_as_it_is(
    built: Seen, service: ServiceUnderTest, record_of: Registry
):
    before = record_of.progress(built.execution_id)

    looked = await run_deployment(service, "reverify/nightly", {"execution_ids": [built.execution_id]})

    assert looked.flow_run.state_name == "Completed", looked.lines
    assert looked.tasks == ALL[6:]
    assert record_of.progress(built.execution_id) == before
    assert record_of.execution(built.execution_id).site_state == "live"


async def test_another_machine_goes_on_from_the_archive(
    built: Seen, service: ServiceUnderTest, record_of: Registry, workspace: Workspace, tmp_path: Path
):
    """The folder of the session is gone, as on a machine that never had it."""
    workspace.root.rename(tmp_path / "elsewhere")
    try:
        again = await run_deployment(service, "redeploy/on-demand", {"execution_id": built.execution_id})
    finally:
        if not workspace.source.exists():
            (tmp_path / "elsewhere").rename(workspace.root)

    assert again.flow_run.state_name == "Completed", again.lines
    assert again.tasks == ALL[5:]
    assert record_of.progress(built.execution_id).verdict is Verdict.PASSED


async def test_a_red_suite_completes_the_run_with_the_verdict_failed_checks(
    built: Seen, service: ServiceUnderTest, record_of: Registry, workspace: Workspace
):
    kept = workspace.suite.read_bytes()
    workspace.suite.write_text(RED_SUITE)
    try:
        again = await run_deployment(service, "redeploy/on-demand", {"execution_id": built.execution_id})
    finally:
        workspace.suite.write_bytes(kept)

    assert again.flow_run.state_name == "Completed", again.lines
    progress = record_of.progress(built.execution_id)
    assert (progress.status, progress.verdict) == (Status.COMPLETED, Verdict.FAILED_CHECKS)
    assert json.loads(workspace.results.read_text())["failed"] == 1
    assert record_of.execution(built.execution_id).site_state == "degraded"


def served_release(record: Registry, execution_id: str) -> str:
    """What visitors get, asked of the site itself."""
    site = record.execution(execution_id).site
    host = site.url.removeprefix("http://")
    answer = httpx.get(f"http://{site.dial}/.well-known/release.json", headers={"Host": host}, trust_env=False)
    return str(answer.json()["release_id"])


async def test_a_broken_page_is_taken_back_and_the_last_good_release_serves_again(
    built: Seen, service: ServiceUnderTest, record_of: Registry, workspace: Workspace
):
    good = record_of.execution(built.execution_id).good_release
    assert good is not None
    page = workspace.source / "index.html"
    kept = page.read_text()
    page.write_text(kept.replace("</body>", '<a href="/nowhere.html">Nowhere</a></body>'))
    try:
        again = await run_deployment(service, "redeploy/on-demand", {"execution_id": built.execution_id})
    finally:
        page.write_text(kept)

    assert again.flow_run.state_name == "Failed"
    progress = record_of.progress(built.execution_id)
    assert progress.status is Status.FAILED
    assert progress.error is not None
    assert progress.error.step_name == "screenshot"
    assert again.flow_run.state is not None
    for said in (progress.error.message, again.page("failure"), str(again.flow_run.state.message)):
        assert "/nowhere.html" in said
        assert "redeploy/on-demand" in said, "it names the next move"
        assert f"the release was taken back: release {good} serves again" in said
    execution = record_of.execution(built.execution_id)
    assert (execution.live_release, execution.good_release, execution.site_state) == (good, good, "rolled_back")
    assert served_release(record_of, built.execution_id) == good
    assert record_of.lease_of(execution.site_name) is None


async def test_a_site_that_breaks_later_is_called_degraded_by_a_reverification(
    built: Seen, service: ServiceUnderTest, record_of: Registry
):
    execution = record_of.execution(built.execution_id)
    page = service.home / "sites" / execution.site_name / "live" / "index.html"
    kept = page.read_bytes()
    page.write_bytes(kept.replace(b"</body>", b'<a href="/nowhere.html">Nowhere</a></body>'))
    try:
        looked = await run_deployment(service, "reverify/nightly", {"execution_ids": [built.execution_id]})
    finally:
        page.write_bytes(kept)

    assert looked.flow_run.state_name == "Failed"
    assert "1 of 1 sites are degraded" in str(looked.flow_run.state.message if looked.flow_run.state else "")
    assert record_of.execution(built.execution_id).site_state == "degraded"
    assert record_of.progress(built.execution_id).error is not None, "the execution's own story is not touched"


async def test_a_rollback_is_one_pointer_write_and_a_health_check(
    built: Seen, service: ServiceUnderTest, record_of: Registry
):
    before = record_of.execution(built.execution_id).live_release
    status = record_of.progress(built.execution_id).status
    assert before is not None
    assert before.startswith("r2-")

    back = await run_deployment(service, "rollback/on-demand", {"execution_id": built.execution_id})

    assert back.flow_run.state_name == "Completed", back.lines
    assert back.tasks == ["switch_release", "health_check"]
    first = served_release(record_of, built.execution_id)
    assert first.startswith("r1-")
    execution = record_of.execution(built.execution_id)
    assert (execution.live_release, execution.good_release) == (first, first)
    assert record_of.progress(built.execution_id).status is status

    forth = await run_deployment(service, "rollback/on-demand", {"execution_id": built.execution_id, "release": before})
    assert forth.flow_run.state_name == "Completed", forth.lines
    assert served_release(record_of, built.execution_id) == before


async def test_a_release_that_is_not_kept_is_refused_with_those_that_are(
    built: Seen, service: ServiceUnderTest, record_of: Registry
):
    live = served_release(record_of, built.execution_id)
    wanted = {"execution_id": built.execution_id, "release": "r9-000000000000"}
    back = await run_deployment(service, "rollback/on-demand", wanted)
    assert back.flow_run.state_name == "Failed"
    assert "r9-000000000000 is not kept; kept: r" in back.page("failure")
    assert f"live: {live};" in back.page("failure")
    assert served_release(record_of, built.execution_id) == live


async def test_a_site_that_is_being_written_refuses_a_second_writer_or_has_it_wait(
    built: Seen, service: ServiceUnderTest, record_of: Registry
):
    execution = record_of.execution(built.execution_id)
    lease = record_of.acquire_lease(execution.site_name, "run of a test", 120)
    try:
        refused = await run_deployment(
            service, "redeploy/on-demand", {"execution_id": built.execution_id, "when_busy": "refuse"}
        )
        assert refused.flow_run.state_name == "Failed"
        assert "is being written by run of a test since" in refused.page("failure")
        assert record_of.lease_of(execution.site_name) == lease
        async with service.client() as client:
            deployment = await client.read_deployment_by_name("rollback/on-demand")
            parameters = {"execution_id": built.execution_id, "release": execution.live_release}
            waiting = await client.create_flow_run_from_deployment(deployment.id, parameters=parameters)
            async with asyncio.timeout(60):
                while not any("waiting: site" in line for line in (await look(client, waiting.id)).lines):
                    await asyncio.sleep(0.2)
            record_of.release_lease(lease)
            seen = await finished(client, waiting.id)
    finally:
        record_of.release_lease(lease)
    assert seen.flow_run.state_name == "Completed", seen.lines


async def test_a_teardown_removes_everything_and_proves_it(
    built: Seen, service: ServiceUnderTest, record_of: Registry, workspace: Workspace
):
    execution = record_of.execution(built.execution_id)
    site = execution.site

    gone = await run_deployment(service, "teardown/on-demand", {"execution_id": built.execution_id})

    assert gone.flow_run.state_name == "Completed", gone.lines
    receipt = str(gone.page("receipt"))
    for named in ("address", "release r1-", "release r2-", "workspace", "archive", "agent"):
        assert named in receipt
    assert "still there" not in receipt.replace("0 still there", "")
    answer = httpx.get(f"http://{site.dial}/", headers={"Host": site.url.removeprefix("http://")}, trust_env=False)
    assert answer.status_code == 404
    assert not workspace.root.exists()
    assert not (service.home / "sites" / execution.site_name / "releases").exists()
    left = [str(path) for path in service.home.rglob(f"*{execution.session_id}*") if "logs" not in path.parts]
    assert left == []
    after = record_of.execution(built.execution_id)
    assert (after.live_release, after.url, after.site_state) == (None, None, "taken_down")
    assert [resource.state for resource in record_of.resources(built.execution_id)] == ["gone"]

    again = await run_deployment(service, "redeploy/on-demand", {"execution_id": built.execution_id})
    assert again.flow_run.state_name == "Failed"
    assert "start full-build/on-demand to build anew" in str(again.flow_run.state and again.flow_run.state.message)

    twice = await run_deployment(service, "teardown/on-demand", {"execution_id": built.execution_id})
    assert twice.flow_run.state_name == "Completed", twice.lines
