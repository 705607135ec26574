"""Limits for everything that a sandbox starts, taken together: cgroups(7), where this machine lets us make one.

Per-process limits (prlimit) do not count processes of root and do not add memory up. A group does both, and it lies
below the caller's own, whose limits hold as well.
"""

import logging
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_NEEDED = ("memory", "pids")
_GONE_WITHIN_S = 0.5
log = logging.getLogger(__name__)


class Group:
    """One group under one name; ``folders`` are empty where the machine offers none."""

    def __init__(self, name: str, memory_bytes: int, processes: int) -> None:
        self.folders: tuple[Path, ...] = ()
        made = []
        try:
            for parent in places():
                folder = parent / name
                folder.mkdir(exist_ok=True)
                made.append(folder)
                for file, value in _limits(folder, memory_bytes, processes):
                    (folder / file).write_text(str(value))
            self.folders = tuple(made)
        except OSError as error:
            log.warning("no group for a sandbox, its sum of memory is not limited name=%s: %s", name, error)
            for folder in made:
                with suppress(OSError):
                    folder.rmdir()

    def add(self, pid: int) -> None:
        """Everything that the process starts from here on is in the group, too. Raises OSError."""
        for folder in self.folders:
            (folder / "cgroup.procs").write_text(str(pid))

    def remove(self) -> None:
        """Once its processes have ended; the kernel takes a moment to let go of them."""
        _remove(self.folders)


def remove(name: str) -> None:
    """`Group.remove` of a group that another process made."""
    _remove([parent / name for parent in places()])


def _remove(folders: Iterable[Path]) -> None:
    for folder in folders:
        until = time.monotonic() + _GONE_WITHIN_S
        while folder.is_dir() and time.monotonic() < until:
            try:
                folder.rmdir()
            except OSError:
                time.sleep(0.01)


def places() -> tuple[Path, ...]:
    """Folders in which a group is made: one for each controller (v1), or one for all (v2); none where none is ours."""
    lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    by_controller = {name: path for _, names, path in lines for name in names.split(",")}
    if all(name in by_controller for name in _NEEDED):
        return tuple(_ROOT / name / by_controller[name].lstrip("/") for name in _NEEDED)
    own = _ROOT / by_controller.get("", "/").lstrip("/")
    for folder in (own, *own.parents):
        if not folder.is_relative_to(_ROOT):
            break
        with suppress(OSError):
            handed_down = (folder / "cgroup.subtree_control").read_text().split()
            if all(name in handed_down for name in _NEEDED) and os.access(folder, os.W_OK):
                return (folder,)
    return ()


def sweep(prefix: str, older_than_s: float = 0) -> None:
    """Remove empty groups of that name: those of somebody who was killed. One that is new may be about to be joined."""
    for parent in places():
        for folder in parent.glob(f"{prefix}*"):
            with suppress(OSError):
                if time.time() - folder.stat().st_mtime >= older_than_s:
                    folder.rmdir()


def _limits(folder: Path, memory_bytes: int, processes: int) -> list[tuple[str, int]]:
    known = (
        ("memory.limit_in_bytes", memory_bytes),
        ("memory.max", memory_bytes),
        ("memory.swap.max", 0),
        ("pids.max", processes),
    )
    return [(file, value) for file, value in known if (folder / file).exists()]
