"""A session's durable files in a store that outlives this machine: a folder, or whatever fsspec has a protocol for.

``{store}/{user_id}/{session_id}/`` holds ``releases/{release_id}.tar.gz``, and the session's few texts, its report and
its pictures under their workspace paths. What comes out of the store is checked as if a stranger had written it: paths,
kinds, sizes, hashes.
"""

import gzip
import io
import os
import re
import secrets
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast
from uuid import UUID

import fsspec  # type: ignore[import-untyped]  # it ships no types
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]  # it ships no types

from tasks.adapters.disk import alone_in, make_durable, sync
from tasks.adapters.packaging import encoded, load_release
from tasks.adapters.snapshot import complaint_about_name
from tasks.adapters.workspace import Workspace, read_bounded, write_atomic
from tasks.domain.errors import HostingError
from tasks.domain.hosting import Receipt
from tasks.domain.release import MARKER_PATH, Limits, Release

DURABLE = {
    "requirements.json": 2**20,
    "requirements.md": 2**20,
    "output/plan.md": 2**20,
    "output/verification.md": 2**20,
    "deployment/tests/e2e_test.py": 2**20,
}
"""The texts that are kept, by path in the workspace, each with its limit in bytes."""

REPORT, RESULTS, REPORT_BYTES = "deployment/tests/report.html", "deployment/tests/results.json", 32 * 2**20
PICTURES, PICTURES_AT_MOST, PICTURE_BYTES = "deployment/screenshots", 40, 32 * 2**20
PICTURE = re.compile(r"(desktop|phone)(-[a-z0-9-]{1,100})?\.jpg")
"""What people look at when a workspace is gone. A redeploy makes it anew, so it is not restored."""

_SESSION_ID = re.compile(r"sess[0-9]{14}(-[0-9]{1,6})?")
_ARCHIVED = re.compile(r"(?P<release_id>r(?P<number>[1-9][0-9]{0,8})-[0-9a-f]{12})\.tar\.gz")
_TEMPORARY = ".restoring-"
_MANIFEST_LIMIT_BYTES = 8 * 2**20
_TAR_OVERHEAD_BYTES = 4 * 2**10  # per entry: header, a long name's own entry, padding
_CHUNK = 1 << 20


class Archive:
    """``store_url`` is a path or an fsspec URL (``file://``, ``s3://``, ``abfs://``, ``memory://``).

    Saving the same release twice writes nothing the second time. A reader sees an object whole or not at all: object
    stores promise it of a PUT, in a folder it is a rename. Raises HostingError where the store refuses.
    """

    def __init__(self, store_url: str) -> None:
        self._url = store_url
        with self._in_words("opening it"):
            filesystem, root = fsspec.core.url_to_fs(store_url)
        self._files: Any = filesystem
        self._root = str(root).rstrip("/")
        self._is_folder = isinstance(filesystem, LocalFileSystem)

    def save_release(self, user_id: str, session_id: str, release: Release) -> None:
        """Pack a release of ours, manifest first; the bytes depend on its content alone."""
        key = f"{self._session(user_id, session_id)}/releases/{release.release_id}.tar.gz"
        with self._in_words(f"saving {release.release_id}"):
            if self._files.exists(key):
                return
            self._put(key, lambda output: _pack(release, output))

    def remove_session(self, user_id: str, session_id: str) -> Receipt:
        """Remove everything that is kept of a session, and look whether it is gone."""
        key = self._session(user_id, session_id)
        with self._in_words("removing a session"):
            if not self._files.exists(key):
                return Receipt(removed=())
            self._files.rm(key, recursive=True)
            self._files.invalidate_cache()
            left = [str(path) for path in self._files.find(key)] if self._files.exists(key) else []
        name = f"archive {session_id}"
        return Receipt(removed=() if left else (name,), left=tuple(left))

    def save_file(self, user_id: str, session_id: str, relative: str, data: bytes) -> None:
        """Keep one text of the session; an earlier one is replaced."""
        if relative not in DURABLE:
            raise ValueError(f"{relative!r} is not kept; kept are: {', '.join(DURABLE)}")
        if len(data) > DURABLE[relative]:
            raise ValueError(f"{relative} has {len(data):,} bytes; kept are at most {DURABLE[relative]:,}")
        key = f"{self._session(user_id, session_id)}/{relative}"
        with self._in_words(f"saving {relative}"):
            self._put(key, lambda output: output.write(data))

    def save_texts(self, user_id: str, session_id: str, workspace: Workspace) -> tuple[str, ...]:
        """Keep what the workspace has of the durable texts, read bounded and without following links; the paths."""
        saved = []
        for relative, limit in DURABLE.items():
            data = read_bounded(workspace.root / relative, limit)
            if data is not None:
                self.save_file(user_id, session_id, relative, data)
                saved.append(relative)
        return tuple(saved)

    def save_views(self, user_id: str, session_id: str, workspace: Workspace) -> tuple[str, ...]:
        """Keep the newest report and pictures; pictures that the workspace has no more go. The paths."""
        session = self._session(user_id, session_id)
        names = [name for name in sorted(_names(workspace.screenshots)) if PICTURE.fullmatch(name)][:PICTURES_AT_MOST]
        wanted = {REPORT: REPORT_BYTES, RESULTS: REPORT_BYTES} | {f"{PICTURES}/{name}": PICTURE_BYTES for name in names}
        saved = []
        with self._in_words("saving report and pictures"):
            for relative, limit in wanted.items():
                data = read_bounded(workspace.root / relative, limit)
                if data is not None:
                    self._put(f"{session}/{relative}", lambda output, data=data: output.write(data))  # type: ignore[misc]
                    saved.append(relative)
            self._files.invalidate_cache()
            folder = f"{session}/{PICTURES}"
            kept = self._files.ls(folder, detail=False) if self._files.exists(folder) else []
            for name in (str(path).rpartition("/")[2] for path in kept):
                if PICTURE.fullmatch(name) and f"{PICTURES}/{name}" not in saved:
                    self._files.rm(f"{folder}/{name}")
        return tuple(saved)

    def restore(self, user_id: str, session_id: str, workspace: Workspace, newest: int = 5) -> bool:
        """Bring what is missing in the workspace from the store; whether the store knows the session.

        What is there stays. Of the releases, the newest few come; `source/`, where it is empty, becomes the files of
        the last, so that a redeploy packages the same release. A release counts only when every hash of its manifest
        holds. Killed at any moment, the next call goes on.
        """
        session = self._session(user_id, session_id)
        with self._in_words(f"restoring {session_id}"):
            self._files.invalidate_cache()
            if not self._files.exists(session):
                return False
            workspace.lay_out()
            for relative, limit in DURABLE.items():
                self._restore_text(f"{session}/{relative}", workspace.root / relative, limit)
            archived = self._archived(session)[-newest:]
            with alone_in(workspace.releases):
                for leftover in workspace.releases.glob(f"{_TEMPORARY}*"):
                    shutil.rmtree(leftover, ignore_errors=True)
                for number, key in archived:
                    if not (workspace.releases / str(number)).exists():
                        self._restore_release(key, number, workspace.releases)
                if archived and not any(workspace.source.iterdir()):
                    _refill(workspace, load_release(workspace.releases, archived[-1][0]))
        return True

    def _session(self, user_id: str, session_id: str) -> str:
        if str(UUID(user_id)) != user_id or not _SESSION_ID.fullmatch(session_id):
            raise ValueError(f"{user_id!r}, {session_id!r}: expected a user's GUID and a session_id")
        return f"{self._root}/{user_id}/{session_id}"

    def _archived(self, session: str) -> list[tuple[int, str]]:
        """Numbers and keys of the archived releases, oldest first."""
        folder = f"{session}/releases"
        if not self._files.exists(folder):
            return []
        names = [str(path).rpartition("/")[2] for path in self._files.ls(folder, detail=False)]
        matches = [match for name in names if (match := _ARCHIVED.fullmatch(name))]
        return sorted((int(match["number"]), f"{folder}/{match[0]}") for match in matches)

    def _restore_text(self, key: str, target: Path, limit: int) -> None:
        if os.path.lexists(target) or not self._files.exists(key):
            return
        with self._files.open(key, "rb") as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise _Damage(f"{target.name} has more than {limit:,} bytes")
        write_atomic(target, data)

    def _restore_release(self, key: str, number: int, releases: Path) -> None:
        """Unpack aside, verify there, then give it its number."""
        name = key.rpartition("/")[2]
        aside = releases / f"{_TEMPORARY}{secrets.token_hex(6)}"
        incoming = aside / str(number)
        incoming.mkdir(parents=True, mode=0o700)
        try:
            with self._files.open(key, "rb") as packed:
                _unpack(packed, incoming)
            restored = load_release(aside, number)
            if name != f"{restored.release_id}.tar.gz":
                raise _Damage(f"{name} holds {restored.release_id}")
            make_durable(incoming)
            incoming.rename(releases / str(number))
            sync(releases)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _put(self, key: str, write: Callable[[BinaryIO], object]) -> None:
        folder, _, name = key.rpartition("/")
        if not self._is_folder:
            with tempfile.TemporaryFile() as file:
                write(cast(BinaryIO, file))
                file.seek(0)
                with self._files.open(key, "wb") as output:
                    shutil.copyfileobj(file, output, _CHUNK)
            return
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True, mode=0o700)
        with alone_in(target):
            for leftover in target.glob(f".{name}.*"):
                leftover.unlink()
            temporary = target / f".{name}.{secrets.token_hex(6)}"
            try:
                with temporary.open("xb") as output:
                    write(output)
                    output.flush()
                    os.fsync(output.fileno())
                temporary.rename(target / name)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
            sync(target)

    @contextmanager
    def _in_words(self, doing: str) -> Iterator[None]:
        """Each protocol of fsspec raises errors of its own library; all of them become one."""
        try:
            yield
        except HostingError as error:
            raise HostingError(self._name, f"{error.host}: {error.complaint} ({doing})", _MOVE) from None
        except _Damage as damage:
            raise HostingError(self._name, f"{damage} ({doing})", _MOVE) from None
        except (ConnectionError, TimeoutError) as error:
            raise HostingError(self._name, f"no connection ({doing}): {error}", _MOVE, True) from error
        except ImportError as error:
            raise HostingError(self._name, str(error), "install it, or set TMUX_BUILDER_STORE to a folder") from None
        except Exception as error:
            raise HostingError(self._name, f"{type(error).__name__}: {error} ({doing})", _MOVE) from error

    @property
    def _name(self) -> str:
        """The store for people: never the options, credentials or query that its URL may carry."""
        protocol, separator, rest = self._url.partition("://")
        return (
            f"archive {protocol}://{rest.rpartition('@')[2].partition('?')[0]}" if separator else f"archive {protocol}"
        )


_MOVE = "look at TMUX_BUILDER_STORE and what it points to, then start redeploy/on-demand"


class _Damage(Exception):
    """What is in the store is not what was put there."""


def folder_of(store_url: str) -> Path | None:
    """Where the store is a folder that needs no credential; None for a store of any other kind.

    >>> folder_of("/srv/store"), folder_of("file:///srv/store"), folder_of("s3://bucket/x")
    (PosixPath('/srv/store'), PosixPath('/srv/store'), None)
    """
    if "::" in store_url or ("://" in store_url and not store_url.startswith(("file://", "local://"))):
        return None
    return Path(LocalFileSystem._strip_protocol(store_url))


def _names(folder: Path) -> list[str]:
    try:
        return [path.name for path in folder.iterdir()]
    except OSError:
        return []


def _pack(release: Release, output: BinaryIO) -> None:
    root = Path(release.root)
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=output, compresslevel=6, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        manifest = encoded(release.manifest)
        _add(tar, "manifest.json", io.BytesIO(manifest), len(manifest))
        for path in (*(entry.path for entry in release.manifest.files), MARKER_PATH):
            handle = os.open(root / path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(handle, "rb") as file:
                _add(tar, f"files/{path}", file, os.fstat(handle).st_size)


def _add(tar: tarfile.TarFile, name: str, content: BinaryIO, size: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o600
    tar.addfile(entry, content)


def _unpack(packed: BinaryIO, target: Path) -> None:
    """Unpack one release of ours; what no release of ours can hold is refused."""
    limits = Limits()
    allowed = limits.total_bytes + _MANIFEST_LIMIT_BYTES + limits.files * _TAR_OVERHEAD_BYTES
    with (
        gzip.GzipFile(fileobj=packed, mode="rb") as plain,
        tarfile.open(fileobj=_Bounded(cast(BinaryIO, plain), allowed), mode="r|") as tar,
    ):
        for entry in tar:
            limit = _MANIFEST_LIMIT_BYTES if entry.name == "manifest.json" else limits.file_bytes
            if complaint := _complaint_about(entry, limits, limit):
                raise _Damage(f"the entry {entry.name[:120]!a} {complaint}")
            tarfile.data_filter(entry, str(target))
            content = tar.extractfile(entry)
            path = target / entry.name
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with path.open("xb") as output:
                if content is not None:
                    shutil.copyfileobj(content, output, _CHUNK)


def _complaint_about(entry: tarfile.TarInfo, limits: Limits, limit: int) -> str | None:
    parts = PurePosixPath(entry.name).parts
    if not entry.isreg() or entry.issparse():
        return "is not a regular file"
    if entry.size > limit:
        return f"has {entry.size:,} bytes; allowed are {limit:,}"
    if "/".join(parts) != entry.name or ".." in parts or entry.name.startswith("/"):
        return "is not a plain relative path"
    if entry.name != "manifest.json" and (parts[0] != "files" or not 2 <= len(parts) <= limits.depth + 3):
        return "belongs to no release"
    return next((complaint for part in parts if (complaint := complaint_about_name(part, limits))), None)


class _Bounded(io.RawIOBase):
    """Reads on until the limit: what a small archive grows to is not for its author to decide."""

    def __init__(self, file: BinaryIO, limit: int) -> None:
        super().__init__()
        self._file, self._left = file, limit

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size if 0 <= size <= _CHUNK else _CHUNK)
        self._left -= len(data)
        if self._left < 0:
            raise _Damage("it unpacks to more than a release may hold")
        return data


def _refill(workspace: Workspace, release: Release) -> None:
    """Give the agent's folder the release's files in one step, without the marker; they are its own again, to write."""
    aside = workspace.releases / f"{_TEMPORARY}{secrets.token_hex(6)}"
    aside.mkdir(mode=0o700)
    try:
        for entry in release.manifest.files:
            target = aside / entry.path
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            shutil.copyfile(Path(release.root) / entry.path, target)
        make_durable(aside)
        aside.rename(workspace.source)  # rename(2) takes the place of an empty folder
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    sync(workspace.root)
