"""Every command of the README's part on HTTP does what it is there for, and the forms' examples fit."""

import json
import re
import subprocess
import sys
from io import StringIO
from pathlib import Path

import playwright
import pytest
from dotenv import dotenv_values
from pydantic import SecretStr

from deployments.front import hooks
from deployments.front.settings import FrontSettings
from tests.deployments.front.test_hooks import NEW, TALLY, TYPEFORM
from tests.support.front import ORDER, OpenDoor

ROOT = Path(__file__).resolve().parents[3]


FENCE = re.compile(r"^(?:```|~~~)(\w*)\n(.*?)^(?:```|~~~)$", re.DOTALL | re.MULTILINE)


def fences(file: str) -> list[tuple[str, str]]:
    """Language and text of every fenced block."""
    return FENCE.findall((ROOT / file).read_text(encoding="utf-8"))


def of_the_front_door(text: str) -> bool:
    return ":8400" in text or "deployments.front" in text


def scripts() -> list[str]:
    """Of the part on HTTP, and whatever else calls the front door."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    part = text[text.index("\n## Over HTTP\n") :]
    part = part[: part.index("\n## ", 4)]
    found = [(kind, script) for kind, script in fences("README.md") if script in part or of_the_front_door(script)]
    assert {kind for kind, _script in found} == {"sh"}, "a block that this test does not know how to run"
    assert len(found) == part.count("```sh\n") == part.count("```") / 2
    return [script for _kind, script in found]


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
    assert "".join(said).count("urn:tmux-builder:problem:") == 1, "curl ends with 0 whatever it is answered"
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


def tables() -> list[dict[str, str]]:
    """The settings that FORMS.md shows, block by block, as ``front.env`` would have them."""
    found = [script for kind, script in fences("deployments/front/FORMS.md") if kind == "sh"]
    return [{name: value or "" for name, value in dotenv_values(stream=StringIO(each)).items()} for each in found]


def table_of(scheme: str) -> dict[str, str]:
    (found,) = [each for each in tables() if each["TMUX_BUILDER_HOOK_SCHEME"] == scheme]
    return found


def test_every_block_of_the_forms_page_is_tried() -> None:
    kinds = [kind for kind, _script in fences("deployments/front/FORMS.md")]
    assert sorted(kinds) == ["js", *["sh"] * (1 + len(EXAMPLES))], "a block that no test here knows"
    assert {each["TMUX_BUILDER_HOOK_SCHEME"] for each in tables()} == {"standard", *EXAMPLES}
    known = {f"TMUX_BUILDER_{name.upper()}" for name in FrontSettings.model_fields}
    for told in tables():
        assert set(told) <= known
        FrontSettings.model_validate(
            {name.removeprefix("TMUX_BUILDER_").lower(): _value(name, value) for name, value in told.items()}
        )


def _value(name: str, value: str) -> object:
    return json.loads(value) if name.endswith("_FIELDS") else value


@pytest.mark.parametrize("scheme", EXAMPLES)
def test_the_tables_of_the_examples_find_their_fields(scheme: str) -> None:
    settings = FrontSettings(hook_fields=json.loads(table_of(scheme)["TMUX_BUILDER_HOOK_FIELDS"]))
    made = hooks.mapped(EXAMPLES[scheme], settings.hook_fields, {})
    assert made.errors == []
    assert made.request is not None
    assert made.request.email == ORDER["email"]


APPS_SCRIPT = """
const crypto = require('node:crypto');
const signed = bytes => [...bytes].map(byte => byte > 127 ? byte - 256 : byte);
const Utilities = {
  getUuid: () => crypto.randomUUID(),
  base64Decode: text => signed(Buffer.from(text, 'base64')),
  base64Encode: bytes => Buffer.from(bytes).toString('base64'),
  newBlob: text => ({ getBytes: () => signed(Buffer.from(text)) }),
  computeHmacSha256Signature: (value, key) =>
    signed(crypto.createHmac('sha256', Buffer.from(key)).update(Buffer.from(value)).digest()),
};
const UrlFetchApp = { fetch: (url, options) => console.log(JSON.stringify({ url, ...options })) };
%s
const answers = { 'E-mail': ['ana@example.com'], Phone: ['+49 151 12345678'], 'Your site': ['Tee & Söhne'] };
onFormSubmit({ namedValues: answers });
"""
"""What Apps Script has, as its reference says: bytes are signed (https://developers.google.com/apps-script/reference)."""


def test_the_script_for_google_forms_signs_what_it_sends(open_door: OpenDoor, tmp_path: Path) -> None:
    door = open_door(hook_secrets=SecretStr(NEW))
    (script,) = [text for kind, text in fences("deployments/front/FORMS.md") if kind == "js"]
    program = tmp_path / "form.js"
    program.write_text(APPS_SCRIPT % script.replace("whsec_…", NEW), encoding="utf-8")
    node = Path(playwright.__file__).parent / "driver" / "node"
    done = subprocess.run([node, program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    sent = json.loads(done.stdout)
    assert sent["url"] == "https://build.example/hooks/form"
    headers = {**sent["headers"], "Content-Type": sent["contentType"]}
    answer = door.client.request(sent["method"], "/hooks/form", content=sent["payload"].encode(), headers=headers)
    assert answer.status_code == 202, answer.text
    assert door.registry.execution(answer.json()["execution_id"]).request.requirements == "Tee & Söhne"


def test_front_env_is_read_with_its_table(tmp_path: Path) -> None:
    (tmp_path / "front.env").write_text(
        'TMUX_BUILDER_HOOK_FIELDS={"email": "data.email"}\nTMUX_BUILDER_WEB_FORM=open\n'
    )
    found = FrontSettings(_env_file=tmp_path / "front.env", home=tmp_path)
    assert found.hook_fields == {"email": "data.email"}
    assert found.web_form == "open"
