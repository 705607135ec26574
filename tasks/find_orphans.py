"""What nobody owns on this machine, and sites that were to be taken down by today."""

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from blocks.settings import settings
from tasks.adapters.orphans import Finding, Orphans
from tasks.domain.markdown import cell
from tasks.record import count_step, in_thread, registry, show_markdown, transient_only


@task(
    name="find_orphans",
    task_run_name="find_orphans",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=[2, 10],
    retry_condition_fn=transient_only,
)
async def find_orphans() -> tuple[list[Finding], list[str]]:
    """Looks only. The findings, and the ids of executions whose sites have expired."""
    orphans = Orphans(settings().home, registry(), settings().store_url)
    findings = await in_thread(orphans.find)
    expired = [record.execution_id for record in await in_thread(registry().expired_sites)]
    rows = [f"| {found.kind} | {cell(found.name)} | {cell(found.why)} | {_age(found.age_s)} |" for found in findings]
    rows += [f"| expired site | {execution_id} | it was to be taken down by today | |" for execution_id in expired]
    table = "| what | name | why | age |\n|---|---|---|---|\n" + "\n".join(rows) if rows else "Nothing."
    show_markdown("orphans", f"{len(rows)} things that nobody needs", f"# What nobody needs\n\n{table}\n")
    get_run_logger().info("orphans=%d expired_sites=%d", len(findings), len(expired))
    count_step()
    return findings, expired


def _age(seconds: float) -> str:
    """
    >>> _age(90), _age(7300), _age(200_000)
    ('1 min', '2 h', '2 d')
    """
    if seconds < 3600:
        return f"{seconds // 60:.0f} min"
    return f"{seconds // 3600:.0f} h" if seconds < 86_400 else f"{seconds // 86_400:.0f} d"
