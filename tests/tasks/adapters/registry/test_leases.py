"""One writer per site: held by one, lost by whoever froze, free again after a death."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from tasks.adapters.registry import Lease, Registry, UnknownSite
from tasks.domain.errors import SiteBusy, is_transient
from tasks.domain.hosting import Site
from tests.tasks.adapters.registry.orders import an_execution, at_once, kinds

HOLDER = """
import sys
from tasks.adapters.registry import Registry
from tasks.domain.errors import SiteBusy
from tasks.domain.hosting import Site

url, execution_id, site_name = sys.argv[1:]
registry = Registry.open(url)
lease = registry.acquire_lease(site_name, "frozen", 0.2)
print("holds", lease.fence, flush=True)
sys.stdin.readline()
try:
    site = Site(name=site_name, url="http://stale.localhost", release_id="r1-000000000000")
    registry.record_published(execution_id, site, lease)
    print("published", flush=True)
except SiteBusy as error:
    print("fenced off:", error, flush=True)
print("gave back", registry.release_lease(lease), flush=True)
"""


def a_site(name: str, release_id: str) -> Site:
    return Site(name=name, url=f"http://{name}.localhost:8401", release_id=release_id, dial="127.0.0.1:8401")


def taken(registry: Registry, site_name: str, owner: str, ttl_s: float, within_s: float = 20) -> Lease:
    """The lease, as soon as the one before ran out."""
    end = time.monotonic() + within_s
    while True:
        try:
            return registry.acquire_lease(site_name, owner, ttl_s)
        except SiteBusy:
            assert time.monotonic() < end, "it never ran out"


@pytest.fixture
def holder(registry_url: str, registry: Registry) -> Iterator[tuple["subprocess.Popen[str]", str, str]]:
    """Another process that has a site for 0.2 s and writes to it when it gets a line."""
    accepted = an_execution(registry)
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, registry_url, accepted.execution_id, accepted.site_name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "holds 1\n"
    try:
        yield process, accepted.execution_id, accepted.site_name
    finally:
        process.kill()
        process.communicate()


def test_a_site_that_is_held_is_refused_with_its_owner_and_since_when(registry: Registry) -> None:
    accepted = an_execution(registry)
    lease = registry.acquire_lease(accepted.site_name, "run 1", 60)
    with pytest.raises(SiteBusy, match="is being written by run 1 since") as busy:
        registry.acquire_lease(accepted.site_name, "run 2", 60)
    assert (busy.value.owner, busy.value.since) == ("run 1", lease.since.isoformat(timespec="seconds"))
    assert is_transient(busy.value)
    registry.assert_held(lease)
    assert timedelta(seconds=59) < lease.expires_at - lease.since < timedelta(seconds=61)


def test_a_site_that_was_given_back_is_free(registry: Registry) -> None:
    accepted = an_execution(registry)
    first = registry.acquire_lease(accepted.site_name, "run 1", 60)
    assert registry.release_lease(first)
    assert not registry.release_lease(first)
    with pytest.raises(SiteBusy):
        registry.assert_held(first)
    assert registry.acquire_lease(accepted.site_name, "run 2", 60).fence == first.fence + 1


def test_of_fifty_that_want_a_site_at_once_one_has_it(registry: Registry) -> None:
    accepted = an_execution(registry)
    found = at_once([lambda n=n: registry.acquire_lease(accepted.site_name, f"run {n}", 60) for n in range(50)])
    winners = [each for each in found if isinstance(each, Lease)]
    assert len(winners) == 1
    assert all(isinstance(each, SiteBusy) and each.owner == winners[0].owner for each in found if each not in winners)


def test_a_run_that_was_killed_has_its_site_again_at_once(registry: Registry) -> None:
    accepted = an_execution(registry)
    before = registry.acquire_lease(accepted.site_name, "run 1", 600)
    after = registry.acquire_lease(accepted.site_name, "run 1", 600)
    assert after.fence == before.fence + 1
    with pytest.raises(SiteBusy):
        registry.assert_held(before)


def test_a_lease_that_is_renewed_does_not_run_out(registry: Registry) -> None:
    accepted = an_execution(registry)
    lease = registry.acquire_lease(accepted.site_name, "run 1", 0.2)
    renewed = registry.renew_lease(lease, 60)
    assert (renewed.fence, renewed.since) == (lease.fence, lease.since)
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        with pytest.raises(SiteBusy):
            registry.acquire_lease(accepted.site_name, "run 2", 60)


def test_a_lease_that_was_lost_is_neither_renewed_nor_given_back(registry: Registry) -> None:
    accepted = an_execution(registry)
    lost = registry.acquire_lease(accepted.site_name, "run 1", 0.1)
    now = taken(registry, accepted.site_name, "run 2", 60)
    with pytest.raises(SiteBusy, match="run 2"):
        registry.renew_lease(lost, 60)
    assert not registry.release_lease(lost)
    registry.assert_held(now)


def test_a_holder_that_froze_is_fenced_off_when_it_wakes(
    registry: Registry, holder: tuple["subprocess.Popen[str]", str, str]
) -> None:
    process, execution_id, site_name = holder
    os.kill(process.pid, signal.SIGSTOP)
    lease = taken(registry, site_name, "awake", 60)
    registry.record_published(execution_id, a_site(site_name, "r2-111111111111"), lease)
    os.kill(process.pid, signal.SIGCONT)
    said, _ = process.communicate("\n", timeout=60)
    assert "fenced off: site" in said
    assert "is being written by awake" in said
    assert said.endswith("gave back False\n")
    assert registry.execution(execution_id).live_release == "r2-111111111111"
    assert kinds(registry, execution_id).count("published") == 1
    registry.assert_held(lease)


def test_a_holder_that_was_slow_but_not_replaced_still_counts(
    registry: Registry, holder: tuple["subprocess.Popen[str]", str, str]
) -> None:
    process, execution_id, _site_name = holder
    said, _ = process.communicate("\n", timeout=60)
    assert said == "published\ngave back True\n"
    assert registry.execution(execution_id).live_release == "r1-000000000000"


def test_a_site_whose_holder_was_killed_is_free_when_the_lease_runs_out(
    registry: Registry, holder: tuple["subprocess.Popen[str]", str, str]
) -> None:
    process, _execution_id, site_name = holder
    process.kill()
    assert taken(registry, site_name, "next", 60).fence == 2


def test_an_unknown_site_is_named(registry: Registry) -> None:
    with pytest.raises(UnknownSite, match="tmux-00000000-00000000"):
        registry.acquire_lease("tmux-00000000-00000000", "run 1", 60)


@pytest.mark.parametrize("ttl_s", [0, -1, float("nan"), float("inf"), 1e9])
def test_a_lease_has_a_length(registry: Registry, ttl_s: float) -> None:
    accepted = an_execution(registry)
    with pytest.raises(ValueError, match="ttl_s"):
        registry.acquire_lease(accepted.site_name, "run 1", ttl_s)


def test_what_a_dead_owner_held_is_given_back_and_nobody_elses(registry: Registry) -> None:
    mine, other = (an_execution(registry, key) for key in ("first", "second"))
    lease = registry.acquire_lease(mine.site_name, "run a", 60)
    kept = registry.acquire_lease(other.site_name, "run b", 60)
    assert registry.lease_of(mine.site_name) == lease
    assert registry.free_leases("run a") == [mine.site_name]
    assert registry.free_leases("run a") == []
    assert registry.lease_of(mine.site_name) is None
    assert registry.lease_of(other.site_name) == kept


def test_a_lease_that_ran_out_is_nobodys_for_sure(registry: Registry) -> None:
    accepted = an_execution(registry)
    registry.acquire_lease(accepted.site_name, "run a", 0.01)
    time.sleep(0.05)
    assert registry.lease_of(accepted.site_name) is None
