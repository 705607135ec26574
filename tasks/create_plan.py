"""Step 4: the agent starts in tmux and writes the plan."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.domain.execution import Execution, Plan
from tasks.domain.pipeline import Step
from tasks.domain.requirements import Requirements
from tasks.planning import write_plan
from tasks.record import recorded


@task(name="create_plan", task_run_name="create_plan", cache_policy=NO_CACHE)
async def create_plan(execution: Execution, requirements: Requirements) -> Plan:
    """Asking again adopts the session that lives and does not repeat the prompt."""
    return await recorded(execution.run_id, Step.CREATE_PLAN, Plan, lambda: write_plan(execution, requirements))
