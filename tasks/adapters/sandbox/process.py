"""Runs a confinement to its end, or ends it."""

import json
import logging
import os
import secrets
import select
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import IO

from tasks.adapters.sandbox.cgroup import Group, sweep
from tasks.adapters.sandbox.confinement import Confinement, Mode, Plan, argv, launch, plan
from tasks.adapters.waiting import Flag
from tasks.domain.errors import SandboxUnavailable

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 0.1
_GONE_WITHIN_S = 10.0
_CHUNK = 1 << 16
_GROUPS = "tmux-builder-run-"
_LEFT_BEHIND_S = 3600.0
"""A group that is empty after an hour belonged to a process that was killed."""


@dataclass(frozen=True)
class Finished:
    """``exit_code`` is None where the run was ended from outside: by its deadline, or by ``stop`` (then ``stopped``).

    ``truncated``: a stream was longer than the limit, and its middle was left out.
    """

    exit_code: int | None
    stdout: str
    stderr: str
    seconds: float
    truncated: bool = False
    stopped: bool = False


def run(
    confinement: Confinement,
    mode: Mode,
    deadline_s: float,
    output_limit: int = 1 << 20,
    stop: Flag | None = None,
) -> Finished:
    """Run it and wait. When this returns or raises, none of its processes is left.

    ``output_limit`` is bytes per stream. Raises SandboxUnavailable where bubblewrap cannot set the sandbox up.
    In ``unsafe-none`` a process that left its process group survives.
    """
    if mode == "unsafe-none":
        log.warning("sandbox=off: ran a command with this worker's rights command=%s", confinement.command[0])
        return _Supervised(argv(confinement, mode), output_limit).wait(deadline_s, stop)
    with _grouped(confinement) as groups:
        return run_plan(replace(plan(confinement), groups=groups), deadline_s, output_limit, stop)


@contextmanager
def _grouped(confinement: Confinement) -> Iterator[tuple[str, ...]]:
    """A control group for all that the confinement starts; empty where the machine offers none."""
    sweep(_GROUPS, _LEFT_BEHIND_S)
    group = Group(f"{_GROUPS}{os.getpid()}-{secrets.token_hex(8)}", confinement.all_memory, confinement.processes)
    try:
        yield tuple(map(str, group.folders))
    finally:
        group.remove()


def run_plan(
    plan: Plan,
    deadline_s: float,
    output_limit: int = 1 << 20,
    stop: Flag | None = None,
    env: Mapping[str, str] | None = None,
) -> Finished:
    """`run` for a plan at hand. ``env`` is the environment it is started from, which must not matter."""
    with ExitStack() as stack:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        report = stack.enter_context(os.fdopen(reading, "rb", buffering=0))
        with os.fdopen(writing, "wb") as told:
            command = launch(replace(plan, report=told.fileno()))
            supervised = _Supervised(command, output_limit, report, (told.fileno(),), env)
        finished = supervised.wait(deadline_s, stop)
    if finished.exit_code is not None and not supervised.ran:
        lines = finished.stderr.strip().splitlines() or [f"exit code {finished.exit_code}"]
        raise SandboxUnavailable(lines[-1][:300])
    return finished


class _Tape:
    """The beginning and the end of a stream; what lies between is counted, not kept."""

    def __init__(self, limit: int) -> None:
        self._half = max(limit // 2, 1)
        self._head, self._tail, self._left_out = bytearray(), bytearray(), 0

    def add(self, data: bytes) -> None:
        room = self._half - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        if len(self._tail) > self._half:
            self._left_out += len(self._tail) - self._half
            del self._tail[: -self._half]

    @property
    def truncated(self) -> bool:
        return self._left_out > 0

    def __str__(self) -> str:
        gap = f"\n[... {self._left_out} bytes left out ...]\n".encode() if self._left_out else b""
        return (bytes(self._head) + gap + bytes(self._tail)).decode("utf-8", "replace")


class _Supervised:
    """A started command, its output, and the means to end all of it.

    With a ``report``, the sandbox's first process is known by a pidfd: killing that one ends its pid namespace, and
    the pidfd is readable only once every process in it is gone.
    """

    def __init__(
        self,
        command: Sequence[str],
        output_limit: int,
        report: IO[bytes] | None = None,
        handed: Sequence[int] = (),
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._started = time.monotonic()
        self._out, self._err, self._told = _Tape(output_limit), _Tape(output_limit), _Tape(1 << 13)
        self._report = report
        self._first: int | None = None
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            pass_fds=handed,
            start_new_session=True,
            env=env,
        )

    @property
    def ran(self) -> bool:
        """Whether the command itself was started: bubblewrap tells its exit code only then."""
        return '"exit-code"' in str(self._told)

    def wait(self, deadline_s: float, stop: Flag | None) -> Finished:
        ended = False
        with ExitStack() as stack:
            outer = os.pidfd_open(self._process.pid)
            stack.callback(os.close, outer)
            stack.callback(self._close)
            selector = stack.enter_context(selectors.DefaultSelector())
            selector.register(outer, selectors.EVENT_READ, None)
            streams = [(self._process.stdout, self._out), (self._process.stderr, self._err)]
            for stream, tape in [*streams, (self._report, self._told)]:
                if stream is not None:
                    selector.register(stream, selectors.EVENT_READ, tape)
            try:
                while not ended:
                    left = self._started + deadline_s - time.monotonic()
                    if left <= 0 or (stop is not None and stop.is_set()):
                        break
                    ended = self._read(selector, min(left, _LOOK_EVERY_S) if stop else left)
            finally:
                self._end()
                self._drain(selector)
        return Finished(
            exit_code=self._process.returncode if ended else None,
            stdout=str(self._out),
            stderr=str(self._err),
            seconds=time.monotonic() - self._started,
            truncated=self._out.truncated or self._err.truncated,
            stopped=not ended and stop is not None and stop.is_set(),
        )

    def _read(self, selector: selectors.BaseSelector, timeout_s: float) -> bool:
        """Take what is there. True once the command has ended."""
        ended = False
        for key, _ in selector.select(timeout_s):
            if key.data is None:
                ended = True
            elif data := os.read(key.fd, _CHUNK):
                key.data.add(data)
                if key.data is self._told and self._first is None:
                    self._first = _first_process(str(self._told))
            else:
                selector.unregister(key.fileobj)
        return ended

    def _drain(self, selector: selectors.BaseSelector) -> None:
        """What was written before the end is still in the pipes. Bounded: a survivor may hold them open."""
        until = time.monotonic() + 1
        while len(selector.get_map()) > 1 and time.monotonic() < until:
            self._read(selector, 0.05)

    def _end(self) -> None:
        if self._first is not None:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._first, signal.SIGKILL)
            gone, _, _ = select.select([self._first], [], [], _GONE_WITHIN_S)
            if not gone:
                log.error("a sandbox did not end within %s s after SIGKILL pid=%s", _GONE_WITHIN_S, self._process.pid)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(_GONE_WITHIN_S)

    def _close(self) -> None:
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        if self._first is not None:
            os.close(self._first)


def _first_process(report: str) -> int | None:
    """A pidfd of the process that bubblewrap reports as the first one, once the whole line is there."""
    line, newline, _ = report.partition("\n")
    if not newline:
        return None
    with suppress(ProcessLookupError, ValueError, KeyError, TypeError):
        return os.pidfd_open(int(json.loads(line)["child-pid"]))
    return None
