"""From the agent's line in `output/status.txt` to `ask` returning: ``python -m tests.benchmarks.signal_latency``.

A scripted agent in a real tmux notes the monotonic clock just before it writes the line; its event of the turn's end
follows at once. Both processes read the same clock.
"""

import os
import platform
import statistics
import subprocess
import time

from tasks.domain.agent import Phase
from tests.support.terminal import Stage

SIGNALS = 200


def measure(signals: int = SIGNALS) -> list[float]:
    """Milliseconds, one per signal, in order."""
    stage = Stage()
    try:
        agent = stage.agent("notes_time")
        agent.start()
        note = stage.workspace().root / "output" / "written_at"
        taken = []
        for number in range(signals):
            agent.ask(Phase.CODING, f"Round {number}.\nPHASE_COMPLETE: coding\n", lambda: None, 60)
            taken.append((time.monotonic_ns() - int(note.read_text())) / 1e6)
        return taken
    finally:
        stage.close()


def main() -> dict[str, float]:
    """Prints n, median and p99, and returns them."""
    taken = sorted(measure())
    result = {
        "n": len(taken),
        "median_ms": round(statistics.median(taken), 2),
        "p99_ms": round(taken[max(0, -(-len(taken) * 99 // 100) - 1)], 2),
        "max_ms": round(taken[-1], 2),
    }
    tmux = subprocess.run(["tmux", "-V"], capture_output=True, text=True, check=True).stdout.strip()
    where = (
        f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}"
    )
    print(f"signal to ask returning: {result} ({where}, {tmux})")  # noqa: T201 (a benchmark prints)
    return result


if __name__ == "__main__":
    main()
