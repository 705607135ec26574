import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tasks.adapters.agents import processes
from tasks.adapters.agents.session import TerminalAgent
from tasks.adapters.tmux import living_executions
from tasks.domain.agent import Phase
from tasks.domain.errors import (
    AgentCrashed,
    AgentNotReady,
    AgentRefused,
    AgentSilent,
    AskCancelled,
    OutputsMissing,
    WrongPhase,
)
from tests.support.terminal import EXECUTION, Stage, eventually
from tests.tasks.adapters.test_trees import nested

PROMPT = 'Write the plan.\nSignal completion: Write "PHASE_COMPLETE: planning" to output/status.txt\n'


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()


def plan_of(stage: Stage, execution_id: str = EXECUTION):
    plan = stage.workspace(execution_id).plan
    return lambda: None if plan.is_file() else "output/plan.md is missing"


def ask(stage: Stage, agent: TerminalAgent, deadline_s: float = 20, phase: Phase = Phase.PLANNING) -> None:
    agent.ask(phase, PROMPT.replace("planning", phase), plan_of(stage), deadline_s)


def test_an_obedient_agent_is_started_asked_and_done(stage: Stage) -> None:
    agent = stage.agent("obeys")
    agent.start()
    ask(stage, agent)
    assert stage.prompts_taken() == ["planning"]
    assert stage.workspace().status.read_text() == "PHASE_COMPLETE: planning\n"
    assert living_executions(stage.home) == [EXECUTION]


def test_every_phase_is_asked_in_the_same_session_and_old_signals_do_not_count(stage: Stage) -> None:
    agent = stage.agent("obeys")
    agent.start()
    for phase in Phase:
        ask(stage, agent, phase=phase)
        assert stage.workspace().status.read_text() == f"PHASE_COMPLETE: {phase}\n"
    assert stage.prompts_taken() == list(Phase)
    assert sorted(path.name for path in (stage.workspace().root / "prompts").iterdir())[:2] == [
        "01-planning.txt",
        "02-coding.txt",
    ]


def test_a_signal_that_an_earlier_prompt_left_is_not_taken_for_this_one(stage: Stage) -> None:
    stage.workspace().status.write_text("PHASE_COMPLETE: planning\n")
    stage.workspace().plan.write_text("# old plan\n")
    agent = stage.agent("no_signal")
    agent.start()
    with pytest.raises(AgentSilent):
        ask(stage, agent, deadline_s=1)


def test_a_crash_is_told_at_once_with_exit_code_and_last_lines(stage: Stage) -> None:
    agent = stage.agent("crashes")
    agent.start()
    began = time.monotonic()
    with pytest.raises(AgentCrashed) as caught:
        ask(stage, agent, deadline_s=30)
    assert time.monotonic() - began < 2
    assert (caught.value.phase, caught.value.exit_code) == ("planning", 3)
    assert "Traceback: out of ideas" in str(caught.value)


def test_the_exit_code_is_known_even_when_tmux_is_gone(stage: Stage) -> None:
    agent = stage.agent("crashes")
    agent.start()
    with pytest.raises(AgentCrashed):
        ask(stage, agent)
    stage.terminal().kill()
    with pytest.raises(AgentCrashed, match=r"\(exit code 3\).* is gone"):
        ask(stage, agent)


def test_a_program_that_ends_before_it_is_ready_is_a_crash_at_start_up(stage: Stage) -> None:
    with pytest.raises(AgentCrashed, match=r"during start-up \(exit code 7\).*no key found in the configuration"):
        stage.agent("ends_at_once").start()


def test_a_program_that_cannot_be_executed_is_a_crash_at_start_up(stage: Stage) -> None:
    agent = TerminalAgent(stage.runtime(), stage.workspace(), ["/nonexistent/agent", "it's"])
    stage.agents.append(agent)
    with pytest.raises(AgentCrashed, match=r"\(exit code 127\).*/nonexistent/agent"):
        agent.start()


def test_an_agent_that_ended_well_before_it_was_asked_is_a_crash_too(stage: Stage) -> None:
    agent = stage.agent("ends_early")
    try:
        agent.start()
    except AgentCrashed as error:
        assert error.phase == "start-up"  # noqa: PT017 (either call may be the one that sees the end)
    eventually(stage.runtime().exit_code.exists)
    with pytest.raises(AgentCrashed, match=r"during planning \(exit code 0\).*goodbye"):
        ask(stage, agent)
    assert stage.prompts_taken() == []


def test_starting_after_a_crash_brings_up_a_fresh_agent_that_is_prompted_again(stage: Stage) -> None:
    crashing = stage.agent("crashes")
    crashing.start()
    with pytest.raises(AgentCrashed):
        ask(stage, crashing)
    agent = stage.agent("obeys")
    agent.start()
    ask(stage, agent)
    assert stage.prompts_taken() == ["planning", "planning"]


def test_an_agent_that_dies_between_the_line_and_enter_is_a_crash(stage: Stage) -> None:
    agent = stage.agent("dies_before_enter", settle_s=0.5)
    agent.start()
    with pytest.raises(AgentCrashed, match=r"\(exit code 4\).*out of memory"):
        ask(stage, agent)


def test_a_hanging_agent_is_silent_at_the_deadline_and_the_error_says_how_to_look(stage: Stage) -> None:
    agent = stage.agent("hangs")
    agent.start()
    with pytest.raises(AgentSilent) as caught:
        ask(stage, agent, deadline_s=1)
    assert 1 <= caught.value.waited_s < 2
    assert caught.value.last_line == "thinking about it"
    assert caught.value.attach == f"tmux -S {stage.terminal().socket} attach -t =exec_{EXECUTION}"


def test_a_session_is_probed_by_itself_from_any_process(stage: Stage) -> None:
    stage.agent("obeys").start()
    another = stage.agent("obeys")
    another.probe(1)
    pane = stage.terminal().pane()
    assert pane is not None
    processes.end(set(processes.family(pane.pid)), 0, 5)
    with pytest.raises(AgentCrashed, match="during start-up"):
        another.probe(1)


def test_an_agent_that_fills_the_disk_is_refused_more(stage: Stage) -> None:
    agent = stage.agent("hangs", disk_bytes=1 << 20)
    agent.start()
    (stage.workspace().source / "big").write_bytes(b"x" * (2 << 20))
    with pytest.raises(AgentRefused, match="filled more than 1 MB of the disk"):
        ask(stage, agent, deadline_s=20)


def test_an_agent_that_never_takes_prompts_is_not_ready_and_its_screen_is_in_the_error(stage: Stage) -> None:
    with pytest.raises(AgentNotReady, match=r"Please log in: 1\. Subscription 2\. API key"):
        stage.agent("never_ready", ready_within_s=1).start()


def test_the_wrong_phase_is_named(stage: Stage) -> None:
    agent = stage.agent("wrong_phase")
    agent.start()
    began = time.monotonic()
    with pytest.raises(WrongPhase) as caught:
        ask(stage, agent, deadline_s=60)
    assert time.monotonic() - began < 2
    assert caught.value.args == ("planning", "coding")


def test_a_signal_without_outputs_names_what_is_missing(stage: Stage) -> None:
    agent = stage.agent("no_outputs")
    agent.start()
    with pytest.raises(OutputsMissing, match=r"output/plan\.md is missing"):
        ask(stage, agent)


def test_asking_again_after_a_seen_failure_prompts_again(stage: Stage) -> None:
    agent = stage.agent("no_outputs")
    agent.start()
    for _ in range(2):
        with pytest.raises(OutputsMissing):
            ask(stage, agent)
    assert stage.prompts_taken() == ["planning", "planning"]


def test_half_a_line_is_no_signal_until_its_rest_is_written(stage: Stage) -> None:
    agent = stage.agent("half_line")
    agent.start()
    with ThreadPoolExecutor() as pool:
        asking = pool.submit(ask, stage, agent)
        eventually(lambda: '"Stop"' in stage.runtime().events.read_text())
        with pytest.raises(TimeoutError):
            asking.result(0.7)
        stage.allow_to_go_on()
        asking.result(5)


def test_a_signal_in_the_middle_of_the_turn_waits_for_its_end(stage: Stage) -> None:
    agent = stage.agent("signals_early")
    agent.start()
    with ThreadPoolExecutor() as pool:
        asking = pool.submit(ask, stage, agent)
        eventually(stage.workspace().status.exists)
        with pytest.raises(TimeoutError):
            asking.result(0.7)
        stage.allow_to_go_on()
        asking.result(5)


def test_binary_in_the_status_file_is_no_signal(stage: Stage) -> None:
    agent = stage.agent("binary")
    agent.start()
    with pytest.raises(AgentSilent):
        ask(stage, agent, deadline_s=1)


@pytest.mark.parametrize("scenario", ["binary_then_obeys", "floods_events"])
def test_garbage_before_the_signal_does_no_harm(stage: Stage, scenario: str) -> None:
    agent = stage.agent(scenario)
    agent.start()
    ask(stage, agent)


@pytest.mark.parametrize(
    ("scenario", "found"),
    [
        ("symlink", r"output/status\.txt is not a regular file \(l"),
        ("fifo", r"output/status\.txt is not a regular file \(p"),
        ("huge", r"output/status\.txt has 1048601 bytes, 65536 are read at most"),
    ],
)
def test_a_status_file_that_cannot_be_read_is_named_at_once(stage: Stage, scenario: str, found: str) -> None:
    agent = stage.agent(scenario)
    agent.start()
    began = time.monotonic()
    with pytest.raises(OutputsMissing, match=found):
        ask(stage, agent, deadline_s=60)
    assert time.monotonic() - began < 2


def test_a_swallowed_enter_is_pressed_again_and_the_line_is_typed_once(stage: Stage) -> None:
    agent = stage.agent("swallows_first_enter")
    agent.start()
    ask(stage, agent)
    assert stage.prompts_taken() == ["planning"]


def test_enter_does_not_answer_a_question_that_hides_the_line(stage: Stage) -> None:
    agent = stage.agent("shows_a_question", taken_within_s=2)
    agent.start()
    with pytest.raises(AgentNotReady, match=r"no prompt was taken; on its screen: Delete everything\?"):
        ask(stage, agent)
    assert (stage.workspace().source / "enters.log").read_text() == "Enter\n"


def test_a_person_who_scrolls_does_not_keep_the_prompt_from_the_agent(stage: Stage) -> None:
    agent = stage.agent("obeys")
    agent.start()
    stage.terminal()._call("copy-mode", "-t", f"=exec_{EXECUTION}:")
    ask(stage, agent)
    assert stage.prompts_taken() == ["planning"]


def test_starting_twice_keeps_the_first_session(stage: Stage) -> None:
    stage.agent("obeys").start()
    first = stage.terminal().pane()
    stage.agent("obeys").start()
    assert stage.terminal().pane() == first


def test_many_starts_at_once_make_one_session(stage: Stage) -> None:
    agents = [stage.agent("obeys") for _ in range(4)]
    with ThreadPoolExecutor(len(agents)) as pool:
        for starting in [pool.submit(agent.start) for agent in agents]:
            starting.result(30)
    assert stage.runtime().events.read_text().count("SessionStart") == 1


ASKING = """
import sys
from pathlib import Path
from tasks.adapters.agents.runtime import RuntimeFolder
from tasks.adapters.agents.session import TerminalAgent
from tasks.adapters.workspace import Workspace
from tasks.domain.agent import Phase

home, execution, root, prompt, *argv = sys.argv[1:]
agent = TerminalAgent(RuntimeFolder(Path(home), execution), Workspace(Path(root)), argv)
agent.start()
agent.ask(Phase.PLANNING, prompt, lambda: None, 60)
"""


def asking_process(stage: Stage) -> subprocess.Popen[bytes]:
    paths = [str(stage.home), EXECUTION, str(stage.workspace().root), PROMPT]
    return subprocess.Popen([sys.executable, "-c", ASKING, *paths, *stage.argv("slow")], cwd=Path.cwd())


def test_a_killed_asker_leaves_the_agent_working_and_the_next_one_waits_without_prompting_again(stage: Stage) -> None:
    first = asking_process(stage)
    eventually(lambda: stage.prompts_taken() == ["planning"])
    eventually(lambda: '"pasted": true' in (stage.runtime().root / "delivery.json").read_text())
    first.send_signal(signal.SIGKILL)
    first.wait()
    agent = stage.agent("slow")
    agent.start()
    threading.Timer(0.3, stage.allow_to_go_on).start()
    ask(stage, agent)
    assert stage.prompts_taken() == ["planning"]
    assert stage.workspace().status.read_text() == "PHASE_COMPLETE: planning\n"


def test_asking_for_a_phase_that_is_done_returns_without_prompting(stage: Stage) -> None:
    stage.agent("obeys").start()
    ask(stage, stage.agent("obeys"))
    ask(stage, stage.agent("obeys"))
    assert stage.prompts_taken() == ["planning"]


def recorded_before_paste(stage: Stage) -> None:
    """As it is after a kill between the record and the paste: the line waits in its buffer."""
    record = stage.runtime().root / "delivery.json"
    pane = stage.terminal().pane()
    assert pane is not None
    delivery = {
        "identity": processes.identity(pane.pid),
        "phase": "planning",
        "prompt_sha256": hashlib.sha256(PROMPT.encode()).hexdigest(),
        "offset": stage.runtime().events.stat().st_size,
        "buffer": "prompt-0",
        "pasted": False,
        "settled": False,
    }
    stage.workspace().write_prompt("planning", PROMPT)
    stage.terminal().load("prompt-0", stage.runtime().instruction)
    record.write_text(json.dumps(delivery))


def test_a_phase_before_the_last_one_is_not_prompted_for_again_either(stage: Stage) -> None:
    """As when an engine is killed in a step that asks for two phases, after both are done."""
    agent = stage.agent("obeys")
    agent.start()
    for _ in range(2):
        ask(stage, agent)
        ask(stage, agent, phase=Phase.CODING)
    assert stage.prompts_taken() == ["planning", "coding"]


def test_a_phase_whose_outputs_are_gone_is_prompted_for_again(stage: Stage) -> None:
    agent = stage.agent("obeys")
    agent.start()
    ask(stage, agent)
    ask(stage, agent, phase=Phase.CODING)
    stage.workspace().plan.unlink()
    ask(stage, agent)
    assert stage.prompts_taken() == ["planning", "coding", "planning"]


def test_a_prompt_that_was_recorded_but_not_typed_is_typed(stage: Stage) -> None:
    agent = stage.agent("obeys")
    agent.start()
    recorded_before_paste(stage)
    ask(stage, agent)
    assert stage.prompts_taken() == ["planning"]


def test_a_prompt_that_was_typed_without_enter_gets_only_enter(stage: Stage) -> None:
    agent = stage.agent("obeys")
    agent.start()
    recorded_before_paste(stage)
    assert stage.terminal().paste("prompt-0")
    ask(stage, agent)
    assert stage.prompts_taken() == ["planning"]
    assert not any("unexpected" in line for line in agent.screen())


def test_setting_the_flag_ends_the_wait_and_leaves_the_agent_alone(stage: Stage) -> None:
    cancelled = threading.Event()
    agent = stage.agent("slow", cancelled=cancelled)
    agent.start()
    threading.Timer(0.5, cancelled.set).start()
    began = time.monotonic()
    with pytest.raises(AskCancelled):
        ask(stage, agent, deadline_s=60)
    assert time.monotonic() - began < 2
    assert living_executions(stage.home) == [EXECUTION]


def test_stopping_ends_the_wait_of_another_thread(stage: Stage) -> None:
    agent = stage.agent("hangs")
    agent.start()
    with ThreadPoolExecutor() as pool:
        asking = pool.submit(ask, stage, agent, 60)
        eventually(stage.prompts_taken)
        agent.stop()
        assert isinstance(asking.exception(2), AskCancelled)


def test_stopping_while_a_prompt_is_on_its_way_is_no_trouble_with_tmux(stage: Stage) -> None:
    agent = stage.agent("hangs")
    agent.start()
    with ThreadPoolExecutor() as pool:
        asking = pool.submit(ask, stage, agent, 60)
        agent.stop()
        assert isinstance(asking.exception(2), AskCancelled | AgentCrashed)


def test_stopping_ends_everything_in_the_terminal_whatever_it_ignores(stage: Stage) -> None:
    agent = stage.agent("ignores_hangup")
    agent.start()
    pane = stage.terminal().pane()
    assert pane is not None
    eventually(lambda: len(processes.family(pane.pid)) >= 4)
    family = processes.family(pane.pid)
    agent.stop()
    assert [pid for pid in family if processes.identity(pid)] == []
    assert processes.identity(pane.server_pid) is None
    assert living_executions(stage.home) == []


def test_stopping_is_safe_when_there_is_nothing(stage: Stage) -> None:
    agent = stage.agent("obeys")
    agent.stop()
    agent.start()
    agent.stop()
    agent.stop()
    assert agent.screen() == []
    with pytest.raises(AgentCrashed, match="is gone"):
        ask(stage, agent)


def test_a_killed_tmux_server_is_a_crash_and_what_outlives_it_is_ended_by_stop(stage: Stage) -> None:
    agent = stage.agent("ignores_hangup")
    agent.start()
    pane = stage.terminal().pane()
    assert pane is not None
    family = processes.family(pane.pid)
    os.kill(pane.server_pid, signal.SIGKILL)
    with pytest.raises(AgentCrashed, match="is gone"):
        ask(stage, agent)
    agent.stop()
    assert [pid for pid in family if processes.identity(pid)] == []


def test_a_tmux_server_that_does_not_answer_is_named_and_can_be_stopped(stage: Stage) -> None:
    agent = stage.agent("obeys")
    agent.start()
    pane = stage.terminal().pane()
    assert pane is not None
    os.kill(pane.server_pid, signal.SIGSTOP)
    with pytest.raises(AgentNotReady, match="no answer within 5 s"):
        ask(stage, agent)
    agent.stop()
    assert processes.identity(pane.server_pid) is None
    assert stage.processes() == []


def test_nothing_of_our_environment_reaches_the_pane(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-7c1d")
    agent = stage.agent("tells_environment")
    agent.start()
    seen = (stage.workspace().root / "output" / "environ").read_bytes()
    assert b"PATH=" in seen
    assert b"canary-7c1d" not in seen
    pane = stage.terminal().pane()
    assert pane is not None
    assert b"canary-7c1d" not in Path("/proc", str(pane.server_pid), "environ").read_bytes()


def test_a_workspace_that_was_moved_away_is_named(stage: Stage) -> None:
    agent = stage.agent("obeys")
    agent.start()
    workspace = stage.workspace()
    workspace.root.rename(workspace.root.with_name("elsewhere"))
    with pytest.raises(AgentNotReady, match=r"No such file or directory|No path was found"):
        agent.ask(Phase.PLANNING, PROMPT, lambda: None, 5)


def test_the_runtime_folder_is_ours_alone(stage: Stage) -> None:
    stage.agent("obeys").start()
    assert stage.runtime().root.stat().st_mode & 0o777 == 0o700
    assert (stage.home / "run").stat().st_mode & 0o777 == 0o700


def test_a_run_that_ends_leaves_the_agent_that_another_run_has_adopted(stage: Stage) -> None:
    stage.agent("obeys", owner="first").start()
    assert stage.runtime().owner() == "first"
    adopting = stage.agent("obeys", owner="second")
    adopting.start()
    assert stage.runtime().owner() == "second"
    stage.agent("obeys").stop(unless_anothers="first")
    assert living_executions(stage.home) == [EXECUTION]
    ask(stage, adopting)
    stage.agent("obeys").stop(unless_anothers="second")
    assert living_executions(stage.home) == []
    assert stage.runtime().owner() is None


def test_the_owner_is_on_record_before_the_agent_runs_and_outlives_the_process_that_named_it(stage: Stage) -> None:
    agent = stage.agent("ends_at_once", owner="first")
    with pytest.raises(AgentCrashed):
        agent.start()
    assert stage.runtime().owner() == "first"


def test_an_agent_of_no_run_is_ended_by_whoever_cleans_up(stage: Stage) -> None:
    stage.agent("obeys").start()
    assert stage.runtime().owner() is None
    stage.agent("obeys").stop(unless_anothers="first")
    assert stage.processes() == []


def test_what_an_agent_nested_in_its_events_folder_does_not_keep_the_next_one_from_starting(stage: Stage) -> None:
    stage.agent("obeys").start()
    stage.agents[-1].stop()
    nested(stage.runtime().events_folder, 1500)
    agent = stage.agent("obeys")
    agent.start()
    ask(stage, agent)


def test_what_the_terminal_shows_is_told_when_it_is_another_picture(stage: Stage) -> None:
    shown: list[list[str]] = []

    def show(lines: Sequence[str]) -> None:
        shown.append(list(lines))
        if len(shown) == 1:
            raise ConnectionError("the database is away")

    agent = stage.agent("obeys", show=show)
    agent.start()
    for phase in (Phase.PLANNING, Phase.CODING):
        ask(stage, agent, phase=phase)
    assert 2 <= len(shown) <= 8, "each phase's end at least, and not every look"
    assert shown[-1] != shown[0]
    assert any("prompts/current.txt" in line for line in shown[-1])


def test_a_terminal_that_stands_still_is_shown_once_while_its_phase_goes_on(stage: Stage) -> None:
    shown: list[list[str]] = []
    agent = stage.agent("hangs", show=lambda lines: shown.append(list(lines)))
    agent.start()
    with pytest.raises(AgentSilent):
        ask(stage, agent, deadline_s=5)
    assert 1 <= len(shown) <= 2
    assert len({tuple(lines) for lines in shown}) == len(shown)
