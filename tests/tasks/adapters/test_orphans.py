"""What nobody owns is found and goes; what a run or a lease owns stays, whenever it came to own it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import text

from tasks.adapters.agents import processes
from tasks.adapters.archive import Archive
from tasks.adapters.hosts.local import LocalHost
from tasks.adapters.orphans import Finding, ForeignRecord, Kind, Orphans
from tasks.adapters.registry import Accepted, Registry
from tasks.adapters.tmux import living_executions
from tasks.adapters.workspace import Workspace
from tasks.domain.hosting import Receipt
from tasks.domain.pipeline import Status, Verb
from tests.support.releases import Packager
from tests.support.terminal import EXECUTION, Stage, eventually
from tests.tasks.adapters.registry.orders import a_finished_execution, an_execution

HOUR = 3600.0
SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


@pytest.fixture
def record(stage: Stage, migrated_sqlite: Path) -> Iterator[Registry]:
    shutil.copy(migrated_sqlite, stage.home / "registry.db")
    opened = Registry.open(f"sqlite:///{stage.home}/registry.db")
    yield opened
    opened.close()


@pytest.fixture
def orphans(stage: Stage, record: Registry) -> Orphans:
    """As if everything were old enough, but data."""
    return Orphans(stage.home, record, str(stage.home / "store"), youngest_s=0)


def cautious(orphans: Orphans) -> Orphans:
    """With the ages that things must have."""
    return Orphans(orphans.home, orphans.registry, str(orphans.home / "store"))


def kinds(findings: list[Finding]) -> set[Kind]:
    return {finding.kind for finding in findings}


def only(findings: list[Finding], kind: Kind) -> Finding:
    [found] = [finding for finding in findings if finding.kind is kind]
    return found


def long_ago(*paths: Path) -> None:
    for root in paths:
        for path in (root, *root.rglob("*")):
            os.utime(path, (time.time() - 30 * HOUR,) * 2, follow_symlinks=False)


def quiet(record: Registry) -> None:
    """Everything in the record happened a day ago."""
    with record.engine.begin() as connection:
        connection.execute(text("UPDATE executions SET updated_at = datetime(updated_at, '-1 day')"))


def cancelled(record: Registry, accepted: Accepted) -> None:
    record.set_status(accepted.execution_id, Status.CANCELLED, run_id=accepted.run_id)


def test_an_empty_home_has_no_orphans(orphans: Orphans) -> None:
    assert orphans.find() == []


def test_a_terminal_of_an_unknown_execution_goes_with_everything_it_started(stage: Stage, orphans: Orphans) -> None:
    stage.agent("obeys").start()
    found = orphans.find()
    assert kinds(found) == {Kind.TERMINAL, Kind.PROCESSES, Kind.AGENT_FOLDER}
    assert EXECUTION in only(found, Kind.TERMINAL).why
    assert orphans.remove(only(found, Kind.TERMINAL)).removed
    assert living_executions(stage.home) == []
    assert stage.processes() == []
    assert orphans.remove(only(found, Kind.AGENT_FOLDER)).removed
    assert orphans.find() == []


def test_a_terminal_whose_run_works_is_nobodys_to_remove_until_the_run_is_over(
    stage: Stage, record: Registry, orphans: Orphans
) -> None:
    accepted = an_execution(record)
    stage.agent("obeys", accepted.execution_id).start()
    assert orphans.find() == []
    cancelled(record, accepted)
    found = orphans.find()
    assert only(found, Kind.TERMINAL).why == f"{accepted.execution_id} is over"
    assert cautious(orphans).find() == [], "it is only just over: its own end may still be cleaning up"
    assert orphans.remove(only(found, Kind.PROCESSES)).removed
    assert living_executions(stage.home) == []


def test_a_run_that_began_after_the_finding_keeps_its_terminal(
    stage: Stage, record: Registry, orphans: Orphans
) -> None:
    accepted = an_execution(record)
    cancelled(record, accepted)
    stage.agent("obeys", accepted.execution_id).start()
    finding = only(orphans.find(), Kind.TERMINAL)
    record.request_run(accepted.execution_id, Verb.REDEPLOY, "again")
    removal = orphans.remove(finding)
    assert not removal.removed
    assert "owns it by now" in removal.left
    assert living_executions(stage.home) == [accepted.execution_id]


def test_a_lease_keeps_what_the_finding_named(stage: Stage, record: Registry, orphans: Orphans) -> None:
    accepted = a_finished_execution(record)
    folder = stage.home / "sites" / accepted.site_name / "releases"
    folder.mkdir(parents=True)
    finding = only(orphans.find(), Kind.SITE)
    lease = record.acquire_lease(accepted.site_name, "run of somebody", 60)
    assert orphans.find() == []
    assert not orphans.remove(finding).removed
    assert folder.exists()
    record.release_lease(lease)
    assert orphans.remove(finding).removed
    assert not folder.parent.exists()
    assert record.acquire_lease(accepted.site_name, "the next one", 1).owner == "the next one"


def test_nobody_begins_to_write_while_something_is_removed(stage: Stage, record: Registry) -> None:
    accepted = a_finished_execution(record)
    folder = stage.home / "sites" / accepted.site_name
    folder.mkdir(parents=True)
    seen: list[str] = []

    def take_down(site_name: str) -> Receipt:
        try:
            record.acquire_lease(site_name, "a run", 60)
        except Exception as error:  # noqa: BLE001  # looked at below
            seen.append(str(error))
        shutil.rmtree(folder)
        return Receipt(removed=(site_name,))

    orphans = Orphans(stage.home, record, str(stage.home / "store"), take_down, youngest_s=0)
    assert orphans.remove(only(orphans.find(), Kind.SITE)).removed
    assert "being written by reap" in seen[0]


def test_a_process_that_hid_from_its_terminal_is_found_by_its_mark(stage: Stage, orphans: Orphans) -> None:
    runtime = stage.runtime()
    runtime.root.mkdir(parents=True)
    foreign = stage.runtime("ffffffff_sess20260124143022").mark  # of no folder here: somebody else's service
    hidden, others = (
        subprocess.Popen(SLEEP, env={processes.MARK: mark, "PATH": os.environ["PATH"]}, start_new_session=True)
        for mark in (runtime.mark, foreign)
    )
    try:
        eventually(lambda: Kind.PROCESSES in kinds(orphans.find()))
        finding = only(orphans.find(), Kind.PROCESSES)
        assert finding.name == EXECUTION
        assert orphans.remove(finding).removed
        assert hidden.wait(5) == -9
        assert others.poll() is None
    finally:
        for process in (hidden, others):
            process.kill()
            process.wait()


@contextmanager
def hanging_up(server: socket.socket) -> Iterator[None]:
    """Whoever connects is hung up on at once, as by a program that does not speak tmux."""

    def serve() -> None:
        with suppress(OSError):
            while True:
                server.accept()[0].close()

    thread = threading.Thread(target=serve)
    thread.start()
    yield
    server.shutdown(socket.SHUT_RDWR)
    thread.join()


def test_a_dead_socket_goes_and_one_that_answers_stays(stage: Stage, orphans: Orphans) -> None:
    run = stage.home / "run"
    run.mkdir()
    for name, listens in (("0123abcd", False), ("0123abce", True)):
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(run / name))
        if listens:
            server.listen()
            living = server
        else:
            server.close()
    with living, hanging_up(living):
        finding = only(orphans.find(), Kind.SOCKET)
        assert finding.name == "0123abcd"
        assert orphans.remove(finding).removed
        assert sorted(path.name for path in run.glob("0123*")) == ["0123abce"]
        stranger = only(orphans.find(), Kind.TERMINAL)
        assert stranger.name == "0123abce"
        assert "no agent's terminal" in orphans.remove(stranger).left


def test_a_terminal_whose_server_is_stopped_goes_too_and_stands_in_nobodys_way(stage: Stage, orphans: Orphans) -> None:
    other = "ffffffff_sess20260124143022"
    for execution_id in (EXECUTION, other):
        stage.agent("obeys", execution_id).start()
    session = stage.runtime().session()
    assert session is not None
    os.kill(session.server_pid, signal.SIGSTOP)
    found = [finding for finding in orphans.find() if finding.kind is Kind.TERMINAL]
    assert {finding.name for finding in found} == {EXECUTION, other}
    assert all(orphans.remove(finding).removed for finding in found)
    assert stage.processes() == []


def test_a_workspace_without_a_row_waits_a_day_and_goes(stage: Stage, record: Registry, orphans: Orphans) -> None:
    owned = a_finished_execution(record)
    kept = Workspace.of(stage.home, owned.user_id, owned.session_id)
    lost = Workspace.of(stage.home, str(uuid4()), "sess20200101000000")
    for workspace in (kept, lost):
        workspace.lay_out()
        (workspace.source / "index.html").write_text("x")
    assert cautious(orphans).find() == []
    long_ago(stage.home / "users")
    finding = only(cautious(orphans).find(), Kind.WORKSPACE)
    assert "sess20200101000000" in finding.why
    assert finding.age_s > 29 * HOUR
    assert cautious(orphans).remove(finding).removed
    assert kept.root.exists()
    assert not lost.root.parent.parent.exists()


def test_what_was_touched_after_the_finding_stays(stage: Stage, record: Registry, orphans: Orphans) -> None:
    lost = Workspace.of(stage.home, str(uuid4()), "sess20200101000000")
    lost.lay_out()
    long_ago(stage.home / "users")
    finding = only(cautious(orphans).find(), Kind.WORKSPACE)
    (lost.root / "requirements.md").write_text("somebody is back")
    removal = cautious(orphans).remove(finding)
    assert "younger" in removal.left
    assert lost.root.exists()


def test_a_home_that_this_record_knows_nothing_of_is_left_alone(stage: Stage, orphans: Orphans) -> None:
    for number in range(3):
        Workspace.of(stage.home, str(uuid4()), f"sess2020010100000{number}").lay_out()
    with pytest.raises(ForeignRecord, match="knows none of them"):
        orphans.find()


def test_a_site_that_is_served_stays_and_one_that_was_taken_down_goes(
    stage: Stage, record: Registry, orphans: Orphans, tmp_path: Path
) -> None:
    accepted = a_finished_execution(record)
    release = Packager(tmp_path / "work").package({"index.html": "hello"})
    site = LocalHost(stage.home, accepted.site_name, 1, 5).publish(release)
    record.record_published(accepted.execution_id, site)
    unknown = "tmux-00000000-00000000"
    LocalHost(stage.home, unknown, 1, 5).publish(release)
    finding = only(orphans.find(), Kind.SITE)
    assert (finding.name, finding.why) == (unknown, "the record has no such site")
    assert orphans.remove(finding).removed
    assert LocalHost(stage.home, accepted.site_name, 1, 5).live() == release.release_id
    with record.engine.begin() as connection:
        connection.execute(text("UPDATE sites SET live_release = NULL, state = 'taken_down'"))
    again = only(orphans.find(), Kind.SITE)
    assert again.name == accepted.site_name
    assert orphans.remove(again).removed
    assert not (stage.home / "sites" / accepted.site_name).exists()


def test_an_archive_entry_without_a_row_goes(stage: Stage, record: Registry, orphans: Orphans) -> None:
    owned, stranger = a_finished_execution(record), str(uuid4())
    archive = Archive(str(stage.home / "store"))
    archive.save_file(owned.user_id, owned.session_id, "requirements.md", b"x")
    archive.save_file(stranger, "sess20200101000000", "requirements.md", b"x")
    (stage.home / "store" / "somebody else's").mkdir()
    assert cautious(orphans).find() == []
    long_ago(stage.home / "store")
    finding = only(orphans.find(), Kind.ARCHIVE)
    assert finding.name == f"{stranger}/sess20200101000000"
    assert orphans.remove(finding).removed
    assert orphans.find() == []
    assert (stage.home / "store" / owned.user_id / owned.session_id / "requirements.md").exists()


def test_the_record_of_an_engine_that_is_gone_goes_and_of_one_that_runs_stays(
    stage: Stage, record: Registry, orphans: Orphans
) -> None:
    folder = stage.home / "run" / "engines"
    folder.mkdir(parents=True)
    entry = processes.entry_of(os.getpid())
    assert entry is not None
    living = {"pid": os.getpid(), "started": entry.started, "boot": processes.boot_id()}
    dead = {**living, "started": entry.started - 1}
    ended, runs, awaited = (str(uuid4()) for _ in range(3))
    for name, process in ((ended, dead), (runs, living), (awaited, dead)):
        (folder / name).write_text(json.dumps({"process": process, "watcher": None}))
    accepted = an_execution(record)
    record.adopt_run(accepted.execution_id, Verb.REDEPLOY, awaited)
    finding = only(orphans.find(), Kind.ENGINE_RECORD)
    assert finding.name == ended
    assert orphans.remove(finding).removed
    assert sorted(path.name for path in folder.iterdir()) == sorted([runs, awaited])


def test_a_site_that_was_only_planned_is_settled_and_another_thing_is_told(
    stage: Stage, record: Registry, orphans: Orphans
) -> None:
    accepted = an_execution(record)
    record.plan_resource(accepted.execution_id, "site", accepted.site_name)
    record.plan_resource(accepted.execution_id, "bucket", "tmux-bucket")
    with record.engine.begin() as connection:
        connection.execute(text("UPDATE resources SET planned_at = datetime(planned_at, '-1 day')"))
    assert orphans.find() == []
    cancelled(record, accepted)
    quiet(record)
    by_name = {finding.name.split(" ")[1]: finding for finding in cautious(orphans).find()}
    assert set(by_name) == {"site", "bucket"}
    assert orphans.remove(by_name["site"]).removed
    assert [each.state for each in record.resources(accepted.execution_id) if each.kind == "site"] == ["gone"]
    assert "teardown/on-demand" in orphans.remove(by_name["bucket"]).left


def test_what_cannot_be_removed_is_told(stage: Stage, record: Registry) -> None:
    folder = stage.home / "sites" / "tmux-00000000-00000000"
    folder.mkdir(parents=True)
    stays = Orphans(stage.home, record, str(stage.home / "store"), lambda _site: Receipt(removed=()), youngest_s=0)
    finding = only(stays.find(), Kind.SITE)
    assert "still there" in stays.remove(finding).left
    shutil.rmtree(folder)
    assert stays.remove(finding).removed, "gone by itself is gone"
