"""One pointer write: another release that the host still keeps serves the site."""

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from tasks.domain.errors import ReleaseUnknown
from tasks.domain.execution import Execution
from tasks.domain.hosting import Host, Site
from tasks.parts import host_of
from tasks.record import count_step, held_lease, in_thread, registry, show_link, transient_only


@task(
    name="switch_release",
    task_run_name="switch_release",
    cache_policy=NO_CACHE,
    retries=2,
    retry_delay_seconds=[2, 10],
    retry_condition_fn=transient_only,
)
async def switch_release(execution: Execution, release_id: str | None) -> Site:
    """Safe to repeat: the same release is served again. Without ``release_id``, the newest that is older than the
    good one.
    """
    host = await host_of(execution)
    good = (await in_thread(registry().execution, execution.execution_id)).good_release
    site = await in_thread(_switch, execution, host, release_id, good)
    get_run_logger().info("rolled back from=%s to=%s url=%s", good, site.release_id, site.url)
    show_link("live-site", f"Release {site.release_id}", site.url, "Open the site")
    count_step()
    return site


def _before(host: Host, good: str | None) -> str:
    """What served before the good release: of what is kept, newest first, the next one."""
    kept = host.releases()
    live = good or host.live()
    older = kept[kept.index(live) + 1 :] if live in kept else kept
    if not older:
        raise ReleaseUnknown("", kept, live or "")
    return older[0]


def _switch(execution: Execution, host: Host, wanted: str | None, good: str | None) -> Site:
    lease, kept = held_lease(), host.releases()
    chosen = wanted or _before(host, good)
    if chosen not in kept:
        raise ReleaseUnknown(chosen, kept, host.live() or "")
    registry().assert_held(lease)
    site = host.activate(chosen, lease.fence)
    registry().record_published(execution.execution_id, site, lease)
    return site
