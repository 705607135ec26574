"""Which program is Claude Code, and what it is configured with."""

import json
from pathlib import Path

import pytest

from tasks.adapters.agents import claude
from tasks.adapters.agents.claude import PINNED, PLACEHOLDER, Claude, find_program, stage, version_of
from tasks.domain.errors import AgentMissing
from tests.support.terminal import Stage


@pytest.fixture
def runtime_stage():
    stage = Stage()
    yield stage
    stage.close()


def program(folder: Path, words: str) -> Path:
    path = folder / "claude"
    path.write_text(f"#!/bin/sh\necho '{words}'\n")
    path.chmod(0o755)
    return path


def test_the_one_that_the_tests_bring_is_the_one_that_this_was_made_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    assert version_of(find_program("")) == PINNED


def test_one_on_the_path_comes_first_and_a_named_one_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path = program(tmp_path, "9.9.9 (Claude Code)")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_program("") == on_path
    assert version_of(on_path) == "9.9.9"
    named = tmp_path / "other"
    named.write_text("")
    assert find_program(str(named)) == named


@pytest.mark.parametrize("words", ["hello", "", "v2 Claude Code"])
def test_another_program_is_not_taken_for_it(tmp_path: Path, words: str) -> None:
    with pytest.raises(AgentMissing, match="is not Claude Code"):
        version_of(program(tmp_path, words))


def test_what_is_missing_is_named_with_the_next_move(tmp_path: Path) -> None:
    with pytest.raises(AgentMissing, match="give the path of the claude program"):
        find_program(str(tmp_path / "nothing"))
    with pytest.raises(AgentMissing, match="cannot be run"):
        version_of(tmp_path / "nothing")


def test_the_configuration_holds_no_key_and_forgets_an_earlier_login(runtime_stage: Stage, tmp_path: Path) -> None:
    runtime = runtime_stage.runtime()
    runtime.root.mkdir(parents=True)
    login = tmp_path / "login.json"
    login.write_text("a login")
    stage(runtime, Claude(Path("/bin/true"), "https://api.example", "", login=login))
    assert (runtime.claude / ".credentials.json").read_text() == "a login"

    stage(runtime, Claude(Path("/bin/true"), "https://api.example", "sk-ant-secret"))
    assert not (runtime.claude / ".credentials.json").exists()
    written = "".join(path.read_text() for path in runtime.root.rglob("*") if path.is_file())
    assert "sk-ant-secret" not in written
    state = json.loads((runtime.claude / ".claude.json").read_text())
    assert state["customApiKeyResponses"]["approved"] == [PLACEHOLDER[-20:]]
    assert "sk-ant-secret" not in repr(Claude(Path("/bin/true"), "https://api.example", "sk-ant-secret").way())


def test_the_web_is_off_unless_there_is_a_host_to_reach() -> None:
    off, on = claude.settings(domains=False), claude.settings(domains=True)
    assert off["permissions"]["deny"] == ["WebFetch", "WebSearch"]
    assert "WebFetch" not in off["permissions"]["allow"]
    assert on["permissions"]["deny"] == []


def test_a_login_opens_the_hosts_where_it_is_renewed_and_registries_only_while_code_is_written(tmp_path: Path) -> None:
    chosen = Claude(Path("/bin/true"), "https://api", "k", domains=("a.example:443",), registries=("p.example:443",))
    assert chosen.way().allowed == {"*": ["a.example:443"], "coding": ["p.example:443"]}
    logged_in = Claude(Path("/bin/true"), "https://api", "", login=tmp_path)
    assert "console.anthropic.com:443" in logged_in.way().allowed["*"]
