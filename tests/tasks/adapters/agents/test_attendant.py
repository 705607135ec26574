"""What is typed, when, and what is not: the attendant at a terminal that is only a record of keys.

The real terminal, with the real program in it, is in test_claude.py.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.adapters.agents.attendant import REMIND_AFTER_S, Attendant, choice
from tasks.adapters.agents.events import EventLog, TurnSince
from tasks.adapters.workspace import Workspace
from tasks.domain.agent import REMINDER, AskedQuestion, Turn, message_line
from tasks.domain.agent_state import AgentState, Doing
from tests.support.claude_stage import Desk

IDLE, DONE, WORKING = AgentState(Doing.IDLE), AgentState(Doing.DONE), AgentState(Doing.WORKING)
PERMISSION = AgentState(Doing.PERMISSION, "may it use Bash: make?")
DIALOG = " Esc to cancel · Tab to amend"


class Terminal:
    """Keys that were pressed, lines that were pasted; ``shown`` is the last line of its screen."""

    def __init__(self) -> None:
        self.keys: list[str] = []
        self.pasted: list[str] = []
        self.shown, self._line = "", ""
        self.looks = 0

    def screen(self, _lines: int) -> list[str]:
        self.looks += 1
        return [self.shown]

    def visible(self) -> str:
        return self.shown

    def load(self, _buffer: str, path: Path) -> None:
        self._line = path.read_text()

    def paste(self, _buffer: str) -> bool:
        self.pasted.append(self._line)
        self.shown = f"> {self._line}"
        return True

    def press(self, key: str) -> None:
        self.keys.append(key)

    def press_enter(self) -> None:
        self.keys.append("Enter")


class Room:
    """An attendant with a clock that the test moves."""

    def __init__(self, folder: Path, remind: bool = False) -> None:
        self.terminal, self.desk, self.now = Terminal(), Desk(), 100.0
        workspace = Workspace.of(folder, "user", "session")
        workspace.lay_out()
        self.prompts = workspace.root / "prompts"
        self.turn = TurnSince(EventLog(folder / "none.jsonl"))
        self._attendant = Attendant(self.terminal, workspace, folder, self.desk, remind, lambda: self.now)  # type: ignore[arg-type]

    def look(self, state: AgentState, after_s: float = 1.0) -> None:
        self.now += after_s
        self._attendant.look(state, self.turn)

    @property
    def is_giving(self) -> bool:
        return self._attendant.is_giving

    @property
    def pause_s(self) -> float:
        return self._attendant.pause_s

    def take(self) -> None:
        """The agent's hook tells that it took the line."""
        self.turn.prompts += 1
        self.turn.taken.add(self.terminal.pasted[-1])
        self.terminal.shown = ""

    def waits(self) -> None:
        self.turn._turn = Turn.WAITING
        self.terminal.shown = DIALOG


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    return Room(tmp_path)


def test_what_is_said_while_it_works_is_given_when_it_is_done_before_the_phase_ends(room: Room) -> None:
    room.desk.say("make the footer dark")
    room.look(WORKING)
    assert room.terminal.pasted == []
    room.look(DONE, after_s=0.01)
    assert room.terminal.pasted == [message_line(1)]
    assert room.is_giving
    room.take()
    room.look(WORKING)
    assert (room.desk.done, room.is_giving) == ([1], False)
    assert "make the footer dark" in (room.prompts / "message-000001.txt").read_text()


def test_at_the_end_of_a_phase_nothing_more_to_say_is_the_end(room: Room) -> None:
    room.look(DONE)
    assert not room.is_giving


def test_many_are_given_one_after_another_without_a_pause(room: Room) -> None:
    for number in range(3):
        room.desk.say(str(number))
    for _ in range(3):
        room.look(IDLE, after_s=0.3)
        room.take()
        room.look(WORKING, after_s=0.01)
    assert room.desk.done == [1, 2, 3]


def test_an_agent_that_waits_gets_a_message_within_a_tenth_of_a_second_and_its_enter_soon_after(room: Room) -> None:
    room.look(IDLE)
    room.desk.say("hello")
    assert room.pause_s <= 0.1
    room.look(IDLE, after_s=room.pause_s)
    assert room.terminal.pasted == [message_line(1)]
    for _ in range(5):
        assert room.pause_s <= 0.02
        room.look(IDLE, after_s=room.pause_s)
    assert room.terminal.keys == ["Enter"]


def test_while_it_works_messages_are_looked_for_once_a_second(room: Room) -> None:
    room.look(WORKING)
    room.desk.say("stop", interrupt=True)
    for _ in range(9):
        room.look(WORKING, after_s=0.1)
    assert room.terminal.keys == []
    room.look(WORKING, after_s=0.2)
    assert room.terminal.keys == ["Escape"]


def test_a_dialogs_screen_is_looked_at_twice_a_second_and_before_its_key(room: Room) -> None:
    room.waits()
    for _ in range(20):
        room.look(PERMISSION, after_s=0.1)
    assert 4 <= room.terminal.looks <= 5
    room.terminal.shown = "running…"
    room.desk.say("yes")
    room.look(PERMISSION, after_s=0.1)
    assert room.terminal.keys == []


def test_a_dialog_gets_its_key_only_while_it_is_on_the_screen(room: Room) -> None:
    room.waits()
    room.look(PERMISSION)
    room.desk.say("yes")
    room.look(PERMISSION)
    assert room.terminal.keys == ["1"]
    room.terminal.shown = "running…"
    room.look(PERMISSION)
    assert room.turn.turn is Turn.WORKING
    assert room.terminal.keys == ["1"]


def test_a_remark_after_the_answer_does_not_end_what_was_permitted(room: Room) -> None:
    room.waits()
    room.desk.say("yes")
    room.look(PERMISSION)
    room.terminal.shown = "running…"
    room.desk.say("and make the footer dark")
    for _ in range(10):
        room.look(PERMISSION)
    assert room.terminal.keys == ["1"]


def test_a_dialog_that_is_answered_at_the_terminal_is_over(room: Room) -> None:
    room.waits()
    room.look(PERMISSION)
    room.terminal.shown = ""
    room.look(PERMISSION)
    assert room.turn.turn is Turn.WORKING


def test_a_dialog_that_is_not_drawn_yet_is_waited_for(room: Room) -> None:
    room.waits()
    room.terminal.shown = ""
    room.desk.say("yes")
    room.look(PERMISSION)
    assert (room.terminal.keys, room.turn.turn) == ([], Turn.WAITING)
    room.terminal.shown = DIALOG
    room.look(PERMISSION)
    assert room.terminal.keys == ["1"]


def test_a_dialog_in_other_words_is_answered_all_the_same_after_a_while(room: Room) -> None:
    room.waits()
    room.terminal.shown = "[y/n]"
    room.desk.say("yes")
    room.look(PERMISSION)
    room.look(PERMISSION, after_s=20)
    assert room.terminal.keys == ["1"]


def test_nothing_is_typed_into_a_dialog_that_no_event_told_of(room: Room) -> None:
    room.terminal.shown = DIALOG
    room.desk.say("hello")
    room.look(IDLE)
    assert (room.terminal.pasted, room.terminal.keys) == ([], [])


def test_nobody_answers_what_was_not_told(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    room.waits()
    room.desk.say("1")

    def away(_state: AgentState) -> None:
        raise ConnectionError("away")

    monkeypatch.setattr(room.desk, "tell", away)
    for _ in range(3):
        room.look(PERMISSION)
    assert room.terminal.keys == []


def test_who_interrupts_it_is_not_overruled_by_a_reminder(tmp_path: Path) -> None:
    room = Room(tmp_path, remind=True)
    room.desk.say("", interrupt=True)
    room.look(WORKING)
    assert room.terminal.keys == ["Escape"]
    for _ in range(3):
        room.look(IDLE, after_s=REMIND_AFTER_S + 1)
    assert room.terminal.pasted == []
    assert IDLE in room.desk.told, "a person is asked how to go on"


def test_without_an_interruption_it_is_reminded_once(tmp_path: Path) -> None:
    room = Room(tmp_path, remind=True)
    room.look(IDLE)
    room.look(IDLE, after_s=REMIND_AFTER_S + 1)
    assert room.terminal.pasted == [REMINDER]
    room.take()
    for state in (WORKING, IDLE, IDLE):
        room.look(state, after_s=REMIND_AFTER_S + 1)
    assert room.terminal.pasted == [REMINDER]
    assert IDLE in room.desk.told


def test_what_a_terminal_would_obey_is_not_in_the_file(room: Room) -> None:
    room.desk.say("a\x1b[201~b\u202ec")
    room.look(IDLE)
    assert "---\na[201~bc\n---\n" in (room.prompts / "message-000001.txt").read_text()


def test_what_was_typed_before_a_kill_and_taken_is_not_typed_again(room: Room) -> None:
    room.desk.say("hello")
    room.turn.taken.add(message_line(1))
    room.look(IDLE)
    assert (room.terminal.pasted, room.desk.done) == ([], [1])


def test_what_was_typed_before_a_kill_and_waits_in_the_input_only_gets_its_enter(room: Room) -> None:
    room.desk.say("hello")
    room.terminal.shown = f"> {message_line(1)}"
    room.look(IDLE)
    room.look(IDLE)
    assert (room.terminal.pasted, room.terminal.keys, room.desk.done) == ([], ["Enter"], [])


def test_a_file_without_its_line_in_the_terminal_was_not_given(room: Room) -> None:
    """The power was cut between the file and the paste."""
    room.desk.say("hello")
    (room.prompts / "message-000001.txt").write_text("hello")
    room.look(IDLE)
    assert room.terminal.pasted == [message_line(1)]
    assert room.desk.done == []


def test_a_line_that_is_never_taken_stays_undelivered_and_does_not_hold_the_phase(room: Room) -> None:
    room.desk.say("hello")
    room.look(IDLE)
    for _ in range(10):
        room.look(IDLE, after_s=10)
    assert (room.desk.done, len(room.terminal.pasted)) == ([], 1)
    pressed = len(room.terminal.keys)
    for _ in range(10):
        room.look(IDLE, after_s=10)
    assert len(room.terminal.keys) == pressed
    room.look(DONE)
    assert not room.is_giving


def test_a_flood_of_states_is_told_once_a_second(room: Room) -> None:
    for number in range(100):
        room.look(PERMISSION if number % 2 else WORKING, after_s=0.05)
    assert len(room.desk.told) <= 6
    room.look(PERMISSION)
    assert room.desk.told[-1] is PERMISSION


def test_the_tenth_choice_has_no_key() -> None:
    asked = AgentState(Doing.QUESTION, questions=(AskedQuestion("", "Which?", tuple("abcdefghijkl")),))
    assert [choice(word, asked) for word in ("i", "j", "l", "10")] == ["9", None, None, None]
