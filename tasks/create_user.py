"""Step 1: find or create the user, and accept the request."""

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from blocks.settings import settings
from tasks.adapters.disk import room_complaint
from tasks.domain.errors import NoRoom, RequestRefused
from tasks.domain.execution import Order
from tasks.domain.pipeline import Step, Verb
from tasks.domain.request import SiteRequest, vet
from tasks.parts import load_agent, load_hosting
from tasks.record import current_flow_run, in_thread, open_run, recorded, registry, transient_only

MIN_FREE_FILES = 20_000
"""How many more files the disk must have room for; a site may have 5,000, and lies there three times."""


@task(
    name="create_user",
    task_run_name="create_user",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=[1, 5],
    retry_condition_fn=transient_only,
)
async def create_user(request: SiteRequest, execution_id: str | None) -> Order:
    """A request that came through the API was accepted there; one from the Prefect UI is accepted here.

    Safe to repeat: one flow run is one delivery. Raises RequestRefused with field, value and what is allowed.
    """
    if execution_id is None:
        execution_id = await _accept(request)
    execution = await open_run(execution_id, Verb.FULL_BUILD)

    async def work() -> Order:
        await _vet(request)
        folder = settings().home / "users" / execution.user_id
        await in_thread(folder.mkdir, 0o700, parents=True, exist_ok=True)
        return Order(user_id=execution.user_id, execution_id=execution.execution_id, run_id=execution.run_id)

    return await recorded(execution.run_id, Step.CREATE_USER, Order, work)


async def _vet(request: SiteRequest) -> None:
    vet(request)
    await load_hosting(request.hosting)
    await load_agent(request)
    complaint = await in_thread(room_complaint, settings().home, settings().min_free_mb * 2**20, MIN_FREE_FILES)
    if complaint is not None:
        raise NoRoom(complaint)


async def _accept(request: SiteRequest) -> str:
    delivery = str(current_flow_run().id)
    try:
        await _vet(request)
    except (RequestRefused, NoRoom) as refusal:
        await in_thread(registry().refuse, delivery, request.model_dump(mode="json"), str(refusal))
        get_run_logger().error("step 1/9 create_user refused the request: %s", refusal)
        raise
    accepted = await in_thread(registry().accept, request, delivery, delivery)
    return accepted.execution_id
