"""Keeps the programs of dynamic sites running: ``python -m deployments.apps``.

What shall run is on disk (`tasks.adapters.hosts.app_folder`): the live release of each site that has a wish file, and
the wish's candidate for as long as its writer holds the site's lock. Each runs in a sandbox that ends with this
process, by the kernel's hand; what an earlier keeper recorded and left is ended before anything is started.

One thread, no polling: it sleeps until a program ends or writes, a wish changes, or a pause is over. A program that
ends is started again after 1 s, 2 s, 4 s … 60 s, and after 1 s again once it has run for a minute.
"""

import ctypes
import fcntl
import hashlib
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from blocks.settings import settings
from deployments.processes import Process
from tasks.adapters.hosts.app_folder import PORT, AppFolder, Plan, State, Wish, keeper_lock, wishes_folder
from tasks.adapters.hosts.fencing import Fence
from tasks.adapters.hosts.local import BLOCK
from tasks.adapters.sandbox import Mode, argv, self_test
from tasks.adapters.sandbox.cgroup import Group, sweep
from tasks.domain.errors import SandboxUnavailable
from tasks.domain.ids import SITE_NAME

FIRST_PAUSE_S, LONGEST_PAUSE_S, PROVEN_S = 1.0, 60.0, 60.0

QUEUE_S = 2.0
"""In a pause up to this long visitors wait in the socket's queue, which is held here."""

NET_S = 2.0
"""How long a change may stay unnoticed where the kernel tells of none, and a candidate run whose writer was killed."""

STOP_S = 15.0
"""How long a program has for its last answers; `doorman.py` ends it well before."""

MEMORY_BYTES, PROCESSES = 512 << 20, 256
"""What one program and all that it starts may take."""

LOG_BYTES = 1 << 20
"""One older log of that size is kept beside."""

_KILLED_S = 5.0
_LOCK_LOOK_S = 0.1
_CHUNK = 1 << 16
_GATE = """
import os, sys
gate = int(sys.argv[1])
os.read(gate, 1) or sys.exit("the keeper ended")
os.close(gate)
os.execv(sys.argv[2], sys.argv[2:])
"""
_IN_MODIFY = 0x00000002 | 0x00000008 | 0x00000040 | 0x00000080 | 0x00000200  # inotify(7): written, moved, removed
log = logging.getLogger("apps")


class Log:
    """What one release's program writes; bounded by one rename."""

    def __init__(self, path: Path, limit: int = LOG_BYTES) -> None:
        self._path, self._limit = path, limit

    def write(self, data: bytes) -> None:
        """A full disk or a folder that has been removed costs the line, not the program."""
        with suppress(OSError):
            handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "ab") as file:
                file.write(data)
                full = file.tell() >= self._limit
            if full:
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))

    def note(self, text: str) -> None:
        self.write(f"[keeper {time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())}Z] {text}\n".encode())


def pause_after(failures: int) -> float:
    """
    >>> [pause_after(failures) for failures in (1, 2, 3, 6, 7, 2000)]
    [1.0, 2.0, 4.0, 32.0, 60.0, 60.0]
    """
    return float(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(failures - 1, 10)))


class App:
    """One release of one site: its process, if any, and when to start the next."""

    def __init__(self, folder: AppFolder, release_id: str, mode: Mode, clock: Callable[[], float]) -> None:
        self.folder, self.release_id = folder, release_id
        self.log = Log(folder.log(release_id))
        self.stopping_until: float | None = None
        self.next_start: float | None = clock()
        self.wish = ""
        self._mode, self._clock = mode, clock
        self._child: subprocess.Popen[bytes] | None = None
        self._process: Process | None = None
        self._output: int | None = None
        self._ended_handle: int | None = None
        self._started_at, self._failures, self._starts, self._ends = 0.0, 0, 0, 0
        self._token, self._last_end = "", ""
        self._group: Group | None = None
        self._listener: socket.socket | None = None

    @property
    def running(self) -> bool:
        return self._child is not None

    @property
    def handles(self) -> Iterator[int]:
        return (handle for handle in (self._output, self._ended_handle) if handle is not None)

    def stale(self, plan: Plan) -> bool:
        """Whether what runs is not what lies on disk any more."""
        return self.running and self._token != plan.token

    def start(self) -> None:
        self.next_start = None
        plan = self.folder.plan(self.release_id)
        try:
            if plan is None:
                raise OSError("its plan is missing or cannot be read")
            self._start(plan)
        except OSError as error:
            self.log.note(f"cannot start: {error}")
            log.warning("not started site=%s release=%s: %s", self.folder.site, self.release_id, error)
            self._close()
            self._failed(f"no start: {error}"[:300])

    def _start(self, plan: Plan) -> None:
        self._close()
        self._starts += 1
        self._started_at, self._token = self._clock(), plan.token
        port = PORT if self._mode == "bwrap" else _free_port()
        command = argv(self.folder.confinement(self.release_id, plan, port), self._mode)
        if self._mode == "unsafe-none":
            command = ["/usr/bin/setpriv", "--pdeathsig", "KILL", "--", *command]
        gate, opened = os.pipe()
        self._output, output = os.pipe()
        os.set_blocking(self._output, False)
        try:
            self._listener = self._listener or self.folder.listen(self.release_id)
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _GATE, str(gate), *command],
                stdin=self._listener.fileno(),
                stdout=output,
                stderr=output,
                pass_fds=(gate,),
                start_new_session=True,
                env={},
            )
            self._process = Process.of(self._child.pid)
            if self._mode == "bwrap":
                name = f"{group_prefix(self.folder.home)}{self.folder.site}-{self.release_id}"
                self._group = Group(name, MEMORY_BYTES, PROCESSES)
                self._group.add(self._child.pid)
            self._ended_handle = os.pidfd_open(self._child.pid)
            self.tell()  # before the gate opens: a keeper that is killed leaves nothing that it did not record
            os.write(opened, b"g")
        except OSError:
            if self._child is not None:
                self._child.kill()
                self._child.wait()
                self._child = self._process = None
            raise
        finally:
            for handle in (gate, opened, output):
                os.close(handle)
        self.log.note(f"started release={self.release_id} pid={self._child.pid} runtime={plan.runtime}")
        log.info("started site=%s release=%s pid=%d", self.folder.site, self.release_id, self._child.pid)

    def read(self) -> None:
        """Take what the program wrote: one bounded piece, so that a flood keeps nobody else waiting."""
        if self._output is None:
            return
        with suppress(BlockingIOError):
            if data := os.read(self._output, _CHUNK):
                self.log.write(data)
                return
            os.close(self._output)
            self._output = None

    def look(self) -> bool:
        """Notice the program's end, and say when it starts again. True where it had been asked to end."""
        if self._child is None or (code := self._child.poll()) is None:
            return False
        for _ in range(16):
            self.read()
        self._close()
        how = f"exit code {code}" if code >= 0 else f"signal {-code}"
        if self.stopping_until is not None:
            self.log.note(f"stopped ({how})")
            log.info("stopped site=%s release=%s", self.folder.site, self.release_id)
            return True
        if self._clock() - self._started_at >= PROVEN_S:
            self._failures = 0
        self._ends += 1
        self._failed(how)
        return False

    def _failed(self, how: str) -> None:
        self._failures += 1
        self._last_end = how
        pause = pause_after(self._failures)
        if pause > QUEUE_S:
            self._turn_away()
        self.next_start = self._clock() + pause
        self.log.note(f"ended with {how}; starts again in {pause:.0f} s")
        log.warning("ended site=%s release=%s how=%s pause=%.0f", self.folder.site, self.release_id, how, pause)
        self.tell()

    def stop(self) -> None:
        """Ask for the end; visitors find the way to it no more."""
        self.next_start = None
        self.stopping_until = self._clock() + STOP_S
        self._turn_away()
        self.tell()
        if self._process is not None and not _ask(self._process, self._mode):
            self.kill()

    def _turn_away(self) -> None:
        """From here on visitors are told at once that nobody is there."""
        with suppress(OSError):
            self.folder.hide(self.release_id)
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def kill(self) -> None:
        if self._process is not None:
            self._process.send(signal.SIGKILL)

    def tell(self) -> None:
        process = self._process
        identity = f"{process.boot}:{process.pid}:{process.started}" if process else None
        state = State(
            identity=identity,
            wish=self.wish if self.stopping_until is None else "",
            token=self._token,
            starts=self._starts,
            ended=self._ends,
            last_end=self._last_end,
        )
        try:
            state.write(self.folder.state_file(self.release_id))
        except OSError:
            if self.folder.plan(self.release_id) is not None:  # else the release has been removed
                raise

    def gone(self) -> None:
        """The last word about a release that nobody wants: what says that it runs is removed."""
        with suppress(OSError):
            self.folder.state_file(self.release_id).unlink(missing_ok=True)

    def _close(self) -> None:
        for handle in self.handles:
            os.close(handle)
        self._output = self._ended_handle = None
        self._child = self._process = None
        if self._group is not None:
            self._group.remove()
            self._group = None


def group_prefix(home: Path) -> str:
    """Names of control groups, apart from those of other homes."""
    return f"tmux-builder-{hashlib.sha256(bytes(home)).hexdigest()[:8]}-"


def _ask(process: Process, mode: Mode) -> bool:
    """SIGTERM to the doorman, the first program inside; the sandbox's own processes hear none."""
    doorman: Process | None = process
    for _ in range(2 if mode == "bwrap" else 0):
        doorman = _first_child(doorman) if doorman else None
    return doorman is not None and process.alive() and doorman.send(signal.SIGTERM)


def _first_child(parent: Process) -> Process | None:
    try:
        children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    except OSError:
        return None
    found = [child for number in children if (child := Process.of(int(number)))]
    return min(found, key=lambda child: child.started, default=None)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Keeper:
    """All apps below one home."""

    def __init__(self, home: Path, mode: Mode, clock: Callable[[], float] = time.monotonic) -> None:
        self._home, self._mode, self._clock = home, mode, clock
        self._apps: dict[tuple[str, str], App] = {}
        self._woken, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._signs = [self._woken]
        self._net_s = NET_S
        self._stop = False
        self._look_at = clock()

    def wake(self, *_signal: object) -> None:
        """End the work: safe in a signal's handler."""
        self._stop = True
        with suppress(BlockingIOError):
            os.write(self._waker, b"w")

    def run(self) -> None:
        """Work until `wake`; then every program has ended."""
        wishes_folder(self._home).mkdir(parents=True, exist_ok=True, mode=0o700)
        with keeper_lock(self._home).open("w") as lock:
            if not self._alone(lock.fileno()):
                return
            self._end_left_behind()
            self._notify()
            try:
                while not self._stop:
                    if self._clock() >= self._look_at:
                        self._reconcile()
                    self._wait()
            finally:
                self._end_all()

    def _alone(self, lock: int) -> bool:
        """Wait for the end of an older keeper; False where this one is asked to end meanwhile."""
        while not self._stop:
            with suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            select.select([self._woken], [], [], _LOCK_LOOK_S)
        return False

    def _end_left_behind(self) -> None:
        """Programs of a keeper that was killed: the kernel ends them with it, but for a moment at their start."""
        left = []
        for file in (self._home / "sites").glob("*/apps/*/.state.json"):
            state = State.read(file)
            if state is not None and state.identity is not None:
                boot, number, started = state.identity.split(":")
                left.append(Process(int(number), int(started), boot))
            file.unlink(missing_ok=True)
        alive = [process for process in left if process.send(signal.SIGKILL)]
        for process in alive:
            process.ended_within(_KILLED_S)
        sweep(group_prefix(self._home))
        if alive:
            log.warning("ended what an earlier keeper left count=%d", len(alive))

    def _notify(self) -> None:
        """inotify(7) by descriptor, so that one wait covers wishes, ends and output."""
        libc = ctypes.CDLL(None, use_errno=True)
        handle = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if handle < 0 or libc.inotify_add_watch(handle, os.fsencode(wishes_folder(self._home)), _IN_MODIFY) < 0:
            log.warning(
                "file notification unavailable, looking every 100 ms reason=%s", os.strerror(ctypes.get_errno())
            )
            self._net_s = 0.1
            return
        self._signs.append(handle)

    def _wanted(self) -> dict[tuple[str, str], str]:
        """(site, release) that shall run, with the wish under which it shall."""
        wanted = {}
        for file in wishes_folder(self._home).glob("tmux-*.json"):
            site = file.stem
            if not SITE_NAME.fullmatch(site):
                continue
            folder = AppFolder(self._home, site)
            wish = folder.wish()
            if wish is None or wish.over:
                continue
            live = folder.live()
            if live is not None:
                wanted[site, live] = ""
            if wish.candidate is not None and Fence(self._home, site, BLOCK).is_held():
                wanted[site, wish.candidate] = wish.nonce
        return wanted

    def _reconcile(self) -> None:
        now = self._clock()
        wanted = self._wanted()
        for key, app in list(self._apps.items()):
            if app.stopping_until is None and key not in wanted:
                app.stop()
            if app.stopping_until is not None and not app.running:
                app.gone()
                del self._apps[key]
        for (site, release_id), nonce in wanted.items():
            app = self._apps.get((site, release_id)) or App(
                AppFolder(self._home, site), release_id, self._mode, self._clock
            )
            self._apps[site, release_id] = app
            if app.stopping_until is None:
                self._follow(app, nonce, now)
        self._look_at = now + self._net_s
        self._answer()

    def _answer(self) -> None:
        """A site that is over and of which nothing runs: its wish is removed, and whoever waits for that goes on."""
        for file in wishes_folder(self._home).glob("tmux-*.json"):
            wish = Wish.read(file)
            if wish is not None and wish.over and not any(site == file.stem for site, _ in self._apps):
                file.unlink(missing_ok=True)

    def _follow(self, app: App, nonce: str, now: float) -> None:
        plan = app.folder.plan(app.release_id)
        if plan and app.stale(plan):
            app.stop()
            return
        if nonce and app.wish != nonce:
            app.wish = nonce
            if not app.running:
                app.next_start = now  # somebody waits for it
            app.tell()
        if not app.running and app.next_start is not None and app.next_start <= now:
            app.start()

    def _wait(self) -> None:
        """Sleep until something happens. A fresh poll each time: descriptors come and go, and their numbers return."""
        now = self._clock()
        poll = select.poll()
        for sign in self._signs:
            poll.register(sign, select.POLLIN)
        times = [self._look_at]
        for app in self._apps.values():
            for handle in app.handles:
                poll.register(handle, select.POLLIN)
            times += [moment for moment in (app.next_start, app.stopping_until) if moment is not None]
        for handle, _ in poll.poll(max(0.0, min(times) - now) * 1000):
            if handle in self._signs:
                self._look_at = now
                with suppress(BlockingIOError):
                    os.read(handle, _CHUNK)
        for app in self._apps.values():
            app.read()
            if app.look():
                self._look_at = now
            if app.next_start is not None and app.next_start <= self._clock():
                self._look_at = now
            if app.running and app.stopping_until is not None and app.stopping_until <= self._clock():
                app.kill()
                app.stopping_until += _KILLED_S

    def _end_all(self) -> None:
        for app in self._apps.values():
            if app.stopping_until is None:
                app.stop()
        while any(app.running for app in self._apps.values()):
            self._wait()
        for app in self._apps.values():
            app.gone()


def main() -> None:
    home, mode = settings().home, settings().sandbox
    try:
        self_test(mode)
    except SandboxUnavailable as error:
        sys.exit(str(error))
    keeper = Keeper(home, mode)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, keeper.wake)
    log.info("started home=%s", home)
    keeper.run()


if __name__ == "__main__":
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", force=True
    )
    main()
