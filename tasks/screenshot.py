"""Step 8: the site is photographed on desktop and phone, and its pages and links are looked at."""

import base64

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from blocks.settings import settings
from tasks.adapters.browser import photograph, thumbnail
from tasks.adapters.workspace import Workspace
from tasks.domain.check import Check, Finding, Outcome
from tasks.domain.errors import BrowserError, CheckFailed
from tasks.domain.execution import Execution
from tasks.domain.hosting import Site
from tasks.domain.pipeline import Step
from tasks.parts import with_browser
from tasks.record import in_thread, patiently, recorded, registry, show_check, show_markdown

_SHOWN = 4


@task(name="screenshot", task_run_name="screenshot", cache_policy=NO_CACHE)
async def screenshot(execution: Execution, site: Site) -> Check:
    """Reads the site only. Raises CheckFailed where a page, a link or a script of the site is broken.

    A machine without a working browser is no fault of the site: the check is then skipped, and says why.
    """
    folder = Workspace(execution.workspace).screenshots

    async def work() -> Check:
        try:
            check = await with_browser(
                lambda stop: photograph(site, folder, settings().sandbox, settings().browser, stop=stop)
            )
        except BrowserError as error:
            get_run_logger().warning("no screenshots: %s", error)
            why = Finding(name="browser", outcome=Outcome.SKIPPED, detail=str(error), gate=False)
            check = Check(name="screenshot", outcome=Outcome.SKIPPED, findings=(why,))
        await patiently(registry().record_check, execution.run_id, check)
        show_check(check)
        if check.evidence:
            show_markdown("screenshots", f"{site.url} as visitors see it", await in_thread(_album, execution, check))
        if check.red_gates:
            raise CheckFailed("screenshot", check.red_gates)
        return check

    return await recorded(execution.run_id, Step.SCREENSHOT, Check, work)


def _album(execution: Execution, check: Check) -> str:
    lines = []
    for path in check.evidence[:_SHOWN]:
        picture = base64.b64encode(thumbnail(execution.workspace / path, 640)).decode()
        lines += [f"## {path.rsplit('/', 1)[-1]}", "", f"![{path}](data:image/jpeg;base64,{picture})", ""]
    if len(check.evidence) > _SHOWN:
        lines.append(f"{len(check.evidence) - _SHOWN} more in `deployment/screenshots` of the workspace.")
    return "\n".join(lines)
