"""Look again at sites that are live."""

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.closing import close
from flows.redeploy import ExecutionId
from flows.stages import verify
from tasks.domain.errors import BuilderError
from tasks.domain.pipeline import SiteState, Verb
from tasks.record import live_executions, open_run, pages, set_site_state, site_of

CHECKS = 3
"""Steps 7, 8 and 9 of each site."""


@flow(
    name="reverify",
    flow_run_name="reverify",
    on_completion=[close],
    on_failure=[close],
    on_cancellation=[close],
    on_crashed=[close],
)
async def reverify(execution_ids: list[ExecutionId] | None = None) -> State[None]:
    """Steps 7 to 9 for sites that are live. Nothing is built or published.

    Args:
        execution_ids: The builds whose sites are looked at. Leave this empty to look at every live site.
    """
    ids = execution_ids or await live_executions()
    degraded = []
    async with pages(total=CHECKS * len(ids)):
        for execution_id in ids:
            execution = await open_run(execution_id, Verb.REVERIFY)
            try:
                await verify(execution, await site_of(execution))
            except BuilderError as error:
                degraded.append(f"{execution_id}: {error}")
                await set_site_state(execution, SiteState.DEGRADED)
    if degraded:
        return Failed(message=f"{len(degraded)} of {len(ids)} sites are degraded. " + " | ".join(degraded))
    return Completed(message=f"{len(ids)} of {len(ids)} sites are live")
