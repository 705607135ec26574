"""An agent's desk in the record: what people are asked, what they said, and what the agent was refused."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from blocks.settings import settings
from tasks import parts
from tasks.adapters.registry import Accepted, Registry, migrate
from tasks.domain.agent_state import AgentState, Doing, Passage
from tasks.domain.execution import Execution
from tasks.domain.pipeline import Verb
from tasks.parts import RegistryDesk
from tasks.record import registry as the_registry
from tests.tasks.adapters.registry.orders import a_request, an_execution, kinds

PERMISSION = AgentState(Doing.PERMISSION, "may it use Bash: make?")
WORKING = AgentState(Doing.WORKING)


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    monkeypatch.setenv("TMUX_BUILDER_HOME", str(tmp_path))
    monkeypatch.setenv("TMUX_BUILDER_MAX_AGENTS", "1")
    monkeypatch.delenv("TMUX_BUILDER_DATABASE_URL", raising=False)
    settings.cache_clear()
    the_registry.cache_clear()
    migrate(settings().registry_url)
    yield the_registry()
    the_registry().close()
    the_registry.cache_clear()
    settings.cache_clear()


def desk_of(accepted: Accepted, folder: Path) -> RegistryDesk:
    ids = (accepted.user_id, accepted.session_id, accepted.execution_id, accepted.run_id)
    names = ("user_id", "session_id", "execution_id", "run_id")
    return RegistryDesk(
        Execution(
            **dict(zip(names, ids, strict=True)),
            verb=Verb.FULL_BUILD,
            site_name=accepted.site_name,
            request=a_request(),
            workspace=folder,
        )
    )


@pytest.fixture
def accepted(registry: Registry) -> Accepted:
    return an_execution(registry)


@pytest.fixture
def desk(accepted: Accepted, tmp_path: Path) -> RegistryDesk:
    return desk_of(accepted, tmp_path)


def test_a_dialog_is_a_question_to_people_until_the_agent_goes_on(
    desk: RegistryDesk, registry: Registry, accepted: Accepted
) -> None:
    desk.tell(PERMISSION)
    asked = registry.open_question(accepted.execution_id)
    assert asked is not None
    assert asked.body == "may it use Bash: make?\n1. Yes\n2. No"
    desk.tell(WORKING)
    assert registry.open_question(accepted.execution_id) is None


def test_who_adopts_the_agent_does_not_ask_again(
    desk: RegistryDesk, registry: Registry, accepted: Accepted, tmp_path: Path
) -> None:
    desk.tell(PERMISSION)
    desk_of(accepted, tmp_path).tell(PERMISSION)
    assert len(registry.questions(accepted.execution_id, "agent")) == 1


def test_only_what_was_written_after_the_question_answers_it(
    desk: RegistryDesk, registry: Registry, accepted: Accepted
) -> None:
    registry.post_message(accepted.execution_id, "user", "1")
    desk.tell(PERMISSION)
    registry.post_message(accepted.execution_id, "user", "yes")
    assert [(said.text, said.answers) for said in desk.said()] == [("1", False), ("yes", True)]


def test_an_answer_waits_while_its_turn_is_anothers(
    desk: RegistryDesk, registry: Registry, accepted: Accepted, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert registry.take_slot("agent", accepted.run_id, 1, 10) == 0
    desk.tell(PERMISSION)
    other = an_execution(registry, "second")
    assert registry.take_slot("agent", other.run_id, 1, 10) == 0, "its turn was given up while it waits"
    registry.post_message(accepted.execution_id, "user", "yes")
    assert desk.said() == []
    registry.leave_slot("agent", other.run_id)
    assert desk.said() == [], "asked for once a second"
    monkeypatch.setattr(parts, "TURN_POLL_S", 0)
    assert [said.text for said in desk.said()] == ["yes"]
    assert registry.take_slot("agent", other.run_id, 1, 10) > 0


def test_what_is_no_answer_takes_no_turn_while_a_dialog_waits(
    desk: RegistryDesk, registry: Registry, accepted: Accepted
) -> None:
    registry.post_message(accepted.execution_id, "user", "make it dark")
    desk.tell(PERMISSION)
    assert desk.said() == []
    assert registry.slots_taken("agent") == 0


def test_an_agent_that_asks_without_end_is_kept_in_bounds(
    desk: RegistryDesk, registry: Registry, accepted: Accepted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "_QUESTIONS_AT_MOST", 3)
    for number in range(6):
        desk.tell(AgentState(Doing.PERMISSION, f"may it use {number}?"))
    assert len(registry.questions(accepted.execution_id, "agent")) == 3


def test_a_flood_of_refusals_is_one_event_with_counts(
    desk: RegistryDesk, registry: Registry, accepted: Accepted
) -> None:
    flood = [Passage("deny", "evil.example:443", reason="it is not on the list")] * 500
    desk.refused([*flood, *(Passage("deny", f"{number}.example:443") for number in range(100))])
    events = registry.events(accepted.execution_id, limit=1000)
    (told,) = [event.data["refused"] for event in events if event.kind == "egress_refused"]
    assert told[0] == {"target": "evil.example:443", "reason": "it is not on the list", "times": 500}
    assert (len(told), told[-1]["times"]) == (21, 81)


def test_the_conversation_has_an_end(registry: Registry, accepted: Accepted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.adapters.registry.messages.SAID_AT_MOST", 250)
    lines = [(f"line-{number}", "agent", "say", str(number)) for number in range(400)]
    assert registry.note_said(accepted.execution_id, lines[:220]) == 220
    assert registry.note_said(accepted.execution_id, lines[200:]) == 10, "ten were new, and there was room for thirty"
    assert registry.note_said(accepted.execution_id, lines[230:]) == 20
    assert registry.note_said(accepted.execution_id, lines) == 0
    assert kinds(registry, accepted.execution_id).count("said") == 3
