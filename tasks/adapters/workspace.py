"""A session's folder on disk. What the agent may write is read as hostile: bounded, regular files, no links followed.

Our own writes are atomic: temporary file, fsync, rename, fsync of the folder.
"""

import os
import secrets
import stat
from pathlib import Path

from tasks.domain.agent import STATUS_LIMIT_BYTES

AGENT_WRITABLE = ("output", "source", "deployment/tests")
"""The folders that the agent's sandbox may write to; the rest of the workspace is read-only there."""

_FOLDERS = (
    *("prompts", "docs", "output", "source", "releases"),
    *("deployment", "deployment/tests", "deployment/screenshots"),
)


def write_atomic(path: Path, data: str | bytes, mode: int = 0o600) -> None:
    """Replace ``path`` in one step; a reader sees the old content or the new, and a power cut keeps one of them.

    The parent must exist. A link at ``path`` is replaced, not followed.
    """
    payload = data.encode() if isinstance(data, str) else data
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    temporary = f".{path.name}.{secrets.token_hex(6)}"
    try:
        handle = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=folder
        )
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            os.unlink(temporary, dir_fd=folder)
            raise
        os.fsync(folder)
    finally:
        os.close(folder)


def read_bounded(path: Path, limit: int) -> bytes | None:
    """The content of a regular file of at most ``limit`` bytes; None where there is no such file.

    Neither a link, a FIFO, a device, a folder nor a file that is too long counts, and none of them makes it wait.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        data = bytearray()
        while len(data) <= limit and (chunk := os.read(handle, limit + 1 - len(data))):
            data += chunk
    finally:
        os.close(handle)
    return bytes(data) if len(data) <= limit else None


class Workspace:
    """Paths and files of one session. ``root`` is ``users/{user_id}/sessions/{session_id}`` under the home."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    def of(cls, home: Path, user_id: str, session_id: str) -> "Workspace":
        return cls(home / "users" / user_id / "sessions" / session_id)

    def lay_out(self) -> None:
        """Create every folder; what is there already stays."""
        for folder in (self.root.parent.parent, self.root.parent, self.root, *map(self.root.joinpath, _FOLDERS)):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def is_bare(self) -> bool:
        """Whether it holds neither a source nor a release: it was never here, or a restoring was broken off."""
        return not any(folder.is_dir() and any(folder.iterdir()) for folder in (self.source, self.releases))

    @property
    def source(self) -> Path:
        return self.root / "source"

    @property
    def plan(self) -> Path:
        return self.root / "output" / "plan.md"

    @property
    def status(self) -> Path:
        return self.root / "output" / "status.txt"

    @property
    def suite(self) -> Path:
        return self.root / "deployment" / "tests" / "e2e_test.py"

    @property
    def report(self) -> Path:
        return self.root / "deployment" / "tests" / "report.html"

    @property
    def results(self) -> Path:
        return self.root / "deployment" / "tests" / "results.json"

    @property
    def screenshots(self) -> Path:
        return self.root / "deployment" / "screenshots"

    @property
    def releases(self) -> Path:
        return self.root / "releases"

    @property
    def current_prompt(self) -> Path:
        return self.root / "prompts" / "current.txt"

    def write_prompt(self, phase: str, text: str) -> Path:
        """File the prompt under the next number and make it the current one."""
        number = 1 + len(list((self.root / "prompts").glob("[0-9][0-9]-*.txt")))
        numbered = self.root / "prompts" / f"{number:02d}-{phase}.txt"
        write_atomic(numbered, text)
        write_atomic(self.current_prompt, text)
        return numbered

    def rotate_status(self) -> None:
        """Put the signals of earlier prompts aside, so that only those since now are seen.

        One earlier file is kept, as ``status.previous.txt``, for people who look.
        """
        folder = os.open(self.status.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            try:
                os.rename("status.txt", "status.previous.txt", src_dir_fd=folder, dst_dir_fd=folder)
            except (IsADirectoryError, NotADirectoryError):  # the agent put a folder in the way
                os.rename("status.txt", f"status.{secrets.token_hex(6)}.txt", src_dir_fd=folder, dst_dir_fd=folder)
            os.fsync(folder)
        except FileNotFoundError:
            return
        finally:
            os.close(folder)

    def read_status(self) -> bytes:
        return read_bounded(self.status, STATUS_LIMIT_BYTES) or b""
