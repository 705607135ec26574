"""A dynamic site on disk: what is read and written by its host on one side, by the keeper of apps on the other.

::

    {home}/apps/{site}.json               the wish: which release shall run besides the live one
    {home}/apps/keeper.lock               held by the keeper
    {home}/dependencies/{digest}/         what was installed, shared, never changed
    {home}/sites/{site}/live              leads to apps/{release_id}
                       /apps/{release_id}/.well-known/release.json, .app.json (plan), .state.json, s (socket)
                       /releases/{release_id}/   the program; never served as files
                       /data/             DATA_DIR
                       /logs/{release_id}.log

Marker and program are reached through the same pointer: which of them answers cannot differ. The sandbox sees neither
the socket's folder nor the plan, so nothing in there chooses where visitors are led.
"""

import os
import secrets
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from tasks.adapters.disk import is_locked
from tasks.adapters.sandbox.confinement import PATH, Confinement, base_runtime
from tasks.adapters.workspace import read_bounded, write_atomic
from tasks.domain.app import Runtime

PLAN, STATE, SOCKET = ".app.json", ".state.json", "s"
PORT = 8080
"""Each app has a loopback of its own."""

READY_S = 60.0
"""How long an app may take to listen."""

_DOORMAN = Path(__file__).parent.parent / "inside" / "doorman.py"
_TEXT_BYTES = 1 << 20
_APP_PROCESSES, _APP_MEMORY = 256, 1 << 30
_BACKLOG = 256


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """None where there is none, or something else."""
        content = read_bounded(path, _TEXT_BYTES)
        try:
            return None if content is None else cls.model_validate_json(content)
        except ValidationError:
            return None

    def write(self, path: Path) -> None:
        write_atomic(path, self.model_dump_json())


class Plan(_Stored):
    """How one release is run. ``token`` is another one when what lies on disk was put there anew.

    ``dependencies`` is the name of a folder in ``{home}/dependencies``; empty: there are none.
    """

    runtime: Runtime
    command: tuple[str, ...]
    dependencies: str
    token: str


class Wish(_Stored):
    """``candidate`` shall run besides the live release, for as long as its writer holds the site's lock.

    ``over``: nothing shall run; the keeper removes the wish once nothing does, which is its answer.
    """

    candidate: str | None = None
    nonce: str = ""
    over: bool = False


class State(_Stored):
    """What the keeper says of one release: ``identity`` (boot:pid:start) is there while it runs.

    ``ended`` counts the times that it ended without being asked to, since it was taken up.
    """

    identity: str | None = None
    wish: str = ""
    token: str = ""
    starts: int = 0
    ended: int = 0
    last_end: str = ""


def wishes_folder(home: Path) -> Path:
    return home / "apps"


def keeper_lock(home: Path) -> Path:
    return wishes_folder(home) / "keeper.lock"


def keeper_runs(home: Path) -> bool:
    return is_locked(keeper_lock(home))


def dependencies_folder(home: Path) -> Path:
    return home / "dependencies"


class AppFolder:
    """Paths of one dynamic site, and what is written there."""

    def __init__(self, home: Path, site: str) -> None:
        self.home, self.site = home, site
        self.root = home / "sites" / site
        self.wish_file = wishes_folder(home) / f"{site}.json"
        self.apps, self.releases = self.root / "apps", self.root / "releases"
        self.data, self.logs = self.root / "data", self.root / "logs"

    def plan_file(self, release_id: str) -> Path:
        return self.apps / release_id / PLAN

    def state_file(self, release_id: str) -> Path:
        return self.apps / release_id / STATE

    def log(self, release_id: str) -> Path:
        return self.logs / f"{release_id}.log"

    def live(self) -> str | None:
        try:
            return (self.root / "live").readlink().name
        except OSError:
            return None

    def wish_for(self, candidate: str | None) -> Wish:
        wish = Wish(candidate=candidate, nonce=secrets.token_hex(8))
        self.wish_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        wish.write(self.wish_file)
        return wish

    def wish_over(self) -> None:
        self.wish_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        Wish(over=True).write(self.wish_file)

    def wish(self) -> Wish | None:
        return Wish.read(self.wish_file)

    def plan(self, release_id: str) -> Plan | None:
        return Plan.read(self.plan_file(release_id))

    def state(self, release_id: str) -> State | None:
        return State.read(self.state_file(release_id))

    def states(self) -> dict[str, State]:
        files = sorted(self.apps.glob(f"*/{STATE}"))
        return {file.parent.name: state for file in files if (state := State.read(file))}

    def listen(self, release_id: str) -> socket.socket:
        """A socket that takes the place of the one before it, if any; visitors find it from this moment on."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            with _near(self.apps / release_id) as folder:
                folder.joinpath(f"{SOCKET}.new").unlink(missing_ok=True)
                listener.bind(str(folder / f"{SOCKET}.new"))
                listener.listen(_BACKLOG)
                folder.joinpath(f"{SOCKET}.new").rename(folder / SOCKET)
        except BaseException:
            listener.close()
            raise
        return listener

    def hide(self, release_id: str) -> None:
        """Let no new visitor find the way to it."""
        (self.apps / release_id / SOCKET).unlink(missing_ok=True)

    def complaint(self, release_id: str, host: str, timeout_s: float) -> str | None:
        """Why a visitor of ``/`` would not be content with this release; None when one would be."""
        try:
            with _near(self.apps / release_id) as folder, socket.socket(socket.AF_UNIX) as near:
                near.settimeout(timeout_s)
                near.connect(str(folder / SOCKET))
                connection = HTTPConnection(host)
                connection.sock = near
                connection.request("GET", "/", headers={"Connection": "close"})
                status = connection.getresponse().status
        except TimeoutError:
            return f"no answer within {timeout_s:.0f} s"
        except (OSError, HTTPException) as error:
            return f"no answer ({getattr(error, 'strerror', None) or type(error).__name__})"
        return None if status < 400 else f"HTTP {status}"

    def confinement(self, release_id: str, plan: Plan, port: int = PORT) -> Confinement:
        """The app: its release and what was installed read-only, DATA_DIR and temporary folders, no network."""
        installed = dependencies_folder(self.home) / plan.dependencies
        readonly = {**base_runtime(), "/app": self.releases / release_id, "/run/doorman.py": _DOORMAN}
        env = {"PORT": str(port), "HOST": "127.0.0.1", "DATA_DIR": "/data"}
        match plan.runtime:
            case Runtime.PYTHON:
                readonly["/dependencies"] = installed
                env |= {
                    "PATH": f"/dependencies/bin:{PATH}",
                    "VIRTUAL_ENV": "/dependencies",
                    "PYTHONUNBUFFERED": "1",
                    "PYTHONDONTWRITEBYTECODE": "1",
                }
            case Runtime.NODE:
                if plan.dependencies:
                    readonly["/node_modules"] = installed / "node_modules"
                env |= {"PATH": f"/node_modules/.bin:{PATH}", "NODE_PATH": "/node_modules", "NODE_ENV": "production"}
        command = plan.command
        if command[0] == "python":
            command = ("/dependencies/bin/python", *command[1:])
        python = os.path.realpath(sys.executable)
        doorman = (python, "-I", "-S", "/run/doorman.py", str(port), str(READY_S), "--", *command)
        return Confinement(
            command=doorman,
            readonly=readonly,
            writable={"/data": self.data},
            env=env,
            cwd="/app",
            processes=_APP_PROCESSES,
            memory=_APP_MEMORY,
        )


@contextmanager
def _near(folder: Path) -> Iterator[Path]:
    """The folder under a short name: a unix socket's path holds 107 bytes, a home may be longer."""
    handle = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield Path(f"/proc/self/fd/{handle}")
    finally:
        os.close(handle)


def last_lines(path: Path, lines: int = 20, characters: int = 2000) -> str:
    """The end of a log, without control characters: its author is a stranger, its reader a terminal."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 4 * characters))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    shown = ("".join(c if c.isprintable() else " " for c in line).rstrip() for line in text.splitlines())
    return "\n".join([line for line in shown if line][-lines:])[-characters:]
