"""Step 9: the agent writes browser tests for this site; they run, and the agent says what they show."""

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from blocks.settings import settings
from tasks.adapters.archive import Archive
from tasks.adapters.suite import run_suite
from tasks.adapters.workspace import Workspace, read_bounded
from tasks.domain.agent import Phase
from tasks.domain.check import Check, Finding, Outcome, SuiteResult
from tasks.domain.errors import HostingError
from tasks.domain.execution import Execution
from tasks.domain.hosting import Site
from tasks.domain.markdown import fenced, plain, tamed
from tasks.domain.pipeline import Step, Verb
from tasks.domain.prompts import test_generation, verification
from tasks.parts import ask, with_browser
from tasks.record import in_thread, patiently, recorded, registry, show_check, show_markdown

SUITE_LIMIT_BYTES = 512 * 1024


@task(name="e2e_tests", task_run_name="e2e_tests", cache_policy=NO_CACHE)
async def e2e_tests(execution: Execution, site: Site) -> SuiteResult:
    """A stored suite is used as it is; the agent is asked only in a build, or where a redeploy finds none.

    A red suite is evidence, not a failure: its author could have forged it either way. Without a browser it is skipped.
    """
    workspace = Workspace(execution.workspace)

    async def work() -> SuiteResult:
        asked = execution.verb is Verb.FULL_BUILD or (
            execution.verb is Verb.REDEPLOY and read_bounded(workspace.suite, SUITE_LIMIT_BYTES) is None
        )
        if asked:
            await _ask_for_suite(execution, site)
        result = await with_browser(
            lambda stop: run_suite(
                workspace, site, settings().sandbox, settings().suite_deadline_s, settings().browser, stop=stop
            )
        )
        get_run_logger().info(
            "suite %s passed=%d failed=%d errors=%d skipped=%d seconds=%.1f%s",
            *(result.status, result.passed, result.failed, result.errors, result.skipped, result.seconds),
            f": {result.reason}" if result.reason else "",
        )
        check = _as_check(result)
        await patiently(registry().record_check, execution.run_id, check)
        show_check(check)
        show_markdown("e2e-tests", f"Browser tests of {site.url}: {result.status}", _page(result))
        if asked:
            await _ask_for_verification(execution, site)
            archive = Archive(settings().store_url)
            await in_thread(archive.save_texts, execution.user_id, execution.session_id, workspace)
        await _keep_views(execution, workspace)
        return result

    return await recorded(execution.run_id, Step.E2E_TESTS, SuiteResult, work)


async def _keep_views(execution: Execution, workspace: Workspace) -> None:
    """For who looks when the workspace is gone; no site is worse for a store that is away."""
    try:
        archive = Archive(settings().store_url)
        await in_thread(archive.save_views, execution.user_id, execution.session_id, workspace)
    except HostingError as error:
        get_run_logger().warning("report and pictures were not archived: %s", error)


async def _ask_for_suite(execution: Execution, site: Site) -> None:
    workspace = Workspace(execution.workspace)

    def complaint() -> str | None:
        suite = read_bounded(workspace.suite, SUITE_LIMIT_BYTES)
        if suite is None:
            return (
                f"deployment/tests/e2e_test.py is missing, not a plain file, or longer than {SUITE_LIMIT_BYTES} bytes"
            )
        return None if b"def test_" in suite else "deployment/tests/e2e_test.py defines no test"

    prompt = test_generation(site.url, "deployment/tests/e2e_test.py")
    await ask(execution, Phase.TEST_GENERATION, prompt, complaint)


async def _ask_for_verification(execution: Execution, site: Site) -> None:
    workspace = Workspace(execution.workspace)
    report = workspace.root / "output" / "verification.md"

    def complaint() -> str | None:
        return None if read_bounded(report, SUITE_LIMIT_BYTES) else "output/verification.md is missing or empty"

    prompt = verification(site.url, "deployment/tests/results.json")
    await ask(execution, Phase.VERIFICATION, prompt, complaint)
    text = (await in_thread(read_bounded, report, SUITE_LIMIT_BYTES) or b"").decode("utf-8", "replace")
    show_markdown("verification", "The agent's own account of each requirement", tamed(text))


def _as_check(result: SuiteResult) -> Check:
    counts = f"{result.passed} passed, {result.failed} failed, {result.errors} errors, {result.skipped} skipped"
    return Check(
        name="e2e_tests",
        outcome=Outcome(result.status),
        findings=(Finding(name="suite", outcome=Outcome(result.status), detail=result.reason or counts, gate=False),),
        evidence=("deployment/tests/report.html", "deployment/tests/results.json"),
        seconds=result.seconds,
    )


def _page(result: SuiteResult) -> str:
    killed = "not run" if result.status == "skipped" else "killed at its deadline"
    code = killed if result.exit_code is None else f"exit code {result.exit_code}"
    reason = f"{plain(result.reason)}\n\n" if result.reason else ""
    return (
        f"# Browser tests: {result.status}\n\n{reason}"
        f"| passed | failed | errors | skipped | seconds | |\n|---|---|---|---|---|---|\n"
        f"| {result.passed} | {result.failed} | {result.errors} | {result.skipped} | {result.seconds:.1f} |"
        f" {code} |\n\n"
        f"{fenced(result.stdout[-8000:])}\n"
    )
