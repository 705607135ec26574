"""The stretches that flows are made of. Plain functions: one execution is one flow run with one task run a step."""

from tasks.deploy import deploy
from tasks.domain.execution import Execution
from tasks.domain.hosting import Site
from tasks.domain.pipeline import Verdict
from tasks.e2e_tests import e2e_tests
from tasks.health_check import health_check
from tasks.record import give_verdict
from tasks.recovery import keep_as_good, take_back
from tasks.screenshot import screenshot


async def deliver(execution: Execution) -> Site:
    """Steps 6-9. Every road to a live site passes here.

    Publishing and our gates are one transaction: where a gate is red, the last good release serves again.
    """
    site = await deploy(execution)
    await verify(execution, site, transaction=True)
    return site


async def verify(execution: Execution, site: Site, transaction: bool = False) -> Verdict:
    """Steps 7-9. In a ``transaction`` a red gate takes the release back."""
    try:
        health = await health_check(execution, site)
        pictures = await screenshot(execution, site)
    except Exception as error:
        if transaction:
            raise await take_back(execution, error) from error
        raise
    if transaction:  # a re-verification holds no lease: another release may be the good one by now
        await keep_as_good(execution, site.release_id)
    suite = await e2e_tests(execution, site)
    return await give_verdict(execution, site, [health.outcome, pictures.outcome, suite.status])
