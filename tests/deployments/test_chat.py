"""Talking to an agent from a shell."""

from pathlib import Path

import pytest

from blocks.settings import settings
from deployments.chat import main
from tasks.adapters.registry import Registry, migrate
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
