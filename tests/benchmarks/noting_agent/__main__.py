"""An agent that notes the monotonic clock right before it writes its signal. Standard library only."""
# ruff: noqa: T201 (its screen is what it prints)

import json
import os
import re
import sys
import time
from pathlib import Path

EVENTS = Path(os.environ["OFFLINE_AGENT_EVENTS"])


def event(name):
    with EVENTS.open("a") as file:
        file.write(json.dumps({"hook_event_name": name}) + "\n")


event("SessionStart")
print("ready", flush=True)
for line in sys.stdin:
    if not line.strip():
        continue
    event("UserPromptSubmit")
    phase = re.findall(r"PHASE_COMPLETE: (\w+)", Path("prompts/current.txt").read_text())[-1]
    Path("output/plan.md").write_text("# Plan\n")
    Path("source/index.html").write_text(f"<!doctype html><title>{phase}</title><h1>{phase}</h1>")
    time.sleep(0.05)  # whoever waits is then waiting, as in life
    Path(f"output/{phase}.written").write_text(str(time.monotonic_ns()))
    with Path("output/status.txt").open("a") as status:
        status.write(f"PHASE_COMPLETE: {phase}\n")
    event("Stop")
