"""From a request to a live, verified website."""

from prefect import flow

from flows.closing import close
from flows.stages import deliver
from tasks.create_plan import create_plan
from tasks.create_session import create_session
from tasks.create_user import create_user
from tasks.domain.hosting import Site
from tasks.domain.request import SiteRequest
from tasks.gather_requirements import gather_requirements
from tasks.generate_code import generate_code
from tasks.record import pages


@flow(
    name="full-build",
    flow_run_name="full-build",
    on_completion=[close],
    on_failure=[close],
    on_cancellation=[close],
    on_crashed=[close],
)
async def full_build(request: SiteRequest, execution_id: str | None = None) -> Site:
    """Build a website from a description and put it on the internet.

    Args:
        request: What to build, for whom, and where it shall live.
        execution_id: Leave this empty. The service fills it in for requests that it has already accepted.
    """
    async with pages():
        order = await create_user(request, execution_id)
        execution = await create_session(order)
        requirements = await gather_requirements(execution)
        plan = await create_plan(execution, requirements)
        await generate_code(execution, plan)
        return await deliver(execution)
