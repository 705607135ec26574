"""Find, and on request remove, what nobody owns or needs any more."""

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from tasks.find_orphans import find_orphans
from tasks.record import pages
from tasks.remove_orphans import remove_orphans


@flow(name="reap", flow_run_name="reap")
async def reap(dry_run: bool = True) -> State[Any]:
    """Look for terminals, processes, folders, archives and resources without an owner on the worker's machine, and
    for sites whose time is over.

    Args:
        dry_run: List what is found, and touch nothing. Switch it off to remove it.
    """
    async with pages(total=1 if dry_run else 2):
        findings, expired = await find_orphans()
        found = len(findings) + len(expired)
        if dry_run or not found:
            return Completed(message=f"found {found}, removed nothing" if found else "found nothing")
        left = await remove_orphans(findings, expired)
    if left:
        return Failed(message=f"{left} of {found} are still there; the artifact receipt says why")
    return Completed(message=f"removed {found}")
