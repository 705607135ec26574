"""The stretches that flows are made of. Plain functions: one execution is one flow run with one task run a step."""

from tasks.deploy import deploy
from tasks.domain.execution import Execution
from tasks.domain.hosting import Site
from tasks.domain.pipeline import Verdict
from tasks.e2e_tests import e2e_tests
from tasks.health_check import health_check
from tasks.record import give_verdict
from tasks.screenshot import screenshot


async def deliver(execution: Execution) -> Site:
    """Steps 6-9. Every road to a live site passes here."""
    site = await deploy(execution)
    await verify(execution, site)
    return site


async def verify(execution: Execution, site: Site) -> Verdict:
    """Steps 7-9."""
    health = await health_check(execution, site)
    pictures = await screenshot(execution, site)
    suite = await e2e_tests(execution, site)
    return await give_verdict(execution, [health.outcome, pictures.outcome, suite.status])
