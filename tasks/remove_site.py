"""Everything of an execution goes, and a second look proves it."""

import shutil

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from blocks.settings import settings
from tasks.adapters.agents.runtime import RuntimeFolder
from tasks.adapters.archive import Archive
from tasks.domain.errors import TeardownIncomplete
from tasks.domain.execution import Execution
from tasks.domain.hosting import Host, Receipt
from tasks.domain.markdown import cell
from tasks.parts import agent_of, host_of
from tasks.record import count_step, held_lease, in_thread, registry, show_markdown, transient_only


@task(
    name="remove_site",
    task_run_name="remove_site",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=[2, 10],
    retry_condition_fn=transient_only,
)
async def remove_site(execution: Execution, keep_files: bool) -> Receipt:
    """Safe to repeat: what is gone stays gone. Raises TeardownIncomplete where something is left."""
    host = await host_of(execution)
    receipt = await in_thread(_remove, execution, host, keep_files)
    rows = [f"| {cell(name)} | removed |" for name in receipt.removed]
    rows += [f"| {cell(name)} | **still there** |" for name in receipt.left]
    page = "# Receipt\n\n| what | outcome |\n|---|---|\n" + "\n".join(rows or ["| there was nothing | |"]) + "\n"
    show_markdown("receipt", f"{len(receipt.removed)} removed, {len(receipt.left)} still there", page)
    get_run_logger().info("removed=%d left=%d site=%s", len(receipt.removed), len(receipt.left), execution.site_name)
    if receipt.left:
        raise TeardownIncomplete(execution.execution_id, receipt.left)
    count_step()
    return receipt


def _remove(execution: Execution, host: Host, keep_files: bool) -> Receipt:
    lease, record = held_lease(), registry()
    removed: list[str] = []
    left: list[str] = []
    agent, runtime = agent_of(execution), RuntimeFolder(settings().home, execution.execution_id)
    there = runtime.root.exists()
    agent.stop()
    shutil.rmtree(runtime.root, ignore_errors=True)
    if there:
        (left if runtime.root.exists() else removed).append(f"agent's folder {runtime.root}")
    record.assert_held(lease)
    of_host = host.teardown(lease.fence)
    removed += of_host.removed
    left += of_host.left
    if not of_host.left:
        record.record_taken_down(execution.execution_id, lease)
        for resource in record.resources(execution.execution_id):
            if resource.state != "gone" and resource.kind == "site":
                record.resource_gone(execution.execution_id, resource.kind, resource.name)
    if not keep_files:
        if execution.workspace.exists():
            shutil.rmtree(execution.workspace, ignore_errors=True)
            (left if execution.workspace.exists() else removed).append(f"workspace {execution.workspace}")
        of_archive = Archive(settings().store_url).remove_session(execution.user_id, execution.session_id)
        removed += of_archive.removed
        left += of_archive.left
    return Receipt(removed=tuple(removed), left=tuple(left))
