"""Who ordered a site learns what failed, and nothing of where things lie on our machines; operators read it all."""

import json
import sys
import time
from pathlib import Path

import httpx
import pytest

from deployments.front.scopes import Scope
from deployments.front.wording import ForRequesters
from tasks.domain.check import Check, Finding, Outcome
from tasks.domain.errors import AgentSilent, CheckFailed
from tasks.domain.pipeline import Step
from tests.support.front import Door
from tests.support.stories import Story, a_story

HOME = Path("/data/builder home")
WORKSPACE = f"{HOME}/users/a1b2c3d4-0000-4000-8000-000000000000/sessions/sess20260124143022"
HERE = {"Sec-Fetch-Site": "same-origin"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"{WORKSPACE}/source/index.html: is a link", "source/index.html: is a link"),
        ("/srv/x" + WORKSPACE.removeprefix(str(HOME)) + "/output/plan.md is missing", "output/plan.md is missing"),
        (f"no room below {HOME}; free some", "no room below …/builder home; free some"),
        (f"'{HOME}/run/ab12'", "'…/ab12'"),
        ("[Errno 13] Permission denied: '/root/.tmux-builder/sites'", "[Errno 13] Permission denied: '…/sites'"),
        ("open /tmp/a,b:c/d, then go", "open …/d, then go"),
        ("see file:///home/bo/x.png", "see file://…/x.png"),
        ("PATH=/usr/bin:/home/bo/bin", "PATH=…/bin"),
        ("/breads/: 404; /menu.html: no title", "/breads/: 404; /menu.html: no title"),
        (
            "http://a.localhost:8401/tmp/x and https://home/var/y",
            "http://a.localhost:8401/tmp/x and https://home/var/y",
        ),
        ("source/home/x, ./tmp/y, ~/var/z, 1/etc/2", "source/home/x, ./tmp/y, ~/var/z, 1/etc/2"),
        (
            str(AgentSilent("coding", 60, "…", "tmux -S /run/x/ab attach -t =exec_1:")),
            "the agent did not signal PHASE_COMPLETE: coding in 60 s (last line: '…'); try again",
        ),
        (
            "HTTP 401; see the key in the coding agent's block, then retry the run",
            "HTTP 401; tell the operator, then try again",
        ),
        (str(CheckFailed("screenshot", ["links: /x is 404"])), "screenshot: links: /x is 404; publish it again"),
    ],
)
def test_places_on_a_machine_are_shortened_and_addresses_are_not(text: str, shown: str) -> None:
    assert ForRequesters([HOME])(text) == shown


def test_a_long_text_is_read_in_one_go() -> None:
    shown = ForRequesters([HOME])
    for text in ("/", "/var/", "/users/", WORKSPACE, "mend source/ ", "mend source/a", "look with: ", "retry the "):
        long = 60_000 // len(text) * text
        began = time.monotonic()
        shown(long)
        assert time.monotonic() - began < 2, text


def a_failure(door: Door) -> tuple[Story, list[str]]:
    """One that names places: the home, a workspace, this Python; and what must not be read by strangers."""
    story = a_story(door, "one")
    index = story.workspace.root / "source" / "index.html"
    detail = f"{sys.prefix}/bin/python could not be run"
    found = (Finding(name="browser", outcome=Outcome.SKIPPED, detail=detail, gate=False),)
    door.registry.record_check(story.run_id, Check(name="screenshot", outcome=Outcome.SKIPPED, findings=found))
    story.fail(Step.DEPLOY, f"{index}: is a link; look at {door.settings.home}/logs/worker.log")
    return story, [str(door.settings.home), str(story.workspace.root), sys.prefix]


def everything_shown(door: Door, story: Story, headers: dict[str, str]) -> str:
    """The execution and its checks, and all its events up to the failure's."""
    told = [door.client.get(f"/api/executions/{story.execution_id}{of}", headers=headers) for of in ("", "/checks")]
    assert [answer.status_code for answer in told] == [200, 200]
    lines = []
    with httpx.stream(
        "GET", f"{door.url}/api/executions/{story.execution_id}/events", headers=headers, trust_env=False
    ) as stream:
        for line in stream.iter_lines():
            lines.append(line)
            if '"new": "failed"' in line:
                break
    return "\n".join([json.dumps(answer.json()) for answer in told] + lines)


def test_a_requester_reads_of_a_failure_what_it_was_and_not_where(door: Door) -> None:
    story, secret = a_failure(door)
    owner = door.registry.owner_of(story.execution_id)
    for headers in (
        door.link(story.execution_id),
        door.key(user_id=owner),
        door.key(Scope.READ),  # such as a form service's
    ):
        shown = everything_shown(door, story, headers)
        assert [place for place in secret if place in shown] == []
        assert shown.count("source/index.html: is a link; look at ") == 4, "message, step, and an event of each"
        assert "/python could not be run" in shown
    token = door.link(story.execution_id)["Authorization"].removeprefix("Bearer ")
    page = door.client.get(f"/e/{story.execution_id}?token={token}", follow_redirects=True).text
    assert "source/index.html: is a link" in page
    assert [place for place in secret if place in page] == []


def test_an_operator_reads_all_of_it(door: Door) -> None:
    story, secret = a_failure(door)
    shown = everything_shown(door, story, door.key())
    assert [place for place in secret if place not in shown] == []
    key = door.key()["Authorization"].removeprefix("Bearer ")
    assert door.client.post("/operator", data={"key": key}, headers=HERE).status_code == 303
    page = door.client.get(f"/e/{story.execution_id}").text
    assert [place for place in secret if place not in page] == []
