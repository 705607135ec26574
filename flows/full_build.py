"""From a request to a live, verified website."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Cancelled

from flows.closing import close
from flows.stages import deliver
from tasks.create_plan import create_plan
from tasks.create_session import create_session
from tasks.create_user import create_user
from tasks.domain.errors import NotApproved
from tasks.domain.hosting import Site
from tasks.domain.request import SiteRequest
from tasks.gather_requirements import gather_requirements
from tasks.generate_code import generate_code
from tasks.planning import approved
from tasks.record import pages, writing


@flow(
    name="full-build",
    flow_run_name="full-build",
    on_completion=[close],
    on_failure=[close],
    on_cancellation=[close],
)
async def full_build(request: SiteRequest, execution_id: str | None = None) -> Site | State[Any]:
    """Build a website from a description and put it on the internet.

    Args:
        request: What to build, for whom, and where it shall live.
        execution_id: Leave this empty. The service fills it in for requests that it has already accepted.
    """
    async with pages():
        order = await create_user(request, execution_id)
        execution = await create_session(order)
        async with writing(execution):
            requirements = await gather_requirements(execution)
            plan = await create_plan(execution, requirements)
            try:
                plan = await approved(execution, requirements, plan)
            except NotApproved as answer:
                if answer.by_a_person:
                    return Cancelled(message=str(answer))
                raise
            await generate_code(execution, plan)
            return await deliver(execution)
