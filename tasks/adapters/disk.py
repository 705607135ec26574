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
