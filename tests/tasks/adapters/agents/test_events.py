import json
import os
from pathlib import Path

import pytest

from tasks.adapters.agents.events import CHUNK_BYTES, EventLog, TurnSince, size_of


def line(name: object) -> bytes:
    return json.dumps({"hook_event_name": name}).encode() + b"\n"


def test_events_are_read_once_and_only_as_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    log = EventLog(path)
    assert log.names() == []
    stop = line("Stop")
    path.write_bytes(line("SessionStart") + stop[:7])
    assert log.names() == ["SessionStart"]
    with path.open("ab") as file:
        file.write(stop[7:])
    assert log.names() == ["Stop"]
    assert log.names() == []


GARBAGE = [
    b"\xff\xfe\n",
    b"[[[[\n",
    b"[" * 100_000 + b"\n",
    b'"Stop"\n',
    b"{}\n",
    b'{"hook_event_name": ["Stop"]}\n',
    line(7),
    line("x" * 65),
    b"9" * 5000 + b"\n",
    b"\0\n",
    b"\n",
    b"x" * (3 * CHUNK_BYTES) + b"\n",
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_between_events_is_passed_over(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(line("SessionStart") + garbage + line("Stop"))
    log = EventLog(path)
    assert log.names() == ["SessionStart", "Stop"]


@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "missing"])
def test_what_is_no_regular_file_holds_no_events_and_makes_nobody_wait(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "events.jsonl"
    (tmp_path / "elsewhere").write_bytes(line("Stop"))
    match kind:
        case "link":
            path.symlink_to("elsewhere")
        case "fifo":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
    assert EventLog(path).names() == []
    assert size_of(path) == 0


def test_one_look_at_a_flood_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(line("PreToolUse") * 200_000 + line("Stop"))
    log = EventLog(path)
    assert len(log.names()) < 100_000
    seen: list[str] = []
    while names := log.names():
        seen += names
    assert seen[-1] == "Stop"


def test_a_log_that_became_shorter_is_read_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(line("SessionStart") * 3)
    log = EventLog(path)
    log.names()
    path.write_bytes(line("Stop"))
    assert log.names() == ["Stop"]


def turn_of(tmp_path: Path, *names: str) -> TurnSince:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(map(line, names)))
    turn = TurnSince(EventLog(path))
    turn.look()
    return turn


def test_the_end_of_the_turn_before_is_not_taken_for_the_end_of_this_one(tmp_path: Path) -> None:
    turn = turn_of(tmp_path, "Stop")
    assert (turn.prompt_taken, turn.has_ended) == (False, False)
    turn = turn_of(tmp_path, "Stop", "UserPromptSubmit", "PreToolUse")
    assert (turn.prompt_taken, turn.has_ended) == (True, False)
    assert turn_of(tmp_path, "Stop", "UserPromptSubmit", "PreToolUse", "Stop").has_ended


def test_a_turn_that_goes_on_after_a_stop_has_not_ended(tmp_path: Path) -> None:
    turn = turn_of(tmp_path, "UserPromptSubmit", "Stop", "UserPromptSubmit")
    assert not turn.has_ended


def test_a_look_without_news_changes_nothing(tmp_path: Path) -> None:
    turn = turn_of(tmp_path, "UserPromptSubmit", "Stop")
    turn.look()
    assert turn.has_ended
