"""One writer per site, whoever freezes, and whatever the clocks say."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.states import Scheduled

from tasks.adapters.hosts.local import LocalHost
from tasks.adapters.registry import Accepted, Registry
from tasks.domain.errors import SiteBusy
from tasks.domain.pipeline import Status, Step, Verb
from tests.support.databases import (
    migrated_postgresql,
    migrated_sqlite,
    postgres_cluster,
    registry,
    registry_url,
)
from tests.support.faults import LEAVING, Battered, edit, fault
from tests.support.releases import Packager
from tests.support.service import ROOT, until
from tests.tasks.adapters.registry.orders import an_execution

__all__ = ["migrated_postgresql", "migrated_sqlite", "postgres_cluster", "registry", "registry_url"]

pytestmark = pytest.mark.timeout(900)

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")

HOLDER = """
import sys
from pathlib import Path
from tasks.adapters.hosts.fencing import StaleWriter
from tasks.adapters.hosts.local import LocalHost
from tasks.adapters.packaging import load_release
from tasks.adapters.registry import Registry
from tasks.domain.errors import SiteBusy

url, home, execution_id, site_name, releases, number = sys.argv[1:]
record = Registry.open(url)
lease = record.acquire_lease(site_name, "frozen", 1)
host = LocalHost(Path(home), site_name, 8401, 3)
print("holds", flush=True)
sys.stdin.readline()
try:
    site = host.publish(load_release(Path(releases), int(number)), lease.fence)
    print("published", flush=True)
except StaleWriter as error:
    print("refused by the host:", error, flush=True)
try:
    record.assert_held(lease)
    print("still held", flush=True)
except SiteBusy as error:
    print("refused by the record:", error, flush=True)
"""


@fault(
    "SIGSTOP of the holder of a site's lease before it publishes, SIGCONT after another one took over and published",
    "refused by the host (fence) and by the record; the other one's release serves",
    sampled=True,
)
def test_a_frozen_holder_that_wakes_up_is_refused(
    registry_url: str,  # pytest finds fixtures by name
    registry: Registry,
    tmp_path: Path,
) -> None:
    accepted, packager = an_execution(registry), Packager(tmp_path / "workspace")
    old, new = (packager.package({"index.html": text}) for text in ("old", "new"))
    arguments = [registry_url, tmp_path, accepted.execution_id, accepted.site_name, packager.workspace.releases]
    command = [sys.executable, "-c", HOLDER, *map(str, arguments), str(old.number)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdin is not None
            assert holder.stdout.readline() == "holds\n"
            holder.send_signal(signal.SIGSTOP)
            holder.stdin.write("go on\n")
            holder.stdin.flush()
            with pytest.raises(SiteBusy, match="frozen"):
                registry.acquire_lease(accepted.site_name, "another", 30)
            time.sleep(1.2)  # its time runs out by the database's clock
            lease = registry.acquire_lease(accepted.site_name, "another", 30)
            host = LocalHost(tmp_path, accepted.site_name, 8401, 3)
            host.publish(new, lease.fence)
            holder.send_signal(signal.SIGCONT)
            told, _ = holder.communicate(timeout=30)
        finally:
            holder.kill()
    assert "refused by the host" in told
    assert "refused by the record" in told
    assert not any(line == "published" for line in told.splitlines())
    assert (host.live(), host.releases()) == (new.release_id, [new.release_id])
    registry.assert_held(lease)


CLAIM = """
import sys, time
from tasks.adapters.registry import Registry
from tasks.domain.errors import SiteBusy

url, site_name = sys.argv[1:]
print("clock", int(time.time()), flush=True)
try:
    Registry.open(url).acquire_lease(site_name, "another", 30)
    print("taken")
except SiteBusy as error:
    print("busy")
"""


@pytest.mark.parametrize("moved", ["+2d", "-2d"])
@pytest.mark.parametrize("registry_url", ["postgresql"], indirect=True)
@fault(
    "the clock of one machine is moved by two days (libfaketime)",
    "leases go by the database's clock: a lease that is held is not taken, one that ran out is",
)
def test_a_moved_clock_takes_no_lease(registry_url: str, registry: Registry, moved: str) -> None:
    accepted = an_execution(registry)
    held = registry.acquire_lease(accepted.site_name, "holder", 30)
    assert claim(registry_url, accepted.site_name, moved) == "busy"
    registry.assert_held(held)
    registry.release_lease(held)
    registry.acquire_lease(accepted.site_name, "holder", 0.001)
    assert claim(registry_url, accepted.site_name, moved) == "taken"


def claim(url: str, site_name: str, moved: str) -> str:
    command = [sys.executable, "-c", CLAIM, url, site_name]
    told = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **faked(moved)}, capture_output=True, text=True, timeout=60, check=True
    )
    clock, answer = told.stdout.splitlines()
    assert abs(int(clock.split()[1]) - time.time()) > 86_400, "the clock was not moved"
    return answer


def faked(moved: str) -> dict[str, str]:
    assert FAKETIME.exists(), f"{FAKETIME} is missing; this case needs it: apt-get install libfaketime"
    return {"LD_PRELOAD": str(FAKETIME), "FAKETIME": moved, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


@pytest.fixture
def dispatcher_of_another_time(battered: Battered, request: pytest.FixtureRequest) -> Iterator[None]:
    """The service's dispatcher is replaced by one whose clock is moved."""
    battered.control("stop", "dispatcher")
    environment = {**battered.environment, **faked(request.param)}
    command = [sys.executable, "-m", "deployments.dispatcher"]
    log = battered.home / "logs" / "moved-dispatcher.log"
    with log.open("wb") as output:
        moved = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        yield
    finally:
        moved.kill()
        moved.wait(10)
        battered.control("start", "dispatcher")


@pytest.mark.parametrize("dispatcher_of_another_time", ["+1h", "-1h"], indirect=True, ids=["1 h ahead", "1 h behind"])
@fault(
    "the dispatcher's clock is moved by an hour (libfaketime), and the run's process is killed in step 3",
    "the build is dispatched once, goes on after the kill, and ends in a true state",
)
def test_a_dispatcher_with_a_moved_clock_carries_a_build_out(
    battered: Battered, dispatcher_of_another_time: None
) -> None:
    built = battered.accept()
    with battered.gate(built.run_id, Step.GATHER_REQUIREMENTS, LEAVING) as gate:
        gate.wait()
        battered.engine(built.run_id).process.send(signal.SIGKILL)
        gate.open()
    battered.becomes(built.run_id, Status.COMPLETED)
    assert battered.run_of(built.run_id).attempt == 2


@fault(
    "two redeploys of one site at once, the second one told to wait",
    "the second waits for the lease, then publishes; both are completed",
)
def test_a_second_redeploy_waits(battered: Battered, site: Accepted) -> None:
    edit(battered, site, "<p>first of two</p>")
    first = battered.ask_for(site, Verb.REDEPLOY)
    with battered.gate(first, Step.DEPLOY, LEAVING) as gate:
        until(lambda: None if battered.record.lease_of(site.site_name) else "nobody writes the site", 60)
        second = battered.ask_for(site, Verb.REDEPLOY)  # a run before a gate holds the execution's row, up to 30 s
        assert second != first
        gate.wait()
        until(lambda: None if battered.run_of(second).status is Status.RUNNING else "it did not start", 60)
        held = battered.record.lease_of(site.site_name)
        assert held is not None
        assert held.owner == f"run {first}"
        assert battered.steps_begun(second) == {}
        edit(battered, site, "<p>second of two</p>")
        gate.open()
    for run_id in (first, second):
        battered.becomes(run_id, Status.COMPLETED)
    kept = battered.record.releases(site.execution_id)
    assert battered.execution(site).live_release == kept[0].release_id


@fault(
    "two redeploys of one site at once, the second one told not to wait",
    "the second one failed at once and says who writes the site; the first is undisturbed",
)
def test_a_second_redeploy_that_may_not_wait_is_refused(battered: Battered, site: Accepted) -> None:
    edit(battered, site, "<p>undisturbed</p>")
    first = battered.ask_for(site, Verb.REDEPLOY)
    with battered.gate(first, Step.DEPLOY, LEAVING) as gate:
        gate.wait()
        second = start(battered, "redeploy/on-demand", {"execution_id": site.execution_id, "when_busy": "refuse"})
        until(lambda: None if over(battered, second.id) else "it is not over", 90)
        with battered.prefect() as client:
            state = client.read_flow_run(second.id).state
        assert state is not None
        assert state.is_failed()
        assert f"run {first}" in str(state.message)
        gate.open()
    battered.becomes(first, Status.COMPLETED)


def start(battered: Battered, deployment: str, parameters: dict[str, object]) -> FlowRun:
    """As the Prefect UI does it."""
    with battered.prefect() as client:
        found = client.read_deployment_by_name(deployment)
        return client.create_flow_run_from_deployment(found.id, parameters=parameters, state=Scheduled())


def over(battered: Battered, flow_run_id: UUID) -> bool:
    with battered.prefect() as client:
        state = client.read_flow_run(flow_run_id).state
    return state is not None and state.is_final()
