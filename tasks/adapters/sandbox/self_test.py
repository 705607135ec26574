"""Attacks the sandbox before anybody else does."""

import json
import logging
import os
import secrets
import socket
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tasks.adapters.sandbox.cgroup import places
from tasks.adapters.sandbox.confinement import Confinement, Mode, Plan, plan, python_runtime
from tasks.adapters.sandbox.process import run_plan
from tasks.domain.errors import SandboxUnavailable

log = logging.getLogger(__name__)

_PROBE = Path(__file__).parent.parent / "inside" / "probe.py"
_NAMESPACES = ("pid", "net", "mnt", "ipc", "uts", "user")
_DEADLINE_S = 30


def self_test(mode: Mode, planned: Callable[[Confinement], Plan] = plan) -> None:
    """Run a hostile program in a sandbox of our making and look at what it got hold of.

    Raises SandboxUnavailable that names every wall with a hole. ``unsafe-none`` passes with a warning in the log.
    Takes a few tenths of a second; call it before work is taken.
    """
    if mode == "unsafe-none":
        log.warning("%s", "!" * 78)
        log.warning("sandbox=off: agents, generated code and generated tests run with this worker's full rights,")
        log.warning("its credentials included. Only for requests that you write yourself.")
        log.warning("%s", "!" * 78)
        return
    if not places():
        log.warning("no control groups here: a sandbox's memory and processes are limited for each process, not in sum")
    canary = secrets.token_hex(16)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tb-self-test-")))
        other = folder / "another-session.txt"
        other.write_text(canary)
        workspace = folder / "workspace"
        (workspace / "output").mkdir(parents=True)
        (workspace / "prompt.txt").write_text("ours")
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        abstract = stack.enter_context(socket.socket(socket.AF_UNIX))
        abstract.bind(f"\0{canary[:16]}")
        abstract.listen()
        runtime = python_runtime()
        question = {
            "canary": canary[::-1],
            "file": str(other),
            "port": tcp.getsockname()[1],
            "abstract": canary[:16],
            "namespaces": {name: str(Path(f"/proc/self/ns/{name}").readlink()) for name in _NAMESPACES},
            "visible": _visible_in_homes(runtime),
        }
        confinement = Confinement(
            command=(sys.executable, "-I", "-S", "/run/probe.py", json.dumps(question)),
            readonly={**runtime, "/workspace": workspace, "/run/probe.py": _PROBE},
            writable={"/workspace/output": workspace / "output"},
        )
        environment = {"PATH": os.defpath, "TMUX_BUILDER_CANARY": canary}
        finished = run_plan(planned(confinement), _DEADLINE_S, env=environment)
    if finished.exit_code != 0:
        said = (finished.stderr.strip().splitlines() or ["nothing"])[-1]
        raise SandboxUnavailable(f"the self-test ended with exit code {finished.exit_code} and said {said[:300]!r}")
    holes = json.loads(finished.stdout)
    if holes:
        raise SandboxUnavailable(f"the self-test got through: {', '.join(holes)}")


def _visible_in_homes(runtime: dict[str, Path]) -> dict[str, list[str]]:
    """What may show in the folders where people and their secrets live: only the way to the interpreter."""
    visible: dict[str, list[str]] = {"/root": [], "/home": ["agent"]}
    for inside in runtime:
        parts = Path(inside).parts
        for depth in range(1, len(parts) - 1):
            visible.setdefault("/" + "/".join(parts[1 : depth + 1]), []).append(parts[depth + 1])
    return visible
