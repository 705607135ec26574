"""Notes what Claude Code's hooks and status line tell, in the one file that the pipeline reads. Standard library only.

`python -I -S hook.py FILE` takes a hook's JSON on stdin and appends one short line to FILE; with ``--status FILE`` it
takes the status line's JSON, replaces FILE, and prints the line that the person at the terminal sees. It answers no
hook: what it prints on stdout for a hook is nothing, and its exit code is 0, whatever it was given.
"""

import json
import os
import sys
import time
from typing import Any

INPUT_BYTES = 64 << 20  # what a tool wrote is told up to three times
TEXT, ABOUT, LINE_BYTES = 2000, 300, 32 << 10
CHOICES = 12


def short(value: object, length: int = TEXT) -> str:
    return value[:length] if isinstance(value, str) else ""


def listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def questions(given: object) -> list[dict[str, Any]]:
    """What AskUserQuestion shows: header, text, choices."""
    asked = given.get("questions") if isinstance(given, dict) else None
    return [
        {
            "header": short(each.get("header"), 100),
            "question": short(each.get("question")),
            "choices": [
                short(choice.get("label"), 200)
                for choice in listed(each.get("options"))[:CHOICES]
                if isinstance(choice, dict)
            ],
            "several": bool(each.get("multiSelect")),
        }
        for each in listed(asked)[:4]
        if isinstance(each, dict)
    ]


def about(given: object) -> str:
    """A tool call in one line, in which a person who decides on it sees each line break, and that something is cut."""
    if not isinstance(given, dict):
        return ""
    for key in ("command", "file_path", "path", "pattern", "url", "query", "skill", "description", "prompt"):
        if isinstance(given.get(key), str):
            lines = [" ".join(line.split()) for line in given[key].splitlines()]
            told = " ⏎ ".join(filter(None, lines))
            return told if len(told) <= ABOUT else f"{told[:ABOUT]}… ({len(told) - ABOUT} more characters)"
    return ""


def noted(event: dict[str, Any]) -> dict[str, Any]:
    tool, given = short(event.get("tool_name"), 100), event.get("tool_input")
    line = {
        "hook_event_name": short(event.get("hook_event_name"), 64),
        "session_id": short(event.get("session_id"), 64),
        "at": round(time.time(), 3),
        "source": short(event.get("source"), 64),
        "tool": tool,
        "about": about(given) or about({"prompt": event.get("prompt")}),
        "questions": questions(given) if tool == "AskUserQuestion" else [],
        "kind": short(event.get("notification_type") or event.get("error") or event.get("reason"), 100),
        "message": short(event.get("message") or event.get("last_assistant_message") or event.get("error_details")),
    }
    return {name: value for name, value in line.items() if value not in ("", [])}


def append(path: str, line: dict[str, Any]) -> None:
    payload = json.dumps(line).encode() + b"\n"
    if len(payload) > LINE_BYTES:
        told = ("hook_event_name", "session_id", "at", "source", "tool")
        payload = json.dumps({key: line[key] for key in told if key in line}).encode() + b"\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        os.write(descriptor, payload)
    finally:
        os.close(descriptor)


def status(path: str, told: dict[str, Any]) -> str:
    cost, model = (found if isinstance(found := told.get(name), dict) else {} for name in ("cost", "model"))
    found = {
        "session_id": short(told.get("session_id"), 64),
        "version": short(told.get("version"), 64),
        "model": short(model.get("id"), 100),
        "dollars": cost.get("total_cost_usd") if isinstance(cost.get("total_cost_usd"), int | float) else 0,
    }
    new = f"{path}.{os.getpid()}.new"
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        os.write(descriptor, json.dumps(found).encode())
    finally:
        os.close(descriptor)
    os.rename(new, path)  # noqa: PTH104 (pathlib takes 10 ms to load)
    return f"{found['model']} · ${found['dollars']:.2f} · tmux-builder"


def main() -> None:
    try:
        event = json.loads(sys.stdin.buffer.read(INPUT_BYTES))
        if sys.argv[1] == "--status":
            sys.stdout.write(status(sys.argv[2], event) + "\n")
        elif isinstance(event, dict):
            append(sys.argv[1], noted(event))
    except Exception:  # noqa: BLE001 (a hook that fails would be shown to the model, and stop it)
        return


if __name__ == "__main__":
    main()
