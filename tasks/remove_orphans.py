"""Removes what was found, each thing only after a second look."""

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from blocks.settings import settings
from tasks.adapters.orphans import Finding, Orphans
from tasks.domain.markdown import cell
from tasks.domain.pipeline import Verb
from tasks.parts import take_down_here
from tasks.record import count_step, current_flow_run, in_thread, registry, show_markdown


@task(name="remove_orphans", task_run_name="remove_orphans", cache_policy=NO_CACHE)
async def remove_orphans(findings: list[Finding], expired: list[str]) -> int:
    """How many things are still there. Safe to repeat; expired sites get a teardown run each, once."""
    orphans = Orphans(settings().home, registry(), settings().store_url, take_down_here)
    rows, left = [], 0
    for finding in findings:
        removal = await in_thread(orphans.remove, finding)
        left += not removal.removed
        rows.append(f"| {finding.kind} | {cell(finding.name)} | {cell(removal.left) or 'removed'} |")
    for execution_id in expired:
        key = f"reap {current_flow_run().id} {execution_id}"
        await in_thread(registry().request_run, execution_id, Verb.TEARDOWN, key)
        rows.append(f"| expired site | {execution_id} | teardown/on-demand was started for it |")
    table = "| what | name | outcome |\n|---|---|---|\n" + "\n".join(rows) if rows else "There was nothing."
    show_markdown("receipt", f"{len(rows) - left} gone or going, {left} still there", f"# Receipt\n\n{table}\n")
    get_run_logger().info("removed=%d left=%d expired_sites=%d", len(findings) - left, left, len(expired))
    count_step()
    return left
