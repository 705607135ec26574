"""Files of a workspace, read without following any link, and sent so that no browser runs what is in them."""

import os
import re
import stat
from pathlib import Path

from fastapi import Response

from deployments.front.problems import Problem
from deployments.front.service import Front
from tasks.adapters.workspace import Workspace

LIMIT = 32 * 2**20

PICTURE = re.compile(r"(desktop|phone)(-[a-z0-9-]{1,100})?\.jpg")

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_HARMLESS = {
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


def workspace_of(front: Front, execution_id: str) -> Workspace:
    record = front.registry.execution(execution_id)
    return Workspace.of(front.settings.home, record.user_id, record.session_id)


def read_inside(root: Path, path: Path, limit: int = LIMIT) -> bytes | None:
    """The content of a regular file below ``root``; None where there is none, or a link stands anywhere on the way."""
    *folders, name = path.relative_to(root).parts
    opened = []
    try:
        opened.append(os.open(root, _FOLDER))
        for folder in folders:
            opened.append(os.open(folder, _FOLDER, dir_fd=opened[-1]))
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=opened[-1])
        opened.append(file)
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or status.st_size > limit:
            return None
        data = bytearray()
        while len(data) <= limit and (chunk := os.read(file, limit + 1 - len(data))):
            data += chunk
        return bytes(data) if len(data) <= limit else None
    except OSError:
        return None
    finally:
        for handle in opened:
            os.close(handle)


def pictures(workspace: Workspace) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(workspace.screenshots) if PICTURE.fullmatch(entry.name))
    except OSError:
        return []


def sent(workspace: Workspace, path: Path, kind: str) -> Response:
    """Problem 404 where it is not there, or not on this machine."""
    data = read_inside(workspace.root, path)
    if data is None:
        raise Problem(404, "there is no such file yet; the list of artefacts says what there is")
    headers = {**_HARMLESS, "Content-Disposition": f'attachment; filename="{path.name}"'}
    return Response(data, media_type=kind, headers=headers)
