"""Take a site off the internet, with everything that belongs to it."""

from prefect import flow

from flows.closing import close
from flows.redeploy import ExecutionId
from tasks.domain.hosting import Receipt
from tasks.domain.pipeline import Verb
from tasks.record import WhenBusy, open_run, pages, writing
from tasks.remove_site import remove_site


@flow(
    name="teardown",
    flow_run_name="teardown {execution_id}",
    on_completion=[close],
    on_failure=[close],
    on_cancellation=[close],
)
async def teardown(
    execution_id: ExecutionId, keep_files: bool = False, when_busy: WhenBusy = WhenBusy.REFUSE
) -> Receipt:
    """Remove a site: what serves it, its releases, its agent, its workspace and its archive. There is no way back.

    The receipt among the run's artifacts lists what was removed, and what a second look found still there.

    Args:
        execution_id: The build whose site is removed, such as a1b2c3d4_sess20260124143022.
        keep_files: Keep workspace and archive, so that redeploy/on-demand can publish the site again.
        when_busy: What to do while another run writes the same site: wait for its end, or refuse.
    """
    async with pages(total=1):
        execution = await open_run(execution_id, Verb.TEARDOWN)
        async with writing(execution, when_busy):
            return await remove_site(execution, keep_files)
