"""Step 6: package what the agent wrote into a release, and put it on its host."""

from threading import Event

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE

from blocks.settings import settings
from tasks.adapters.archive import Archive
from tasks.adapters.packaging import package
from tasks.adapters.snapshot import FRONT_PAGE
from tasks.adapters.workspace import Workspace
from tasks.domain.errors import AskCancelled
from tasks.domain.execution import Execution
from tasks.domain.hosting import Host, Site
from tasks.domain.pipeline import Step
from tasks.domain.request import SiteType
from tasks.parts import host_of
from tasks.record import held_lease, interruptible, recorded, registry, show_link, transient_only


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
        host = await host_of(execution)
        site = await interruptible(lambda stop: _publish(execution, host, stop))
        get_run_logger().info(
            "published release=%s url=%s uploaded=%d kept=%d", site.release_id, site.url, site.uploaded, site.kept
        )
        show_link("live-site", f"Release {site.release_id}", site.url, "Open the site")
        return site

    return await recorded(execution.run_id, Step.DEPLOY, Site, work)


def _publish(execution: Execution, host: Host, stop: Event) -> Site:
    """Package and publish under the run's lease: a holder that froze and woke up is refused by host and record."""
    lease = held_lease()
    release = package(
        Workspace(execution.workspace),
        known=lambda digest: registry().release_for_digest(execution.session_id, digest),
        next_number=lambda: registry().next_release_number(execution.session_id),
        required=None if execution.request.site_type is SiteType.DYNAMIC else FRONT_PAGE,
    )
    registry().record_release(execution.execution_id, release)
    archive = Archive(settings().store_url)
    archive.save_release(execution.user_id, execution.session_id, release)
    archive.save_texts(execution.user_id, execution.session_id, Workspace(execution.workspace))
    registry().plan_resource(execution.execution_id, "site", execution.site_name)
    registry().assert_held(lease)
    if stop.is_set():
        raise AskCancelled("the publishing of a release")
    site = host.publish(release, lease.fence)
    registry().resource_created(execution.execution_id, "site", execution.site_name)
    registry().record_published(execution.execution_id, site, lease)
    return site
