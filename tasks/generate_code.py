"""Step 5: the agent writes the site."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.adapters.hosts.local_app import complaint_about_app
from tasks.adapters.snapshot import FRONT_PAGE, complaint_about, measure
from tasks.adapters.workspace import Workspace
from tasks.domain.agent import Phase
from tasks.domain.execution import Execution, Plan, Source
from tasks.domain.pipeline import Step
from tasks.domain.prompts import coding
from tasks.domain.request import SiteType
from tasks.parts import ask
from tasks.record import in_thread, recorded


@task(name="generate_code", task_run_name="generate_code", cache_policy=NO_CACHE)
async def generate_code(execution: Execution, plan: Plan) -> Source:
    """Asking again waits for the prompt that was delivered and does not repeat it."""
    workspace = Workspace(execution.workspace)
    prompt = coding(execution.request.site_type, plan.path)

    dynamic = execution.request.site_type is SiteType.DYNAMIC
    required = None if dynamic else FRONT_PAGE

    def complaint() -> str | None:
        refused = complaint_about(workspace.source, required=required)
        return refused or (complaint_about_app(workspace.source) if dynamic else None)

    async def work() -> Source:
        await ask(execution, Phase.CODING, prompt, complaint)
        return await in_thread(measure, workspace.source, required=required)

    return await recorded(execution.run_id, Step.GENERATE_CODE, Source, work)
