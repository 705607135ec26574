"""What the service forgets by age, and how it forgets a person so that nothing tells of them."""

import asyncio
import base64
import json
import os
import re
import shutil
import subprocess
import tarfile
import threading
import time
from collections.abc import Collection, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Scheduled
from sqlalchemy import make_url, text

from deployments.backup import _run as run_tool
from deployments.housekeeping import Home, Housekeeping
from deployments.postgres import PrivateCluster
from deployments.prefect_runs import Gone, PrefectRuns
from tasks.adapters.archive import Archive
from tasks.adapters.registry import Accepted, Registry
from tasks.adapters.workspace import Workspace
from tasks.domain.hosting import Site
from tasks.domain.traces import Traces
from tests.flows.conftest import Seen, finished
from tests.support.releases import Packager
from tests.support.service import ServiceUnderTest
from tests.tasks.adapters.registry.orders import a_finished_execution

EMAIL, PHONE, CANARY = "Berta.Quast@Example.com", "+4915112398765", "Zwielicht-4711"
TRACES = ("berta.quast", "4915112398765", "zwielicht-4711")
REQUEST = {
    "requirements": f"A light website called {CANARY} Teahouse for a tea house, with a menu and opening hours",
    "email": EMAIL,
    "phone": PHONE,
}
OTHER = {**REQUEST, "email": "carl@example.org", "phone": "+4900000000", "requirements": "A site for Carl's garage"}


def keep_house(service: ServiceUnderTest, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return service.run("deployments.housekeeping", *arguments)


async def start(service: ServiceUnderTest, request: dict[str, Any]) -> UUID:
    async with service.client() as client:
        build = await client.read_deployment_by_name("full-build/on-demand")
        flow_run = await client.create_flow_run_from_deployment(build.id, parameters={"request": request})
        return flow_run.id


async def built(service: ServiceUnderTest, request: dict[str, Any]) -> Seen:
    flow_run_id = await start(service, request)
    async with service.client() as client:
        return await finished(client, flow_run_id)


def cluster_of(service: ServiceUnderTest) -> PrivateCluster:
    return PrivateCluster(service.home / "postgresql", int(service.told["TMUX_BUILDER_POSTGRES_PORT"]))


def dump(service: ServiceUnderTest, tmp_path: Path) -> dict[str, str]:
    """Both databases in plain text, as pg_dump writes them."""
    cluster, dumped = cluster_of(service), {}
    with cluster.connect() as connection:
        names = [row[0] for row in connection.execute("SELECT datname FROM pg_database WHERE NOT datistemplate")]
    for name in sorted(set(names) - {"postgres"}):
        url = make_url(cluster.url(name)).set(drivername="postgresql")
        file = tmp_path / f"{name}.sql"
        with file.open("wb") as output:
            shown = url.set(password=None).render_as_string(hide_password=False)
            run_tool("pg_dump", [f"--dbname={shown}"], url, stdout=output)
        dumped[name] = file.read_text(errors="replace")
    return dumped


def telling(service: ServiceUnderTest, tmp_path: Path) -> set[str]:
    """Every place that holds a trace: lines of the dumps, and files of the home by name or content."""
    found = set()
    for name, dumped in dump(service, tmp_path).items():
        for line in dumped.splitlines():
            found |= {f"{name}: {line[:300]}" for trace in TRACES if trace in line.lower()}
    for root, folders, files in os.walk(service.home):
        if Path(root) == service.home:
            folders.remove("postgresql")  # its files hold freed rows; what it knows is in the dumps
        for name in files:
            path = Path(root, name)
            if path.is_file() and not path.is_symlink():
                content = path.read_bytes()
                with suppress(ValueError):
                    content += base64.b64decode(b"".join(content.split()), validate=True)
                found |= {str(path) for trace in TRACES if trace.encode() in content.lower()}
    return found


@pytest.mark.timeout(600)  # a whole build and five commands, each of which starts Python with Prefect
@pytest.mark.asyncio
async def test_a_person_is_handed_out_and_then_forgotten_everywhere(service: ServiceUnderTest, tmp_path: Path) -> None:
    orders = (REQUEST, {**REQUEST, "phone": "+4900000000"}, OTHER)
    build, refused, others = await asyncio.gather(*(built(service, order) for order in orders))
    assert build.flow_run.state_name == "Completed", build.lines
    assert refused.flow_run.state_name == others.flow_run.state_name == "Failed"
    registry = service.registry()
    registry.refuse("by-form", {"email": f" {EMAIL.upper()} ", "text": CANARY}, f"{EMAIL!r} was refused")
    execution = registry.execution(build.execution_id)
    registry.post_message(build.execution_id, "user", f"call me: {PHONE}")
    before = await asyncio.to_thread(telling, service, tmp_path)
    assert any(place.startswith("prefect: ") for place in before)
    assert any(place.startswith("tmux_builder: ") for place in before)
    (service.home / "logs" / "dispatcher.log").open("a").write(f"refused {EMAIL} {PHONE}: {REQUEST['requirements']}\n")

    file = tmp_path / "berta.tar.gz"
    exported = await asyncio.to_thread(keep_house, service, "export", EMAIL, str(file))
    assert exported.returncode == 0, exported.stderr
    assert file.stat().st_mode & 0o077 == 0
    with tarfile.open(file) as tar:
        names = tar.getnames()
        rows = json.load(tar.extractfile("registry.json"))  # type: ignore[arg-type]  # it is a file
        told = json.load(tar.extractfile(f"prefect/{build.flow_run.id}.json"))  # type: ignore[arg-type]
    assert rows["users"][0]["email"] == EMAIL.lower()
    assert {row["delivery_key"] for row in rows["deliveries"] if row["refusal"]} == {
        "by-form",
        str(refused.flow_run.id),
    }
    assert told["flow_run"]["parameters"]["request"]["email"] == EMAIL
    assert len(told["logs"]) > 10
    assert {artifact["key"] for artifact in told["artifacts"]} >= {"requirements", "plan"}
    assert f"prefect/{refused.flow_run.id}.json" in names
    assert f"prefect/{others.flow_run.id}.json" not in names
    for part in ("source/index.html", "output/plan.md"):
        assert f"files/sessions/{execution.session_id}/{part}" in names
    assert any(name.startswith("archive/") for name in names)
    assert f"logs/{build.flow_run.id}.log" in names

    asked = await asyncio.to_thread(keep_house, service, "erase", EMAIL)
    assert asked.returncode == 0, asked.stderr
    assert "would erase" in asked.stdout
    assert "2 flow runs" in asked.stdout
    assert registry.execution(build.execution_id).live_release is not None

    erased = await asyncio.to_thread(keep_house, service, "erase", EMAIL, "--apply")
    assert erased.returncode == 0, erased.stderr
    assert await asyncio.to_thread(telling, service, tmp_path) == set()
    for name in (execution.user_id, execution.site_name):
        left = [path for path in service.home.rglob(f"{name}*") if "fences" not in path.parts]
        assert left == []
    log = (service.home / "logs" / "dispatcher.log").read_text()
    assert re.search(r"refused x{23} x{14}: x+\n", log)
    async with service.client() as client:
        assert (await client.read_flow_run(others.flow_run.id)).parameters["request"]["email"] == "carl@example.org"
    registry.close()

    again = await asyncio.to_thread(keep_house, service, "erase", EMAIL, "--apply")
    assert again.returncode == 0, again.stderr
    forgotten = await asyncio.to_thread(keep_house, service, "erase", "carl@example.org", "--apply")
    assert forgotten.returncode == 0, forgotten.stderr


@pytest.mark.asyncio
async def test_who_is_waited_for_is_not_erased_but_told_how_to_end_it(service: ServiceUnderTest) -> None:
    """A run that somebody planned in the Prefect UI for tomorrow: the registry does not know it yet."""
    email = "dora@example.com"
    async with service.client() as client:
        build = await client.read_deployment_by_name("full-build/on-demand")
        tomorrow = Scheduled(scheduled_time=datetime.now(UTC) + timedelta(days=1))
        parameters = {"request": {**REQUEST, "email": email}}
        flow_run = await client.create_flow_run_from_deployment(build.id, parameters=parameters, state=tomorrow)
        refused = await asyncio.to_thread(keep_house, service, "erase", email, "--apply")
        assert refused.returncode == 1
        assert f"prefect flow-run cancel {flow_run.id}" in refused.stderr
        assert (await client.read_flow_run(flow_run.id)).parameters == parameters
        await client.set_flow_run_state(flow_run.id, Cancelled(), force=True)
        erased = await asyncio.to_thread(keep_house, service, "erase", email, "--apply")
        assert erased.returncode == 0, erased.stderr
        with pytest.raises(ObjectNotFound):
            await client.read_flow_run(flow_run.id)


@pytest.mark.asyncio
async def test_what_is_old_goes_and_a_dry_run_only_says_so(service: ServiceUnderTest) -> None:
    async with service.client() as client:
        build = await client.read_deployment_by_name("full-build/on-demand")
        old, young = [
            (
                await client.create_flow_run_from_deployment(build.id, parameters={"request": OTHER}, state=Cancelled())
            ).id
            for _ in range(2)
        ]
        url = make_url(cluster_of(service).url("prefect")).set(drivername="postgresql")
        with psycopg.connect(url.render_as_string(hide_password=False)) as connection:
            past = datetime.now(UTC) - timedelta(days=15)
            connection.execute("UPDATE flow_run SET end_time = %s WHERE id = %s", (past, old))
            connection.execute("UPDATE flow_run SET end_time = now() WHERE id = %s", (young,))
        logs = service.home / "logs" / "engines"
        for name, days in (("old", 15), ("young", 1)):
            (logs / f"{name}.log").write_text("x")
            os.utime(logs / f"{name}.log", (time.time() - days * 86_400,) * 2)
        told = await asyncio.to_thread(keep_house, service, "prune")
        assert told.returncode == 0, told.stderr
        assert re.search(r"1 flow runs of Prefect .*14 days", told.stdout)
        assert re.search(r"1 engine logs", told.stdout)
        assert "--apply" in told.stdout
        assert (await client.read_flow_run(old)).id == old
        done = await asyncio.to_thread(keep_house, service, "prune", "--apply")
        assert done.returncode == 0, done.stderr
        with pytest.raises(ObjectNotFound):
            await client.read_flow_run(old)
        await client.read_flow_run(young)
        assert not (logs / "old.log").exists()
        assert (logs / "young.log").exists()
        assert "nothing to remove" in (await asyncio.to_thread(keep_house, service, "prune")).stdout
        await client.delete_flow_run(young)


def test_the_registry_is_kept_and_given_back_by_the_command(service: ServiceUnderTest, tmp_path: Path) -> None:
    file = tmp_path / "registry.backup"
    kept = keep_house(service, "backup", str(file))
    assert kept.returncode == 0, kept.stderr
    registry = service.registry()
    registry.refuse("after", {"x": 1}, "lost with the restore")
    full = registry.holds_executions()
    again = keep_house(service, "restore", str(file), *(["--replace"] if full else []))
    assert again.returncode == 0, again.stderr
    assert registry.delivery("after") is None
    registry.close()


def a_workspace(home: Path, registry: Registry, key: str) -> tuple[Accepted, Workspace]:
    accepted = a_finished_execution(registry, key)
    workspace = Workspace.of(home, accepted.user_id, accepted.session_id)
    workspace.lay_out()
    return accepted, workspace


@pytest.mark.asyncio
async def test_workspaces_go_by_age_unless_a_site_that_is_up_needs_them(tmp_path: Path, migrated_sqlite: Path) -> None:
    shutil.copy(migrated_sqlite, tmp_path / "registry.db")
    registry = Registry.open(f"sqlite:///{tmp_path}/registry.db")
    store = str(tmp_path / "store")
    (_over, over), (up, kept), (both, archived) = [a_workspace(tmp_path, registry, key) for key in "abc"]
    packager = Packager(tmp_path / "work")
    release = packager.package({"index.html": "hello"})
    for accepted in (up, both):
        registry.record_release(accepted.execution_id, release)
        site = Site(name=accepted.site_name, url="http://x", release_id=release.release_id)
        registry.record_published(accepted.execution_id, site)
    Archive(store).save_release(both.user_id, both.session_id, release)
    with registry.engine.begin() as connection:
        connection.execute(text("UPDATE executions SET updated_at = datetime(updated_at, '-31 days')"))
    (_new, young) = a_workspace(tmp_path, registry, "d")
    said: list[str] = []
    keeper = Housekeeping(Home(tmp_path, store), registry, NoRuns(), said.append)
    await keeper.prune(30, 90, 14, apply=False)
    assert "     2 workspaces that nothing happened in for 30 days" in said
    assert over.root.exists()
    await keeper.prune(30, 90, 14, apply=True)
    assert [each.root.exists() for each in (over, kept, archived, young)] == [False, True, False, True]
    assert Archive(store).restore(both.user_id, both.session_id, archived)
    registry.close()


class NoRuns(PrefectRuns):
    """A Prefect that holds nothing."""

    def __init__(self) -> None:
        pass

    async def ended(self, days: float, kept: Collection[str] = ()) -> list[FlowRun]:
        return []

    async def delete(self, ids: Iterable[UUID], resources: Iterable[str] = (), traces: Traces | None = None) -> Gone:
        assert list(ids) == []
        return Gone()


def test_a_log_is_blackened_while_it_is_written_to(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "dispatcher.log"
    log.parent.mkdir()
    lines = 20_000
    writer = threading.Thread(target=lambda: _append(log, lines))
    log.write_text("")
    writer.start()
    home = Home(tmp_path, str(tmp_path / "store"))
    while writer.is_alive():
        home.blacken(Traces([EMAIL], [PHONE]))
    writer.join()
    home.blacken(Traces([EMAIL], [PHONE]))
    assert log.read_text().splitlines() == [f"{number} from {'x' * 23} at {'x' * 14}" for number in range(lines)]


def _append(log: Path, lines: int) -> None:
    with log.open("a") as file:
        for number in range(lines):
            file.write(f"{number} from {EMAIL} at {PHONE}\n")


def test_an_export_carries_no_file_that_a_link_leads_to(tmp_path: Path, migrated_sqlite: Path) -> None:
    shutil.copy(migrated_sqlite, tmp_path / "registry.db")
    registry = Registry.open(f"sqlite:///{tmp_path}/registry.db")
    accepted, workspace = a_workspace(tmp_path, registry, "a")
    secret = tmp_path / "service"
    secret.mkdir()
    (secret / "key").write_text("TOPSECRET")
    (workspace.source / "leak").symlink_to(secret / "key")
    (workspace.source / "folder").symlink_to(secret)
    os.mkfifo(workspace.source / "pipe")
    (workspace.source / "index.html").write_text("mine")
    keeper = Housekeeping(Home(tmp_path, str(tmp_path / "store")), registry, NoRuns(), print)
    keeper._write_export(registry.person(accepted.user_id), {}, tmp_path / "out.tar.gz")
    with tarfile.open(tmp_path / "out.tar.gz") as tar:
        names = [name for name in tar.getnames() if "/source/" in name]
    assert [name.rpartition("/")[2] for name in names] == ["index.html"]
    registry.close()
