"""Step 4: the agent starts in tmux and writes the plan."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.adapters.workspace import Workspace, read_bounded
from tasks.domain.agent import Phase
from tasks.domain.execution import Execution, Plan
from tasks.domain.markdown import tamed
from tasks.domain.pipeline import Step
from tasks.domain.prompts import kickoff
from tasks.domain.requirements import Requirements
from tasks.parts import ask
from tasks.record import in_thread, recorded, show_markdown

PLAN_LIMIT_BYTES = 256 * 1024


@task(name="create_plan", task_run_name="create_plan", cache_policy=NO_CACHE)
async def create_plan(execution: Execution, requirements: Requirements) -> Plan:
    """Asking again adopts the session that lives and does not repeat the prompt."""
    workspace = Workspace(execution.workspace)

    def complaint() -> str | None:
        plan = read_bounded(workspace.plan, PLAN_LIMIT_BYTES)
        if plan is None:
            return f"output/plan.md is missing, not a plain file, or longer than {PLAN_LIMIT_BYTES} bytes"
        return None if plan.strip() else "output/plan.md is empty"

    async def work() -> Plan:
        await ask(execution, Phase.PLANNING, kickoff(execution.session_id, requirements.text), complaint)
        text = (await in_thread(read_bounded, workspace.plan, PLAN_LIMIT_BYTES) or b"").decode("utf-8", "replace")
        show_markdown("plan", "What the agent is going to build", tamed(text))
        return Plan(path="output/plan.md", size=len(text.encode()))

    return await recorded(execution.run_id, Step.CREATE_PLAN, Plan, work)
