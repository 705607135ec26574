"""Step 2: lay out the workspace."""

from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.adapters.workspace import Workspace, write_atomic
from tasks.domain.execution import Execution, Order
from tasks.domain.pipeline import Step, Verb
from tasks.record import in_thread, open_run, recorded

GUIDELINES = Path(__file__).resolve().parent.parent / ".claude" / "PROJECT_GUIDELINES.md"


@task(name="create_session", task_run_name="create_session", cache_policy=NO_CACHE)
async def create_session(order: Order) -> Execution:
    """Safe to repeat: a folder that is there stays as it is."""

    def lay_out(workspace: Workspace) -> None:
        workspace.lay_out()
        write_atomic(workspace.root / "docs" / "PROJECT_GUIDELINES.md", GUIDELINES.read_bytes())

    async def work() -> Execution:
        execution = await open_run(order.execution_id, Verb.FULL_BUILD)
        await in_thread(lay_out, Workspace(execution.workspace))
        return execution

    return await recorded(order.run_id, Step.CREATE_SESSION, Execution, work)
