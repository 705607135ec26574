"""Step 3: the request's text as numbered requirements with acceptance criteria."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.adapters.workspace import write_atomic
from tasks.domain.execution import Execution
from tasks.domain.pipeline import Step
from tasks.domain.requirements import Requirements, as_markdown, parse_requirements
from tasks.record import in_thread, recorded, show_markdown


@task(name="gather_requirements", task_run_name="gather_requirements", cache_policy=NO_CACHE)
async def gather_requirements(execution: Execution) -> Requirements:
    """Pure but for two atomic writes: repeating it gives the same files."""

    def write(requirements: Requirements) -> None:
        write_atomic(execution.workspace / "requirements.json", requirements.model_dump_json(indent=2))
        write_atomic(execution.workspace / "requirements.md", as_markdown(requirements))

    async def work() -> Requirements:
        requirements = parse_requirements(execution.request.requirements)
        await in_thread(write, requirements)
        show_markdown("requirements", "What was asked for", as_markdown(requirements))
        return requirements

    return await recorded(execution.run_id, Step.GATHER_REQUIREMENTS, Requirements, work)
