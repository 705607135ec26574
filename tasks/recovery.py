"""Deploy and verify are one transaction: what failed our gates, or was broken off, does not stay on the internet."""

from blocks.settings import settings
from tasks.adapters import http
from tasks.adapters.registry import Lease
from tasks.domain.errors import BuilderError, ReleaseUndone, RollbackFailed, SiteBusy
from tasks.domain.execution import Execution
from tasks.domain.hosting import Host
from tasks.domain.pipeline import SiteState, Step
from tasks.parts import host_of
from tasks.record import (
    LEASE_S,
    held_lease,
    in_thread,
    owner_of,
    registry,
    run_log,
    set_site_state,
    show_link,
)


async def keep_as_good(execution: Execution, release_id: str) -> None:
    """From here on this is the release to go back to; a site that is to be taken down one day counts from its first."""
    before = await in_thread(registry().execution, execution.execution_id)
    await in_thread(registry().record_good, execution.execution_id, release_id)
    if before.good_release is None and before.expires_at is None and execution.request.keep_days is not None:
        await in_thread(registry().set_expiry, execution.execution_id, execution.request.keep_days)


async def take_back(execution: Execution, cause: Exception) -> BuilderError:
    """Have the last good release serve again, or nothing where there was none. What to raise instead of ``cause``.

    The failing step's words in the record are the same.
    """
    log = run_log()
    failure = await in_thread(registry().failure_of, execution.run_id)
    error: BuilderError
    try:
        serves = await _set_back(execution, held_lease())
    except Exception as trouble:  # noqa: BLE001  # whatever it was, somebody has to be told
        wanted = await _wanted(execution)
        error = RollbackFailed(str(cause), f"{type(trouble).__name__}: {trouble}", wanted)
        await set_site_state(execution, SiteState.ROLLBACK_FAILED)
        log.critical("%s", error)
    else:
        error = ReleaseUndone(str(cause), serves)
        log.warning("%s", error)
    step = Step(failure.step) if failure is not None and failure.step else Step.DEPLOY
    await in_thread(registry().undo_steps, execution.run_id, Step.DEPLOY)
    await in_thread(registry().fail_step, execution.run_id, step, str(error))
    return error


async def settle(execution: Execution) -> None:
    """The same for a run that ended in between, by whoever cleans up after it: nothing unverified stays live.

    Does nothing where nothing was ever published, where another run writes the site by then, or where what serves is
    good. Safe to repeat. Raises what kept it from setting the site back.
    """
    owner = owner_of(execution.run_id)
    known = await in_thread(registry().resources, execution.execution_id)
    if not any(resource.kind == "site" and resource.state != "gone" for resource in known):
        return
    try:
        lease = await in_thread(registry().acquire_lease, execution.site_name, owner, LEASE_S)
    except SiteBusy:
        return
    try:
        await _set_back(execution, lease)
    finally:
        await in_thread(registry().free_leases, owner)


async def _wanted(execution: Execution) -> str:
    good = (await in_thread(registry().execution, execution.execution_id)).good_release
    return f"release {good} should serve" if good else "nothing should be served"


async def _set_back(execution: Execution, lease: Lease) -> str:
    """What visitors get afterwards, in words. The host is asked, not the record: a kill may have come between."""
    record = await in_thread(registry().execution, execution.execution_id)
    good = record.good_release
    host = await host_of(execution)
    live = await in_thread(host.live)
    if good is not None:
        if live == good == record.live_release:
            return f"release {good} serves"
        return await _serve_again(execution, host, good, lease)
    if live is not None:
        receipt = await in_thread(host.teardown, lease.fence)
        if receipt.left:
            raise BuilderError(f"still there after the site was taken down: {', '.join(receipt.left[:5])}")
    if live is not None or record.live_release is not None:
        await in_thread(registry().record_taken_down, execution.execution_id, lease)
        await in_thread(registry().resource_gone, execution.execution_id, "site", execution.site_name)
    return "nothing is served, the site had no earlier release"


async def _serve_again(execution: Execution, host: Host, release_id: str, lease: Lease) -> str:
    await in_thread(registry().assert_held, lease)
    site = await in_thread(host.activate, release_id, lease.fence)
    await in_thread(registry().record_published, execution.execution_id, site, lease)
    await in_thread(http.health_check, site, settings().health_deadline_s)
    await set_site_state(execution, SiteState.ROLLED_BACK)
    show_link("live-site", f"Release {release_id}, the last good one", site.url, "Open the site")
    return f"release {release_id} serves again"
