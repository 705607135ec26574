"""An execution's files, read without following any link, and sent so that no browser runs what is in them.

They are in its workspace, where this machine has it, and in the archive, where that is a folder: a workspace may be
gone, or older than what another machine has made. This process holds no key to an archive that is elsewhere.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath

from fastapi import Response

from deployments.front.problems import Problem
from deployments.front.service import Front
from tasks.adapters.archive import PICTURE, PICTURES, REPORT, RESULTS
from tasks.adapters.workspace import Workspace
from tasks.domain.pipeline import Step

__all__ = ["PICTURE", "PICTURES", "PLAN", "REPORT", "RESULTS", "Shelf"]

LIMIT = 32 * 2**20
LISTED = 200
"""Names of pictures that are looked at."""

PLAN = "output/plan.md"

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_HARMLESS = {
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


@contextmanager
def opened(root: Path, relative: str, flags: int) -> Iterator[int]:
    """Raises OSError where a link stands anywhere below ``root``."""
    *folders, name = PurePosixPath(relative).parts
    handles = []
    try:
        handles.append(os.open(root, _FOLDER))
        for folder in folders:
            handles.append(os.open(folder, _FOLDER, dir_fd=handles[-1]))
        handles.append(os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=handles[-1]))
        yield handles[-1]
    finally:
        for handle in handles:
            os.close(handle)


@contextmanager
def plain_file(root: Path, relative: str, limit: int) -> Iterator[tuple[int, int]]:
    """Handle, and when it was written (ns). Raises OSError for what is no regular file of its own, or too long.

    The moment is that of the inode's last change: nobody can set it, as an agent can set the one of the content.
    """
    with opened(root, relative, os.O_RDONLY | os.O_NONBLOCK) as handle:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or status.st_size > limit:
            raise OSError(f"{relative} is no plain file of at most {limit} bytes")
        yield handle, status.st_ctime_ns


@dataclass(frozen=True)
class Shelf:
    """Where an execution's files may be. Each place: below what no link is followed, and the session's folder there."""

    places: tuple[tuple[Path, str], ...]
    elsewhere: bool
    """The workspace is not on this machine, and the archive is one that this process cannot read."""

    @classmethod
    def of(cls, front: Front, execution_id: str) -> "Shelf":
        record = front.registry.execution(execution_id)
        here = Workspace.of(front.settings.home, record.user_id, record.session_id).root
        archive = front.settings.archive
        places = [(here, "")]
        if archive is not None:
            places.append((archive, f"{record.user_id}/{record.session_id}/"))
        away = archive is None and not here.is_dir()
        return cls(tuple(places), away and front.registry.ever_did(execution_id, Step.CREATE_SESSION))

    def written(self, relative: str) -> int | None:
        """When the newest of them was written, in ns; None where there is none."""
        moments = [moment for moment, _root, _path in self._found(relative)]
        return max(moments, default=None)

    def read(self, relative: str, limit: int = LIMIT) -> bytes | None:
        """The newest of them; None where there is none."""
        for _moment, root, path in sorted(self._found(relative, limit), reverse=True):
            with suppress(OSError), plain_file(root, path, limit) as (handle, _changed):
                data = bytearray()
                while len(data) <= limit and (chunk := os.read(handle, limit + 1 - len(data))):
                    data += chunk
                if len(data) <= limit:
                    return bytes(data)
        return None

    def pictures(self) -> list[str]:
        """Those of the first place that has any: what the workspace has dropped may still be in the archive."""
        for root, session in self.places:
            folder, names = session + PICTURES, list[str]()
            with suppress(OSError), opened(root, folder, _FOLDER) as handle, os.scandir(handle) as entries:
                names = [entry.name for entry in islice(entries, LISTED) if PICTURE.fullmatch(entry.name)]
            if found := sorted(name for name in names if self.written(f"{PICTURES}/{name}")):
                return found
        return []

    def _found(self, relative: str, limit: int = LIMIT) -> list[tuple[int, Path, str]]:
        found = []
        for root, session in self.places:
            with suppress(OSError), plain_file(root, session + relative, limit) as (_handle, changed):
                found.append((changed, root, session + relative))
        return found

    def sent(self, relative: str, kind: str) -> Response:
        """Problem 404 where it is nowhere, or where this process cannot look."""
        data = self.read(relative)
        if data is None:
            raise self.lacking()
        name = PurePosixPath(relative).name
        return Response(
            data, media_type=kind, headers={**_HARMLESS, "Content-Disposition": f'attachment; filename="{name}"'}
        )

    def lacking(self) -> Problem:
        if self.elsewhere:
            words = "its files are not on this machine, and the archive is one that the front door has no key to"
            return Problem(404, f"{words}; publish it again, or ask the operator for them")
        return Problem(404, "there is no such file yet; the list of artefacts says what there is")
