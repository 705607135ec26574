"""Trees as a hostile program leaves them, and what lies beside them."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.adapters.trees import remove_tree, sandbox_folder, weigh


def nested(top: Path, depth: int) -> None:
    """Deeper than a path can be long: made by descriptor."""
    top.mkdir(exist_ok=True)
    here = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("folder", dir_fd=here)
        os.mkdir("beside", dir_fd=here)
        below = os.open("folder", os.O_RDONLY, dir_fd=here)
        os.close(os.open("file", os.O_WRONLY | os.O_CREAT, dir_fd=below))
        os.close(here)
        here = below
    os.close(here)


def test_folders_nested_past_any_recursion_and_any_path_are_removed(tmp_path: Path) -> None:
    nested(tmp_path / "top", 5000)
    remove_tree(tmp_path / "top")
    assert list(tmp_path.iterdir()) == []


def test_depth_costs_no_descriptors(tmp_path: Path) -> None:
    nested(tmp_path / "top", 300)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(path.name) for path in Path("/proc/self/fd").iterdir())
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 10, hard))
    try:
        remove_tree(tmp_path / "top")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_more_names_than_are_held_at_a_time_is_emptied(tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "wide").mkdir(parents=True)
    for number in range(5000):
        (top / "wide" / str(number)).touch()
        (top / str(number)).mkdir()
    remove_tree(top)
    assert list(tmp_path.iterdir()) == []


def test_links_pipes_and_odd_names_go_and_what_links_point_to_stays(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("mine")
    top = tmp_path / "top"
    (top / "below").mkdir(parents=True)
    (top / "below" / "link").symlink_to(kept)
    (top / "link").symlink_to("..")
    os.mkfifo(top / "below" / "pipe")
    (top / os.fsdecode(b"\xff\xfe")).mkdir()
    remove_tree(top)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (kept / "file").read_text() == "mine"


def test_a_link_in_place_of_the_tree_goes_itself(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    (tmp_path / "top").symlink_to(kept)
    remove_tree(tmp_path / "top")
    assert [path.name for path in tmp_path.rglob("*")] == ["kept", "file"]


def test_what_is_not_there_is_fine(tmp_path: Path) -> None:
    remove_tree(tmp_path / "top")


def test_folders_that_their_owner_closed_are_removed_without_privileges(tmp_path: Path) -> None:
    script = f"""
import os, pathlib, sys, tempfile
sys.path.insert(0, {str(Path.cwd())!r})
from tasks.adapters.trees import remove_tree
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
top = pathlib.Path(tempfile.mkdtemp())
(top / "a" / "b" / "c").mkdir(parents=True)
(top / "a" / "b" / "c" / "file").touch()
for path in (top / "a" / "b" / "c", top / "a" / "b", top / "a", top):
    path.chmod(0)
remove_tree(top)
assert not top.exists()
"""
    subprocess.run([sys.executable, "-B", "-c", script], check=True, timeout=60)


def test_a_sandboxs_folder_is_gone_after_the_block_even_when_that_raised() -> None:
    made: list[Path] = []

    def fail() -> None:
        with sandbox_folder("tb-test-") as folder:
            made.append(folder)
            nested(folder, 1200)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert not made[0].exists()


def test_a_tree_is_weighed_without_its_links_and_no_further_than_needed(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(b"x" * 100_000)
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "sparse").touch()
    os.truncate(tmp_path / "a" / "sparse", 1 << 40)
    assert 100_000 <= weigh([tmp_path / "a", tmp_path / "nothing"], 1 << 50) < 200_000
    assert weigh([tmp_path], 1) < 100_000
