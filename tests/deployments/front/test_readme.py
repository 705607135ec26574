"""Every command of the README's part on HTTP does what it is there for, and the forms' examples fit."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from deployments.front import hooks
from deployments.front.settings import FrontSettings
from tests.deployments.front.test_hooks import NEW, TALLY, TYPEFORM
from tests.support.front import ORDER, OpenDoor

ROOT = Path(__file__).resolve().parents[3]


def scripts() -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    part = text[text.index("\n## Over HTTP\n") :]
    part = part[: part.index("\n## ", 4)]
    return re.findall(r"```sh\n(.*?)```", part, re.DOTALL)


def test_every_command_on_http_works_as_it_is_written(open_door: OpenDoor, tmp_path: Path) -> None:
    door = open_door(hook_secrets=SecretStr(NEW))
    home = tmp_path / "home" / ".tmux-builder"
    (home / "service").mkdir(parents=True)
    database = door.registry.engine.url.render_as_string(hide_password=False)
    (home / "service" / "service.env").write_text(
        f"TMUX_BUILDER_HOME='{home}'\nTMUX_BUILDER_DATABASE_URL='{database}'\n"
    )
    (home / "front.env").write_text(f"TMUX_BUILDER_HOOK_SECRETS={NEW}\n")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} "$@"\n')
    python.chmod(0o700)
    said = []
    for script in scripts():
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script.replace("http://127.0.0.1:8400", door.url)],
            cwd=tmp_path,
            env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path / "home")},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        said.append(done.stdout)
    first, second = said
    order = json.loads((tmp_path / "order.json").read_text())
    assert order["status"] == "pending"
    assert '"percent_complete":0' in first
    assert '"output":""' in first
    assert "event: accepted" in first
    assert "Cannot chat - status is pending" in first
    assert '"status":"cancelling"' in first
    assert "my shell" in first
    assert json.loads(second)["would"] == "accept"
    assert door.registry.cancel_requests() != []


EXAMPLES = {"tally": TALLY, "typeform": TYPEFORM}


@pytest.mark.parametrize("scheme", EXAMPLES)
def test_the_tables_of_the_examples_find_their_fields(scheme: str) -> None:
    text = (ROOT / "deployments" / "front" / "FORMS.md").read_text(encoding="utf-8")
    (block,) = [each for each in re.findall(r"```sh\n(.*?)```", text, re.DOTALL) if each.count(f"SCHEME={scheme}\n")]
    told = dict(line.split("=", 1) for line in block.strip().splitlines())
    settings = FrontSettings(hook_fields=json.loads(told["TMUX_BUILDER_HOOK_FIELDS"]))
    made = hooks.mapped(EXAMPLES[scheme], settings.hook_fields, {})
    assert made.errors == []
    assert made.request is not None
    assert made.request.email == ORDER["email"]


def test_front_env_is_read_with_its_table(tmp_path: Path) -> None:
    (tmp_path / "front.env").write_text(
        'TMUX_BUILDER_HOOK_FIELDS={"email": "data.email"}\nTMUX_BUILDER_WEB_FORM=open\n'
    )
    found = FrontSettings(_env_file=tmp_path / "front.env", home=tmp_path)
    assert found.hook_fields == {"email": "data.email"}
    assert found.web_form == "open"
