"""The local host's own promises: kills, disks, and what lies on them."""

import os
import shutil
from pathlib import Path

import pytest

from tasks.adapters import disk
from tasks.adapters.hosts import local
from tasks.adapters.hosts.local import LocalHost, content_mtime_ns
from tasks.domain.errors import HostingError
from tasks.domain.release import MARKER_PATH, Release
from tests.support.full_disk import make_read_only, small_disk
from tests.support.killing import killed_at_each_line
from tests.support.releases import Packager

__all__ = ["small_disk"]

SITE = "tmux-a1b2c3d4-9f8e7d6c"


@pytest.fixture
def packager(tmp_path: Path) -> Packager:
    return Packager(tmp_path / "workspace")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def host(home: Path, keep: int = 3) -> LocalHost:
    return LocalHost(home, SITE, 8401, keep)


def is_served(home: Path, release: Release) -> bool:
    """Whether what a visitor gets is this release, whole."""
    live = home / "sites" / SITE / "live"
    served = {path.relative_to(live).as_posix(): path.read_bytes() for path in live.rglob("*") if path.is_file()}
    expected = [*(entry.path for entry in release.manifest.files), MARKER_PATH]
    return served == {path: (Path(release.root) / path).read_bytes() for path in expected}


def test_the_address_is_an_origin_of_its_own_and_is_dialled_on_loopback(home: Path, packager: Packager) -> None:
    site = host(home).publish(packager.package({"index.html": "x"}))

    assert (site.name, site.url, site.dial) == (SITE, f"http://{SITE}.localhost:8401", "127.0.0.1:8401")


def test_a_published_release_shares_no_file_with_the_workspace(home: Path, packager: Packager) -> None:
    release = packager.package({"index.html": "x", "a/b.css": "p {}"})
    host(home).publish(release)

    for path in (home / "sites" / SITE / "releases").rglob("*"):
        assert not path.is_symlink()
        assert path.is_dir() or path.stat().st_nlink == 1
    shutil.rmtree(packager.workspace.root)
    assert (home / "sites" / SITE / "live/a/b.css").read_text() == "p {}"


def test_a_files_time_follows_from_its_content(home: Path, packager: Packager) -> None:
    release = packager.package({"index.html": "x", "a.css": "x", "b.css": "y"})
    host(home).publish(release)

    times = [(home / "sites" / SITE / "live" / name).stat().st_mtime_ns for name in ("index.html", "a.css", "b.css")]
    assert times[0] == times[1] != times[2]
    assert times[0] == content_mtime_ns(release.manifest.files[0].sha256)


@pytest.mark.parametrize("name", ["", "..", "a/b", "tmux-1-2", "tmux-A1B2C3D4-9f8e7d6c", f"{SITE}\n", f"../{SITE}"])
def test_a_name_that_is_not_ours_makes_no_host(home: Path, name: str) -> None:
    with pytest.raises(ValueError, match="site_name"):
        LocalHost(home, name, 8401, 3)


def test_keeping_no_release_is_refused(home: Path) -> None:
    with pytest.raises(ValueError, match="keep: 0 is too few"):
        host(home, keep=0)


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize("damage", ["content", "missing", "more", "link", "manifest"])
def test_a_published_release_that_was_touched_is_copied_again(home: Path, packager: Packager, damage: str) -> None:
    release = packager.package({"index.html": "right", "a.css": "p {}"})
    host(home).publish(release)
    folder = home / "sites" / SITE
    page = folder / "releases" / release.release_id / "index.html"
    match damage:
        case "content":
            page.write_text("wrong")
        case "missing":
            page.unlink()
        case "more":
            page.with_name("more.html").write_text("x")
        case "link":
            page.unlink()
            page.symlink_to(Path(release.root) / "index.html")
        case "manifest":
            (folder / "manifests" / f"{release.release_id}.json").unlink()

    assert host(home).publish(release).uploaded == 3
    assert is_served(home, release)
    assert not page.is_symlink()


def test_a_pointer_that_leads_elsewhere_is_not_live_and_is_replaced(home: Path, packager: Packager) -> None:
    release = packager.package({"index.html": "x"})
    host(home).publish(release)
    pointer = home / "sites" / SITE / "live"
    for target in ("/etc", "releases/missing", "releases", "releases/r9-000000000000"):
        pointer.unlink()
        pointer.symlink_to(target)
        assert host(home).live() is None
    host(home).publish(release)
    assert is_served(home, release)


# ---------------------------------------------------------------- kills


def test_killed_at_any_line_a_publish_leaves_a_whole_release_live_and_the_next_goes_on(
    home: Path, packager: Packager
) -> None:
    old, new = packager.package({"index.html": "old"}), packager.package({"index.html": "new", "a/b.txt": "b"})
    kills = 0
    found = set()
    sites = home / "sites"

    host(home, keep=1).publish(old)
    pristine = home.parent / "pristine"
    shutil.copytree(sites, pristine, symlinks=True)
    for _ in killed_at_each_line(lambda: host(home, keep=1).publish(new), (local, disk), every=3):
        kills += 1
        live = host(home).live()
        found.add(live)
        assert is_served(home, old if live == old.release_id else new)
        host(home, keep=1).publish(new)
        assert is_served(home, new)
        leftovers = list((sites / SITE).rglob(".incoming*"))
        assert leftovers == []
        manifests = sorted(path.name for path in (sites / SITE / "manifests").iterdir())
        assert manifests == [f"{release_id}.json" for release_id in sorted(host(home).releases())]
        shutil.rmtree(sites)
        shutil.copytree(pristine, sites, symlinks=True)
    assert kills > 50
    assert found == {old.release_id, new.release_id}


def test_killed_at_any_line_a_switch_leaves_one_of_the_two_live(home: Path, packager: Packager) -> None:
    one, two = packager.package({"index.html": "one"}), packager.package({"index.html": "two"})
    host(home).publish(one)
    host(home).publish(two)

    def switch() -> None:
        here = host(home)
        here.activate(one.release_id if here.live() == two.release_id else two.release_id)

    for _ in killed_at_each_line(switch, (local, disk)):
        assert is_served(home, one if host(home).live() == one.release_id else two)
        switch()


def test_killed_at_any_line_a_teardown_is_finished_by_the_next(home: Path, packager: Packager) -> None:
    release = packager.package({"index.html": "one", "a/b.txt": "b"})

    def take_down() -> None:
        host(home).publish(release)
        host(home).teardown()

    for _ in killed_at_each_line(take_down, (local, disk), every=5):
        assert host(home).teardown().left == ()
        assert not (home / "sites" / SITE).exists()


# ---------------------------------------------------------------- disks


def test_a_full_disk_is_said_and_the_old_release_stays_live(small_disk: Path, packager: Packager) -> None:
    old = packager.package({"index.html": "old", "a.bin": os.urandom(300_000)})
    new = packager.package({"index.html": "new", "a.bin": os.urandom(900_000)})
    host(small_disk).publish(old)

    with pytest.raises(HostingError) as caught:
        host(small_disk).publish(new)
    assert str(caught.value) == (
        f"local-hosting: the disk is full while publishing {new.release_id}; what was live is live; "
        "free space (or inodes) below TMUX_BUILDER_HOME, then start redeploy/on-demand"
    )
    assert not caught.value.transient
    assert is_served(small_disk, old)
    assert host(small_disk).releases() == [old.release_id]
    assert list((small_disk / "sites").rglob(".incoming*")) == []

    fits = packager.package({"index.html": "new", "a.bin": os.urandom(300_000)})
    host(small_disk).publish(fits)
    assert is_served(small_disk, fits)


def test_a_read_only_disk_is_said_and_the_old_release_stays_live(small_disk: Path, packager: Packager) -> None:
    old, new = packager.package({"index.html": "old"}), packager.package({"index.html": "new"})
    host(small_disk).publish(old)
    make_read_only(small_disk)
    try:
        for attempt in (lambda: host(small_disk).publish(new), lambda: host(small_disk).activate(old.release_id)):
            with pytest.raises(HostingError, match="the file system is read-only"):
                attempt()
        assert is_served(small_disk, old)
        receipt = host(small_disk).teardown()
        assert receipt.removed == ()
        assert any("index.html" in left for left in receipt.left)
    finally:
        make_read_only(small_disk, read_only=False)


def test_a_home_that_may_not_be_written_is_said(tmp_path: Path, packager: Packager) -> None:
    release = packager.package({"index.html": "x"})
    (tmp_path / "home").write_text("a file where a folder should be")

    with pytest.raises(HostingError, match="local-hosting: Not a directory"):
        host(tmp_path / "home").publish(release)
