"""Publish again what a session holds, and verify it."""

from typing import Annotated

from prefect import flow
from pydantic import StringConstraints

from flows.closing import close
from flows.stages import deliver
from tasks.domain.hosting import Site
from tasks.domain.pipeline import Step, Verb
from tasks.record import WhenBusy, open_run, pages, writing

ExecutionId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}_sess[0-9]{14}(-[0-9]{1,6})?$")]


@flow(
    name="redeploy",
    flow_run_name="redeploy {execution_id}",
    on_completion=[close],
    on_failure=[close],
    on_cancellation=[close],
)
async def redeploy(execution_id: ExecutionId, when_busy: WhenBusy = WhenBusy.WAIT) -> Site:
    """Steps 6 to 9 for a site that was built before: package source/, publish, check, photograph, test.

    Args:
        execution_id: The build whose site is published again, such as a1b2c3d4_sess20260124143022. It stands in the
            name and among the tags of the full-build run.
        when_busy: What to do while another run writes the same site: wait for its end, or refuse.
    """
    async with pages(done=Step.DEPLOY - 1):
        execution = await open_run(execution_id, Verb.REDEPLOY)
        async with writing(execution, when_busy):
            return await deliver(execution)
