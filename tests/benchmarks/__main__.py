"""``make bench``: every measurement in one run, printed and written to ``bench-results/``."""
# ruff: noqa: T201 (a benchmark prints)

import asyncio
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.benchmarks import chat, claude_turns, many, record, start, whole
from tests.support.service import ROOT, ServiceUnderTest, dispose, new_service


def machine() -> dict[str, Any]:
    """What the figures depend on."""

    def said(*command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    from importlib.metadata import version

    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}",
        "load": [round(value, 2) for value in os.getloadavg()],
        "python": platform.python_version(),
        "tmux": said("tmux", "-V"),
        "chromium": said("chromium", "--version"),
        **{name: version(name) for name in ("prefect", "playwright", "sqlalchemy", "pytest")},
    }


def signals_in_their_own_process(service: ServiceUnderTest, signals: int) -> dict[str, Any]:
    """As in an engine: a process that belongs to the service from its first import on."""
    code = (
        "import asyncio, json; from tests.benchmarks import signals;"
        f"print('RESULT' + json.dumps(asyncio.run(signals.measure({signals}))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=service.environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    found: dict[str, Any] = json.loads(line.removeprefix("RESULT"))
    return found


def on_one_service(rounds: int) -> dict[str, Any]:
    service = new_service()
    started = service.make("up")
    try:
        if started.returncode:
            raise RuntimeError(started.stdout + started.stderr)
        return {
            "run_created_to_step_1": asyncio.run(start.measure(service, rounds)),
            "whole_build": asyncio.run(whole.measure(service, rounds)),
            # Last: a server that has just started still works in the background.
            "signal_to_next_step": signals_in_their_own_process(service, 200),
        }
    finally:
        dispose(service)


def main() -> None:
    rounds = int(os.environ.get("BENCH_ROUNDS", "5"))
    counts = [int(count) for count in os.environ.get("BENCH_MANY", "1,10,50").split(",")]
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "one": lambda: on_one_service(rounds),
        "claude": lambda: {"claude_turn_end_to_return": claude_turns.measure(20)},
        "chat": lambda: {"chat_post_to_taken": chat.measure(40)},
        "many": lambda: {"many_at_once": many.measure(counts, rounds)},
        "record": lambda: {"record_of_100000_executions": record.measure()},
    }
    asked = os.environ.get("BENCH_PARTS", ",".join(parts)).split(",")
    if unknown := [part for part in asked if part not in parts]:
        sys.exit(f"BENCH_PARTS: there is no {', '.join(unknown)}; choose from {', '.join(parts)}")
    results = {
        "command": f"make bench BENCH_PARTS={','.join(asked)}",
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        **machine(),
    }
    folder = Path(ROOT, "bench-results")
    folder.mkdir(exist_ok=True)
    path = folder / f"{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    for part in asked:
        results |= parts[part]()
        path.write_text(json.dumps(results, indent=2) + "\n")  # what follows takes long, and may fail
    print(json.dumps(results, indent=2))
    print(f"written to {path.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
