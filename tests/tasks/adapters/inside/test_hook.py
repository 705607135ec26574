"""The hook program, run as Claude Code's command line runs it."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tasks.adapters.agents.events import CHUNK_BYTES, EventLog

HOOK = Path(__file__).parents[4] / "tasks" / "adapters" / "inside" / "hook.py"
COMMAND = (sys.executable, "-I", "-S", str(HOOK))
COMMON = {"session_id": "7f8e-own", "transcript_path": "/x.jsonl", "cwd": "/workspace", "permission_mode": "default"}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def hooked(given: bytes, *arguments: object) -> str:
    """What it prints; it may print on stderr nothing, and never fails."""
    done = subprocess.run([*COMMAND, *map(str, arguments)], input=given, capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


def noted(path: Path, event: Mapping[str, Any]) -> dict[str, Any]:
    assert hooked(json.dumps(event).encode(), path) == ""
    text = path.read_bytes()
    assert text.endswith(b"\n")
    assert text.count(b"\n") == 1
    assert len(text) < 40_000
    line = json.loads(text)
    assert isinstance(line.pop("at"), float)
    assert line.pop("session_id") == "7f8e-own"
    return dict(line)


# --- events ------------------------------------------------------------------------------------------------------

BASH = {"tool_name": "Bash", "tool_input": {"command": "ls  -la\n| wc", "description": "Count"}}
ASKED = {
    "questions": [
        {
            "header": "Theme",
            "question": "Dark or light?",
            "options": [{"label": "Dark", "description": "…"}, {"label": "Light"}],
            "multiSelect": False,
        }
    ]
}
SHOWN = {"header": "Theme", "question": "Dark or light?", "choices": ["Dark", "Light"], "several": False}

EVENTS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("SessionStart", {"source": "startup", "model": "x"}, {"source": "startup"}),
    ("UserPromptSubmit", {"prompt": "Read and execute"}, {"about": "Read and execute"}),
    ("PreToolUse", BASH, {"tool": "Bash", "about": "ls -la ⏎ | wc"}),
    ("PermissionRequest", BASH, {"tool": "Bash", "about": "ls -la ⏎ | wc"}),
    ("PostToolUse", {**BASH, "tool_response": {"stdout": "7"}}, {"tool": "Bash", "about": "ls -la ⏎ | wc"}),
    ("PostToolUseFailure", {**BASH, "error": "exit 1"}, {"tool": "Bash", "about": "ls -la ⏎ | wc", "kind": "exit 1"}),
    (
        "PermissionRequest",
        {"tool_name": "AskUserQuestion", "tool_input": ASKED},
        {"tool": "AskUserQuestion", "questions": [SHOWN]},
    ),
    (
        "Notification",
        {"notification_type": "permission_prompt", "message": "Claude needs you"},
        {"kind": "permission_prompt", "message": "Claude needs you"},
    ),
    ("Stop", {"stop_hook_active": False, "last_assistant_message": "Done."}, {"message": "Done."}),
    (
        "StopFailure",
        {"error": "rate_limit", "error_details": "429", "last_assistant_message": ""},
        {"kind": "rate_limit", "message": "429"},
    ),
    ("SessionEnd", {"reason": "clear"}, {"kind": "clear"}),
]


@pytest.mark.parametrize(("name", "given", "expected"), EVENTS, ids=[name for name, _, _ in EVENTS])
def test_each_event_is_one_short_line(path: Path, name: str, given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert noted(path, {**COMMON, "hook_event_name": name, **given}) == {"hook_event_name": name, **expected}
    (event,) = EventLog(path, session_id="7f8e-own").events()
    assert event.name == name


def test_long_texts_are_cut(path: Path) -> None:
    told = {"tool_name": "x" * 5000, "tool_input": {"command": "x" * 5000}, "message": "x" * 5000, "error": "x" * 5000}
    line = noted(path, {**COMMON, "hook_event_name": "x" * 5000, **told})
    assert line.pop("about") == "x" * 300 + "… (4700 more characters)"
    lengths = {"hook_event_name": 64, "tool": 100, "kind": 100, "message": 2000}
    assert {name: len(value) for name, value in line.items()} == lengths


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("\n\n ls \r\n\n\trm -r  x\n", "ls ⏎ rm -r x"),
        ("ls\x0brm\u2028x\x85y", "ls ⏎ rm ⏎ x ⏎ y"),
        ("x" * 300, "x" * 300),
        ("ls" + " " * 400 + "rm", "ls rm"),
        ("ls\n" * 100 + "rm", "ls ⏎ " * 60 + "… (202 more characters)"),
    ],
)
def test_who_decides_on_a_command_sees_its_lines_and_that_it_is_cut(path: Path, command: str, told: str) -> None:
    """A second line must not read as an argument of the first, and an end out of sight must not read as none."""
    asked = {"tool_name": "Bash", "tool_input": {"command": command}}
    assert noted(path, {**COMMON, "hook_event_name": "PermissionRequest", **asked})["about"] == told


def test_five_megabytes_that_are_written_and_told_three_times_are_a_short_line(path: Path) -> None:
    text = "<p>ä</p>\n" * 600_000
    written = {"file_path": "/workspace/output/a.html", "content": text}
    response = {"filePath": "/workspace/output/a.html", "content": text, "originalFile": text}
    event = {**COMMON, "hook_event_name": "PostToolUse", "tool_name": "Write", "tool_input": written}
    assert noted(path, {**event, "tool_response": response})["about"] == "/workspace/output/a.html"
    assert path.stat().st_size < 300


LONG = "👋" * 3000
MANY = {"header": LONG, "question": LONG, "options": [{"label": LONG}] * 30}


def test_a_line_that_would_be_long_tells_only_what_happened(path: Path) -> None:
    asked = {"tool_name": "AskUserQuestion", "tool_input": {"questions": [MANY] * 9}, "source": "s", "message": LONG}
    expected = {"hook_event_name": "PermissionRequest", "tool": "AskUserQuestion", "source": "s"}
    assert noted(path, {**COMMON, "hook_event_name": "PermissionRequest", **asked}) == expected


def test_a_long_line_of_an_event_that_lacks_its_names_is_a_line(path: Path) -> None:
    asked = {"tool_name": "AskUserQuestion", "tool_input": {"questions": [MANY] * 9}}
    assert hooked(json.dumps(asked).encode(), path) == ""
    assert set(json.loads(path.read_bytes())) == {"at", "tool"}


def test_the_longest_line_is_one_that_the_reader_takes(path: Path) -> None:
    for length in range(0, 3000, 250):
        question = {"question": "👋" * length, "options": [{"label": "👋" * 20}] * 12}
        asked = {"tool_name": "AskUserQuestion", "tool_input": {"questions": [question] * 2}}
        hooked(json.dumps({**COMMON, "hook_event_name": "PermissionRequest", **asked}).encode(), path)
    assert max(map(len, path.read_bytes().splitlines())) < CHUNK_BYTES // 4
    assert [event.tool for event in EventLog(path).events()] == ["AskUserQuestion"] * 12


@pytest.mark.parametrize(
    "questions",
    [
        7,
        "Dark?",
        {"0": {}},
        None,
        [7, None, []],
        [{}],
        [{"options": None}],
        [{"options": {"a": 1}}],
        [{"options": [7]}],
    ],
    ids=range(9),
)
def test_questions_of_an_odd_shape_do_not_cost_the_line(path: Path, questions: object) -> None:
    asked = {"tool_name": "AskUserQuestion", "tool_input": {"questions": questions}}
    assert noted(path, {**COMMON, "hook_event_name": "PermissionRequest", **asked})["tool"] == "AskUserQuestion"


# --- what it must never do ---------------------------------------------------------------------------------------

GARBAGE = [
    b"",
    b"\n",
    b"{",
    b"7",
    b"null",
    b'"Stop"',
    b"[]",
    b"\xff\xfe\x00",
    b"[" * 200_000,
    b"9" * 5000,
    b'{"hook_event_name": "St',
    b"x" * (70 << 20),
]


@pytest.mark.parametrize("given", GARBAGE, ids=range(len(GARBAGE)))
def test_what_is_no_event_is_no_line(path: Path, given: bytes) -> None:
    assert hooked(given, path) == ""
    assert not path.exists()
    assert hooked(given, "--status", path) == ""
    assert list(path.parent.iterdir()) == []


ODD = [
    {},
    {"hook_event_name": 7, "session_id": ["own"], "tool_input": 7, "message": {}},
    {"hook_event_name": "Stop", "message": "\ud800\u202e\x00\x1b[2J"},
    {"tool_name": "Bash", "tool_input": {"command": ["ls"], "description": None}},
]


@pytest.mark.parametrize("given", ODD, ids=range(len(ODD)))
def test_an_event_of_an_odd_shape_is_a_whole_line_at_most(path: Path, given: dict[str, Any]) -> None:
    assert hooked(json.dumps(given).encode(), path) == ""
    assert path.read_bytes().isascii()
    assert path.read_bytes().count(b"\n") == 1
    assert isinstance(json.loads(path.read_bytes()), dict)


STOP = json.dumps({**COMMON, "hook_event_name": "Stop"}).encode()
STATUS = json.dumps({**COMMON, "version": "2", "model": {"id": "m"}, "cost": {"total_cost_usd": 0.5}}).encode()


@pytest.mark.parametrize("arguments", [(), ("--status",)], ids=["event", "status"])
def test_a_missing_folder_is_not_made_and_not_complained_of(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert hooked(STOP, *arguments, tmp_path / "gone" / "file") == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", ["file", "gone"])
def test_a_link_is_not_followed(path: Path, target: str) -> None:
    (path.parent / "file").write_bytes(b"ours")
    path.symlink_to(path.parent / target)
    assert hooked(STOP, path) == ""
    assert path.is_symlink()
    hooked(STATUS, "--status", path)
    assert (path.parent / "file").read_bytes() == b"ours"
    assert not (path.parent / "gone").exists()


@pytest.mark.parametrize("arguments", [(), ("--status",)], ids=["none", "only --status"])
def test_too_few_arguments_are_not_complained_of(arguments: tuple[str, ...]) -> None:
    assert hooked(STOP, *arguments) == ""


def test_twenty_at_once_are_twenty_whole_lines(path: Path) -> None:
    event = {**COMMON, "hook_event_name": "PostToolUse", "tool_name": "Bash"}
    running = []
    for number in range(20):
        told = {**event, "tool_input": {"command": f"{number}"}, "message": "👋" * 2000}
        process = subprocess.Popen([*COMMAND, str(path)], stdin=subprocess.PIPE)
        running.append((process, json.dumps(told).encode()))
    for process, told_bytes in running:  # all of them wait for this
        assert process.stdin is not None
        process.stdin.write(told_bytes)
        process.stdin.close()
    assert [process.wait(60) for process, _ in running] == [0] * 20
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert sorted(int(line["about"]) for line in lines) == list(range(20))


def test_it_needs_nothing_but_the_standard_library(tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "hook.py"
    copy.parent.mkdir()
    copy.write_bytes(HOOK.read_bytes())
    done = subprocess.run([*COMMAND[:-1], copy, tmp_path / "events"], input=STOP, capture_output=True, cwd="/", env={})
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert json.loads((tmp_path / "events").read_bytes())["hook_event_name"] == "Stop"


# --- the status line ---------------------------------------------------------------------------------------------


def test_the_status_is_one_line_for_people_and_a_file_for_the_pipeline(path: Path) -> None:
    path.write_bytes(b"old")
    with path.open("rb") as reader:
        assert hooked(STATUS, "--status", path) == "m · $0.50 · tmux-builder\n"
        assert reader.read() == b"old"  # who reads the old one keeps it whole
    assert json.loads(path.read_bytes()) == {"session_id": "7f8e-own", "version": "2", "model": "m", "dollars": 0.5}
    assert [found.name for found in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "told",
    [{}, {"cost": 7, "model": "m"}, {"cost": {"total_cost_usd": "9"}, "model": {"id": 7}}, {"model": {"id": "\ud800"}}],
    ids=range(4),
)
def test_a_status_of_an_odd_shape_says_nothing_of_it(path: Path, told: dict[str, Any]) -> None:
    hooked(json.dumps(told).encode(), "--status", path)
    assert json.loads(path.read_bytes())["dollars"] == 0


def test_a_cost_that_is_no_sum_of_money_is_not_complained_of(path: Path) -> None:
    for cost in ("1" + "0" * 4000, "1e999", "NaN", "-1"):
        hooked(b'{"cost": {"total_cost_usd": %s}}' % cost.encode(), "--status", path)


def test_what_another_was_writing_is_not_in_the_way(path: Path) -> None:
    path.with_name(f"{path.name}.new").mkdir()
    assert hooked(STATUS, "--status", path) == "m · $0.50 · tmux-builder\n"


def test_the_status_is_whole_at_every_moment(path: Path) -> None:
    """Several at once, of different lengths: each of them writes a file of its own."""
    running = []
    for number in range(12):
        told = {"version": "v" * (number * 5), "model": {"id": "m"}}
        process = subprocess.Popen([*COMMAND, "--status", str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        running.append((process, json.dumps(told).encode()))
    for process, told_bytes in running:
        assert process.stdin is not None
        process.stdin.write(told_bytes)
        process.stdin.close()
        process.stdin = None
    while any(process.poll() is None for process, _ in running):
        if path.exists():
            json.loads(path.read_bytes())
    assert [process.communicate()[0].decode() for process, _ in running] == ["m · $0.00 · tmux-builder\n"] * 12
    assert [found.name for found in path.parent.iterdir()] == [path.name]
