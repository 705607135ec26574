"""A home, a workspace and a scripted agent in a real terminal, on sockets of their own."""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.adapters.agents.runtime import RuntimeFolder
from tasks.adapters.agents.session import TerminalAgent
from tasks.adapters.tmux import TmuxSession
from tasks.adapters.workspace import Workspace

SCRIPT = Path(__file__).with_name("scripted_agent.py")
EXECUTION = "a1b2c3d4_sess20260124143022"


class Stage:
    """Close it: everything that it started is then gone, or it says what is not."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="tb-", dir="/tmp"))
        self.agents: list[TerminalAgent] = []

    def workspace(self, execution_id: str = EXECUTION) -> Workspace:
        workspace = Workspace.of(self.home, "user", execution_id)
        workspace.lay_out()
        return workspace

    def runtime(self, execution_id: str = EXECUTION) -> RuntimeFolder:
        return RuntimeFolder(self.home, execution_id)

    def terminal(self, execution_id: str = EXECUTION) -> TmuxSession:
        return TmuxSession(self.home, execution_id)

    def argv(self, scenario: str, execution_id: str = EXECUTION) -> list[str]:
        paths = [str(self.workspace(execution_id).root), str(self.runtime(execution_id).events)]
        return [sys.executable, "-I", "-S", str(SCRIPT), scenario, *paths]

    def agent(self, scenario: str, execution_id: str = EXECUTION, **options: Any) -> TerminalAgent:
        agent = TerminalAgent(
            self.runtime(execution_id), self.workspace(execution_id), self.argv(scenario, execution_id), **options
        )
        self.agents.append(agent)
        return agent

    def prompts_taken(self, execution_id: str = EXECUTION) -> list[str]:
        log = self.workspace(execution_id).source / "prompts.log"
        return log.read_text().split() if log.exists() else []

    def allow_to_go_on(self, execution_id: str = EXECUTION) -> None:
        (self.workspace(execution_id).source / "go").touch()

    def processes(self) -> list[int]:
        """Everything alive whose command line names this home: agents, tmux servers, and tmux clients."""
        found = []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit() or int(folder.name) == os.getpid():
                continue
            try:
                words = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(self.home) in words:
                found.append(int(folder.name))
        return found

    def close(self) -> None:
        for agent in self.agents:
            agent.stop()
        left = [(pid, Path("/proc", str(pid), "cmdline").read_bytes()) for pid in self.processes()]
        shutil.rmtree(self.home, ignore_errors=True)
        assert not left, f"still running: {left}"


def eventually(condition: Callable[[], object], within_s: float = 30) -> None:
    """Wait on a condition; fail when it does not come."""
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, f"not within {within_s} s"
        time.sleep(0.005)
