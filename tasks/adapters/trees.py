"""Removing what a sandbox left: folders nested past any recursion, of any width, with links and closed doors."""

import logging
import os
import secrets
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path

_log = logging.getLogger(__name__)
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_AT_ONCE = 4096
"""Names that are held in memory at a time."""


def remove_tree(root: Path) -> None:
    """Remove ``root`` and all below it; a link at ``root`` goes itself, and what is not there is fine.

    Neither depth nor width costs memory or descriptors: a folder's subfolders are moved up beside it before it goes,
    so that never more than two are open. No link is followed, and a folder without permissions is opened by its owner.
    Killed halfway, the next call goes on. Raises OSError where something cannot be removed.
    """
    parent = os.open(root.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(FileNotFoundError):
            if _unlinked(root.name, parent):
                return
            _make_accessible(root.name, parent)
            top = os.open(root.name, _FOLDER, dir_fd=parent)
            try:
                _empty(top)
            finally:
                os.close(top)
            os.rmdir(root.name, dir_fd=parent)
    finally:
        os.close(parent)


def weigh(roots: Iterable[Path], enough_bytes: int) -> int:
    """What lies below ``roots`` takes on disk, in bytes; it stops looking at ``enough_bytes``. No link is followed.

    Folders that vanish or are closed while it looks count for nothing.
    """
    total, folders = 0, [os.fspath(root) for root in roots]
    while folders and total < enough_bytes:
        with suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                total += status.st_blocks * 512
                if stat.S_ISDIR(status.st_mode):
                    folders.append(entry.path)
    return total


@contextmanager
def sandbox_folder(prefix: str) -> Iterator[Path]:
    """A private temporary folder for a sandbox to write to. What cannot be removed of it is logged, not raised."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        yield folder
    finally:
        try:
            remove_tree(folder)
        except OSError as error:
            _log.warning("a sandbox's folder was not removed path=%s reason=%s", folder, error)


def _empty(top: int) -> None:
    moved = f"{secrets.token_hex(8)}-"
    number = 0
    while names := _some_names(top):
        for name in names:
            if _unlinked(name, top):
                continue
            _make_accessible(name, top)
            folder = os.open(name, _FOLDER, dir_fd=top)
            try:
                while below := _some_names(folder):
                    for inner in below:
                        if not _unlinked(inner, folder):
                            _make_accessible(inner, folder)  # moving a folder rewrites its ".."
                            os.rename(inner, f"{moved}{number}", src_dir_fd=folder, dst_dir_fd=top)
                            number += 1
            finally:
                os.close(folder)
            os.rmdir(name, dir_fd=top)


def _some_names(folder: int) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in islice(entries, _AT_ONCE)]


def _unlinked(name: str, folder: int) -> bool:
    """Whether ``name`` is gone now; False for a folder."""
    if stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
        return False
    os.unlink(name, dir_fd=folder)
    return True


def _make_accessible(name: str, folder: int) -> None:
    """Give the owner all rights to a folder, by a descriptor that needs none (open(2), O_PATH)."""
    handle = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        if os.fstat(handle).st_mode & stat.S_IRWXU != stat.S_IRWXU:
            Path(f"/proc/self/fd/{handle}").chmod(0o700)
    finally:
        os.close(handle)
