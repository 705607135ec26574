"""What a session leaves in the store, and what comes back from it on another machine."""

import gzip
import io
import os
import secrets
import tarfile
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from tasks.adapters import archive as archive_module
from tasks.adapters import disk, packaging
from tasks.adapters.archive import DURABLE, PICTURES, REPORT, RESULTS, Archive
from tasks.adapters.archive_entries import ArchiveEntries
from tasks.adapters.packaging import load_release
from tasks.adapters.workspace import Workspace
from tasks.domain.errors import HostingError
from tasks.domain.release import MARKER_PATH, Release
from tests.support.full_disk import small_disk
from tests.support.killing import killed_at_each_line
from tests.support.releases import Packager, write_tree

__all__ = ["small_disk"]

USER, SESSION = "a1b2c3d4-0000-4000-8000-000000000000", "sess20260124143022"
SITE = {"index.html": "home", "a b/ü'.html": "deep", "big.bin": bytes(range(256)) * 4000, "empty.txt": ""}


@pytest.fixture
def packager(tmp_path: Path) -> Packager:
    return Packager(tmp_path / "here")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "elsewhere" / "sessions" / SESSION)


@pytest.fixture(params=["path", "file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    folder = tmp_path / "a store"
    return {"path": str(folder), "file": f"file://{folder}", "memory": f"memory://{secrets.token_hex(6)}/x"}[
        request.param
    ]


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def same(one: Release, other: Release) -> bool:
    return (one.release_id, one.manifest, files_of(Path(one.root))) == (
        other.release_id,
        other.manifest,
        files_of(Path(other.root)),
    )


def test_a_session_comes_back_whole_on_another_machine(store: str, packager: Packager, elsewhere: Workspace) -> None:
    first = packager.package({"index.html": "first"})
    second = packager.package(SITE)
    for relative in DURABLE:
        (packager.workspace.root / relative).write_bytes(f"text of {relative}".encode())
    saving = Archive(store)
    for release in (first, second):
        saving.save_release(USER, SESSION, release)
    assert set(saving.save_texts(USER, SESSION, packager.workspace)) == set(DURABLE)

    assert Archive(store).restore(USER, SESSION, elsewhere) is True
    assert same(load_release(elsewhere.releases, 1), first)
    assert same(load_release(elsewhere.releases, 2), second)
    assert {name: (elsewhere.root / name).read_text() for name in DURABLE} == {n: f"text of {n}" for n in DURABLE}
    other = Packager(elsewhere.root)
    other.record = dict(packager.record)
    assert other.package().release_id == second.release_id
    assert sorted(path.name for path in elsewhere.releases.iterdir()) == ["1", "2"]


def test_a_session_that_was_never_archived_is_not_there(store: str, elsewhere: Workspace) -> None:
    assert Archive(store).restore(USER, SESSION, elsewhere) is False
    assert not elsewhere.root.exists()


def test_what_is_in_the_workspace_stays(store: str, packager: Packager, elsewhere: Workspace) -> None:
    archive = Archive(store)
    archive.save_release(USER, SESSION, packager.package(SITE))
    archive.save_file(USER, SESSION, "requirements.md", b"archived")
    archive.save_file(USER, SESSION, "output/plan.md", b"archived")
    elsewhere.lay_out()
    (elsewhere.root / "requirements.md").write_text("newer")
    write_tree(elsewhere.source, {"index.html": "newer"})

    assert archive.restore(USER, SESSION, elsewhere)
    assert (elsewhere.root / "requirements.md").read_text() == "newer"
    assert elsewhere.plan.read_text() == "archived"
    assert files_of(elsewhere.source) == {"index.html": b"newer"}


def test_the_newest_releases_come_back_and_older_ones_stay_in_the_store(
    store: str, packager: Packager, elsewhere: Workspace
) -> None:
    archive = Archive(store)
    for number in range(12):
        archive.save_release(USER, SESSION, packager.package({"index.html": f"{number}"}))

    archive.restore(USER, SESSION, elsewhere, newest=3)
    assert sorted(int(path.name) for path in elsewhere.releases.iterdir()) == [10, 11, 12]
    assert files_of(elsewhere.source) == {"index.html": b"11"}


def test_the_same_release_is_the_same_bytes_and_is_written_once(tmp_path: Path, packager: Packager) -> None:
    release = packager.package(SITE)
    for store in ("one", "two"):
        Archive(str(tmp_path / store)).save_release(USER, SESSION, release)
    one, two = ((tmp_path / s / USER / SESSION / "releases").iterdir() for s in ("one", "two"))
    saved, other = next(one), next(two)
    assert saved.name == f"{release.release_id}.tar.gz"
    assert saved.read_bytes() == other.read_bytes()

    before = saved.stat().st_mtime_ns
    Archive(str(tmp_path / "one")).save_release(USER, SESSION, release)
    assert saved.stat().st_mtime_ns == before


def test_a_text_is_replaced_by_a_newer_one(store: str, elsewhere: Workspace) -> None:
    for text in (b"old", b"new"):
        Archive(store).save_file(USER, SESSION, "output/plan.md", text)

    Archive(store).restore(USER, SESSION, elsewhere)
    assert elsewhere.plan.read_bytes() == b"new"


def test_report_and_pictures_are_kept_for_who_looks_and_only_the_newest(
    store: str, packager: Packager, elsewhere: Workspace, tmp_path: Path
) -> None:
    here, archive = packager.workspace, ArchiveEntries(store)
    archive.save_release(USER, SESSION, packager.package(SITE))
    here.report.write_text("report")
    here.results.write_text("{}")
    for name in ("desktop.jpg", "phone.jpg", "desktop-menu.jpg", "notes.txt"):
        (here.screenshots / name).write_text(name)
    (tmp_path / "secret").write_text("SECRET")
    (here.screenshots / "phone-link.jpg").symlink_to(tmp_path / "secret")
    assert len(archive.save_views(USER, SESSION, here)) == 5
    (here.screenshots / "desktop-menu.jpg").unlink()
    here.report.write_text("newer")
    saved = archive.save_views(USER, SESSION, here)
    assert saved == (REPORT, RESULTS, f"{PICTURES}/desktop.jpg", f"{PICTURES}/phone.jpg")
    kept = dict(archive.read(USER, SESSION))
    found = {name.split("/", 2)[2]: data for name, data in kept.items() if "/releases/" not in name}
    assert found == dict(zip(saved, (b"newer", b"{}", b"desktop.jpg", b"phone.jpg"), strict=True))
    assert archive.restore(USER, SESSION, elsewhere)
    assert not elsewhere.report.exists(), "a redeploy makes it anew"
    assert archive.remove_session(USER, SESSION).left == ()


# ---------------------------------------------------------------- what may be saved


@pytest.mark.parametrize("relative", ["../x", "/etc/passwd", "output/status.txt", "", "requirements.json/.."])
def test_only_the_durable_files_are_kept(store: str, relative: str) -> None:
    with pytest.raises(ValueError, match="is not kept"):
        Archive(store).save_file(USER, SESSION, relative, b"x")


def test_a_text_beyond_its_limit_is_not_kept(store: str, packager: Packager) -> None:
    with pytest.raises(ValueError, match="1,048,577 bytes"):
        Archive(store).save_file(USER, SESSION, "output/plan.md", b"x" * (2**20 + 1))
    packager.workspace.plan.write_bytes(b"x" * (2**20 + 1))
    assert Archive(store).save_texts(USER, SESSION, packager.workspace) == ()


def test_links_that_the_agent_left_are_not_followed_into_the_store(
    store: str, packager: Packager, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("SECRET")
    packager.workspace.plan.symlink_to(tmp_path / "secret")
    packager.workspace.suite.symlink_to(tmp_path / "secret")

    assert Archive(store).save_texts(USER, SESSION, packager.workspace) == ()


@pytest.mark.parametrize(
    ("user", "session"),
    [("..", SESSION), (USER.upper(), SESSION), ("", SESSION), (USER, ".."), (USER, "sess1"), (USER, f"{SESSION}\n")],
)
def test_ids_that_are_not_ours_name_no_place(store: str, packager: Packager, user: str, session: str) -> None:
    archive, release = Archive(store), packager.package(SITE)
    attempts: list[Callable[[], object]] = [
        lambda: archive.save_release(user, session, release),
        lambda: archive.save_file(user, session, "requirements.md", b"x"),
        lambda: archive.restore(user, session, packager.workspace),
    ]
    for attempt in attempts:
        with pytest.raises(ValueError, match=r"GUID|UUID"):
            attempt()


# ---------------------------------------------------------------- a store that lies


def _packed(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode="w:gz") as tar:
        for entry, content in entries:
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return output.getvalue()


def _entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, link
    return entry


def _put(store: Path, data: bytes, name: str = "r1-0123456789ab") -> None:
    folder = store / USER / SESSION / "releases"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.tar.gz").write_bytes(data)


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        (_entry("../../../../escaped"), "is not a plain relative path"),
        (_entry("files/../../../escaped"), "is not a plain relative path"),
        (_entry("/tmp/escaped"), "is not a plain relative path"),  # noqa: S108 -- the attack
        (_entry("./files/escaped"), "is not a plain relative path"),
        (_entry("files//escaped"), "is not a plain relative path"),
        (_entry("escaped"), "belongs to no release"),
        (_entry("files"), "belongs to no release"),
        (_entry("files/" + "a/" * 20 + "x"), "belongs to no release"),
        (_entry("files/a\x1bb"), "invisible"),
        (_entry("files/a\\b"), "backslash"),
        (_entry("files/x", tarfile.SYMTYPE, "/etc/passwd"), "is not a regular file"),
        (_entry("files/x", tarfile.LNKTYPE, "/etc/passwd"), "is not a regular file"),
        (_entry("files/x", tarfile.CHRTYPE), "is not a regular file"),
        (_entry("files/x", tarfile.FIFOTYPE), "is not a regular file"),
        (_entry("files/x", tarfile.DIRTYPE), "is not a regular file"),
    ],
)
def test_an_archive_with_an_entry_that_no_release_has_is_refused(
    tmp_path: Path, elsewhere: Workspace, entry: tarfile.TarInfo, complaint: str
) -> None:
    store = tmp_path / "store"
    _put(store, _packed((entry, b"" if entry.type != tarfile.REGTYPE else b"x")))

    with pytest.raises(HostingError, match=complaint) as caught:
        Archive(str(store)).restore(USER, SESSION, elsewhere)
    assert "TMUX_BUILDER_STORE" in caught.value.next_move
    assert str(caught.value).isprintable()
    assert list(elsewhere.releases.iterdir()) == []
    assert not list(tmp_path.rglob("escaped"))


@pytest.mark.parametrize("spoil", ["cut", "noise", "not gzip", "content", "marker", "number", "digest", "empty"])
def test_an_archive_that_is_not_what_was_saved_is_refused(
    tmp_path: Path, packager: Packager, elsewhere: Workspace, spoil: str
) -> None:
    store = tmp_path / "store"
    release = packager.package(SITE)
    Archive(str(store)).save_release(USER, SESSION, release)
    saved = store / USER / SESSION / "releases" / f"{release.release_id}.tar.gz"
    data = saved.read_bytes()
    match spoil:
        case "cut":
            saved.write_bytes(data[: len(data) // 2])
        case "noise":
            middle = len(data) // 2
            saved.write_bytes(data[:middle] + os.urandom(20) + data[middle + 20 :])
        case "not gzip":
            saved.write_bytes(b"<html>404</html>")
        case "content":
            saved.write_bytes(gzip.compress(gzip.decompress(data).replace(b"home", b"hack")))
        case "marker":
            saved.write_bytes(
                gzip.compress(gzip.decompress(data).replace(b'{"release_id": "r1', b'{"release_id": "r2'))
            )
        case "number":
            saved.rename(saved.with_name(f"r5-{release.release_id[3:]}.tar.gz"))
        case "digest":
            saved.rename(saved.with_name("r1-000000000000.tar.gz"))
        case "empty":
            saved.write_bytes(b"")

    with pytest.raises(HostingError):
        Archive(str(store)).restore(USER, SESSION, elsewhere)
    assert list(elsewhere.releases.iterdir()) == []
    assert list(elsewhere.source.iterdir()) == []


def test_an_archive_that_unpacks_to_more_than_a_release_is_cut_off(tmp_path: Path, elsewhere: Workspace) -> None:
    """Fourteen files of 24 MiB, each of them allowed, a third of a megabyte together when packed."""
    store = tmp_path / "store"
    zeros = bytes(24 * 2**20)
    _put(store, _packed(*((_entry(f"files/{number}"), zeros) for number in range(14))))

    with pytest.raises(HostingError, match="unpacks to more than a release may hold"):
        Archive(str(store)).restore(USER, SESSION, elsewhere)
    assert list(elsewhere.releases.iterdir()) == []


def test_a_file_beyond_its_limit_is_refused_by_its_header(tmp_path: Path, elsewhere: Workspace) -> None:
    _put(tmp_path / "store", _packed((_entry("files/big"), bytes(25 * 2**20 + 1))))

    with pytest.raises(HostingError, match=r"has 26,214,401 bytes; allowed are 26,214,400"):
        Archive(str(tmp_path / "store")).restore(USER, SESSION, elsewhere)


def test_a_text_that_grew_in_the_store_is_refused(tmp_path: Path, elsewhere: Workspace) -> None:
    store = tmp_path / "store"
    Archive(str(store)).save_file(USER, SESSION, "output/plan.md", b"x")
    (store / USER / SESSION / "output/plan.md").write_bytes(b"x" * (2**20 + 1))

    with pytest.raises(HostingError, match=r"plan\.md has more than 1,048,576 bytes"):
        Archive(str(store)).restore(USER, SESSION, elsewhere)


def test_names_in_the_store_that_are_no_archives_are_passed_over(
    store: str, packager: Packager, elsewhere: Workspace
) -> None:
    archive = Archive(store)
    release = packager.package(SITE)
    archive.save_release(USER, SESSION, release)
    filesystem, root = fsspec.core.url_to_fs(store)
    for name in (".r2-0123456789ab.tar.gz.abc", "r0-0123456789ab.tar.gz", "notes.txt", "r2-xyz.tar.gz"):
        filesystem.pipe_file(f"{root}/{USER}/{SESSION}/releases/{name}", b"x")

    assert archive.restore(USER, SESSION, elsewhere)
    assert same(load_release(elsewhere.releases, 1), release)


# ---------------------------------------------------------------- kills and faults


def test_killed_at_any_line_a_save_leaves_a_whole_archive_or_none(tmp_path: Path, packager: Packager) -> None:
    release = packager.package({"index.html": "x"})
    store = tmp_path / "store"
    saved = store / USER / SESSION / "releases" / f"{release.release_id}.tar.gz"
    whole = set()

    def save() -> None:
        Archive(str(store)).save_release(USER, SESSION, release)

    for nth in killed_at_each_line(save, (archive_module,), every=2):
        whole.add(saved.exists())
        save()
        assert [path.name for path in saved.parent.iterdir()] == [saved.name]
        target = Workspace(tmp_path / f"restored-{nth}")
        assert Archive(str(store)).restore(USER, SESSION, target)
        assert same(load_release(target.releases, 1), release)
        saved.unlink()
    assert whole == {True, False}


def test_killed_at_any_line_a_restore_is_finished_by_the_next(
    tmp_path: Path, packager: Packager, elsewhere: Workspace
) -> None:
    release = packager.package({"index.html": "x", "a/b.txt": "b"})
    archive = Archive(str(tmp_path / "store"))
    archive.save_release(USER, SESSION, release)
    archive.save_file(USER, SESSION, "output/plan.md", b"plan")

    for nth in killed_at_each_line(
        lambda: archive.restore(USER, SESSION, elsewhere), (archive_module, packaging, disk), every=5
    ):
        assert set(files_of(elsewhere.source)) in (set(), {"index.html", "a/b.txt"})
        assert archive.restore(USER, SESSION, elsewhere)
        assert same(load_release(elsewhere.releases, 1), release)
        assert set(files_of(elsewhere.source)) == {"index.html", "a/b.txt"}
        assert [path.name for path in elsewhere.releases.iterdir()] == ["1"]
        elsewhere.root.rename(tmp_path / f"done-{nth}")


def test_a_full_store_is_said_and_keeps_no_half_archive(small_disk: Path, packager: Packager) -> None:
    release = packager.package({"index.html": "x", "noise.bin": os.urandom(2 * 2**20)})

    with pytest.raises(HostingError, match="No space left"):
        Archive(str(small_disk / "store")).save_release(USER, SESSION, release)
    assert [path for path in small_disk.rglob("*") if path.is_file()] == []


def test_a_store_whose_library_is_missing_is_said_with_the_next_move() -> None:
    with pytest.raises(HostingError) as caught:
        Archive("gs://user:password@bucket/x?key=secret")
    assert str(caught.value).startswith("archive gs://bucket/x: ")
    assert "TMUX_BUILDER_STORE" in caught.value.next_move
    for secret in ("password", "secret"):
        assert secret not in str(caught.value)


def test_the_marker_is_archived_with_the_release(tmp_path: Path, packager: Packager) -> None:
    release = packager.package(SITE)
    Archive(str(tmp_path / "store")).save_release(USER, SESSION, release)

    saved = tmp_path / "store" / USER / SESSION / "releases" / f"{release.release_id}.tar.gz"
    with tarfile.open(saved) as tar:
        names = tar.getnames()
    assert names[0] == "manifest.json"
    assert names[-1] == f"files/{MARKER_PATH}"
