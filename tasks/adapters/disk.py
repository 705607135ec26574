"""Folders of our own on disk: durable before they are named, one writer at a time, faults put into words."""

import errno
import fcntl
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tasks.domain.errors import HostingError

_SYNCS_AT_ONCE = 8  # a journal commits what waits together: eight at a time cost about as much as one


def make_durable(root: Path) -> None:
    """fsync every file and folder below ``root``, and ``root``; the entry of ``root`` in its parent is the caller's."""
    paths = [root, *(Path(folder) / name for folder, folders, files in os.walk(root) for name in (*folders, *files))]
    with ThreadPoolExecutor(_SYNCS_AT_ONCE) as pool:
        for _ in pool.map(sync, paths):
            pass


def sync(path: Path) -> None:
    """fsync one file or folder."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder's lock; wait for the holder's end. A killed holder lets go at once (flock(2))."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def is_locked(path: Path) -> bool:
    """Whether somebody holds the file's lock at this moment; where there is no file, nobody does (flock(2))."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(handle)
    return False


def room_complaint(home: Path, min_free_bytes: int, min_free_inodes: int) -> str | None:
    """Why no work should begin that writes below ``home``; None where there is room. 0 asks for nothing.

    What only root may use does not count. File systems that have no fixed number of inodes say 0 of 0; they have room.
    """
    found = os.statvfs(_nearest(home))
    free = found.f_bavail * found.f_frsize
    if free < min_free_bytes:
        return (
            f"the disk of {home} has {free // 2**20:,} MB free, and {min_free_bytes // 2**20:,} MB are wanted; "
            "free space there, or lower TMUX_BUILDER_MIN_FREE_MB"
        )
    if found.f_files and found.f_favail < min_free_inodes:
        return (
            f"the disk of {home} has room for {found.f_favail:,} more files, and {min_free_inodes:,} are wanted; "
            "remove what is not needed there: many small files use a disk up before its space ends"
        )
    return None


def _nearest(path: Path) -> Path:
    """The path, or the first folder above it that is there."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())


def disk_trouble(where: str, doing: str, error: OSError) -> HostingError:
    """What the operating system refused, with the next move. ``where`` names the host or folder for the reader."""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            complaint = "the disk is full"
            move = "free space (or inodes) below TMUX_BUILDER_HOME, then start redeploy/on-demand"
        case errno.EROFS:
            complaint = "the file system is read-only"
            move = "mount it for writing or point TMUX_BUILDER_HOME elsewhere, then start redeploy/on-demand"
        case errno.EACCES | errno.EPERM:
            complaint = f"no permission to write {error.filename or 'there'}"
            move = "give TMUX_BUILDER_HOME to the user that runs the worker, then start redeploy/on-demand"
        case _:
            complaint = f"{error.strerror or error} at {error.filename or 'an unnamed file'}"
            move = "look at the disk's health (dmesg), then start redeploy/on-demand"
    return HostingError(where, f"{complaint} while {doing}; what was live is live", move)
