"""An agent that wants more published than its pages, against the snapshot."""

import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

from tasks.adapters import snapshot as snapshot_module
from tasks.adapters.snapshot import complaint_about, measure, snapshot
from tasks.domain.errors import SourceRefused
from tasks.domain.release import Limits
from tests.support.releases import write_tree

SECRET = "the worker's secret"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "index.html").write_text("<!doctype html>")
    return folder


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret.txt").write_text(SECRET)
    return folder


def refusal(source: Path, **limits: int) -> SourceRefused:
    """What the snapshot says; measure says the same, and nothing is left at the destination."""
    destination = source.parent / "snapshot"
    with pytest.raises(SourceRefused) as caught:
        snapshot(source, destination, Limits(**limits))
    assert not destination.exists()
    with pytest.raises(SourceRefused) as measured:
        measure(source, Limits(**limits))
    assert (measured.value.path, measured.value.reason) == (caught.value.path, caught.value.reason)
    assert complaint_about(source, Limits(**limits)) == f"source/{caught.value.path} {caught.value.reason}"
    return caught.value


def test_files_are_copied_byte_for_byte_with_size_and_digest(source: Path, tmp_path: Path) -> None:
    content = os.urandom(3 * 2**20 + 7)
    write_tree(source, {"index.html": "x", "a/b/c.bin": content, "a b/ü.css": "", "_x-1.js": "1"})

    taken = snapshot(source, tmp_path / "snapshot")
    assert [(file.path, file.size) for file in taken.files] == [
        ("_x-1.js", 1),
        ("a b/ü.css", 0),
        ("a/b/c.bin", len(content)),
        ("index.html", 1),
    ]
    assert (tmp_path / "snapshot/a/b/c.bin").read_bytes() == content
    assert taken.files[3].sha256 == "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"
    assert measure(source).files == 4
    assert measure(source).total_bytes == len(content) + 2
    assert complaint_about(source) is None


def test_the_snapshot_is_ours_alone_and_cannot_be_executed(source: Path, tmp_path: Path) -> None:
    (source / "index.html").chmod(0o777)
    (source / "a").mkdir(mode=0o777)
    (source / "a/x.sh").write_text("x")

    snapshot(source, tmp_path / "snapshot")
    assert {oct(path.stat().st_mode & 0o7777) for path in (tmp_path / "snapshot").rglob("*")} == {"0o600", "0o700"}
    assert (tmp_path / "snapshot").stat().st_mode & 0o7777 == 0o700


def test_hidden_files_a_foreign_marker_and_empty_folders_stay_behind(source: Path, tmp_path: Path) -> None:
    write_tree(source, {
        "index.html": "x", ".env": "KEY=1", ".git/config": "x", "a/.DS_Store": "x", "a/b.txt": "x", "..x/y": "x",
        ".well-known/release.json": '{"release_id": "r9-ffffffffffff"}', ".well-known/security.txt": "Contact: x",
        ".well-known/.hidden": "x", ".WELL-KNOWN/x": "x",
    })  # fmt: skip
    (source / "empty/deeper").mkdir(parents=True)
    (source / ".link").symlink_to("/etc/passwd")

    taken = snapshot(source, tmp_path / "snapshot")
    assert [file.path for file in taken.files] == [".well-known/security.txt", "a/b.txt", "index.html"]
    assert taken.left_out == (
        "..x", ".WELL-KNOWN", ".env", ".git", ".link", ".well-known/.hidden", ".well-known/release.json", "a/.DS_Store"
    )  # fmt: skip
    found = sorted(path.relative_to(tmp_path / "snapshot").as_posix() for path in (tmp_path / "snapshot").rglob("*"))
    assert found == [".well-known", ".well-known/security.txt", "a", "a/b.txt", "index.html"]


# ---------------------------------------------------------------- kinds


def test_a_link_to_a_file_is_refused(source: Path, outside: Path) -> None:
    (source / "a.txt").symlink_to(outside / "secret.txt")

    error = refusal(source)
    assert (error.path, error.reason) == ("a.txt", "is a symbolic link; only regular files and folders are published")
    assert str(error).endswith("nothing was published, the site is as it was")


@pytest.mark.parametrize("target", ["index.html", "missing", "/etc/passwd", "..", "."])
def test_a_link_is_refused_wherever_it_leads(source: Path, target: str) -> None:
    (source / "link").symlink_to(target)

    assert "a symbolic link" in refusal(source).reason


def test_a_link_to_a_folder_is_refused(source: Path, outside: Path) -> None:
    (source / "folder").symlink_to(outside)

    assert refusal(source).path == "folder"


def test_a_source_folder_that_is_a_link_is_refused(tmp_path: Path, outside: Path) -> None:
    (outside / "index.html").write_text("x")
    (tmp_path / "source").symlink_to(outside)

    assert refusal(tmp_path / "source").reason.startswith("is missing, is a link,")


@pytest.mark.parametrize("is_there", [True, False])
def test_a_source_that_is_no_folder_is_refused(tmp_path: Path, is_there: bool) -> None:
    if is_there:
        (tmp_path / "source").write_text("x")

    assert refusal(tmp_path / "source").reason.startswith("is missing, is a link,")


def test_a_second_name_of_a_file_outside_is_refused(source: Path, outside: Path) -> None:
    os.link(outside / "secret.txt", source / "a.txt")

    assert refusal(source).reason == "has 2 names (hard links); copy it instead of linking it"


def test_pipes_sockets_and_devices_are_refused_without_waiting(source: Path) -> None:
    pipe, device = source / "pipe", source / "device"
    os.mkfifo(pipe)
    assert "a named pipe" in refusal(source).reason
    pipe.unlink()
    with socket.socket(socket.AF_UNIX) as server:
        here = os.open(source, os.O_RDONLY)
        server.bind(f"/proc/self/fd/{here}/socket")
        os.close(here)
        assert "a socket" in refusal(source).reason
    (source / "socket").unlink()
    if os.geteuid() == 0:  # only root can make one, and so can only an agent that runs as root
        os.mknod(device, 0o020666, os.makedev(1, 5))
        assert "a character device" in refusal(source).reason


def test_a_well_known_that_is_a_file_is_refused_because_the_marker_goes_there(source: Path) -> None:
    (source / ".well-known").write_text("x")

    assert "must be a folder" in refusal(source).reason


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    "name",
    ["a\nb", "a\x1b[31m", "a\x7f", "a\x85b", "\u202egpj.exe", "a\u200bb", "a\u2066b", "\ufeffa", "a\u00a0b", "a\u2028b",
     "\ue000", "a\\b", "x\\..\\y", " a", "a ", "\u3000a", "a\t"],
)  # fmt: skip
def test_a_name_that_reads_differently_than_it_is_is_refused(source: Path, name: str) -> None:
    (source / name).write_text("x")

    error = refusal(source)
    assert error.reason.startswith("the name ")
    assert str(error).isprintable()


def test_a_name_that_is_not_utf8_is_refused(source: Path) -> None:
    os.close(os.open(bytes(source) + b"/a\xff", os.O_CREAT | os.O_WRONLY))

    error = refusal(source)
    assert "undecodable" in error.reason
    str(error).encode()


def test_folders_are_named_by_the_same_rules(source: Path) -> None:
    (source / "a\x1bb").mkdir()

    assert "invisible" in refusal(source).reason


def test_a_name_and_a_path_may_be_so_long_and_no_longer(source: Path, tmp_path: Path) -> None:
    (source / ("ü" * 100)).write_text("x")
    snapshot(source, tmp_path / "fits")
    assert refusal(source, name_bytes=199).reason == "the name has 200 bytes; allowed are 199"
    assert refusal(source, path_bytes=199).reason == "the path has 200 bytes; allowed are 199"


# ---------------------------------------------------------------- sizes


def test_a_sparse_giant_is_refused_before_it_is_read(source: Path) -> None:
    with (source / "big.bin").open("wb") as file:
        file.truncate(2**40)

    began = time.monotonic()
    assert refusal(source).reason == "has 1,048,576 MiB; a file may have 25 MiB, holes included"
    assert time.monotonic() - began < 5


def test_each_size_is_allowed_up_to_its_limit(source: Path, tmp_path: Path) -> None:
    write_tree(source, {"index.html": "x" * 10, "b": "y" * 10, "c/d": "z" * 10})
    exact = {"file_bytes": 10, "total_bytes": 30, "files": 4, "depth": 1}

    snapshot(source, tmp_path / "fits", Limits(**exact))
    assert (
        refusal(source, **{**exact, "file_bytes": 9}).reason == "has 10 bytes; a file may have 9 bytes, holes included"
    )
    assert "over the allowed 29 bytes" in refusal(source, **{**exact, "total_bytes": 29}).reason
    assert "over the allowed 3 files and folders" in refusal(source, **{**exact, "files": 3}).reason
    assert refusal(source, **{**exact, "depth": 0}).reason == "is nested deeper than 0 folders; flatten it"


def test_what_is_read_counts_and_not_the_size_that_was_promised(tmp_path: Path) -> None:
    """As for a file that grows while it is read; the kernel's own files promise no bytes and have 37."""
    promised = Path("/proc/sys/kernel/random")
    assert (promised / "boot_id").stat().st_size == 0

    for limits in (Limits(file_bytes=36), Limits(total_bytes=36)):
        with pytest.raises(SourceRefused, match="boot_id"):
            snapshot(promised, tmp_path / "snapshot", limits, required=None)
        assert not (tmp_path / "snapshot").exists()


def test_a_folder_of_very_many_entries_costs_no_more_than_the_limit(source: Path) -> None:
    for number in range(3000):
        (source / f"{number}.txt").touch()

    assert refusal(source, files=100).reason.startswith("takes source/ over the allowed 100 files and folders")


def test_a_very_deep_folder_is_refused_and_not_a_stack_overflow(source: Path) -> None:
    here = os.open(source, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)

    assert refusal(source).reason == "is nested deeper than 16 folders; flatten it"
    _remove_deep(source)


def _remove_deep(folder: Path) -> None:
    """rmtree recurses by path and by stack; a very deep tree is moved up piece by piece."""
    while (folder / "d/d").exists():
        (folder / "d/d").rename(folder / "e")
        (folder / "d").rmdir()
        (folder / "e").rename(folder / "d")
    shutil.rmtree(folder)


# ---------------------------------------------------------------- what is missing


def test_an_empty_source_is_refused_with_what_belongs_there(source: Path) -> None:
    (source / "index.html").unlink()
    (source / "empty").mkdir()

    assert str(refusal(source)) == (
        "source/: is empty; the site's files belong there, index.html at its top; "
        "nothing was published, the site is as it was"
    )


def test_a_source_without_index_html_is_refused_with_what_is_there(source: Path) -> None:
    write_tree(source, {"home.html": "x", "style.css": "x"})
    assert refusal(source).reason == "is missing, and a site begins there; there is home.html, style.css"

    write_tree(source, {"dist/index.html": "x", "dist/en/index.html": "x", "a.js": "x"})
    assert refusal(source).reason.endswith("there is dist/index.html: move its folder's content up")


def test_what_a_source_must_hold_is_the_callers_choice(source: Path, tmp_path: Path) -> None:
    write_tree(source, {"app.py": "x"})

    assert snapshot(source, tmp_path / "snapshot", required=None).files[0].path == "app.py"
    assert complaint_about(source, required="app.py") is None


def test_a_file_that_we_may_not_read_is_refused_with_the_next_move() -> None:
    """As a user who is not root, in a child: root may read everything."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        source = Path(folder) / "source"
        write_tree(source, {"index.html": "x", "a.txt": "x"})
        source.chmod(0o755)
        (source / "a.txt").chmod(0)
        child = os.fork()
        if child == 0:
            try:
                if os.geteuid() == 0:
                    os.setgid(65534)
                    os.setuid(65534)
                error = refusal(source)
                os._exit(0 if error.path == "a.txt" and "chmod u+r" in error.reason else 1)
            finally:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0


def test_an_existing_destination_is_neither_used_nor_removed(source: Path, tmp_path: Path) -> None:
    kept = tmp_path / "snapshot"
    kept.mkdir()
    (kept / "x").write_text("keep")

    with pytest.raises(FileExistsError):
        snapshot(source, kept)
    assert (kept / "x").read_text() == "keep"


# ---------------------------------------------------------------- while the agent goes on


@contextmanager
def _swapped_on_entering(function: str, swap: Callable[[], None]) -> Iterator[None]:
    """Swap once, at the worst moment: after the walk judged an entry by its listing, before it opens it."""
    done = False

    def trace(frame: FrameType, event: str, argument: object) -> None:
        nonlocal done
        if not done and frame.f_code.co_name == function and frame.f_code.co_filename == snapshot_module.__file__:
            done = True
            swap()

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)
    assert done


@pytest.mark.parametrize(
    ("becomes", "reason"),
    [
        ("link", "is missing, is a link,"),
        ("second name", "has 2 names"),
        ("pipe", "is a named pipe"),
        ("folder", "is a folder where a file was"),
        ("nothing", "is missing, is a link,"),
    ],
)
def test_a_file_that_becomes_something_else_after_it_was_listed_is_refused(
    source: Path, outside: Path, becomes: str, reason: str
) -> None:
    page = source / "a.html"
    page.write_text("harmless")

    def swap() -> None:
        page.unlink()
        match becomes:
            case "link":
                page.symlink_to(outside / "secret.txt")
            case "second name":
                page.hardlink_to(outside / "secret.txt")
            case "pipe":
                os.mkfifo(page)
            case "folder":
                page.mkdir()

    with _swapped_on_entering("_file", swap), pytest.raises(SourceRefused) as caught:
        snapshot(source, source.parent / "snapshot")
    assert caught.value.reason.startswith(reason)
    assert not (source.parent / "snapshot").exists()


def test_a_folder_that_becomes_a_link_after_it_was_listed_is_refused(source: Path, outside: Path) -> None:
    (source / "a").mkdir()

    def swap() -> None:
        (source / "a").rmdir()
        (source / "a").symlink_to(outside)

    with _swapped_on_entering("_subfolder", swap), pytest.raises(SourceRefused):
        snapshot(source, source.parent / "snapshot")
    assert not (source.parent / "snapshot").exists()


def _race(source: Path, swap: Callable[[], None], seconds: float) -> tuple[int, int]:
    """Snapshot again and again while another thread swaps; how often it was taken and refused. No leak, no leftover."""
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            swap()

    thread = threading.Thread(target=work)
    thread.start()
    taken = refused = 0
    destination = source.parent / "snapshot"
    try:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            try:
                snapshot(source, destination)
            except SourceRefused:
                refused += 1
                assert not destination.exists()
                continue
            taken += 1
            for path in destination.rglob("*"):
                assert not path.is_symlink()
                assert path.is_dir() or path.read_text() in ("harmless", "<!doctype html>")
            shutil.rmtree(destination)
    finally:
        stop.set()
        thread.join()
    return taken, refused


def test_a_file_swapped_for_a_link_in_the_middle_leaks_nothing(source: Path, outside: Path, tmp_path: Path) -> None:
    page, link, spare = source / "page.html", tmp_path / "link", tmp_path / "spare"

    def swap() -> None:
        spare.write_text("harmless")
        spare.replace(page)
        link.symlink_to(outside / "secret.txt")
        link.replace(page)

    taken, refused = _race(source, swap, 2.5)
    assert refused > 10
    assert taken > 0


def test_a_folder_swapped_for_a_link_in_the_middle_leaks_nothing(source: Path, outside: Path, tmp_path: Path) -> None:
    folder, link, spare = source / "pages", tmp_path / "link", tmp_path / "spare"
    spare.mkdir()
    (spare / "secret.txt").write_text("harmless")
    link.symlink_to(outside)
    link.rename(folder)

    def swap() -> None:
        folder.rename(link)
        spare.rename(folder)
        folder.rename(spare)
        link.rename(folder)

    taken, refused = _race(source, swap, 2.5)
    assert refused > 10
    assert taken > 0


def test_a_file_swapped_for_a_pipe_in_the_middle_does_not_make_it_wait(source: Path, tmp_path: Path) -> None:
    page, pipe, spare = source / "page.html", tmp_path / "pipe", tmp_path / "spare"

    def swap() -> None:
        spare.write_text("harmless")
        spare.replace(page)
        os.mkfifo(pipe)
        pipe.replace(page)

    taken, refused = _race(source, swap, 1.5)
    assert taken + refused > 20
