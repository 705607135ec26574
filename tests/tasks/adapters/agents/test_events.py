import json
import os
from pathlib import Path
from typing import Any

import pytest

from tasks.adapters.agents.events import CHUNK_BYTES, EventLog, JsonLines, TurnSince, size_of
from tasks.adapters.agents.runtime import RuntimeFolder
from tasks.domain.agent import AgentEvent, AskedQuestion, Turn


def line(name: object, **more: object) -> bytes:
    return json.dumps({"hook_event_name": name, **more}).encode() + b"\n"


def names(log: EventLog) -> list[str]:
    return [event.name for event in log.events()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def only_event(path: Path, **told: object) -> AgentEvent:
    path.write_bytes(line("PermissionRequest", **told))
    (event,) = EventLog(path).events()
    return event


# --- lines -------------------------------------------------------------------------------------------------------


def test_events_are_read_once_and_only_as_whole_lines(path: Path) -> None:
    log = EventLog(path)
    assert names(log) == []
    stop = line("Stop")
    path.write_bytes(line("SessionStart") + stop[:7])
    assert names(log) == ["SessionStart"]
    with path.open("ab") as file:
        file.write(stop[7:])
    assert names(log) == ["Stop"]
    assert names(log) == []
    assert log.offset == path.stat().st_size


GARBAGE = [
    b"\xff\xfe\n",
    b"[[[[\n",
    b"[" * 100_000 + b"\n",
    b'"Stop"\n',
    b"null\n",
    b'[{"hook_event_name": "Stop"}]\n',
    b"{}\n",
    b'{"hook_event_name": ["Stop"]}\n',
    line(7),
    line(""),
    line("\x1b\x07"),
    line("x" * 65),
    b"9" * 5000 + b"\n",
    b"\0\n",
    b"\n",
    b"x" * (3 * CHUNK_BYTES) + b"\n",
    line("Stop", message="x" * (2 * CHUNK_BYTES)),
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_between_events_is_passed_over(path: Path, garbage: bytes) -> None:
    path.write_bytes(line("SessionStart") + garbage + line("Stop"))
    assert names(EventLog(path)) == ["SessionStart", "Stop"]


def test_other_lines_are_handed_on_as_they_are(path: Path) -> None:
    path.write_bytes(b'{"verdict": "deny"}\n7\n{"at": 1}\n{"half": ')
    lines = JsonLines(path)
    assert lines.new() == [{"verdict": "deny"}, {"at": 1}]
    assert lines.new() == []
    assert JsonLines(path, offset=20).new() == [{"at": 1}]
    assert JsonLines(path, until=20).new() == [{"verdict": "deny"}]


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "missing"])
def test_what_is_no_regular_file_holds_no_events_and_makes_nobody_wait(path: Path, kind: str) -> None:
    (path.parent / "elsewhere").write_bytes(line("Stop"))
    match kind:
        case "link":
            path.symlink_to("elsewhere")
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
    assert names(EventLog(path)) == []
    assert size_of(path) == 0


def test_one_look_at_a_flood_is_bounded(path: Path) -> None:
    path.write_bytes(line("PreToolUse") * 80_000 + line("Stop"))
    log = EventLog(path)
    assert len(names(log)) < 70_000
    seen: list[str] = []
    while found := names(log):
        seen += found
    assert seen[-1] == "Stop"


def test_a_log_that_became_shorter_is_read_from_its_start(path: Path) -> None:
    path.write_bytes(line("SessionStart") * 3)
    log = EventLog(path)
    log.events()
    path.write_bytes(line("Stop"))
    assert names(log) == ["Stop"]


# --- what an event says ------------------------------------------------------------------------------------------


def test_what_the_hook_noted_is_what_the_event_says(path: Path) -> None:
    asked = {"header": "Theme", "question": "Dark?", "choices": ["Yes", "No"], "several": True}
    told = {"session_id": "own", "tool": "AskUserQuestion", "about": "a", "kind": "k", "message": "m", "source": "s"}
    assert only_event(path, **told, questions=[asked]) == AgentEvent(
        "PermissionRequest",
        **told,
        questions=(AskedQuestion("Theme", "Dark?", ("Yes", "No"), True),),
    )


HOSTILE = "a\x1b[201~b\u202ec\x00d\x9be\u2066f\r"


def test_nothing_in_an_event_is_obeyed_by_a_terminal_or_a_page(path: Path) -> None:
    fields = ("session_id", "source", "tool", "about", "kind", "message")
    question = {"header": HOSTILE, "question": HOSTILE, "choices": [HOSTILE]}
    event = only_event(path, **dict.fromkeys(fields, HOSTILE), questions=[question])
    assert {getattr(event, name) for name in fields} == {"a[201~bcdef"}
    assert event.questions == (AskedQuestion("a[201~bcdef", "a[201~bcdef", ("a[201~bcdef",)),)
    path.write_bytes(line(HOSTILE))
    assert names(EventLog(path)) == ["a[201~bcdef"]


def test_the_texts_of_an_event_are_cut(path: Path) -> None:
    long = "x" * 2500
    question = {"header": long, "question": long, "choices": [long] * 13}
    event = only_event(path, message=long, about=long, questions=[question] * 5)
    assert len(event.message) == len(event.about) == 2000
    assert len(event.questions) == 4
    assert (len(event.questions[0].header), len(event.questions[0].question)) == (100, 2000)
    assert [len(choice) for choice in event.questions[0].choices] == [200] * 12


ODD: list[Any] = [7, "Dark?", {"question": "Dark?"}, [None], [[]], ["Dark?"], [{}], [{"question": 7, "choices": "No"}]]


@pytest.mark.parametrize("questions", ODD, ids=range(len(ODD)))
def test_questions_of_an_odd_shape_are_empty_ones_at_most(path: Path, questions: Any) -> None:
    event = only_event(path, questions=questions, several="yes", message=7, tool=None)
    assert set(event.questions) <= {AskedQuestion("", "")}
    assert (event.message, event.tool) == ("", "")


def test_only_true_says_that_several_answers_may_be_given(path: Path) -> None:
    assert [only_event(path, questions=[{"several": said}]).questions[0].several for said in (True, 1, "no")] == [
        True,
        False,
        False,
    ]


# --- whose event it is -------------------------------------------------------------------------------------------


def test_events_of_an_agent_that_the_agent_has_started_are_dropped(path: Path) -> None:
    path.write_bytes(line("UserPromptSubmit", session_id="own") + line("Stop", session_id="nested") + line("Notified"))
    assert names(EventLog(path, session_id="own")) == ["UserPromptSubmit", "Notified"]
    assert names(EventLog(path)) == ["UserPromptSubmit", "Stop", "Notified"]


CLEARED = line("SessionStart", session_id="new", source="clear")


def test_after_clear_the_new_id_counts_and_the_old_one_does_not(path: Path) -> None:
    log = EventLog(path, session_id="own")
    path.write_bytes(line("SessionStart", session_id="own") + CLEARED)
    assert names(log) == ["SessionStart", "SessionStart"]
    with path.open("ab") as file:
        file.write(line("Stop", session_id="own") + line("UserPromptSubmit", session_id="new"))
    assert names(log) == ["UserPromptSubmit"]


def test_a_log_that_is_read_from_later_on_knows_of_an_earlier_clear(path: Path) -> None:
    path.write_bytes(line("SessionStart", session_id="own") + CLEARED + line("Stop", session_id="nested") * 20_000)
    offset = size_of(path)
    last = line("SessionStart", session_id="newest", source="clear")
    with path.open("ab") as file:
        file.write(line("UserPromptSubmit", session_id="new") + last + line("Stop", session_id="newest"))
    assert names(EventLog(path, offset, "own")) == ["UserPromptSubmit", "SessionStart", "Stop"]


@pytest.mark.parametrize("clear", [line("SessionStart", source="clear"), line("Stop", source="clear")])
def test_a_clear_that_names_no_session_does_not_let_everybody_in(path: Path, clear: bytes) -> None:
    path.write_bytes(clear)
    log = EventLog(path, session_id="own")
    log.events()
    with path.open("ab") as file:
        file.write(line("Stop", session_id="nested") + line("UserPromptSubmit", session_id="own"))
    assert names(log) == ["UserPromptSubmit"]


# --- one prompt's turn -------------------------------------------------------------------------------------------


def turn_of(path: Path, *names: str) -> TurnSince:
    path.write_bytes(b"".join(map(line, names)))
    turn = TurnSince(EventLog(path))
    turn.look()
    return turn


def test_the_end_of_the_turn_before_is_not_taken_for_the_end_of_this_one(path: Path) -> None:
    turn = turn_of(path, "Stop")
    assert (turn.prompt_taken, turn.has_ended) == (False, False)
    turn = turn_of(path, "Stop", "UserPromptSubmit", "PreToolUse")
    assert (turn.prompt_taken, turn.has_ended) == (True, False)
    assert turn_of(path, "Stop", "UserPromptSubmit", "PreToolUse", "Stop").has_ended


def test_a_turn_that_goes_on_after_a_stop_has_not_ended(path: Path) -> None:
    turn = turn_of(path, "UserPromptSubmit", "Stop", "UserPromptSubmit")
    assert not turn.has_ended


def test_a_look_without_news_changes_nothing(path: Path) -> None:
    turn = turn_of(path, "UserPromptSubmit", "Stop")
    turn.look()
    assert turn.has_ended


def test_a_permission_that_is_asked_for_is_waited_for_and_remembered(path: Path) -> None:
    path.write_bytes(line("UserPromptSubmit") + line("PermissionRequest", tool="Bash", about="rm -r /"))
    turn = TurnSince(EventLog(path))
    turn.look()
    assert turn.turn is Turn.WAITING
    assert turn.last == AgentEvent("PermissionRequest", tool="Bash", about="rm -r /")
    with path.open("ab") as file:
        file.write(line("Notification"))
    turn.look()
    assert (turn.turn, turn.last.tool) == (Turn.WAITING, "Bash")


def test_after_a_failed_turn_its_reason_is_remembered(path: Path) -> None:
    path.write_bytes(line("UserPromptSubmit") + line("StopFailure", kind="rate_limit") + line("Notification"))
    turn = TurnSince(EventLog(path))
    turn.look()
    assert turn.has_ended
    assert turn.last == AgentEvent("StopFailure", kind="rate_limit")


# --- the status line's file --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "dollars"),
    [
        (b'{"dollars": 1.5}', 1.5),
        (b'{"dollars": 2}', 2.0),
        (b'{"dollars": 1' + b"0" * 4000 + b"}", float("inf")),
        *((text, 0.0) for text in (b"", b"[]", b"{", b'{"dollars": "9"}', b'{"dollars": null}', b"[" * 60_000)),
    ],
    ids=range(9),
)
def test_the_status_file_can_say_anything_and_a_number_is_read(tmp_path: Path, status: bytes, dollars: float) -> None:
    runtime = RuntimeFolder(tmp_path, "a1b2c3d4_sess20260124143022")
    assert runtime.dollars() == 0
    runtime.events_folder.mkdir(parents=True)
    (runtime.events_folder / "status.json").write_bytes(status)
    assert runtime.dollars() == dollars
