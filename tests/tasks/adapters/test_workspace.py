import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.adapters.workspace import Workspace, read_bounded, write_atomic


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace.of(tmp_path, "user", "sess20260124143022")
    workspace.lay_out()
    return workspace


def test_laying_out_twice_keeps_what_is_there(workspace: Workspace):
    workspace.plan.write_text("the plan")

    workspace.lay_out()

    assert workspace.plan.read_text() == "the plan"


def test_nobody_else_on_the_machine_can_read_a_workspace(workspace: Workspace):
    assert {path.stat().st_mode & 0o077 for path in [workspace.root, *workspace.root.rglob("*")]} == {0}


def test_a_write_replaces_a_link_instead_of_following_it(workspace: Workspace, tmp_path: Path):
    outside = tmp_path / "outside"
    outside.write_text("precious")
    workspace.results.symlink_to(outside)

    write_atomic(workspace.results, "ours")

    assert outside.read_text() == "precious"
    assert workspace.results.read_text() == "ours"
    assert not workspace.results.is_symlink()


def test_a_failed_write_keeps_the_old_content_and_leaves_nothing_beside_it(tmp_path: Path):
    path = tmp_path / "kept"
    path.write_text("old")
    # No file of the child may grow beyond 4 KiB: the write fails in its middle.
    code = (
        "import resource, signal, pathlib; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096));"
        "from tasks.adapters.workspace import write_atomic;"
        f"write_atomic(pathlib.Path({str(path)!r}), b'x' * 100_000)"
    )

    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert "File too large" in child.stderr
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_sees_the_old_content_or_the_new_whatever_second_a_kill_comes(tmp_path: Path):
    path = tmp_path / "value"
    path.write_bytes(b"0" * 200_000)
    code = (
        "import pathlib; from tasks.adapters.workspace import write_atomic\n"
        f"path = pathlib.Path({str(path)!r}); print('go', flush=True)\n"
        "for n in range(10_000): write_atomic(path, str(n % 10).encode() * 200_000)"
    )
    for kill_after_reads in (1, 7, 23):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "go\n"
            for _ in range(kill_after_reads):
                assert len(set(path.read_bytes())) == 1
            child.kill()
        data = path.read_bytes()
        assert len(data) == 200_000
        assert len(set(data)) == 1


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "missing", "too long"])
def test_what_is_not_a_plain_bounded_file_is_not_read_and_nobody_waits(workspace: Workspace, kind: str):
    match kind:
        case "link":
            (workspace.root / "secret").write_text("PHASE_COMPLETE: planning\n")
            workspace.status.symlink_to(workspace.root / "secret")
        case "fifo":
            os.mkfifo(workspace.status)
        case "folder":
            workspace.status.mkdir()
        case "too long":
            workspace.status.write_bytes(b"PHASE_COMPLETE: planning\n" * 10_000)

    assert workspace.read_status() == b""


def test_the_limit_itself_is_still_read(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"12345")
    assert read_bounded(tmp_path / "a", 5) == b"12345"
    assert read_bounded(tmp_path / "a", 4) is None


def test_signals_of_an_earlier_prompt_are_put_aside(workspace: Workspace):
    workspace.status.write_text("PHASE_COMPLETE: planning\n")

    workspace.rotate_status()

    assert workspace.read_status() == b""
    assert (workspace.root / "output" / "status.previous.txt").read_text() == "PHASE_COMPLETE: planning\n"
    workspace.rotate_status()


@pytest.mark.parametrize("in_the_way", ["status.txt", "status.previous.txt"])
def test_a_folder_in_the_way_does_not_keep_old_signals_in_place(workspace: Workspace, in_the_way: str):
    workspace.status.write_text("PHASE_COMPLETE: planning\n")
    workspace.rotate_status()
    workspace.status.write_text("PHASE_COMPLETE: coding\n")
    (workspace.root / "output" / in_the_way).unlink()
    (workspace.root / "output" / in_the_way).mkdir()

    workspace.rotate_status()

    assert not workspace.status.exists()


def test_prompts_are_numbered_and_the_last_is_the_current_one(workspace: Workspace):
    workspace.write_prompt("planning", "plan!")
    workspace.write_prompt("coding", "code!")

    assert sorted(path.name for path in (workspace.root / "prompts").iterdir()) == [
        "01-planning.txt",
        "02-coding.txt",
        "current.txt",
    ]
    assert workspace.current_prompt.read_text() == "code!"
