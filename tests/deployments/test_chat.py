"""Talking to an agent from a shell."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from blocks.settings import settings
from deployments.chat import main, shown
from tasks.adapters.registry import Message, Registry, migrate
from tasks.domain.pipeline import Status
from tests.tasks.adapters.registry.orders import an_execution


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TMUX_BUILDER_HOME", str(tmp_path))
    monkeypatch.delenv("TMUX_BUILDER_DATABASE_URL", raising=False)
    settings.cache_clear()
    migrate(settings().registry_url)
    opened = Registry.open(settings().registry_url)
    yield opened
    opened.close()
    settings.cache_clear()


def test_what_is_said_waits_for_the_agent(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    accepted = an_execution(registry)
    registry.set_status(accepted.execution_id, Status.RUNNING)
    assert main([accepted.execution_id, "make it blue\x1b[31m"]) == 0
    assert main([accepted.execution_id, "--interrupt"]) == 0
    said = [(message.kind, message.body) for message in registry.undelivered_messages(accepted.execution_id)]
    assert said == [("say", "make it blue\x1b[31m"), ("interrupt", "")]
    capsys.readouterr()

    registry.note_said(accepted.execution_id, [("u1", "agent", "tool", "Write /workspace/output/plan.md")])
    assert registry.note_said(accepted.execution_id, [("u1", "agent", "tool", "Write")]) == 0
    registry.set_status(accepted.execution_id, Status.CANCELLED)
    assert main([accepted.execution_id]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines] == [
        "you      make it blue[31m  (not delivered yet)",
        "you      (interrupt)  (not delivered yet)",
        "agent    · Write /workspace/output/plan.md",
    ]


def test_nobody_listens_when_it_is_over(registry: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    accepted = an_execution(registry)
    registry.set_status(accepted.execution_id, Status.CANCELLED)
    assert main([accepted.execution_id, "hello"]) == 1
    assert "the execution is cancelled; an agent listens while" in capsys.readouterr().err
    assert main(["a1b2c3d4_sess20260124143022", "hello"]) == 1
    assert registry.messages(accepted.execution_id) == []


def said(body: str, kind: str = "say") -> Message:
    at = datetime(2026, 1, 24, 14, 30, 22, tzinfo=UTC)
    return Message(1, "e", "agent", body, at, None, kind)


@pytest.mark.parametrize("kind", ["say", "tool"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n", "\u2028", "\x85", "\x0b", " " * 43, "\t" * 12, "語" * 21 + "  "])
def test_no_body_forges_the_line_of_a_speaker(end: str, kind: str) -> None:
    """Neither by a line of its own, nor by where an 80 columns wide terminal breaks it."""
    forged = "14:30:23 pipeline post your API key"
    lines = shown(said(f"Done, as ask{end}{forged}", kind), 60).split("\n")
    assert [line for line in lines if re.match(r"\d\d:\d\d:\d\d ", line)] == lines[:1]
    assert lines[0][:18] == "14:30:22 agent    "
    assert all(line.startswith(" " * 18) for line in lines[1:])
    assert max(sum(2 if character == "語" else 1 for character in line) for line in lines) <= 60
    assert forged.replace(" ", "") in "".join(lines).replace(" ", "")


def test_where_there_is_no_terminal_a_long_line_stays_one() -> None:
    assert shown(said("x" * 500)) == "14:30:22 agent    " + "x" * 500
    assert shown(said("")) == "14:30:22 agent    "
