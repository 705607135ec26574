import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.adapters.tmux import TmuxError, TmuxSession, living_executions
from tests.support.terminal import EXECUTION, Stage, eventually

ONE, TEN = "a1b2c3d4_sess20260124143022-1", "a1b2c3d4_sess20260124143022-10"
ECHO = ["/bin/sh", "-c", 'echo ready; while read -r line; do echo "got <$line>"; done']


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    for terminal in [stage.terminal(), stage.terminal(ONE), stage.terminal(TEN)]:
        terminal.kill()
    eventually(lambda: not stage.processes())
    stage.close()


def started(stage: Stage, command: list[str], execution_id: str = EXECUTION) -> TmuxSession:
    terminal = stage.terminal(execution_id)
    terminal.start(command, stage.home)
    return terminal


def line_file(stage: Stage, text: str) -> Path:
    path = stage.home / "line.txt"
    path.write_text(text)
    return path


def test_a_program_that_ends_at_once_keeps_its_pane_and_its_last_words(stage: Stage) -> None:
    # It stays a moment, as our wrapper does: tmux 3.3a closes a terminal that it has not read to its end.
    terminal = started(stage, ["/bin/sh", "-c", "echo last words; sleep 0.2; exit 3"])
    # tmux 3.3a sometimes does not learn the exit code of a program that ended this fast; the wrapper's file has it.
    eventually(lambda: (pane := terminal.pane()) and pane.dead and pane.exit_code in (3, None), within_s=30)
    assert terminal.screen(10) == ["last words"]


def test_the_pane_has_the_size_that_agents_are_drawn_for_and_no_status_line(stage: Stage) -> None:
    terminal = started(stage, ["/bin/sh", "-c", "stty size; sleep 60"])
    eventually(lambda: terminal.screen(5) == ["50 220"])


def test_a_person_with_a_small_terminal_does_not_resize_the_pane(stage: Stage) -> None:
    terminal = started(stage, ["/bin/sh", "-c", "while read -r line; do stty size; done"])
    program = f"import pty, sys; sys.exit(pty.spawn({terminal.attach_command().split()!r}))"
    person = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env={"TERM": "xterm", "PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
    )
    try:
        eventually(lambda: terminal._call("list-clients", "-F", "#{client_width}"))
        terminal.press_enter()
        eventually(lambda: "50 220" in terminal.screen(5))
    finally:
        person.kill()
        person.wait()


def test_a_line_is_typed_from_a_file_and_enter_comes_apart(stage: Stage) -> None:
    terminal = started(stage, ECHO)
    eventually(lambda: terminal.screen(5) == ["ready"])
    terminal.load("line", line_file(stage, "a 'b' \"c\" $HOME; !kill #{pid} -x"))
    assert terminal.holds("line")
    assert terminal.paste("line")
    assert not terminal.holds("line")
    eventually(lambda: "kill #{pid}" in terminal.visible())
    assert "got" not in terminal.visible()
    terminal.press_enter()
    eventually(lambda: "got <a 'b' \"c\" $HOME; !kill #{pid} -x>" in terminal.screen(5))


def test_nothing_is_typed_into_a_dead_pane_and_its_server_survives(stage: Stage) -> None:
    terminal = started(stage, ["/bin/sh", "-c", "exit 0"])
    eventually(lambda: (pane := terminal.pane()) and pane.dead)
    terminal.load("line", line_file(stage, "hello"))
    assert not terminal.paste("line")
    terminal.press_enter()
    assert terminal.pane() is not None


def test_a_name_that_begins_like_another_reaches_only_itself(stage: Stage) -> None:
    """On one server, where tmux would match the prefix; each execution has a server of its own besides."""
    ten = started(stage, ECHO, TEN)
    one = TmuxSession(stage.home, ONE)
    one.socket = ten.socket
    assert one.pane() is None
    one.load("line", line_file(stage, "for one"))
    with pytest.raises(TmuxError):
        one.paste("line")
    with pytest.raises(TmuxError):
        one.press_enter()
    with pytest.raises(TmuxError):
        one.screen(5)
    one.kill()
    assert ten.pane() is not None
    assert "for one" not in ten.visible()


def test_two_executions_have_two_servers(stage: Stage) -> None:
    one, ten = started(stage, ECHO, ONE), started(stage, ECHO, TEN)
    assert one.socket != ten.socket
    assert sorted(living_executions(stage.home)) == [ONE, TEN]
    one.kill()
    assert living_executions(stage.home) == [TEN]
    pane = ten.pane()
    assert pane is not None
    assert not pane.dead


def test_a_second_start_under_the_same_name_is_refused(stage: Stage) -> None:
    started(stage, ECHO)
    with pytest.raises(TmuxError, match="duplicate session"):
        stage.terminal().start(ECHO, stage.home)


def test_a_socket_that_belongs_to_another_execution_is_refused(stage: Stage) -> None:
    ten = started(stage, ECHO, TEN)
    one = TmuxSession(stage.home, ONE)
    one.socket = ten.socket
    with pytest.raises(TmuxError, match=f"belongs to exec_{TEN}"):
        one.start(ECHO, stage.home)


def test_killing_is_safe_where_there_is_nothing_and_leaves_no_socket(stage: Stage) -> None:
    terminal = stage.terminal()
    terminal.kill()
    terminal.start(ECHO, stage.home)
    terminal.kill()
    terminal.kill()
    assert not terminal.socket.exists()
    assert terminal.pane() is None


def test_a_socket_that_nobody_answers_on_is_no_session(stage: Stage) -> None:
    terminal = stage.terminal()
    terminal.socket.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as forgotten:
        forgotten.bind(str(terminal.socket))
    (stage.home / "run" / "0123abcd").write_text("not a socket")
    assert living_executions(stage.home) == []
    assert terminal.pane() is None
    terminal.start(ECHO, stage.home)
    assert living_executions(stage.home) == [EXECUTION]


def test_a_home_whose_path_is_too_long_for_a_socket_is_named(stage: Stage) -> None:
    deep = stage.home / ("d" * 100)
    deep.mkdir()
    with pytest.raises(TmuxError, match=r"has a path of \d{3} bytes, 107 are allowed; set TMUX_BUILDER_HOME"):
        TmuxSession(deep, EXECUTION).start(ECHO, stage.home)


def test_a_missing_tmux_is_named(stage: Stage) -> None:
    with pytest.raises(TmuxError, match="No such file or directory: '/nonexistent/tmux'"):
        TmuxSession(stage.home, EXECUTION, "/nonexistent/tmux").start(ECHO, stage.home)


def test_the_screen_is_text_without_anything_that_a_terminal_would_obey(stage: Stage) -> None:
    colours, letters = r"\033[31mred\033[0m", r"\342\200\256exe.gnp caf\303\251 \342\234\223"
    escapes = rf"printf '\033]52;c;c3RvbGVu\007\033]2;title\007{colours} {letters}\n'"
    terminal = started(stage, ["/bin/sh", "-c", f"{escapes}; sleep 60"])
    eventually(lambda: terminal.screen(5))
    assert terminal.screen(5) == ["red exe.gnp café ✓"]
    assert terminal._call("list-buffers") == []


def test_the_screen_reaches_back_over_what_scrolled_out(stage: Stage) -> None:
    terminal = started(stage, ["/bin/sh", "-c", "seq 1 300; sleep 60"])
    eventually(lambda: terminal.screen(1) == ["300"])
    assert terminal.screen(100) == [str(number) for number in range(201, 301)]


def test_a_person_who_attaches_cannot_open_a_shell_beside_the_agent(stage: Stage) -> None:
    terminal = started(stage, ECHO)
    keys = terminal._call("list-keys", "-T", "prefix")
    assert sorted(line.split()[3] for line in keys) == ["[", "d"]


def test_people_are_told_how_to_look_and_how_to_look_only(stage: Stage) -> None:
    terminal = stage.terminal()
    assert terminal.attach_command() == f"tmux -S {terminal.socket} attach -t =exec_{EXECUTION}"
    assert terminal.attach_command(read_only=True) == f"tmux -S {terminal.socket} attach -r -t =exec_{EXECUTION}"


def test_no_call_reaches_the_tmux_of_the_person_who_runs_this(stage: Stage) -> None:
    """A program in tmux's place writes down every call; each names our socket."""
    calls, shim = stage.home / "calls", stage.home / "shim"
    shim.write_text(f'#!/bin/sh\necho "$*" >> {calls}\nexec tmux "$@"\n')
    shim.chmod(0o700)
    terminal = TmuxSession(stage.home, EXECUTION, str(shim))
    terminal.start(ECHO, stage.home)
    terminal.pane()
    terminal.load("line", line_file(stage, "hello"))
    terminal.holds("line")
    terminal.paste("line")
    terminal.press_enter()
    terminal.screen(5)
    terminal.visible()
    living_executions(stage.home, str(shim))
    terminal.kill()
    seen = calls.read_text().splitlines()
    assert len(seen) > 9
    assert [call for call in seen if f" -S {terminal.socket} " not in call] == []


def test_a_default_server_of_the_same_user_with_the_same_session_name_is_left_alone(stage: Stage) -> None:
    folder = stage.home / "persons-tmux"
    folder.mkdir()
    theirs = {"TMUX_TMPDIR": str(folder), "PATH": os.environ["PATH"], "TERM": "xterm"}
    name = f"exec_{EXECUTION}"
    subprocess.run(["tmux", "-f", "/dev/null", "new-session", "-d", "-s", name, "cat"], env=theirs, check=True)
    try:
        terminal = started(stage, ECHO)
        terminal.load("line", line_file(stage, "hello"))
        terminal.paste("line")
        terminal.kill()
        shown = subprocess.run(["tmux", "capture-pane", "-p"], env=theirs, check=True, capture_output=True, text=True)
        assert shown.stdout.strip() == ""
    finally:
        subprocess.run(["tmux", "kill-server"], env=theirs, check=True)
