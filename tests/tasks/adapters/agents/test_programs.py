"""The scripted agent in the sandbox that agents get, confined and not; and what the offline agent's sandbox holds."""

import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.adapters.agents import processes
from tasks.adapters.agents.claude import Claude
from tasks.adapters.agents.programs import RUNTIME, WORKSPACE, agent_for, confined, offline_agent
from tasks.adapters.agents.session import TerminalAgent
from tasks.adapters.sandbox import Mode, argv, confinement, python_runtime
from tasks.adapters.sandbox.cgroup import places
from tasks.domain.agent import Phase
from tasks.domain.errors import AgentCrashed, SandboxUnavailable
from tasks.domain.request import AgentKind
from tests.support.terminal import EXECUTION, SCRIPT, Stage, eventually

PROMPT = "Write the plan.\nPHASE_COMPLETE: planning\n"


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


def confined_agent(stage: Stage, scenario: str, mode: Mode) -> TerminalAgent:
    confinement = confined(
        stage.workspace(),
        stage.runtime(),
        (sys.executable, "-I", "-S", "/opt/test/scripted_agent.py", scenario, WORKSPACE, f"{RUNTIME}/events.jsonl"),
        readonly={**python_runtime(), "/opt/test": SCRIPT.parent},
        env={},
    )
    agent = TerminalAgent(stage.runtime(), stage.workspace(), argv(confinement, mode))
    stage.agents.append(agent)
    return agent


@pytest.mark.parametrize("mode", ["bwrap", "unsafe-none"])
def test_a_confined_agent_is_asked_and_done(stage: Stage, mode: Mode) -> None:
    agent = confined_agent(stage, "obeys", mode)
    agent.start()
    agent.ask(Phase.PLANNING, PROMPT, lambda: None if stage.workspace().plan.is_file() else "no plan", 20)
    assert stage.prompts_taken() == ["planning"]


def test_the_exit_code_comes_through_the_sandbox(stage: Stage) -> None:
    agent = confined_agent(stage, "crashes", "bwrap")
    agent.start()
    with pytest.raises(AgentCrashed, match=r"\(exit code 3\).*out of ideas"):
        agent.ask(Phase.PLANNING, PROMPT, lambda: None, 20)


@pytest.mark.parametrize("mode", ["bwrap", "unsafe-none"])
def test_stopping_ends_what_left_the_terminal_and_ignores_hangups(stage: Stage, mode: Mode) -> None:
    agent = confined_agent(stage, "ignores_hangup", mode)
    agent.start()
    pane = stage.terminal().pane()
    assert pane is not None
    eventually(lambda: len(processes.family(pane.pid)) >= 4)
    family = processes.family(pane.pid)
    agent.stop()
    assert [pid for pid in family if processes.identity(pid)] == []


@pytest.mark.parametrize("mode", ["bwrap", "unsafe-none"])
def test_what_outlives_a_killed_terminal_is_ended_too(stage: Stage, mode: Mode) -> None:
    agent = confined_agent(stage, "ignores_hangup", mode)
    agent.start()
    pane = stage.terminal().pane()
    assert pane is not None
    eventually(lambda: len(processes.family(pane.pid)) >= 4)
    family = processes.family(pane.pid)
    os.kill(pane.server_pid, signal.SIGKILL)
    eventually(lambda: processes.identity(pane.pid) is None)
    agent.stop()
    assert [pid for pid in family if processes.identity(pid)] == []


def test_a_confined_agent_has_no_environment_of_ours_and_cannot_touch_our_records(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-7c1d")
    agent = confined_agent(stage, "tells_environment", "bwrap")
    agent.start()
    told = (stage.workspace().root / "output" / "environ").read_bytes()
    assert b"PATH=" in told
    assert b"canary" not in told
    assert str(stage.home).encode() not in told
    assert set(stage.runtime().events_folder.iterdir()) == {stage.runtime().events}


def test_the_offline_agents_sandbox_lets_it_write_only_where_agents_may(stage: Stage) -> None:
    confinement = offline_agent(stage.workspace(), stage.runtime())
    root = stage.workspace().root
    assert confinement.writable == {
        "/run/agent": stage.home / "agents" / EXECUTION / "events",
        "/workspace/output": root / "output",
        "/workspace/source": root / "source",
        "/workspace/deployment/tests": root / "deployment" / "tests",
    }
    assert confinement.readonly["/workspace"] == root
    assert confinement.readonly["/opt/agent/offline"].joinpath("__init__.py").is_file()
    assert confinement.bridge is None
    assert confinement.env["OFFLINE_AGENT_EVENTS"] == "/run/agent/events.jsonl"


@pytest.mark.parametrize("kind", AgentKind)
def test_making_an_agent_starts_nothing(stage: Stage, kind: AgentKind) -> None:
    agent_for(kind, stage.runtime(), stage.workspace(), "bwrap")
    assert stage.processes() == []
    assert not (stage.home / "run").exists()


@pytest.mark.parametrize("kind", AgentKind)
def test_where_bubblewrap_is_missing_an_agent_can_be_ended_and_only_its_start_says_so(
    stage: Stage, kind: AgentKind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confinement, "PATH", str(tmp_path))  # a machine without bubblewrap
    chosen = Claude(Path(sys.executable), "https://api.example", "a key")
    agent = agent_for(kind, stage.runtime(), stage.workspace(), "bwrap", chosen=lambda: chosen)
    agent.stop()
    assert agent.screen() == []
    with pytest.raises(SandboxUnavailable, match="apt-get install bubblewrap"):
        agent.start()
    agent.stop()
    assert stage.processes() == []


def test_what_an_agent_starts_is_counted_in_one_group_that_goes_with_it(stage: Stage) -> None:
    assert places(), "this test needs control groups that may be written"
    runtime = stage.runtime()
    confinement = offline_agent(stage.workspace(), runtime)
    agent = agent_for(AgentKind.OFFLINE, runtime, stage.workspace(), "bwrap")
    stage.agents.append(agent)
    agent.start()
    groups = [place / runtime.group for place in places()]
    pane = stage.terminal().pane()
    assert pane is not None
    sandboxed = set(processes.family(pane.pid)) - {pane.pid}
    for group in groups:
        assert set(map(int, (group / "cgroup.procs").read_text().split())) >= sandboxed
        limits = [group / name for name in ("pids.max", "memory.max", "memory.limit_in_bytes")]
        wanted = {str(confinement.processes), str(confinement.all_memory)}
        assert {limit.read_text().strip() for limit in limits if limit.exists()} <= wanted
    agent.stop()
    assert not any(group.exists() for group in groups)


def test_all_who_ask_for_the_conversations_id_at_once_get_the_same(stage: Stage) -> None:
    with ThreadPoolExecutor(8) as pool:
        for number in range(20):
            runtime = stage.runtime(f"{EXECUTION}-{number}")
            assert len(set(pool.map(lambda _, of=runtime: of.session_id(), range(8)))) == 1  # type: ignore[misc]
