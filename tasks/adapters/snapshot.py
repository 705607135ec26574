"""The agent's folder becomes a snapshot of our own: by descriptor, no link followed, bounded in every dimension.

The agent may change the folder while it is read. What counts is therefore what was opened, never what was listed, and
everything later (packaging, publishing, tests) works on the snapshot alone.
"""

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from tasks.adapters.disk import make_durable
from tasks.domain.errors import SourceRefused
from tasks.domain.execution import Source
from tasks.domain.release import MARKER_PATH, Limits

FRONT_PAGE = "index.html"
"""What a static site begins with; a dynamic one is asked what it needs elsewhere."""

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK = 1 << 20

WELL_KNOWN = ".well-known"
"""The one hidden folder that belongs to a site (RFC 8615)."""


@dataclass(frozen=True)
class SnapshotFile:
    """``path`` is relative, with forward slashes; the digest is of the bytes that were written."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Snapshot:
    """Files sorted by path, and what was left out: hidden files and folders, and a marker that is not ours."""

    files: tuple[SnapshotFile, ...]
    left_out: tuple[str, ...]


def snapshot(
    source: Path,
    destination: Path,
    limits: Limits | None = None,
    required: str | None = FRONT_PAGE,
    durable: bool = True,
) -> Snapshot:
    """Copy ``source`` to ``destination``, which must not exist; fsynced when it returns, removed when it raises.

    ``durable=False`` leaves the fsync to a caller who may not keep the copy.

    Hidden files (``.git``, ``.env``, ``.DS_Store``) stay behind without being opened: they are an agent's or an
    editor's, never a page. So does a ``.well-known/release.json``: the marker in a release is always ours, and a
    copy of an earlier one, fetched from the live site, is no reason to fail a build. Empty folders stay behind too.

    Raises SourceRefused for what must not be published; OSError is trouble at the destination.
    """
    destination.mkdir(mode=0o700)
    try:
        target = os.open(destination, _READ | os.O_DIRECTORY)
        try:
            walk = _Walk(limits or Limits())
            walk.source(source, target, required)
        finally:
            os.close(target)
        if durable:
            make_durable(destination)
    except BaseException:
        shutil.rmtree(destination, ignore_errors=True)
        raise
    return Snapshot(tuple(sorted(walk.files, key=lambda file: file.path)), tuple(sorted(walk.left_out)))


def measure(source: Path, limits: Limits | None = None, required: str | None = FRONT_PAGE) -> Source:
    """How much `snapshot` would take at this moment, reading no file's content. Raises SourceRefused as it does."""
    walk = _Walk(limits or Limits())
    walk.source(source, None, required)
    return Source(files=len(walk.files), total_bytes=walk.total)


def complaint_about(source: Path, limits: Limits | None = None, required: str | None = FRONT_PAGE) -> str | None:
    """What would be refused at this moment, for the agent that is writing it; None when nothing would be."""
    try:
        measure(source, limits, required)
    except SourceRefused as refusal:
        return f"source/{refusal.path} {refusal.reason}"
    return None


def complaint_about_name(name: str, limits: Limits) -> str | None:
    """Why a file may not be called so; None when it may.

    Refused is what a person reads differently than a program does, and what a host would store under another key.
    """
    if len(os.fsencode(name)) > limits.name_bytes:
        return f"the name has {len(os.fsencode(name))} bytes; allowed are {limits.name_bytes}"
    if not name.isprintable():
        return "the name holds a control, invisible or undecodable character; use letters, digits, - and _"
    if name != name.strip():
        return "the name begins or ends with a blank; remove it"
    if "\\" in name:
        return "the name holds a backslash; use folders and /"
    return None


def complaint_about_path(path: str, limits: Limits) -> str | None:
    length = len(os.fsencode(path))
    return f"the path has {length} bytes; allowed are {limits.path_bytes}" if length > limits.path_bytes else None


@dataclass
class _Walk:
    """One pass over the untrusted folder. Without a target nothing is copied and sizes are what fstat says."""

    limits: Limits
    files: list[SnapshotFile] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    entries: int = 0
    total: int = 0

    def source(self, source: Path, target: int | None, required: str | None) -> None:
        with _reading(""):
            root = os.open(source, _READ | os.O_DIRECTORY)
        try:
            self._folder(root, target, "", 0)
        finally:
            os.close(root)
        _require(sorted(file.path for file in self.files), required)

    def _folder(self, source: int, target: int | None, relative: str, depth: int) -> bool:
        """Whether the open folder holds any file that is published, in itself or below."""
        if depth > self.limits.depth:
            raise SourceRefused(relative, f"is nested deeper than {self.limits.depth} folders; flatten it")
        found = False
        for name in self._names(source, relative):
            path = f"{relative}/{name}" if relative else name
            if _stays_behind(path, name):
                self.left_out.append(shown(path))
                continue
            if complaint := complaint_about_name(name, self.limits) or complaint_about_path(path, self.limits):
                raise SourceRefused(shown(path), complaint)
            with _reading(path):
                kind = os.stat(name, dir_fd=source, follow_symlinks=False).st_mode
            if stat.S_ISDIR(kind):
                found |= self._subfolder(source, target, path, name, depth)
            elif path == WELL_KNOWN:
                raise SourceRefused(
                    path, f"is {_kind(kind)}; it must be a folder, each release carries its marker there"
                )
            elif stat.S_ISREG(kind):
                self._file(source, target, path, name)
                found = True
            else:
                raise SourceRefused(path, f"is {_kind(kind)}; only regular files and folders are published")
        return found

    def _names(self, source: int, relative: str) -> list[str]:
        """Sorted, and read only as far as the limit: a folder of a billion entries costs no more than the limit."""
        names = []
        with _reading(relative), os.scandir(source) as listing:
            for entry in listing:
                self.entries += 1
                if self.entries > self.limits.files:
                    allowed = f"{self.limits.files:,} files and folders"
                    raise SourceRefused(relative, f"takes source/ over the allowed {allowed}; remove what no page uses")
                names.append(entry.name)
        return sorted(names)

    def _subfolder(self, source: int, target: int | None, path: str, name: str, depth: int) -> bool:
        with _reading(path):
            below = os.open(name, _READ | os.O_DIRECTORY, dir_fd=source)
        try:
            if target is None:
                return self._folder(below, None, path, depth + 1)
            os.mkdir(name, 0o700, dir_fd=target)
            into = os.open(name, _READ | os.O_DIRECTORY, dir_fd=target)
            try:
                found = self._folder(below, into, path, depth + 1)
            finally:
                os.close(into)
            if not found:
                os.rmdir(name, dir_fd=target)
            return found
        finally:
            os.close(below)

    def _file(self, source: int, target: int | None, path: str, name: str) -> None:
        with _reading(path):
            handle = os.open(name, _READ, dir_fd=source)
        try:
            with _reading(path):
                opened = os.fstat(handle)
            if not stat.S_ISREG(opened.st_mode):
                raise SourceRefused(path, f"is {_kind(opened.st_mode)}; only regular files and folders are published")
            if opened.st_nlink != 1:
                raise SourceRefused(path, f"has {opened.st_nlink} names (hard links); copy it instead of linking it")
            self._check_size(path, opened.st_size, self.total + opened.st_size)
            if target is None:
                self.total += opened.st_size
                self.files.append(SnapshotFile(path, opened.st_size, ""))
                return
            with os.fdopen(os.open(name, _WRITE, 0o600, dir_fd=target), "wb") as output:
                self._copy(handle, output, path)
        finally:
            os.close(handle)

    def _copy(self, handle: int, output: BinaryIO, path: str) -> None:
        size, digest = 0, hashlib.sha256()
        while chunk := _chunk(handle, path):
            size += len(chunk)
            self.total += len(chunk)
            self._check_size(path, size, self.total)
            digest.update(chunk)
            output.write(chunk)
        self.files.append(SnapshotFile(path, size, digest.hexdigest()))

    def _check_size(self, path: str, size: int, total: int) -> None:
        if size > self.limits.file_bytes:
            allowed = mebibytes(self.limits.file_bytes)
            raise SourceRefused(path, f"has {mebibytes(size)}; a file may have {allowed}, holes included")
        if total > self.limits.total_bytes:
            allowed = mebibytes(self.limits.total_bytes)
            raise SourceRefused(path, f"takes source/ over the allowed {allowed}; shrink its images and videos")


def _chunk(handle: int, path: str) -> bytes:
    with _reading(path):
        return os.read(handle, _CHUNK)


def _stays_behind(path: str, name: str) -> bool:
    return path == MARKER_PATH or (name.startswith(".") and path != WELL_KNOWN)


def _require(paths: list[str], required: str | None) -> None:
    if not paths:
        raise SourceRefused("", "is empty; the site's files belong there, index.html at its top")
    if required is None or required in paths:
        return
    deeper = sorted((path for path in paths if path.endswith(f"/{required}")), key=lambda path: path.count("/"))
    found = f"there is {deeper[0]}: move its folder's content up" if deeper else f"there is {', '.join(paths[:5])}"
    raise SourceRefused(required, f"is missing, and a site begins there; {found}")


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """Trouble with the untrusted side becomes a refusal; trouble with ours stays an OSError."""
    try:
        yield
    except OSError as error:
        match error.errno:
            case errno.ELOOP | errno.ENOTDIR | errno.ENOENT | errno.ENXIO:
                reason = "is missing, is a link, or changed while it was read; let the agent finish first"
            case errno.EACCES | errno.EPERM:
                reason = "cannot be read; give its owner permission to (chmod u+r, u+rx for a folder)"
            case _:
                reason = f"cannot be read ({error.strerror})"
        raise SourceRefused(shown(path), reason) from None


_KINDS = (
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a character device"),
    (stat.S_ISBLK, "a block device"),
    (stat.S_ISDIR, "a folder where a file was"),
)


def _kind(mode: int) -> str:
    return next((words for is_kind, words in _KINDS if is_kind(mode)), "something unusual")


def shown(path: str) -> str:
    """The path for people: escapes where a character is invisible, and not endless."""
    text = path if path.isprintable() else path.encode("unicode_escape", "backslashreplace").decode()
    return text if len(text) <= 200 else f"{text[:200]}…"


def mebibytes(size: int) -> str:
    """
    >>> mebibytes(25 * 2**20), mebibytes(25 * 2**20 + 1)
    ('25 MiB', '26,214,401 bytes')
    """
    return f"{size >> 20:,} MiB" if size and not size % (1 << 20) else f"{size:,} bytes"
