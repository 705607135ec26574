"""What the real CLI left in its files, as `tests.support.agent_cases` recorded it, is read as the state that it was."""

import json
from pathlib import Path

import pytest

from tasks.adapters.agents.claude import PINNED
from tasks.adapters.agents.events import EventLog, JsonLines, TurnSince, passage_of
from tasks.domain.agent import signalled_phases
from tasks.domain.agent_state import Doing, Evidence, read_state, worded
from tests.support.agent_cases import CASES, SITUATIONS

NAMES = sorted(folder.name for folder in CASES.iterdir())


def evidence(folder: Path, **more: object) -> Evidence:
    case = json.loads((folder / "case.json").read_text())
    turn = TurnSince(EventLog(folder / "events.jsonl", 0, case["session_id"]))
    turn.look()
    passages = [passage_of(line) for line in JsonLines(folder / "egress.jsonl").new()]
    told = json.loads((folder / "status.json").read_text() or "{}")
    found: dict[str, object] = {
        "phase": "planning",
        "turn": turn.turn,
        "last": turn.last,
        "signals": tuple(signalled_phases((folder / "status.txt").read_bytes())),
        "passages": tuple(each for each in passages if each is not None and each.verdict in ("model", "budget")),
        "dollars": told.get("dollars", 0.0),
        "dollars_allowed": case["dollars_allowed"],
    }
    return Evidence(**{**found, **more})  # type: ignore[arg-type]


def test_each_state_has_a_case_of_the_version_that_this_was_made_with() -> None:
    assert {"crashed", *SITUATIONS} == set(NAMES)
    assert {json.loads((CASES / name / "case.json").read_text())["version"] for name in NAMES} == {PINNED}


@pytest.mark.parametrize("name", [name for name in NAMES if name != "crashed"])
def test_the_state_is_read(name: str) -> None:
    case = json.loads((CASES / name / "case.json").read_text())
    state = read_state(evidence(CASES / name))
    assert state.doing is Doing[case["doing"]]
    assert case["words"] in worded(state)
    assert state.next_move or state.doing is not Doing.REFUSED


def test_one_that_was_killed_has_crashed_with_its_exit_code_and_its_screen() -> None:
    case = json.loads((CASES / "crashed" / "case.json").read_text())
    end = {"ended": True, "exit_code": case["exit_code"], "last_lines": tuple(case["last_lines"])}
    state = read_state(evidence(CASES / "crashed", **end))
    assert (state.doing, state.exit_code) == (Doing.CRASHED, 137)
    assert "tmux-builder" in "".join(state.last_lines)


def test_one_that_works_on_past_its_deadline_is_silent() -> None:
    assert read_state(evidence(CASES / "working", overdue=True)).doing is Doing.SILENT


def test_before_its_prompt_it_is_starting(tmp_path: Path) -> None:
    for file in (CASES / "working").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    first = (tmp_path / "events.jsonl").read_bytes().splitlines(keepends=True)[:1]
    (tmp_path / "events.jsonl").write_bytes(b"".join(first))
    assert read_state(evidence(tmp_path)).doing is Doing.STARTING


def test_an_agent_within_the_agent_is_in_the_record_and_does_not_count() -> None:
    sessions = {event.session_id for event in EventLog(CASES / "nested" / "events.jsonl").events()}
    assert len(sessions) == 2
    case = json.loads((CASES / "nested" / "case.json").read_text())
    stray = [event for event in EventLog(CASES / "nested" / "events.jsonl").events() if event.name == "Stop"]
    assert stray, "the nested one has stopped"
    assert all(event.session_id != case["session_id"] for event in stray)
