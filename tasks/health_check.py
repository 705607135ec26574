"""Step 7: the URL answers and serves this release."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from blocks.settings import settings
from tasks.adapters import http
from tasks.domain.check import Check
from tasks.domain.execution import Execution
from tasks.domain.hosting import Site
from tasks.domain.pipeline import Step
from tasks.record import in_thread, patiently, recorded, registry, show_check


@task(name="health_check", task_run_name="health_check", cache_policy=NO_CACHE)
async def health_check(execution: Execution, site: Site) -> Check:
    """Reads only. Tries again by itself until its deadline; raises NotHealthy with what was seen last."""

    async def work() -> Check:
        check = await in_thread(http.health_check, site, settings().health_deadline_s)
        await patiently(registry().record_check, execution.run_id, check)
        show_check(check)
        return check

    return await recorded(execution.run_id, Step.HEALTH_CHECK, Check, work)
