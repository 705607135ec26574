"""An agent that obeys or misbehaves as its first argument says. Standard library only: it runs with ``python -I``.

Usage: scripted_agent.py SCENARIO WORKSPACE EVENTS. It speaks as every agent does: events, `prompts/current.txt`,
`output/status.txt`. Each prompt that it takes is a line in `source/prompts.log`.
"""
# ruff: noqa: T201 (its screen is what it prints)

import json
import os
import re
import signal
import subprocess
import sys
import time
import tty
from pathlib import Path

INSTRUCTION = "Read and execute the prompt in prompts/current.txt"
SCENARIO, WORKSPACE, EVENTS = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
STATUS = WORKSPACE / "output" / "status.txt"


def event(name):
    with EVENTS.open("a") as file:
        file.write(json.dumps({"hook_event_name": name}) + "\n")


def signal_phase(phase):
    with STATUS.open("a") as file:
        file.write(f"PHASE_COMPLETE: {phase}\n")


def wait_for(name):
    """Until the test puts a file there."""
    while not (WORKSPACE / "source" / name).exists():
        time.sleep(0.005)


def lines():
    """What is typed, line by line. The raw scenarios get single keys, as a full-screen program does."""
    if SCENARIO not in ("swallows_first_enter", "dies_before_enter", "shows_a_question"):
        yield from (line.rstrip("\n") for line in sys.stdin)
        return
    tty.setraw(0)
    event("SessionStart")
    typed, swallowed = "", False
    while True:
        keys = os.read(0, 4096).decode()
        if SCENARIO == "dies_before_enter":
            print("out of memory", end="\r\n", flush=True)
            os._exit(4)
        for key in keys:
            if key != "\r":
                typed += key
                if SCENARIO != "shows_a_question":
                    print(key, end="", flush=True)
            elif SCENARIO == "shows_a_question":
                with (WORKSPACE / "source" / "enters.log").open("a") as file:
                    file.write("Enter\n")
                print("\x1b[2J\x1b[HDelete everything? 1. Yes  2. No", end="", flush=True)
            elif not swallowed:
                swallowed = True
            else:
                print(end="\r\n", flush=True)
                yield typed
                typed = ""


def obey(phase):
    (WORKSPACE / "output" / "plan.md").write_text("# Plan\n")
    signal_phase(phase)
    event("Stop")


def main():
    match SCENARIO:
        case "ends_at_once":
            print("no key found in the configuration")
            sys.exit(7)
        case "never_ready":
            print("Please log in: 1. Subscription 2. API key", flush=True)
            time.sleep(3600)
        case "ends_early":
            event("SessionStart")
            print("goodbye", flush=True)
            sys.exit(0)
        case "ignores_hangup":
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            child = [sys.executable, "-c", "import signal, time; signal.signal(1, signal.SIG_IGN); time.sleep(3600)"]
            subprocess.Popen(child)
            subprocess.Popen(child, start_new_session=True)
        case "tells_environment":
            seen = [Path("/proc", str(pid), "environ").read_bytes() for pid in (os.getpid(), os.getppid())]
            (WORKSPACE / "output" / "environ").write_bytes(b"\0".join(seen))
        case "escapes":
            print(
                "\x1b]52;c;c3RvbGVu\x07\x1b]2;title\x07\x1b[31mred\x1b[0m \u202egnp.exe\u202c caf\u00e9 \u2713",
                flush=True,
            )
    if SCENARIO not in ("swallows_first_enter", "dies_before_enter", "shows_a_question"):
        event("SessionStart")
    for line in lines():
        if line == "":
            continue
        if line != INSTRUCTION:
            print(f"unexpected: {line!r}", flush=True)
            continue
        event("UserPromptSubmit")
        phase = re.search(r"PHASE_COMPLETE: (\w+)", (WORKSPACE / "prompts" / "current.txt").read_text()).group(1)
        with (WORKSPACE / "source" / "prompts.log").open("a") as file:
            file.write(f"{phase}\n")
        act(phase)


def act(phase):
    match SCENARIO:
        case "crashes":
            print("Traceback: out of ideas", flush=True)
            sys.exit(3)
        case "hangs":
            print("thinking about it", flush=True)
            time.sleep(3600)
        case "wrong_phase":
            signal_phase("coding" if phase != "coding" else "planning")
            event("Stop")
        case "no_outputs":
            signal_phase(phase)
            event("Stop")
        case "half_line":
            (WORKSPACE / "output" / "plan.md").write_text("# Plan\n")
            with STATUS.open("a") as file:
                file.write(f"PHASE_COMPLETE: {phase}"[:-3])
            event("Stop")
            wait_for("go")
            with STATUS.open("a") as file:
                file.write(phase[-3:] + "\n")
        case "binary":
            STATUS.write_bytes(bytes(range(256)) * 8 + b"\nPHASE_COMPLETE: \xff\xfe\n" + phase.encode("utf-16"))
            event("Stop")
        case "binary_then_obeys":
            STATUS.write_bytes(b"\xff\x00\xfe\n")
            with EVENTS.open("ab") as file:
                file.write(b"\xff\xfe\n[[[[\n" + b"[" * 100_000 + b'\n{"hook_event_name": 7}\n"Stop"\n')
            obey(phase)
        case "symlink":
            (WORKSPACE / "output" / "real.txt").write_text(f"PHASE_COMPLETE: {phase}\n")
            STATUS.symlink_to("real.txt")
            event("Stop")
        case "fifo":
            os.mkfifo(STATUS)
            event("Stop")
        case "huge":
            STATUS.write_bytes(b"PHASE_COMPLETE: " + phase.encode() + b"\n" + b"x" * (1 << 20))
            event("Stop")
        case "floods_events":
            with EVENTS.open("ab") as file:
                file.write(b"x" * (1 << 20) + b"\n" + b'{"hook_event_name": "PreToolUse"}\n' * 200_000)
            obey(phase)
        case "no_signal":
            print("shall I go on?", flush=True)
            event("Stop")
        case "notes_time":
            time.sleep(0.02)  # the asker is then waiting, as it is in life
            (WORKSPACE / "output" / ".written_at").write_text(str(time.monotonic_ns()))
            (WORKSPACE / "output" / ".written_at").rename(WORKSPACE / "output" / "written_at")
            signal_phase(phase)
            event("Stop")
        case "signals_early":
            signal_phase(phase)
            wait_for("go")
            (WORKSPACE / "output" / "plan.md").write_text("# Plan\n")
            event("Stop")
        case "slow":
            wait_for("go")
            obey(phase)
        case _:
            obey(phase)


main()
