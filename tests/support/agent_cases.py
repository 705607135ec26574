"""What the real Claude Code left in its files in each state: `python -m tests.support.agent_cases` records it anew.

The records lie in `tests/tasks/adapters/agents/cases/{name}`; a new version of the CLI is tried by recording them.
"""

import json
import shutil
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.adapters.agents import processes
from tasks.adapters.agents.claude import find_program, version_of
from tasks.domain.agent_state import AgentState, Doing
from tasks.domain.errors import AgentCrashed, AgentRefused, AskCancelled
from tests.support.claude_stage import QUESTION, Act, Desk, in_turn
from tests.support.messages_api import Asked, Fault, Script, messages_api, text, tool
from tests.support.scripted_model import work_of
from tests.support.terminal import Stage

CASES = Path(__file__).resolve().parent.parent / "tasks" / "adapters" / "agents" / "cases"
FILES = ("events/events.jsonl", "events/status.json", "egress.jsonl")
NO_RETRY = {"x-should-retry": "false"}
NESTED = (
    "python3 -c \"import os, subprocess, time; os.environ.pop('CLAUDECODE', None); "
    "subprocess.run(['/opt/agent/claude', '-p', 'nested task', '--setting-sources', 'user'], timeout=20); "
    'time.sleep(60)"'
)


@dataclass(frozen=True)
class Situation:
    """What leads to a state. ``when``: the record is made at the first state told for which it holds."""

    doing: Doing
    script: Script
    words: str = ""
    when: Callable[[Act, AgentState], bool] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    expired_login: bool = False


def fails(fault: Fault) -> Script:
    return lambda _asked: fault


def nested(asked: Asked) -> "list[Any] | Fault":
    if "nested task" in asked.prompt:
        return [text("I am another.")]
    return in_turn(tool("Bash", command=NESTED, description="x"))(asked)


def unwilling(asked: Asked) -> "list[Any] | Fault":
    if "not signalled yet" in asked.prompt:
        return [text("I would rather not.")]
    return in_turn(*work_of("planning")[:-1])(asked)


WORK = tool("Bash", command="sleep 60", description="Build")
SITUATIONS = {
    "working": Situation(Doing.WORKING, in_turn(WORK)),
    "nested": Situation(
        Doing.WORKING,
        nested,
        when=lambda act, state: (
            state.doing is Doing.WORKING and any("nested task" in asked.prompt for asked in act.api.asked)
        ),
    ),
    "permission": Situation(
        Doing.PERMISSION, in_turn(tool("Bash", command="dd if=a of=b", description="x")), "dd if=a"
    ),
    "question": Situation(Doing.QUESTION, in_turn(QUESTION), "Dark or light?"),
    "idle": Situation(Doing.IDLE, unwilling, "I would rather not"),
    "done": Situation(Doing.DONE, in_turn(*work_of("planning"))),
    "key": Situation(
        Doing.REFUSED, fails(Fault(401, "authentication_error", "invalid x-api-key")), "does not take the key"
    ),
    "credit": Situation(
        Doing.REFUSED,
        fails(Fault(400, "invalid_request_error", "Your credit balance is too low to access the Anthropic API.")),
        "no credit",
    ),
    "limit": Situation(
        Doing.REFUSED,
        fails(Fault(429, "rate_limit_error", "This would exceed your account's rate limit.", headers=NO_RETRY)),
        "usage limit",
    ),
    "overloaded": Situation(
        Doing.REFUSED, fails(Fault(529, "overloaded_error", "Overloaded", headers=NO_RETRY)), "failed again"
    ),
    "model": Situation(
        Doing.REFUSED, fails(Fault(404, "not_found_error", "model: claude-none", headers=NO_RETRY)), "model"
    ),
    "budget": Situation(Doing.REFUSED, in_turn(WORK), "budget of model requests", options={"requests": 1}),
    "dollars": Situation(Doing.REFUSED, in_turn(WORK), "are allowed", options={"dollars": 0.00001}),
    "login": Situation(
        Doing.REFUSED, fails(Fault(401, "authentication_error", "OAuth token has expired")), "", expired_login=True
    ),
}


class Recorder(Desk):
    """Copies the files in the moment in which the state is told."""

    def __init__(self, act: Act, name: str, situation: Situation) -> None:
        super().__init__()
        self.act, self.name, self.situation, self.recorded = act, name, situation, False

    def tell(self, state: AgentState) -> None:
        super().tell(state)
        wanted = state.doing is self.situation.doing and self.situation.when is None
        if wanted and not self.recorded:
            self.record(state)

    def record(self, state: AgentState) -> None:
        self.recorded = True
        save(self.act, self.name, self.situation, state)
        self.act.cancelled.set()


def save(act: Act, name: str, situation: Situation, state: AgentState) -> None:
    folder, runtime = CASES / name, act.stage.runtime()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in FILES:
        source = runtime.root / file
        (folder / source.name).write_bytes(source.read_bytes() if source.exists() else b"")
    (folder / "status.txt").write_bytes(act.stage.workspace().read_status())
    (folder / "screen.txt").write_text("\n".join(act.stage.agents[-1].screen()) + "\n")
    told = {
        "version": version_of(find_program("")),
        "session_id": runtime.session_id(),
        "doing": state.doing.name,
        "words": situation.words,
        "dollars_allowed": situation.options.get("dollars"),
    }
    (folder / "case.json").write_text(json.dumps(told, indent=1) + "\n")


def record(name: str, situation: Situation) -> str:
    stage = Stage()
    try:
        with messages_api(situation.script) as api:
            act = Act(stage, api)
            recorder = Recorder(act, name, situation)
            act.desk = recorder
            options = dict(situation.options)
            if situation.expired_login:
                options["login"] = _expired_login(stage.home / "login.json")
            if situation.when is not None:
                threading.Thread(target=_watch, args=(act, recorder, situation.when), daemon=True).start()
            try:
                act.plans(act.agent(**options), deadline_s=45)
            except (AskCancelled, AgentRefused):
                pass
            except Exception as error:  # noqa: BLE001 (said, and the next one is recorded)
                return f"{name}: {type(error).__name__}: {error}"
            return f"{name}: {'recorded' if recorder.recorded else f'never {situation.doing.name}'}"
    finally:
        stage.close()


def _watch(act: Act, recorder: Recorder, when: Callable[[Act, AgentState], bool]) -> None:
    end = time.monotonic() + 45
    while time.monotonic() < end:
        if recorder.told and when(act, recorder.told[-1]):
            time.sleep(3)  # its last hooks
            recorder.record(recorder.told[-1])
            return
        time.sleep(0.2)


def _expired_login(path: Path) -> Path:
    token = {"accessToken": "sk-ant-oat01-test", "refreshToken": "sk-ant-ort01-test", "expiresAt": 1_700_000_000_000}
    path.write_text(json.dumps({"claudeAiOauth": {**token, "scopes": ["user:inference"], "subscriptionType": "max"}}))
    return path


def record_crash() -> str:
    stage = Stage()
    try:
        with messages_api(in_turn(WORK)) as api:
            act = Act(stage, api)

            def kill() -> None:
                while "sleep 60" not in act.transcript():
                    time.sleep(0.1)
                pane = stage.terminal().pane()
                assert pane is not None
                save(act, "crashed", Situation(Doing.CRASHED, in_turn(WORK)), AgentState(Doing.CRASHED))
                processes.end(set(processes.family(pane.pid)) - {pane.pid}, 0, 5)

            threading.Thread(target=kill, daemon=True).start()
            try:
                act.plans(act.agent(), deadline_s=45)
            except AgentCrashed as error:
                case = CASES / "crashed" / "case.json"
                told = {
                    **json.loads(case.read_text()),
                    "exit_code": error.exit_code,
                    "last_lines": list(error.last_lines),
                }
                case.write_text(json.dumps(told, indent=1) + "\n")
                return "crashed: recorded"
            return "crashed: it did not crash"
    finally:
        stage.close()


def main(names: Sequence[str]) -> None:
    for name, situation in SITUATIONS.items():
        if not names or name in names:
            sys.stdout.write(record(name, situation) + "\n")
    if not names or "crashed" in names:
        sys.stdout.write(record_crash() + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
