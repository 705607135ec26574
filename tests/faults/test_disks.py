"""Disks that are full, or fail, at each write in turn: what was there stays whole, and the same call succeeds later."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

import pytest

from tasks.adapters.archive import Archive
from tasks.adapters.hosts.local import LocalHost
from tasks.adapters.packaging import marker
from tasks.adapters.registry import Registry, migrate
from tasks.adapters.workspace import write_atomic
from tasks.domain.errors import HostingError
from tasks.domain.pipeline import Status, Step, Verb
from tasks.domain.release import MARKER_PATH, Release
from tasks.domain.request import SiteRequest
from tests.support.faults import ENTERING, Battered, fault
from tests.support.full_disk import mounted
from tests.support.releases import Packager
from tests.support.service import ROOT

pytestmark = pytest.mark.timeout(900)

SITE = "tmux-0a1b2c3d-4e5f6a7b"
BLOCK = 4096


@contextmanager
def full_but_for(disk: Path, what: str, rest: int) -> Iterator[None]:
    """Leave ``rest`` blocks of space, or ``rest`` inodes, on the disk; given back at the end."""
    ballast = disk / ".ballast"
    ballast.mkdir()
    try:
        if what == "space":
            free = os.statvfs(disk).f_bavail * BLOCK
            with suppress(OSError), (ballast / "0").open("wb", buffering=0) as filler:
                filler.write(b"x" * max(0, free - rest * BLOCK))
        else:
            for number in range(os.statvfs(disk).f_favail - rest):
                (ballast / str(number)).touch()
        yield
    finally:
        for file in ballast.iterdir():
            file.unlink()
        ballast.rmdir()


def at_each_write(disk: Path, what: str, attempt: Callable[[], object], look: Callable[[bool], None]) -> int:
    """Try with 0, 1, 2 … left, until it succeeds; ``look`` is told whether it did. How often it failed."""
    for rest in range(200):
        done = True
        with full_but_for(disk, what, rest):
            try:
                attempt()
            except (HostingError, OSError) as error:
                done = False
                told = str(error)
                assert "disk is full" in told or "No space left" in told or "disk I/O" in told, told
        look(done)
        if done:
            return rest
    raise AssertionError(f"200 of {what} were not enough")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """One MiB and two hundred inodes: a tmpfs has as many inodes as memory allows, unless it is told."""
    folder = tmp_path / "small"
    folder.mkdir()
    with mounted(folder, "size=1m,nr_inodes=200"):
        yield folder


@pytest.fixture(params=["space", "inodes"])
def what(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@fault(
    "the disk of the sites is full, in space and in inodes, at each write of a publication in turn",
    "HostingError names the full disk; the release before is live and whole; the same call succeeds when there is room",
    sampled=True,
)
def test_publishing_to_a_full_disk(small_disk: Path, tmp_path: Path, what: str) -> None:
    packager = Packager(tmp_path / "workspace")
    first, second = (packager.package({"index.html": text, "a/b.css": text}) for text in ("one" * 3000, "two" * 3000))
    host = LocalHost(small_disk, SITE, 8401, keep=3)
    host.publish(first, 1)

    def look(done: bool) -> None:
        assert host.live() == (second if done else first).release_id
        served = small_disk / "sites" / SITE / "live"
        assert (served / MARKER_PATH).read_bytes() == marker(str(host.live()))
        assert (served / "index.html").read_text() == ("two" if done else "one") * 3000
        assert host.activate(str(host.live()), 2).release_id == host.live()

    assert at_each_write(small_disk, what, lambda: host.publish(second, 2), look) >= 3
    assert host.releases() == [second.release_id, first.release_id]


@fault(
    "the disk of the archive is full, in space and in inodes, at each write in turn",
    "HostingError; a release is in the archive whole or not at all; the same call succeeds when there is room",
    sampled=True,
)
def test_archiving_to_a_full_disk(small_disk: Path, tmp_path: Path, what: str) -> None:
    packager, user, session = Packager(tmp_path / "workspace"), str(uuid4()), "sess20260124143022"
    release = packager.package({"index.html": os.urandom(20_000)})
    archive = Archive(str(small_disk / "store"))

    def look(done: bool) -> None:
        kept = [path for path in small_disk.rglob("*.tar.gz") if not path.name.startswith(".")]
        assert len(kept) == int(done)

    assert at_each_write(small_disk, what, lambda: archive.save_release(user, session, release), look) >= 2
    restored = Packager(tmp_path / "restored")
    assert archive.restore(user, session, restored.workspace)
    assert restored.package().release_id == release.release_id


@fault(
    "the disk of the workspace is full, in space and in inodes, at each write of a file of ours",
    "the old content or the new one is there, whole, and nothing else",
    sampled=True,
)
def test_a_file_of_ours_on_a_full_disk(small_disk: Path, what: str) -> None:
    file = small_disk / "prompt.txt"
    write_atomic(file, "old" * 4000)

    def look(done: bool) -> None:
        assert file.read_text() == ("new" if done else "old") * 4000
        assert list(small_disk.iterdir()) == [file]

    assert at_each_write(small_disk, what, lambda: write_atomic(file, "new" * 4000), look) >= 1


@fault(
    "the disk of the record (SQLite) is full",
    "ConnectionError says so, nothing is half written; the request is accepted when there is room",
    sampled=True,
)
def test_the_record_on_a_full_disk(small_disk: Path) -> None:
    url = f"sqlite:///{small_disk / 'registry.db'}"
    migrate(url)
    registry = Registry.open(url)
    text = "A bakery " * 1000

    def accept(number: int) -> str:
        request = SiteRequest(requirements=text, email=f"p{number}@example.com", phone="+4915112345678")
        return registry.accept(request, f"key-{number}").execution_id

    kept: list[str] = []
    try:
        with full_but_for(small_disk, "space", 70):
            told = ""
            while not told and len(kept) < 200:
                try:
                    kept.append(accept(len(kept)))
                except ConnectionError as error:
                    told = str(error)
        assert kept
        assert "full" in told
        assert registry.undispatched()[-1].execution_id == kept[-1]
        assert accept(len(kept)) not in kept
        with sqlite3.connect(small_disk / "registry.db") as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert database.execute("SELECT count(*) FROM executions").fetchone() == (len(kept) + 1,)
    finally:
        registry.close()


PUBLISH = """
import sys
from pathlib import Path
from tasks.adapters.hosts.local import LocalHost
from tasks.adapters.packaging import load_release
from tasks.domain.errors import HostingError

home, site, releases, number = sys.argv[1:]
try:
    LocalHost(Path(home), site, 8401, 3).publish(load_release(Path(releases), int(number)), 2)
except HostingError as error:
    print("refused:", error)
    sys.exit(9)
"""


@fault(
    "fsync(2) fails with EIO at each call of a publication in turn (strace)",
    "HostingError names the disk's error; the release before is live and whole; the same call succeeds afterwards",
)
def test_publishing_where_fsync_fails(tmp_path: Path) -> None:
    packager = Packager(tmp_path / "workspace")
    first, second = (packager.package({"index.html": text}) for text in ("one", "two"))
    host = LocalHost(tmp_path, SITE, 8401, keep=3)
    host.publish(first, 1)
    failures = 0
    for nth in range(1, 40):
        told = publish_with_failing_fsync(tmp_path, packager, second, nth)
        if told.returncode == 0:
            break
        failures += 1
        assert told.returncode == 9, told.stdout + told.stderr
        assert "Input/output error" in told.stdout
        live = host.live()
        served = tmp_path / "sites" / SITE / "live"
        assert (served / MARKER_PATH).read_bytes() == marker(str(live))
        assert (served / "index.html").read_text() == ("one" if live == first.release_id else "two")
        if live == second.release_id:  # after the pointer was written: the caller learns of it, and repeats
            host.activate(first.release_id, 2)
    assert failures >= 3  # strace counts the calls of each thread for itself
    assert host.live() == second.release_id


def publish_with_failing_fsync(
    home: Path, packager: Packager, release: Release, nth: int
) -> "subprocess.CompletedProcess[str]":
    assert shutil.which("strace"), "strace is missing; this case needs it: apt-get install strace"
    inject = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync"]
    inject += ["-e", f"inject=fsync:error=EIO:when={nth}"]
    publish = [sys.executable, "-c", PUBLISH, str(home), SITE, str(packager.workspace.releases), str(release.number)]
    return subprocess.run([*inject, *publish], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("place", ["store", "sites/{site}", "users/{user}"])
@fault(
    "the disk of archive, site or workspace is full when step 5 begins",
    "failed, and says why; asked again when there is room, it goes on with the step that failed",
)
def test_a_build_on_a_full_disk(battered: Battered, place: str) -> None:
    built = battered.accept()
    folder = battered.home / place.format(site=built.site_name, user=built.user_id)
    with battered.gate(built.run_id, Step.CREATE_SESSION, ENTERING) as gate:
        gate.wait()
        there = folder.exists()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        mount = mounted(folder, "size=8m")
        mount.__enter__()
        gate.open()
    try:
        with battered.gate(built.run_id, Step.GENERATE_CODE, ENTERING) as gate:
            gate.wait()
            with full_but_for(folder, "space", 0):
                gate.open()
                battered.becomes(built.run_id, Status.FAILED)
        error = battered.record.progress(built.execution_id).error
        assert error is not None
        assert "full" in error.message or "No space left" in error.message, error
        again = battered.ask_for(built, Verb.FULL_BUILD)
        battered.becomes(again, Status.COMPLETED)
    finally:
        mount.__exit__(None, None, None)
        if not there:
            folder.rmdir()
    if place.startswith("sites"):
        battered.becomes(battered.ask_for(built, Verb.REDEPLOY), Status.COMPLETED)
