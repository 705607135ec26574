"""Have a release that is still kept serve again."""

from typing import Annotated

from prefect import flow
from pydantic import StringConstraints

from flows.closing import close
from flows.redeploy import ExecutionId
from tasks.domain.hosting import Site
from tasks.domain.pipeline import Step, Verb
from tasks.health_check import health_check
from tasks.record import WhenBusy, open_run, pages, writing
from tasks.recovery import keep_as_good, take_back
from tasks.switch_release import switch_release

ReleaseId = Annotated[str, StringConstraints(pattern=r"^r[1-9][0-9]{0,8}-[0-9a-f]{12}$")]


@flow(
    name="rollback",
    flow_run_name="rollback {execution_id}",
    on_completion=[close],
    on_failure=[close],
    on_cancellation=[close],
)
async def rollback(
    execution_id: ExecutionId, release: ReleaseId | None = None, when_busy: WhenBusy = WhenBusy.WAIT
) -> Site:
    """Serve a kept release again: one pointer write and a health check. Nothing is built or uploaded.

    Args:
        execution_id: The build whose site is set back, such as a1b2c3d4_sess20260124143022.
        release: The release to serve, such as r2-3f2a9c1b4d5e. Leave this empty for the one before the live one.
        when_busy: What to do while another run writes the same site: wait for its end, or refuse.
    """
    async with pages(done=Step.DEPLOY, total=Step.HEALTH_CHECK):
        execution = await open_run(execution_id, Verb.ROLLBACK)
        async with writing(execution, when_busy):
            site = await switch_release(execution, release)
            try:
                await health_check(execution, site)
            except Exception as error:
                raise await take_back(execution, error) from error
            await keep_as_good(execution, site.release_id)
            return site
