"""Disks that are small or read-only. Mounts need root; without it a user namespace would, so tests say so and fail."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_MS_RDONLY, _MS_REMOUNT, _MNT_DETACH = 1, 32, 2
_libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A tmpfs of one MiB, unmounted at the end of the test."""
    folder = tmp_path / "small"
    folder.mkdir()
    _call(_libc.mount, b"tmpfs", bytes(folder), b"tmpfs", 0, b"size=1m")
    try:
        yield folder
    finally:
        _call(_libc.umount2, bytes(folder), _MNT_DETACH)


def make_read_only(disk: Path, read_only: bool = True) -> None:
    """Remount a disk of `small_disk`."""
    flags = _MS_REMOUNT | (_MS_RDONLY if read_only else 0)
    _call(_libc.mount, b"tmpfs", bytes(disk), b"tmpfs", flags, b"size=1m")


def _call(function: "ctypes._NamedFuncPointer", *arguments: object) -> None:
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{os.strerror(number)}: this test mounts a small disk and needs root")


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    """A tmpfs over the folder, for every process of the machine. What the folder held is there again at the end."""
    _call(_libc.mount, b"tmpfs", bytes(folder), b"tmpfs", 0, options.encode())
    try:
        yield
    finally:
        _call(_libc.umount2, bytes(folder), _MNT_DETACH)
