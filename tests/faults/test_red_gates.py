"""Publishing and our gates are one transaction: what fails them does not stay on the internet."""

import signal

import pytest

from tasks.adapters.registry import Accepted
from tasks.domain.pipeline import SiteState, Status, Step, Verb
from tests.support.faults import LEAVING, Battered, edit, fault

pytestmark = pytest.mark.timeout(900)

BROKEN = (
    '<img src="/there-is-no-such-picture.png" alt=""><a href="/nowhere.html">gone</a><script src="/no.js"></script>'
)


@fault(
    "a redeploy publishes a page with a dead link, picture and script",
    "failed, and says why; the last good release serves again; the site is rolled_back",
    sampled=True,
)
def test_a_redeploy_that_fails_our_gates_is_taken_back(battered: Battered, site: Accepted) -> None:
    good = battered.execution(site).good_release
    edit(battered, site, BROKEN)
    try:
        run_id = battered.ask_for(site, Verb.REDEPLOY)
        battered.becomes(run_id, Status.FAILED)
    finally:
        edit(battered, site, "")
    record = battered.execution(site)
    assert (record.live_release, record.site_state) == (good, SiteState.ROLLED_BACK)
    error = battered.record.progress(site.execution_id).error
    assert error is not None
    assert f"{good} serves again" in error.message


@fault(
    "kill -9 of a redeploy's process after a page with a dead link was published",
    "goes on, fails our gates, and the last good release serves again",
)
def test_a_killed_redeploy_that_fails_our_gates_is_taken_back(battered: Battered, site: Accepted) -> None:
    good = battered.execution(site).good_release
    edit(battered, site, BROKEN + "<!-- killed -->")
    try:
        run_id = battered.ask_for(site, Verb.REDEPLOY)
        with battered.gate(run_id, Step.HEALTH_CHECK, LEAVING) as gate:
            gate.wait()
            battered.engine(run_id).process.send(signal.SIGKILL)
            gate.open()
        battered.becomes(run_id, Status.FAILED)
    finally:
        edit(battered, site, "")
    record = battered.execution(site)
    assert (record.live_release, record.site_state) == (good, SiteState.ROLLED_BACK)


@fault("the first release of a site fails our gates", "failed, and says why; nothing is served")
def test_a_first_release_that_fails_our_gates_is_taken_down(battered: Battered) -> None:
    built = battered.accept()
    with battered.gate(built.run_id, Step.GENERATE_CODE, LEAVING) as gate:
        gate.wait()
        edit(battered, built, BROKEN)
        gate.open()
    battered.becomes(built.run_id, Status.FAILED)
    record = battered.execution(built)
    assert (record.live_release, record.site_state) == (None, SiteState.TAKEN_DOWN)
    assert battered.record.progress(built.execution_id).error is not None
