"""Step 6: package what the agent wrote into a release, and put it on its host."""

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from blocks.settings import settings
from tasks.adapters.archive import Archive
from tasks.adapters.packaging import package
from tasks.adapters.workspace import Workspace
from tasks.domain.execution import Execution
from tasks.domain.hosting import Host, Site
from tasks.domain.pipeline import Step
from tasks.parts import host_for, load_hosting
from tasks.record import in_thread, recorded, registry, show_link, transient_only

LEASE_S = 600.0
"""How long a publish may hold its site; a run that dies frees the site after this."""


@task(
    name="deploy",
    task_run_name="deploy",
    cache_policy=NO_CACHE,
    retries=3,
    retry_delay_seconds=[2, 10, 30],
    retry_condition_fn=transient_only,
)
async def deploy(execution: Execution) -> Site:
    """Safe to repeat: the same source is the same release, and a release that is there is not uploaded again."""

    async def work() -> Site:
        host = host_for(await load_hosting(execution.request.hosting), execution.site_name)
        site = await in_thread(_publish, execution, host)
        get_run_logger().info(
            "published release=%s url=%s uploaded=%d kept=%d", site.release_id, site.url, site.uploaded, site.kept
        )
        show_link("live-site", f"Release {site.release_id}", site.url, "Open the site")
        return site

    return await recorded(execution.run_id, Step.DEPLOY, Site, work)


def _publish(execution: Execution, host: Host) -> Site:
    """Package and publish under the site's lease: a holder that froze and woke up is refused by the record."""
    lease = registry().acquire_lease(execution.site_name, f"run {execution.run_id}", LEASE_S)
    try:
        release = package(
            Workspace(execution.workspace),
            known=lambda digest: registry().release_for_digest(execution.session_id, digest),
            next_number=lambda: registry().next_release_number(execution.session_id),
        )
        registry().record_release(execution.execution_id, release)
        registry().plan_resource(execution.execution_id, "site", execution.site_name)
        site = host.publish(release)
        registry().resource_created(execution.execution_id, "site", execution.site_name)
        registry().record_published(execution.execution_id, site, lease)
        archive = Archive(settings().store_url)
        archive.save_release(execution.user_id, execution.session_id, release)
        archive.save_texts(execution.user_id, execution.session_id, Workspace(execution.workspace))
        return site
    finally:
        registry().release_lease(lease)
