"""From the agent's folder to a release: the snapshot, its headers, its number, its marker and its manifest.

A README at the top of `source/` is its builder's note to whoever works on the site: it stays there and is in no
release. A workspace that is restored from the archive gets its `source/` from a release, and so without it.

``releases/{n}/files/`` is what visitors may get, the marker included; ``releases/{n}/manifest.json`` lies beside it, so
that no host ever serves it. A release appears under its number by one rename: it is whole or it is not there.
"""

import hashlib
import json
import logging
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import ValidationError

from tasks.adapters.disk import alone_in, disk_trouble, make_durable, sync
from tasks.adapters.snapshot import FRONT_PAGE, snapshot
from tasks.adapters.workspace import Workspace, read_bounded
from tasks.domain.errors import HostingError
from tasks.domain.release import (
    MARKER_PATH,
    FileEntry,
    Limits,
    Manifest,
    Release,
    content_digest,
    headers_for,
    release_id_for,
)

_log = logging.getLogger(__name__)
_TEMPORARY = ".building-"
_MANIFEST_LIMIT_BYTES = 8 * 2**20
_NOTE = re.compile(r"readme(\.(md|markdown|txt|rst))?", re.IGNORECASE)


def marker(release_id: str) -> bytes:
    """The content of ``.well-known/release.json``."""
    return json.dumps({"release_id": release_id}).encode() + b"\n"


def package(
    workspace: Workspace,
    known: Callable[[str], int | None],
    next_number: Callable[[], int],
    limits: Limits | None = None,
    required: str | None = FRONT_PAGE,
) -> Release:
    """Package `source/`. The same content is the same release: nothing new is written for it.

    ``known`` is the record's answer to "which number has this content digest", ``next_number`` the record's first free
    one. A number that is taken on disk by a release that the record does not know (a run was killed between the two)
    is adopted when its content is the same, and passed over when not. Killed at any moment, a release is whole or not
    there; what a killed run left is swept by the next.

    Raises SourceRefused, and HostingError where the disk refuses.
    """
    releases = workspace.releases
    try:
        releases.mkdir(parents=True, exist_ok=True, mode=0o700)
        with alone_in(releases):
            _sweep(releases)
            building = releases / f"{_TEMPORARY}{secrets.token_hex(6)}"
            building.mkdir(mode=0o700)
            try:
                return _package(workspace.source, releases, building, known, next_number, limits, required)
            finally:
                shutil.rmtree(building, ignore_errors=True)
    except (ConnectionError, TimeoutError):  # the record's, by way of `known`; it says so itself
        raise
    except OSError as error:
        raise disk_trouble("releases", "packaging source/", error) from error


def load_release(releases: Path, number: int) -> Release:
    """The release as it was packaged, each file's content compared with the manifest.

    Raises HostingError where it is missing or damaged.
    """
    try:
        return _load(releases, number)
    except _Damage as damage:
        raise HostingError(
            f"release {number}", str(damage), "start redeploy/on-demand, which packages source/ again"
        ) from None
    except OSError as error:
        raise disk_trouble(f"release {number}", "reading it", error) from error


class _Damage(Exception):
    """What is wrong with a release on disk; `load_release` and `package` say what follows from it."""


def _package(
    source: Path,
    releases: Path,
    building: Path,
    known: Callable[[str], int | None],
    next_number: Callable[[], int],
    limits: Limits | None,
    required: str | None,
) -> Release:
    taken = snapshot(source, building / "files", limits, durable=False, required=required)
    if taken.left_out:
        _log.info("left out of the release count=%d first=%s", len(taken.left_out), ", ".join(taken.left_out[:5]))
    notes = [file.path for file in taken.files if _NOTE.fullmatch(file.path)]
    for note in notes:
        (building / "files" / note).unlink()
    files = tuple(
        FileEntry(path=file.path, size=file.size, sha256=file.sha256, headers=headers_for(file.path))
        for file in taken.files
        if file.path not in notes
    )
    number = known(content_digest(files))
    if number is None:
        number = _first_free(releases, next_number(), files)
    release_id = release_id_for(number, files)
    if _is_whole(releases, number, release_id):
        return _load(releases, number)
    manifest = Manifest(release_id=release_id, files=files)
    marker_file = building / "files" / MARKER_PATH
    marker_file.parent.mkdir(exist_ok=True, mode=0o700)
    for path, content in ((marker_file, marker(release_id)), (building / "manifest.json", encoded(manifest))):
        with path.open("xb") as file:
            file.write(content)
    make_durable(building)
    final = releases / str(number)
    if final.exists():
        final.rename(releases / f"{_TEMPORARY}damaged-{secrets.token_hex(6)}")
    building.rename(final)
    sync(releases)
    return Release(number=number, release_id=release_id, root=str(final / "files"), manifest=manifest)


def encoded(manifest: Manifest) -> bytes:
    return manifest.model_dump_json(indent=1).encode()


def _first_free(releases: Path, number: int, files: tuple[FileEntry, ...]) -> int:
    while (releases / str(number)).exists() and not _is_whole(releases, number, release_id_for(number, files)):
        number += 1
    return number


def _is_whole(releases: Path, number: int, release_id: str) -> bool:
    try:
        return _load(releases, number).release_id == release_id
    except _Damage:
        return False


def _load(releases: Path, number: int) -> Release:
    folder = releases / str(number)
    root = folder / "files"
    content = read_bounded(folder / "manifest.json", _MANIFEST_LIMIT_BYTES)
    if content is None:
        raise _Damage("its manifest.json is missing" if folder.is_dir() else "it is not in this workspace")
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError:
        raise _Damage("its manifest.json cannot be read") from None
    if manifest.release_id != release_id_for(number, manifest.files):
        raise _Damage(f"its manifest.json says {manifest.release_id}, which is not what it lists")
    expected = {entry.path: entry.sha256 for entry in manifest.files}
    expected[MARKER_PATH] = hashlib.sha256(marker(manifest.release_id)).hexdigest()
    for path in files_below(root):
        if path not in expected:
            raise _Damage(f"{path} is not in its manifest")
        if file_digest(root / path) != expected.pop(path):
            raise _Damage(f"{path} is not what its manifest says")
    if expected:
        raise _Damage(f"{min(expected)} is missing")
    return Release(number=number, release_id=manifest.release_id, root=str(root), manifest=manifest)


def files_below(root: Path) -> Iterator[str]:
    """Relative paths of everything below ``root`` that is not a folder, links included."""
    for folder, folders, names in os.walk(root):
        for name in (*names, *(name for name in folders if (Path(folder) / name).is_symlink())):
            yield (Path(folder) / name).relative_to(root).as_posix()


def file_digest(path: Path) -> str | None:
    """SHA-256 of a regular file; None for a link or anything else."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sweep(releases: Path) -> None:
    for leftover in releases.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(leftover, ignore_errors=True)
