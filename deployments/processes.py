"""Processes that are known by more than a number.

A process identifier is reused; identifier, start time and boot together are not. Nothing here ever signals a process
whose three do not fit, and signals travel through a pidfd, so that the check and the act mean the same process.
Standard library only: `deployments.launch` imports this before every program.
"""

import json
import os
import select
import signal
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path


def _boot() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _stat(pid: int) -> tuple[str, int] | None:
    """State letter and start time, in clock ticks since boot (proc(5): fields 3 and 22)."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = line.rpartition(")")[2].split()
    return fields[0], int(fields[19])


@dataclass(frozen=True)
class Process:
    pid: int
    started: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> "Process | None":
        stat = _stat(pid)
        return cls(pid, stat[1], _boot()) if stat else None

    def alive(self) -> bool:
        """A zombie counts as dead: it does nothing any more."""
        stat = _stat(self.pid)
        return stat is not None and stat[0] not in "ZX" and stat[1] == self.started and self.boot == _boot()

    def send(self, number: signal.Signals) -> bool:
        """Signal this very process; False where it is gone. Raises PermissionError for another user's."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if not self.alive():
                return False
            signal.pidfd_send_signal(handle, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(handle)
        return True

    def ended_within(self, seconds: float) -> bool:
        """Wait for the end; it need not be a child of ours."""
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            if not self.alive():
                return True
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            return bool(poll.poll(max(0.0, seconds) * 1000))
        finally:
            os.close(handle)


def end(processes: Iterable[Process], grace_s: float) -> list[Process]:
    """SIGTERM to all, SIGKILL to those that are there after ``grace_s``; returns the ones that had to be killed."""
    signalled = [process for process in processes if process.send(signal.SIGTERM)]
    deadline = time.monotonic() + grace_s
    killed = []
    for process in signalled:
        if not process.ended_within(deadline - time.monotonic()) and process.send(signal.SIGKILL):
            process.ended_within(5)
            killed.append(process)
    return killed


@dataclass(frozen=True)
class Record:
    """What a program wrote about itself before it began. ``watcher`` is who said that it looks after it, if anybody."""

    path: Path
    process: Process
    watcher: Process | None

    @classmethod
    def write(cls, path: Path, watcher: Process | None = None) -> None:
        """Record the calling process; `exec` keeps it true. Readers see a whole record or none."""
        myself = Process.of(os.getpid())
        if myself is None:
            raise RuntimeError("/proc is not mounted; processes cannot be told apart without it")
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary = path.with_name(f".{path.name}.{myself.pid}")
        temporary.write_text(json.dumps({"process": asdict(myself), "watcher": watcher and asdict(watcher)}))
        temporary.replace(path)

    @classmethod
    def read(cls, path: Path) -> "Record | None":
        """None where there is no record, or something else."""
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            return cls(path, Process(**told["process"]), Process(**told["watcher"]) if told["watcher"] else None)
        except (OSError, ValueError, TypeError, KeyError):
            return None


def records(folder: Path) -> list[Record]:
    """Every record in the folder, by name."""
    paths = sorted(path for path in folder.glob("*") if not path.name.startswith("."))
    return [record for path in paths if (record := Record.read(path))]
