"""The conversation in the terminal: one line in, work, one signal out, as Claude Code would do it."""

import json
import os
import re
import sys
from pathlib import Path
from typing import BinaryIO, TextIO

from .markup import visible
from .phases import PHASES, PhaseFailed

INSTRUCTION = "Read and execute the prompt in prompts/current.txt"
PROMPT = "❯ "
EVENTS = "OFFLINE_AGENT_EVENTS"
"""Environment variable: the file that events are appended to, as Claude Code's hooks would."""

BANNER = (
    "offline agent of tmux-builder",
    "A template generator without a language model. It knows one instruction:",
    f"  {INSTRUCTION}",
    "/exit ends it.",
    "",
)
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_])")
_SIGNAL = re.compile(r"PHASE_COMPLETE:\s*([a-z_]{1,32})")
_PROMPT_LIMIT = 2**20


class Session:
    """Reads lines from ``inbound`` until it ends or says ``/exit``."""

    def __init__(self, workspace: Path, inbound: BinaryIO, screen: TextIO, events: Path | None) -> None:
        self.workspace, self.inbound, self.screen, self.events = workspace, inbound, screen, events

    def run(self) -> int:
        for line in BANNER:
            self.say(line)
        self.tell("SessionStart")
        try:
            while (heard := self.listen()) is not None:
                if heard == "/exit":
                    break
                if heard:
                    self.answer(heard)
        finally:
            self.tell("SessionEnd")
        return 0

    def listen(self) -> str | None:
        """The next line, without paste markers and control characters; None at the end of input."""
        while True:
            try:
                self.screen.write(PROMPT)
                self.screen.flush()
                raw = self.inbound.readline()
            except KeyboardInterrupt:
                self.say("")
                continue
            if not raw:
                self.say("")
                return None
            return visible(_ESCAPES.sub("", raw.decode("utf-8", "replace"))).strip()

    def answer(self, line: str) -> None:
        self.tell("UserPromptSubmit", prompt=line)
        try:
            if line == INSTRUCTION:
                self.execute()
            else:
                self.say(f"I am a template generator and understand one instruction: {INSTRUCTION}")
        except KeyboardInterrupt:
            self.say("● Interrupted; nothing was signalled")
        except PhaseFailed as error:
            self.say(f"● Failed: {error}")
        except Exception as error:  # noqa: BLE001  # whatever a text does to a template, the session stays and says so
            self.say(f"● Failed: {type(error).__name__}: {error}; nothing was signalled, read the lines above")
        self.tell("Stop")

    def execute(self) -> None:
        prompt = self.prompt()
        phase = self.phase(prompt)
        self.say(f"● Phase {phase}")
        for line in PHASES[phase](self.workspace, prompt):
            self.say(f"● {line}")
        self.signal(phase)

    def prompt(self) -> str:
        path = self.workspace / "prompts" / "current.txt"
        try:
            with path.open("rb") as file:
                return file.read(_PROMPT_LIMIT).decode("utf-8", "replace")
        except OSError as error:
            raise PhaseFailed(
                f"prompts/current.txt: expected the prompt, found {error.strerror}; write it and ask again"
            ) from None

    def phase(self, prompt: str) -> str:
        """What the prompt asks for: the phase in its last signal. Quoted words of a requester come before that."""
        asked = _SIGNAL.findall(prompt)
        if not asked or asked[-1] not in PHASES:
            found = f"{asked[-1]!r}" if asked else "no PHASE_COMPLETE"
            raise PhaseFailed(
                f"prompts/current.txt: expected a phase out of {', '.join(PHASES)}, found {found}; mend the prompt"
            )
        return str(asked[-1])

    def signal(self, phase: str) -> None:
        _append(self.workspace / "output" / "status.txt", f"PHASE_COMPLETE: {phase}\n")

    def say(self, line: str) -> None:
        self.screen.write(visible(line).replace("\n", " ") + "\n")
        self.screen.flush()

    def tell(self, event: str, **more: str) -> None:
        if self.events is not None:
            _append(self.events, json.dumps({"hook_event_name": event, **more}) + "\n")


def _append(path: Path, line: str) -> None:
    """Append a line in one write, so that whoever watches sees all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


def main() -> int:
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")
    events = os.environ.get(EVENTS)
    return Session(Path.cwd(), sys.stdin.buffer, sys.stdout, Path(events) if events else None).run()
