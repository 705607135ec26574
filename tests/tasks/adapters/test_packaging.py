"""Releases out of a source folder, and what a kill, a full disk or a foreign hand leaves of them."""

import json
import os
import threading
from pathlib import Path

import pytest

from tasks.adapters import disk, packaging, snapshot
from tasks.adapters.packaging import files_below, load_release, package
from tasks.domain.errors import HostingError, SourceRefused
from tasks.domain.release import MARKER_PATH, content_digest, headers_for
from tests.support.full_disk import small_disk
from tests.support.killing import killed_at_each_line
from tests.support.releases import Packager, write_tree

__all__ = ["small_disk"]

SITE = {"index.html": "home", "about.html": "about", "css/site.css": "p {}"}


@pytest.fixture
def packager(tmp_path: Path) -> Packager:
    return Packager(tmp_path / "workspace")


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def everything_below(folder: Path) -> dict[str, bytes | None]:
    return {
        path.relative_to(folder).as_posix(): None if path.is_dir() else path.read_bytes() for path in folder.rglob("*")
    }


def test_a_release_holds_the_files_the_marker_and_a_manifest_that_is_not_served(packager: Packager) -> None:
    release = packager.package(SITE)

    folder = packager.workspace.releases / "1"
    assert release.number == 1
    assert release.release_id == f"r1-{content_digest(release.manifest.files)}"
    assert release.root == str(folder / "files")
    assert names_in(folder) == ["files", "manifest.json"]
    assert json.loads((folder / "files" / MARKER_PATH).read_bytes()) == {"release_id": release.release_id}
    served = sorted(
        path.relative_to(release.root).as_posix() for path in Path(release.root).rglob("*") if path.is_file()
    )
    assert served == sorted([*SITE, MARKER_PATH])
    assert [entry.path for entry in release.manifest.files] == sorted(SITE)
    assert all(entry.headers == headers_for(entry.path) for entry in release.manifest.files)
    assert load_release(packager.workspace.releases, 1) == release


@pytest.mark.parametrize("name", ["README.md", "readme.txt", "README"])
def test_a_builders_note_stays_in_the_source_and_is_not_published(packager: Packager, name: str) -> None:
    kept = {**SITE, f"css/{name}": "a file of the site", "readme.html": "a page"}
    release = packager.package({**kept, name: "how this was built"})

    assert [entry.path for entry in release.manifest.files] == sorted(kept)
    assert sorted(files_below(Path(release.root))) == sorted([*kept, MARKER_PATH])
    assert (packager.workspace.source / name).read_text() == "how this was built"
    assert packager.package(kept) == release  # the note makes no release of its own


def test_the_same_content_is_the_same_release(packager: Packager) -> None:
    first = packager.package(SITE)
    before = everything_below(packager.workspace.releases)

    assert packager.package(SITE) == first
    assert everything_below(packager.workspace.releases) == before


def test_other_content_is_the_next_release_and_going_back_is_the_first(packager: Packager) -> None:
    first = packager.package(SITE)
    second = packager.package({**SITE, "index.html": "changed"})
    renamed = packager.package({**SITE, "index.html": "changed", "css/site.CSS": "p {}"})

    assert [first.number, second.number, renamed.number] == [1, 2, 3]
    assert packager.package(SITE) == first


def test_a_refused_source_leaves_nothing_and_takes_no_number(packager: Packager) -> None:
    packager.package(SITE)
    before = everything_below(packager.workspace.releases)
    (packager.workspace.source / "link").symlink_to("/etc/passwd")

    with pytest.raises(SourceRefused):
        packager.package()
    assert everything_below(packager.workspace.releases) == before


def test_a_marker_of_the_agents_own_is_replaced_by_ours(packager: Packager) -> None:
    forged = b'{"release_id": "r9-ffffffffffff"}'
    release = packager.package({**SITE, MARKER_PATH: forged})

    assert (Path(release.root) / MARKER_PATH).read_bytes() != forged
    assert MARKER_PATH not in [entry.path for entry in release.manifest.files]
    assert packager.package(SITE) == release


def test_files_beside_the_marker_are_published(packager: Packager) -> None:
    release = packager.package({**SITE, ".well-known/security.txt": "Contact: x"})

    assert load_release(packager.workspace.releases, 1) == release
    assert ".well-known/security.txt" in [entry.path for entry in release.manifest.files]


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize(
    ("path", "content", "complaint"),
    [
        ("files/index.html", b"hack", "index.html is not what its manifest says"),
        ("files/about.html", None, "about.html is missing"),
        ("files/new.html", b"x", "new.html is not in its manifest"),
        (f"files/{MARKER_PATH}", b'{"release_id": "r2-000000000000"}', f"{MARKER_PATH} is not what its manifest says"),
        (f"files/{MARKER_PATH}", None, f"{MARKER_PATH} is missing"),
        ("manifest.json", b"{", "its manifest.json cannot be read"),
        ("manifest.json", None, "its manifest.json is missing"),
    ],
)
def test_a_release_that_was_touched_is_not_loaded_and_is_packaged_anew(
    packager: Packager, path: str, content: bytes | None, complaint: str
) -> None:
    release = packager.package(SITE)
    touched = packager.workspace.releases / "1" / path
    touched.unlink(missing_ok=True)
    if content is not None:
        touched.write_bytes(content)

    with pytest.raises(HostingError) as caught:
        load_release(packager.workspace.releases, 1)
    assert str(caught.value) == f"release 1: {complaint}; start redeploy/on-demand, which packages source/ again"
    assert packager.package(SITE) == release
    assert load_release(packager.workspace.releases, 1) == release


def test_a_manifest_that_lists_other_files_than_its_id_says_is_not_believed(packager: Packager) -> None:
    packager.package(SITE)
    manifest = packager.workspace.releases / "1" / "manifest.json"
    (packager.workspace.releases / "1/files/index.html").write_text("hack")
    digest = "9d6a34fbb58b3b7f0a7c42f4e6ba8a6f5ae4a4a62c6e5a8c1c8a1d4dbe9a6c1e"
    manifest.write_text(manifest.read_text().replace(packager_digest(manifest), digest))

    with pytest.raises(HostingError, match="which is not what it lists"):
        load_release(packager.workspace.releases, 1)


def packager_digest(manifest: Path) -> str:
    entries = json.loads(manifest.read_text())["files"]
    return str(next(entry["sha256"] for entry in entries if entry["path"] == "index.html"))


def test_links_in_a_release_are_damage(packager: Packager, tmp_path: Path) -> None:
    packager.package(SITE)
    root = packager.workspace.releases / "1/files"
    (tmp_path / "index.html").write_text("home")
    (root / "index.html").unlink()
    (root / "index.html").symlink_to(tmp_path / "index.html")
    with pytest.raises(HostingError, match=r"index\.html is not what its manifest says"):
        load_release(packager.workspace.releases, 1)

    (root / "index.html").unlink()
    (root / "index.html").write_text("home")
    (root / "more").symlink_to(tmp_path)
    with pytest.raises(HostingError, match="more is not in its manifest"):
        load_release(packager.workspace.releases, 1)


def test_a_release_that_is_not_there_is_said_so(packager: Packager) -> None:
    with pytest.raises(HostingError, match="release 7: it is not in this workspace"):
        load_release(packager.workspace.releases, 7)


def test_a_known_release_whose_folder_is_gone_comes_back_under_its_number(packager: Packager, tmp_path: Path) -> None:
    first = packager.package(SITE)
    packager.package({**SITE, "index.html": "two"})
    (packager.workspace.releases / "1").rename(tmp_path / "lost")

    assert packager.package(SITE) == first


# ---------------------------------------------------------------- kills


def test_killed_at_any_line_a_release_is_whole_or_not_there_and_the_next_run_goes_on(packager: Packager) -> None:
    first = packager.package(SITE)
    write_tree(packager.workspace.source, {"index.html": "two", "b/c.txt": "c"})
    releases = packager.workspace.releases
    kills = 0
    whole = set()

    for _ in killed_at_each_line(packager.package, (packaging, snapshot, disk), every=3):
        kills += 1
        assert load_release(releases, 1) == first
        whole.add((releases / "2").exists())
        if (releases / "2").exists():
            load_release(releases, 2)
        assert not (releases / "3").exists()
        again = packager.package()  # the record does not know what the killed run made
        assert (again.number, load_release(releases, 2)) == (2, again)
        assert names_in(releases) == ["1", "2"]
        for path in sorted((releases / "2").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        (releases / "2").rmdir()
        packager.record.pop(content_digest(again.manifest.files))

    assert kills > 50
    assert whole == {True, False}


def test_a_number_taken_by_an_unknown_release_of_other_content_is_passed_over(packager: Packager) -> None:
    packager.package(SITE)
    write_tree(packager.workspace.source, {"index.html": "lost by a kill"})
    lost = package(packager.workspace, packager.record.get, packager.next_number)
    assert lost.number == 2

    third = packager.package({"index.html": "other"})
    assert third.number == 3
    assert load_release(packager.workspace.releases, 2) == lost
    assert load_release(packager.workspace.releases, 3) == third


def test_two_runs_at_once_make_one_release(packager: Packager) -> None:
    write_tree(packager.workspace.source, SITE)
    made = []

    def work() -> None:
        made.append(packager.package())

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {release.release_id for release in made} == {made[0].release_id}
    assert names_in(packager.workspace.releases) == ["1"]


# ---------------------------------------------------------------- disks


def test_a_full_disk_is_said_with_the_next_move_and_leaves_nothing(small_disk: Path) -> None:
    packager = Packager(small_disk / "w")
    first = packager.package({"index.html": "x" * 1000})
    files = {"index.html": "x", **{f"{number}.bin": os.urandom(100_000) for number in range(6)}}

    with pytest.raises(HostingError) as caught:
        packager.package(files)
    assert "the disk is full while packaging source/; what was live is live" in str(caught.value)
    assert "free space" in caught.value.next_move
    assert not caught.value.transient
    assert names_in(packager.workspace.releases) == ["1"]
    assert load_release(packager.workspace.releases, 1) == first

    for number in range(5):
        (packager.workspace.source / f"{number}.bin").unlink()
    assert packager.package().number == 2


def test_the_records_own_trouble_is_not_taken_for_the_disks(packager: Packager) -> None:
    write_tree(packager.workspace.source, SITE)

    def unreachable(digest: str) -> int | None:
        raise ConnectionRefusedError("registry")

    with pytest.raises(ConnectionRefusedError):
        package(packager.workspace, unreachable, packager.next_number)
    assert names_in(packager.workspace.releases) == []
