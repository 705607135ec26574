"""Look again at sites that are live."""

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.closing import close
from flows.redeploy import ExecutionId
from flows.stages import verify
from tasks.domain.errors import CheckFailed, NotHealthy
from tasks.domain.pipeline import SiteState, Verb
from tasks.record import is_being_written, live_executions, open_run, pages, set_site_state, site_of

CHECKS = 3
"""Steps 7, 8 and 9 of each site."""


@flow(
    name="reverify",
    flow_run_name="reverify",
    on_completion=[close],
    on_failure=[close],
    on_cancellation=[close],
)
async def reverify(execution_ids: list[ExecutionId] | None = None) -> State[None]:
    """Steps 7 to 9 for sites that are live. Nothing is built or published.

    A site that some run writes meanwhile is left to that run. What keeps us from looking says nothing of the site.

    Args:
        execution_ids: The builds whose sites are looked at. Leave this empty to look at every live site.
    """
    ids = execution_ids or await live_executions()
    looked_at, degraded, not_seen = 0, [], []
    async with pages(total=CHECKS * len(ids)):
        for execution_id in ids:
            try:
                execution = await open_run(execution_id, Verb.REVERIFY)
                if await is_being_written(execution):
                    get_run_logger().info("left execution=%s to the run that writes its site", execution_id)
                    continue
                site = await site_of(execution)
                looked_at += 1
                try:
                    await verify(execution, site)
                except (NotHealthy, CheckFailed) as error:
                    degraded.append(f"{execution_id}: {error}")
                    await set_site_state(execution, SiteState.DEGRADED, site.release_id)
            except Exception as error:  # noqa: BLE001  # one site's trouble must not hide the next one's
                not_seen.append(f"{execution_id}: {type(error).__name__}: {error}")
    if degraded or not_seen:
        words = f"{len(degraded)} of {looked_at} sites are degraded"
        words += f", {len(not_seen)} could not be looked at" if not_seen else ""
        return Failed(message=f"{words}. " + " | ".join([*degraded, *not_seen]))
    return Completed(message=f"{looked_at} of {looked_at} sites are live")
