"""Sites on this machine that a program serves: the release runs in a sandbox, behind the same site server.

This side writes what shall run and waits until it does; the keeper (`deployments.apps`) owns the processes. See
`app_folder` for what lies where.
"""

import secrets
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tasks.adapters.agents.processes import Watched, identity
from tasks.adapters.disk import make_durable, sync
from tasks.adapters.hosts.app_folder import AppFolder, Plan, State, keeper_runs, last_lines
from tasks.adapters.hosts.dependencies import Installer, Registries
from tasks.adapters.hosts.fencing import LOCK_S
from tasks.adapters.hosts.local import BLOCK, TEMPORARY, LocalHost
from tasks.adapters.packaging import files_below, marker
from tasks.adapters.sandbox import Mode
from tasks.adapters.trees import remove_tree
from tasks.adapters.workspace import read_bounded, write_atomic
from tasks.domain.app import READ, TEXT_LIMIT_BYTES, App, app_of
from tasks.domain.errors import HostingError, SourceRefused
from tasks.domain.hosting import Site
from tasks.domain.release import MARKER_PATH, Release

HEALTHY_S = 60.0
"""How long a new release may take until it answers, what it needs being installed."""

GIVE_UP_AFTER = 3
"""A program that ended so often is not waited for any longer."""

_KEEPER_S = 10.0
_STOPPED_S = 20.0
_ANSWER_S = 5.0
_LOOK_EVERY_S = 0.03


def read_app(folder: Path) -> App:
    """The app that a folder holds. Nothing in it is followed or run. Raises SourceRefused with what is wrong."""
    texts = {}
    for name in READ:
        content = read_bounded(folder / name, TEXT_LIMIT_BYTES + 1)
        if content is None:
            continue
        if len(content) > TEXT_LIMIT_BYTES:
            raise SourceRefused(name, f"is larger than {TEXT_LIMIT_BYTES >> 20} MiB")
        try:
            texts[name] = content.decode("utf-8")
        except UnicodeDecodeError:
            raise SourceRefused(name, "is not UTF-8; save it as UTF-8") from None
    return app_of(set(files_below(folder)), texts)


def complaint_about_app(source: Path) -> str | None:
    """Why ``source/`` is no program that this host runs, for the agent that is writing it; None when it is one."""
    try:
        read_app(source)
    except SourceRefused as refusal:
        return f"source/{refusal.path} {refusal.reason}"
    return None


class LocalAppHost(LocalHost):
    """A Host of dynamic sites. Activating starts the kept release, and switches once it answers.

    A new release runs beside the live one until it answers; both then share DATA_DIR. The live one is stopped after
    the switch, when its last answers are out. Data outlives every release; `teardown` alone removes it.
    """

    _served = "apps"

    def __init__(
        self,
        home: Path,
        site_name: str,
        sites_port: int,
        keep: int,
        mode: Mode,
        registries: Registries | None = None,
        lock_s: float = LOCK_S,
        healthy_s: float = HEALTHY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(home, site_name, sites_port, keep, lock_s)
        self._home, self._healthy_s, self._clock = home, healthy_s, clock
        self._app = AppFolder(home, site_name)
        self._installer = Installer(home, mode, BLOCK, registries)

    def publish(self, release: Release, fence: int = 0) -> Site:
        release_id = release.release_id
        with self._in_words(f"publishing {release_id}"), self._alone(fence):
            app = self._read(release_id, Path(release.root))
            self._lay_out()
            self._sweep_leftovers()
            before = self.live()
            served = len(release.manifest.files) + 1
            is_there = self._holds(release) and self._app.plan(release_id) is not None
            dependencies = self._installer.install(app)
            if not is_there:
                self._copy(release)
            self._describe(release_id, app, dependencies, anew=not is_there)
            self._switch_to(release_id, keep=is_there or release_id == before)
            self._sweep_old(protected={release_id, before})
        return self._site(release_id, uploaded=0 if is_there else served, kept=served if is_there else 0)

    def activate(self, release_id: str, fence: int = 0) -> Site:
        with self._in_words(f"activating {release_id}"):
            self._refuse_unknown(release_id)
            with self._alone(fence):
                self._refuse_unknown(release_id)
                app = self._read(release_id, self._releases / release_id)
                self._describe(release_id, app, self._installer.install(app), anew=False)
                self._switch_to(release_id, keep=True)
        return self._site(release_id)

    def running(self) -> dict[str, int]:
        """Process numbers by release, found by looking."""
        return {release_id: number for release_id, state in self._app.states().items() if (number := _alive(state))}

    def log(self, release_id: str) -> str:
        """What the release's program wrote last."""
        return last_lines(self._app.log(release_id), 200, 20_000)

    def _read(self, release_id: str, folder: Path) -> App:
        try:
            return read_app(folder)
        except SourceRefused as refusal:
            raise HostingError(
                BLOCK,
                f"{release_id} is no program that can be run: source/{refusal.path} {refusal.reason}",
                "what was live is live; mend source/, then start redeploy/on-demand",
            ) from None

    def _lay_out(self) -> None:
        for folder in (self._app.apps, self._app.data, self._app.logs):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        super()._lay_out()

    def _describe(self, release_id: str, app: App, dependencies: str, anew: bool) -> None:
        """What is served of the release: its marker and the way to its program; another token has it restarted."""
        folder = self._app.apps / release_id
        plan = Plan(runtime=app.runtime, command=app.command, dependencies=dependencies, token=secrets.token_hex(8))
        before = self._app.plan(release_id)
        if before is not None and not anew:
            plan = plan.model_copy(update={"token": before.token})
        if before == plan and (folder / MARKER_PATH).is_file():
            return
        if folder.is_dir():  # it may be live: what is in it is replaced file by file
            (folder / MARKER_PATH).parent.mkdir(exist_ok=True, mode=0o700)
            write_atomic(folder / MARKER_PATH, marker(release_id))
            plan.write(self._app.plan_file(release_id))
            return
        incoming = self._app.apps / f"{TEMPORARY}{secrets.token_hex(6)}"
        (incoming / MARKER_PATH).parent.mkdir(parents=True, mode=0o700)
        (incoming / MARKER_PATH).write_bytes(marker(release_id))
        plan.write(incoming / self._app.plan_file(release_id).name)
        make_durable(incoming)
        incoming.rename(folder)
        sync(self._app.apps)

    def _switch_to(self, release_id: str, keep: bool) -> None:
        """Run it, wait until it answers, serve it. What never answered is not kept, unless it was here before."""
        wish = self._app.wish_for(release_id)
        try:
            complaint = self._wait_until_healthy(release_id, wish.nonce)
            if complaint is not None:
                said = last_lines(self._app.log(release_id))
                if not keep:
                    self._forget(release_id)
                raise HostingError(
                    BLOCK,
                    f"{release_id} did not become healthy: {complaint}; what was live is live; "
                    f"its log ends:\n{said or '(nothing was written)'}\n",
                    "mend source/, then start redeploy/on-demand",
                )
            self._point_at(release_id)
        finally:
            self._app.wish_for(None)

    def _wait_until_healthy(self, release_id: str, nonce: str) -> str | None:
        start = self._clock()
        ended_before: int | None = None
        while True:
            state = self._app.state(release_id)
            waited = self._clock() - start
            if state is None or state.wish != nonce:
                complaint = "the keeper of apps has not started it"
                if waited >= _KEEPER_S and not keeper_runs(self._home):
                    return "nobody keeps apps running here; the program `apps` of the service does, start it: make up"
            else:
                ended_before = state.ended if ended_before is None else ended_before
                ended = state.ended - ended_before
                if ended >= GIVE_UP_AFTER:
                    return f"its program ended {ended} times, the last time with {state.last_end}"
                left = max(0.1, self._healthy_s - waited)
                found = self._app.complaint(release_id, self._url.removeprefix("http://"), min(_ANSWER_S, left))
                if found is None:
                    return None
                complaint = f"{found} at / after {self._clock() - start:.0f} s"
                if ended:
                    complaint += f"; its program ended {ended} times, the last time with {state.last_end}"
            if self._clock() - start >= self._healthy_s:
                return complaint
            time.sleep(_LOOK_EVERY_S)

    def _forget(self, release_id: str) -> None:
        """The keeper is told first, by the wish; what it still runs has these folders open until it ends."""
        self._app.wish_for(None)
        self._until(lambda: release_id not in self.running(), _STOPPED_S)
        for path in (self._app.apps / release_id, self._releases / release_id):
            shutil.rmtree(path, ignore_errors=True)
        self._manifest_of(release_id).unlink(missing_ok=True)

    def _sweep_leftovers(self) -> None:
        super()._sweep_leftovers()
        for leftover in self._app.apps.glob(f"{TEMPORARY}*"):
            shutil.rmtree(leftover, ignore_errors=True)

    def _sweep_old(self, protected: set[str | None]) -> None:
        super()._sweep_old(protected)
        kept = {*self.releases(), *protected}
        for entry in list(self._app.apps.iterdir()):
            if entry.name not in kept and entry.name not in self.running():
                shutil.rmtree(entry, ignore_errors=True)
        names = {f"{release_id}.log{older}" for release_id in kept for older in ("", ".1")}
        logs = sorted(self._app.logs.iterdir(), key=lambda path: path.lstat().st_mtime, reverse=True)
        for log in [log for log in logs if log.name not in names][self._keep :]:  # those of failed ones, too
            log.unlink(missing_ok=True)

    def _more_to_remove(self) -> dict[str, Path]:
        return {f"data {self._app.data}": self._app.data} if self._app.data.exists() else {}

    def _end_programs(self) -> tuple[list[str], list[str]]:
        running = {f"process {number} of {release_id}" for release_id, number in self.running().items()}
        try:
            self._app.wish_over()
        except OSError:  # a full disk keeps nobody from taking a site down; the programs are then ended below
            self._app.wish_file.unlink(missing_ok=True)
        self._until(lambda: not self._app.wish_file.exists() or not keeper_runs(self._home), _STOPPED_S)
        self._app.wish_file.unlink(missing_ok=True)
        for release_id in self.running():
            self._kill(release_id)
        left = {f"process {number} of {release_id}" for release_id, number in self.running().items()}
        with suppress(OSError):  # what is left of it is found, and named, by the look afterwards
            remove_tree(self._app.data)
        return sorted(running - left), sorted(left)

    def _kill(self, release_id: str) -> None:
        """For the case that no keeper does: the sandbox's outermost process takes all others along."""
        state = self._app.state(release_id)
        number = _alive(state) if state else None
        if state is None or number is None:
            return
        with suppress(ProcessLookupError), Watched(number) as process:
            if identity(number) == state.identity:
                process.kill()
                process.has_ended(5)

    def _until(self, done: Callable[[], bool], seconds: float) -> None:
        end = self._clock() + seconds
        while not done() and self._clock() < end:
            time.sleep(_LOOK_EVERY_S)


def _alive(state: State) -> int | None:
    """The process number, where that very process lives."""
    if state.identity is None:
        return None
    number = int(state.identity.split(":")[1])
    return number if identity(number) == state.identity else None
