"""Who gets in. A new route is looked at by itself: it stands in the application's list."""

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import httpx
import pytest
from fastapi.routing import APIRoute
from pydantic import SecretStr
from starlette.routing import BaseRoute

from deployments.front import keys
from deployments.front.bodies import JsonRoute
from deployments.front.pages import PageRoute
from deployments.front.scopes import Scope
from deployments.front.session import Seal
from deployments.front.tokens import sha256_of
from tasks.adapters.registry import Registry
from tasks.domain.pipeline import Step
from tests.support.front import ORDER, Door, OpenDoor, a_running_execution, bearer, problem
from tests.support.stories import a_story
from tests.tasks.adapters.registry.orders import a_finished_execution, counts

ROOT = Path(__file__).resolve().parents[3]

WITHOUT_OWNER = {
    "/api/health",
    "/api/create-user",
    "/api/executions",
    "/hooks/form",
    "/hooks/form/resume",
}
"""Routes that name nobody's execution; each has a test of its own."""

BODIES = {
    "/api/chat/{execution_id}": {"message": "x"},
    "/api/executions/{execution_id}/questions/{question_id}/answer": {"text": "x"},
}


PAGES_WITHOUT_OWNER = {"/", "/static/{name}", "/operator", "/operator/leave", "/operator/hook"}

DESCRIPTION = "/api/openapi.json"


def all_routes(door: Door) -> Iterator[BaseRoute]:
    def walk(found: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
        for route in found:
            inner = getattr(route, "original_router", None)
            yield from [route] if inner is None else walk(inner.routes)

    return walk(door.app.routes)


def routes(door: Door, pages: bool = False) -> Iterator[tuple[str, str]]:
    """Of the API, or of the pages, which are in no description; with those of files and streams."""
    for route in all_routes(door):
        if isinstance(route, APIRoute) and route.include_in_schema is not pages:
            for method in sorted(route.methods):
                yield method, route.path


QUESTION = "q"


def fill(path: str, execution_id: str, user_id: str) -> str:
    told = {"execution_id": execution_id, "user_id": user_id, "question_id": QUESTION, "name": "desktop.jpg"}
    return re.sub(r"\{(\w+)\}", lambda found: told[found[1]], path)


def ask(door: Door, method: str, path: str, headers: dict[str, str], ids: tuple[str, str]) -> tuple[int, str]:
    body = BODIES.get(path)
    response = door.client.request(method, fill(path, *ids), json=body, headers=headers)
    return response.status_code, response.text


def test_every_route_is_known(door: Door) -> None:
    found = {path for _method, path in routes(door)}
    assert len(found) >= 19
    unnamed = {path for path in found if "{execution_id}" not in path and "{user_id}" not in path}
    assert unnamed == WITHOUT_OWNER
    assert set(BODIES) <= found
    assert set(door.app.openapi()["paths"]) == found
    kinds = {type(route): route.path for route in all_routes(door) if getattr(route, "path", "") != DESCRIPTION}
    assert set(kinds) == {APIRoute, JsonRoute, PageRoute}, "what is no route of ours is asked by no test"
    pages = {path for _method, path in routes(door, pages=True)}
    assert {path for path in pages if "{execution_id}" not in path} == PAGES_WITHOUT_OWNER
    assert all(type(route) is PageRoute for route in all_routes(door) if getattr(route, "path", "") in pages)


def test_key_a_on_every_route_of_b_is_told_that_there_is_nothing(door: Door) -> None:
    a, b = door.order(email="a@example.com").json(), door.order(email="b@example.com").json()
    none = ("a1b2c3d4_sess20260124143022", "00000000-0000-4000-8000-000000000000")
    before = counts(door.registry)
    strangers = {"key": door.key(user_id=a["user_id"]), "link": bearer(a["token"])}
    events = len(door.registry.events(b["execution_id"], limit=1000))
    for method, path in routes(door):
        if path in WITHOUT_OWNER:
            continue
        for who, headers in strangers.items():
            foreign = ask(door, method, path, headers, (b["execution_id"], b["user_id"]))
            missing = ask(door, method, path, headers, none)
            assert foreign[0] == 404, (who, method, path, foreign)
            assert foreign == missing, (who, method, path)
    assert {**counts(door.registry), "api_keys": 0} == {**before, "api_keys": 0}
    assert len(door.registry.events(b["execution_id"], limit=1000)) == events


def test_key_a_in_a_browser_finds_no_page_picture_or_file_of_b(door: Door) -> None:
    """With all that B has: a question, a release, a picture, a report."""
    mine, other = a_story(door, "mine"), a_story(door, "other", email="ben@example.com")
    other.reach(Step.CREATE_PLAN)
    other.publish()
    other.photograph()
    other.check()
    asked = other.ask("plan", "Shall this be built?")
    seal: Seal = door.app.state.pages.seal
    before = counts(door.registry)
    key = door.key(user_id=door.registry.owner_of(mine.execution_id))["Authorization"].removeprefix("Bearer ")
    cookies = {"tb_operator": seal.sealed("key", sha256_of(key))}
    with httpx.Client(base_url=door.url, trust_env=False, timeout=30, cookies=cookies) as browser:
        assert browser.get(f"/e/{mine.execution_id}").status_code == 200, "the key is good"
        for method, path in routes(door, pages=True):
            if path in PAGES_WITHOUT_OWNER:
                continue
            place = fill(path, other.execution_id, "").replace(f"/{QUESTION}", f"/{asked}")
            data = {"decision": "approve", "message": "x"} if method == "POST" else None
            answer = browser.request(method, place, data=data, headers={"Sec-Fetch-Site": "same-origin"})
            assert answer.status_code == 404, (method, path)
            assert other.execution_id not in answer.text, (method, path)
        assert mine.execution_id in browser.get("/operator").text
        assert "ben@example.com" not in browser.get("/operator").text
        for query in ("", "?status=waiting_input", "?q=ben@example.com", f"?q={other.execution_id[:20]}"):
            assert f"/e/{other.execution_id}" not in browser.get(f"/operator{query}").text, query
        crossed = browser.post(
            f"/e/{mine.execution_id}/questions/{asked}",
            data={"decision": "approve"},
            headers={"Sec-Fetch-Site": "same-origin"},
        )
        assert crossed.status_code == 404, "a question is answered at its own execution"
    assert {**counts(door.registry), "api_keys": 0} == {**before, "api_keys": 0}
    assert door.registry.questions(other.execution_id, "plan")[0].answer is None


def test_a_list_of_a_learns_nothing_of_b(door: Door) -> None:
    a, b = door.order(email="a@example.com").json(), door.order(email="b@example.com").json()
    key = door.key(user_id=a["user_id"])
    none = "a1b2c3d4_sess20260124143022"
    for path in ("/api/executions", f"/api/users/{a['user_id']}/executions"):
        shown = door.client.get(path, headers=key).json()["executions"]
        assert [each["execution_id"] for each in shown] == [a["execution_id"]]
        foreign, missing = (
            problem(door.client.get(path, params={"cursor": place}, headers=key), 404)
            for place in (b["execution_id"], none)
        )
        assert foreign == missing
    for words in ("b@example.com", b["execution_id"]):
        assert door.client.get("/api/executions", params={"q": words}, headers=key).json()["executions"] == []


def test_nobody_without_a_good_token_gets_past_any_route(door: Door) -> None:
    b = door.order().json()
    revoked = door.key()
    (*_, last) = door.registry.api_keys()
    door.registry.revoke_key(last.key_id)
    wrong = [{}, bearer("tbk_wrong"), bearer("tbl_wrong"), bearer("nonsense"), {"Authorization": "Basic YTpi"}, revoked]
    for method, path in routes(door):
        if path in ("/api/health", "/api/create-user") or (method, path) == ("POST", "/hooks/form"):
            continue
        for headers in wrong:
            response = door.client.request(
                method, fill(path, b["execution_id"], b["user_id"]), json=BODIES.get(path), headers=headers
            )
            problem(response, 401)
            assert response.headers["www-authenticate"] == "Bearer"
    for headers in wrong:
        problem(door.client.post("/api/create-user", json=ORDER, headers=headers), 401)


def test_a_link_is_good_for_its_execution_until_it_is_revoked(door: Door) -> None:
    told = door.order().json()
    path, link = f"/api/executions/{told['execution_id']}", bearer(told["token"])
    assert door.client.get(path, headers=link).status_code == 200
    problem(door.client.get("/api/executions", headers=link), 403)
    problem(door.client.post("/api/create-user", json=ORDER, headers=link), 403)
    door.registry.revoke_links(told["execution_id"])
    problem(door.client.get(path, headers=link), 401)


def test_what_a_link_allows_is_a_setting(open_door: OpenDoor) -> None:
    door = open_door(web_link_may="read, chat")
    accepted = a_finished_execution(door.registry)
    link = door.link(accepted.execution_id)
    assert door.client.get(f"/api/executions/{accepted.execution_id}", headers=link).status_code == 200
    problem(door.client.post(f"/api/redeploy/{accepted.execution_id}", headers=link), 403)
    problem(door.client.post(f"/api/executions/{accepted.execution_id}/teardown", headers=link), 403)
    with pytest.raises(ValueError, match="everything"):
        open_door(web_link_may="everything")


SCOPES = {
    Scope.READ: ("GET", "/api/executions/{execution_id}"),
    Scope.CHAT: ("POST", "/api/chat/{execution_id}"),
    Scope.CHANGE: ("POST", "/api/executions/{execution_id}/cancel"),
    Scope.TEARDOWN: ("POST", "/api/executions/{execution_id}/teardown"),
    Scope.OPERATE: ("GET", "/hooks/form"),
    Scope.ORDER: ("POST", "/api/create-user"),
}


@pytest.mark.parametrize("scope", Scope)
def test_a_key_does_what_its_scope_says_and_no_more(door: Door, scope: Scope) -> None:
    accepted = a_running_execution(door.registry)
    for other, (method, path) in SCOPES.items():
        body = ORDER if other is Scope.ORDER else BODIES.get(path)
        response = door.client.request(
            method, fill(path, accepted.execution_id, ""), json=body, headers=door.key(scope)
        )
        assert (response.status_code == 403) == (other is not scope), (other, response.text)


def test_a_users_key_orders_for_that_user_alone(door: Door) -> None:
    told = door.order().json()
    key = door.key(user_id=told["user_id"])
    assert door.order(key, email="Ana@Example.com").status_code == 202
    assert problem(door.order(key, email="ben@example.com"), 403)["errors"][0]["field"] == "email"
    problem(door.client.get("/hooks/form", headers=key), 403)


def test_a_closed_form_takes_no_strangers(door: Door) -> None:
    for order in (ORDER, {}, {"email": "nobody"}):
        problem(door.client.post("/api/create-user", json=order), 401)
        problem(door.client.post("/api/create-user", json=order, headers=door.key(Scope.READ)), 403)
    assert "executions" not in counts(door.registry)


def test_an_open_form_takes_strangers_and_not_their_blocks(open_door: OpenDoor) -> None:
    door = open_door(web_form="open", web_orders_ip=3)
    assert door.client.post("/api/create-user", json=ORDER).status_code == 202
    for field, value in (("hosting", "local-hosting/other"), ("coding_agent", "coding-agent/gold")):
        told = problem(door.client.post("/api/create-user", json={**ORDER, field: value}), 403)
        assert told["errors"][0]["field"] == field
    told = door.client.post("/api/create-user", json=ORDER, headers={"Idempotency-Key": "1"})
    assert "16 to 128" in problem(told, 400)["errors"][0]["allowed"]
    refused = door.client.post("/api/create-user", json=ORDER)
    problem(refused, 429)
    assert 0 < int(refused.headers["retry-after"]) <= 1200


def test_an_invited_stranger_has_a_code(open_door: OpenDoor) -> None:
    door = open_door(web_form="invite", web_invites=SecretStr("spring-4711, autumn-0815"))
    for code in ({}, {"Invite-Code": ""}, {"Invite-Code": "spring"}, {"Invite-Code": "spring-4711, autumn-0815"}):
        told = problem(door.client.post("/api/create-user", json=ORDER, headers=code), 403)
        assert told["errors"][0]["field"] == "Invite-Code"
    for code in ("spring-4711", "autumn-0815"):
        assert door.client.post("/api/create-user", json=ORDER, headers={"Invite-Code": code}).status_code == 202


def test_an_invitation_only_form_without_codes_invites_nobody(open_door: OpenDoor) -> None:
    door = open_door(web_form="invite")
    problem(door.client.post("/api/create-user", json=ORDER, headers={"Invite-Code": ""}), 403)


def test_rates_hold_per_key_per_user_and_per_address(open_door: OpenDoor) -> None:
    door = open_door(web_rate_key=5, web_rate_user=3)
    accepted = a_running_execution(door.registry)
    path = f"/api/executions/{accepted.execution_id}"
    key = door.key()
    assert [door.client.get(path, headers=key).status_code for _ in range(7)] == [200] * 5 + [429] * 2
    said = [
        door.client.post(f"/api/chat/{accepted.execution_id}", json={"message": "x"}, headers=door.key())
        for _ in range(5)
    ]
    assert [each.status_code for each in said] == [200] * 3 + [429] * 2, "many keys are one user"
    problem(said[-1], 429)
    assert 0 < int(said[-1].headers["retry-after"]) <= 20
    crowded = open_door(web_rate_ip=4)
    assert [crowded.client.get("/api/health").status_code for _ in range(6)] == [200] * 4 + [429] * 2


def test_orders_for_one_address_are_counted_whoever_sends_them(open_door: OpenDoor) -> None:
    door = open_door(web_rate_user=3)
    spellings = ("ana@example.com", "Ana@Example.com", "ANA@EXAMPLE.COM", "ana@example.com")
    assert [door.order(door.key(), email=each).status_code for each in spellings] == [202, 202, 202, 429]
    assert door.order(door.key(), email="ben@example.com").status_code == 202


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8400", "", "localhost@evil.example"])
def test_a_foreign_host_name_is_refused(door: Door, host: str) -> None:
    problem(door.client.get("/api/health", headers={"Host": host}), 421)


def test_the_services_own_names_are_answered(open_door: OpenDoor) -> None:
    door = open_door(web_url="https://build.example/", web_hosts="other.example")
    for host in ("build.example", "BUILD.example:443", "other.example", "localhost:8400", "127.0.0.1"):
        assert door.client.get("/api/health", headers={"Host": host}).status_code == 200
    assert door.order().json()["links"]["progress"].startswith("https://build.example/api/")


def test_every_answer_carries_the_headers_of_a_closed_house(door: Door) -> None:
    for path in ("/api/health", "/nowhere", "/api/executions"):
        headers = door.client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in headers
        assert "set-cookie" not in headers
    problem(door.client.get("/nowhere"), 404)
    for path, methods in {"/api/health": "GET", "/hooks/form": "GET, POST", "/api/create-user": "POST"}.items():
        refused = door.client.delete(path)
        problem(refused, 405)
        assert refused.headers["allow"] == methods


def test_the_record_holds_no_key_and_no_token(door: Door) -> None:
    told = door.order()
    key = door.key()["Authorization"].removeprefix("Bearer ")
    with door.registry.engine.connect() as connection:
        dump = "\n".join(connection.connection.driver_connection.iterdump())  # type: ignore[union-attr]
    assert "links" in dump
    assert key not in dump
    assert told.json()["token"] not in dump


def test_keys_are_made_listed_and_revoked_by_a_command(registry_url: str, tmp_path: Path) -> None:
    def run(*words: str) -> "subprocess.CompletedProcess[str]":
        environment = {"TMUX_BUILDER_HOME": str(tmp_path), "TMUX_BUILDER_DATABASE_URL": registry_url}
        return subprocess.run(
            [sys.executable, "-m", "deployments.front.keys", *words],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    made = run("create", "the form", "--scopes", "order,read")
    key = made.stdout.strip()
    assert re.fullmatch(r"tbk_[\w-]{43}", key), made.stderr
    listed = run("list").stdout
    assert "the form" in listed
    assert "order,read" in listed
    assert key not in listed
    assert run("revoke", listed.split()[0]).returncode == 0
    again = run("revoke", listed.split()[0])
    assert (again.returncode, again.stdout) == (1, "")
    assert "no such key" in again.stderr
    assert "revoked" in run("list").stdout


def test_a_key_is_made_for_known_scopes_and_users_only(quick_registry: Registry) -> None:
    with pytest.raises(ValueError, match="root"):
        keys.create(quick_registry, "x", "root", "")
    with pytest.raises(ValueError, match="nobody with this address"):
        keys.create(quick_registry, "x", "read", "nobody@example.com")
