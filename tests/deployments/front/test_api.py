"""The owner's routes and fields, over HTTP."""

import os
import shutil
import uuid
from datetime import datetime
from pathlib import Path

import httpx

from deployments.front import files, models
from deployments.front.scopes import Scope
from tasks.adapters.archive import Archive
from tasks.adapters.registry import Accepted
from tasks.adapters.workspace import Workspace
from tasks.domain.check import Check, Outcome
from tasks.domain.hosting import Site
from tasks.domain.pipeline import Status, Step, Verb
from tasks.domain.release import FileEntry, Manifest, Release, release_id_for
from tests.support.front import ORDER, Door, OpenDoor, a_running_execution, bearer, problem
from tests.tasks.adapters.registry.orders import a_finished_execution, counts


def test_an_order_is_accepted_with_ids_and_a_link_of_its_own(door: Door) -> None:
    response = door.order()
    assert response.status_code == 202, response.text
    told = response.json()
    assert set(told) == {"user_id", "session_id", "execution_id", "status", "token", "links"}
    assert told["status"] == "pending"
    (run,) = door.registry.undispatched()
    assert (run.execution_id, run.verb) == (told["execution_id"], Verb.FULL_BUILD)
    record = door.registry.execution(told["execution_id"])
    assert (record.user_id, record.session_id) == (told["user_id"], told["session_id"])
    progress = httpx.get(
        told["links"]["progress"].replace(door.settings.base_url, door.url), headers=bearer(told["token"])
    )
    assert progress.status_code == 200
    assert progress.json()["execution_id"] == told["execution_id"]
    assert "hosting" not in response.text


OWNERS = {
    ("POST", "/api/create-user"): (202, {"user_id", "session_id", "execution_id", "status", "token", "links"}),
    ("POST", "/api/chat/{execution_id}"): (200, {"status", "execution_id"}),
    ("GET", "/api/chat/{execution_id}/history"): (
        200,
        {"output", "execution_id", "output_at", "messages", "next_cursor"},
    ),
    ("POST", "/api/redeploy/{execution_id}"): (200, {"status", "execution_id"}),
}
"""The four routes of the functional design, as it has them; create-user accepts with 202 and says where to go on."""


def test_the_owners_routes_answer_as_the_functional_design_says(door: Door) -> None:
    running, finished = a_running_execution(door.registry), a_finished_execution(door.registry, "f")
    for (method, route), (status, fields) in OWNERS.items():
        accepted = finished if "redeploy" in route else running
        path = route.replace("{execution_id}", accepted.execution_id)
        body = ORDER if "create" in route else {"message": "hello"} if method == "POST" else None
        answer = door.client.request(method, path, json=body, headers=door.key())
        assert (answer.status_code, set(answer.json())) == (status, fields), (route, answer.text)
        if "{" in route:
            missing = path.replace(accepted.execution_id, "a1b2c3d4_sess20260124143022")
            told = problem(door.client.request(method, missing, json=body, headers=door.key()), 404)
            assert told["error"] == "Execution not found"
    for path, words in {
        f"/api/chat/{finished.execution_id}": "Cannot chat - status is pending",
        f"/api/redeploy/{running.execution_id}": "Cannot redeploy - status is running",
    }.items():
        told = problem(door.client.post(path, json={"message": "hello"}, headers=door.key()), 400)
        assert told["error"] == words


def test_the_same_key_gives_the_same_ids_and_with_another_body_a_conflict(door: Door) -> None:
    headers = {**door.key(), "Idempotency-Key": str(uuid.uuid4())}
    first, again = door.order(headers).json(), door.order(headers)
    assert again.status_code == 202
    ids = ("user_id", "session_id", "execution_id")
    assert [again.json()[name] for name in ids] == [first[name] for name in ids]
    problem(door.order(headers, requirements="something else"), 409)
    assert counts(door.registry)["executions"] == 1
    other = door.order({**door.key(), "Idempotency-Key": headers["Idempotency-Key"]})
    assert other.json()["execution_id"] != first["execution_id"], "another caller's same key is another delivery"


def test_without_a_key_each_order_is_one(door: Door) -> None:
    key = door.key()
    assert door.order(key).json()["execution_id"] != door.order(key).json()["execution_id"]


def test_progress_has_the_owners_fields_and_all_nine_steps(door: Door) -> None:
    accepted = a_running_execution(door.registry)
    told = door.client.get(f"/api/executions/{accepted.execution_id}", headers=door.key()).json()
    owners = {"execution_id", "status", "current_step", "current_step_name", "total_steps", "percent_complete"}
    assert owners | {"deployed_url", "error"} <= set(told)
    assert (told["status"], told["current_step"], told["current_step_name"]) == ("running", 2, "create_session")
    assert (told["total_steps"], told["percent_complete"]) == (9, 11)
    assert [step["status"] for step in told["steps"]] == ["done", "running", *["waiting"] * 7]
    assert [step["name"] for step in told["steps"]] == [step.task_name for step in Step]


def test_chat_reaches_the_record_and_its_history_comes_by_cursor(door: Door) -> None:
    accepted = a_running_execution(door.registry)
    path, link = f"/api/chat/{accepted.execution_id}", door.link(accepted.execution_id)
    sent = door.client.post(path, json={"message": "make it darker"}, headers=link)
    assert (sent.status_code, sent.json()) == (200, {"status": "sent", "execution_id": accepted.execution_id})
    (waiting,) = door.registry.undelivered_messages(accepted.execution_id)
    assert waiting.body == "make it darker"
    door.client.post(path, json={"message": "stop", "interrupt": True}, headers=link)
    for number in range(3):
        door.registry.post_message(accepted.execution_id, "agent", f"line {number}\x1b[31m\u202e")
    seen, cursor = [], 0
    while page := door.client.get(f"{path}/history?cursor={cursor}&limit=2", headers=link).json():
        cursor = page["next_cursor"]
        if not page["messages"]:
            break
        seen += [(line["author"], line["kind"], line["text"], line["delivered"]) for line in page["messages"]]
    assert seen == [
        ("user", "say", "make it darker", False),
        ("user", "interrupt", "stop", False),
        *[("agent", "say", f"line {number}[31m", True) for number in range(3)],
    ]


def test_history_shows_the_terminal(door: Door) -> None:
    accepted = a_running_execution(door.registry)
    path = f"/api/chat/{accepted.execution_id}/history"
    assert door.client.get(path, headers=door.key()).json()["output"] == ""
    door.registry.write_screen(accepted.execution_id, "> planning\n> done")
    told = door.client.get(path, headers=door.key()).json()
    assert told["output"] == "> planning\n> done"
    assert datetime.fromisoformat(told["output_at"]).tzinfo is not None


def test_nobody_chats_with_an_execution_that_is_over_or_not_begun(door: Door) -> None:
    finished = a_finished_execution(door.registry, "f")
    told = problem(
        door.client.post(f"/api/chat/{finished.execution_id}", json={"message": "x"}, headers=door.key()), 400
    )
    assert told["detail"].startswith("Cannot chat - status is completed")
    unknown = door.client.post("/api/chat/a1b2c3d4_sess20260124143022", json={"message": "x"}, headers=door.key())
    problem(unknown, 404)
    assert counts(door.registry).get("messages", 0) == 0


def test_a_redeploy_is_asked_for_once(door: Door) -> None:
    accepted = a_finished_execution(door.registry)
    path, key = f"/api/redeploy/{accepted.execution_id}", {**door.key(), "Idempotency-Key": "once"}
    for _ in range(2):
        response = door.client.post(path, headers=key)
        assert response.status_code == 200, response.text
        assert response.json() == {"status": "redeploying", "execution_id": accepted.execution_id}
    (run,) = door.registry.undispatched()
    assert run.verb is Verb.REDEPLOY
    told = door.client.get(f"/api/executions/{accepted.execution_id}", headers=key).json()
    assert [step["status"] for step in told["steps"]] == [*["done"] * 5, *["waiting"] * 4]
    assert "status is pending" in problem(door.client.post(path, headers=door.key()), 400)["detail"]


def test_what_was_never_built_is_not_redeployed(door: Door) -> None:
    accepted = a_running_execution(door.registry)
    path = f"/api/redeploy/{accepted.execution_id}"
    assert "status is running" in problem(door.client.post(path, headers=door.key()), 400)["detail"]
    door.registry.set_status(accepted.execution_id, Status.FAILED)
    assert "nothing was built" in problem(door.client.post(path, headers=door.key()), 400)["detail"]
    problem(door.client.post("/api/redeploy/nonsense", headers=door.key()), 404)
    assert door.registry.undispatched() == []


def two_releases(door: Door, execution_id: str, site_name: str) -> list[str]:
    ids = []
    for number in (1, 2):
        files = (FileEntry(path="index.html", size=5, sha256=str(number), headers={}),)
        release_id = release_id_for(number, files)
        manifest = Manifest(release_id=release_id, files=files)
        door.registry.record_release(
            execution_id, Release(number=number, release_id=release_id, root="/r", manifest=manifest)
        )
        ids.append(release_id)
    site = Site(name=site_name, url=f"http://{site_name}.localhost:8401", release_id=ids[1])
    door.registry.record_published(execution_id, site)
    return ids


def test_releases_are_listed_and_an_earlier_one_is_asked_back(door: Door) -> None:
    accepted = a_finished_execution(door.registry)
    base, key = f"/api/executions/{accepted.execution_id}", door.key()
    assert "nothing is live" in problem(door.client.post(f"{base}/rollback", headers=key), 400)["detail"]
    old, live = two_releases(door, accepted.execution_id, accepted.site_name)
    listed = door.client.get(f"{base}/releases", headers=key).json()["releases"]
    assert [(each["release"], each["live"]) for each in listed] == [(live, True), (old, False)]
    for wrong in (live, "r9-0123456789ab"):
        told = problem(door.client.post(f"{base}/rollback", json={"release": wrong}, headers=key), 400)
        assert told["errors"][0]["allowed"] == old
    response = door.client.post(f"{base}/rollback", json={"release": old}, headers=key)
    assert (response.status_code, response.json()["status"]) == (202, "rolling_back")
    (run,) = door.registry.undispatched()
    assert (run.verb, run.parameters) == (Verb.ROLLBACK, {"release": old})
    problem(door.client.post(f"{base}/rollback", headers=key), 409)


def test_a_site_is_taken_down_when_nothing_works_on_it(door: Door) -> None:
    running, finished = a_running_execution(door.registry), a_finished_execution(door.registry, "f")
    key = door.key()
    problem(door.client.post(f"/api/executions/{running.execution_id}/teardown", headers=key), 400)
    path = f"/api/executions/{finished.execution_id}/teardown"
    response = door.client.post(path, json={"keep_files": True}, headers=key)
    assert (response.status_code, response.json()["status"]) == (202, "tearing_down")
    (run,) = door.registry.undispatched()
    assert (run.verb, run.parameters) == (Verb.TEARDOWN, {"keep_files": True})


def test_a_cancellation_is_written_down_for_the_dispatcher(door: Door) -> None:
    accepted = a_running_execution(door.registry)
    path = f"/api/executions/{accepted.execution_id}/cancel"
    for _ in range(2):
        assert door.client.post(path, headers=door.key()).json()["status"] == "cancelling"
    assert [run.run_id for run in door.registry.cancel_requests()] == [accepted.run_id]
    finished = a_finished_execution(door.registry, "f")
    told = problem(door.client.post(f"/api/executions/{finished.execution_id}/cancel", headers=door.key()), 400)
    assert told["detail"] == "Cannot cancel - status is completed"


def test_a_plan_is_approved_once(door: Door) -> None:
    accepted = a_running_execution(door.registry)
    question = door.registry.ask_question(accepted.run_id, "plan", 1, "Shall this be built?", 60)
    base, key = f"/api/executions/{accepted.execution_id}", door.link(accepted.execution_id)
    shown = door.client.get(base, headers=key).json()["question"]
    assert (shown["kind"], shown["text"]) == ("plan", "Shall this be built?")
    path = f"{base}/questions/{question.question_id}/answer"
    for wrong in (
        {},
        {"text": "yes"},
        {"decision": "change"},
        {"decision": "maybe"},
        {"decision": "approve", "text": "x"},
    ):
        problem(door.client.post(path, json=wrong, headers=key), 422)
    answered = door.client.post(path, json={"decision": "change", "changes": "a blue header"}, headers=key)
    assert answered.json()["status"] == "answered"
    (kept,) = door.registry.questions(accepted.execution_id, "plan")
    assert kept.answer == {"decision": "change", "changes": "a blue header"}
    problem(door.client.post(path, json={"decision": "approve"}, headers=key), 409)
    problem(door.client.post(f"{base}/questions/nonsense/answer", json={"decision": "approve"}, headers=key), 404)


def test_the_answers_to_a_plan_are_those_that_the_run_understands() -> None:
    from tasks.planning import Decision, check_answer

    assert {str(choice) for choice in models.Choice} == {str(choice) for choice in Decision}
    check_answer({"decision": "change", "changes": "x" * 5000})


def test_the_agents_question_is_answered_in_words(door: Door) -> None:
    accepted = a_running_execution(door.registry)
    question = door.registry.ask_question(accepted.run_id, "agent", 1, "Dark or light?", 60)
    path = f"/api/executions/{accepted.execution_id}/questions/{question.question_id}/answer"
    problem(door.client.post(path, json={"decision": "approve"}, headers=door.key()), 422)
    assert door.client.post(path, json={"text": "2"}, headers=door.key()).status_code == 200
    (message,) = door.registry.undelivered_messages(accepted.execution_id)
    assert message.body == "2"
    door.registry.close_questions(accepted.run_id, "the agent goes on")
    problem(door.client.post(path, json={"text": "1"}, headers=door.key()), 409)


def test_lists_are_for_operators_and_for_the_user_they_are_of(door: Door) -> None:
    key = door.key()
    ids = [door.order(key, email=f"u{number % 2}@example.com").json() for number in range(4)]
    first = door.client.get("/api/executions?limit=3", headers=key).json()
    rest = door.client.get("/api/executions", params={"cursor": first["next_cursor"]}, headers=key).json()
    found = [each["execution_id"] for each in first["executions"] + rest["executions"]]
    assert sorted(found) == sorted(each["execution_id"] for each in ids)
    assert rest["next_cursor"] is None
    assert len(door.client.get("/api/executions?q=U1@EXAMPLE", headers=key).json()["executions"]) == 2
    assert door.client.get("/api/executions?status=failed", headers=key).json()["executions"] == []
    problem(door.client.get("/api/executions", headers=door.key(Scope.READ)), 403)
    problem(door.client.get("/api/executions?cursor=AAAA", headers=key), 422)
    problem(door.client.get("/api/executions?cursor=a1b2c3d4_sess20260124143022", headers=key), 404)
    mine = door.key(user_id=ids[0]["user_id"])
    assert len(door.client.get("/api/executions", headers=mine).json()["executions"]) == 2
    of_user = door.client.get(f"/api/users/{ids[0]['user_id']}/executions", headers=mine).json()["executions"]
    assert len(of_user) == 2


FILES = {"/plan": "text/markdown", "/report": "text/html", "/screenshots/desktop.jpg": "image/jpeg"}


def filled(door: Door, accepted: Accepted, text: str = "<script>alert(1)</script>") -> Workspace:
    workspace = Workspace.of(door.settings.home, accepted.user_id, accepted.session_id)
    workspace.lay_out()
    for file in (workspace.plan, workspace.report, workspace.screenshots / "desktop.jpg"):
        file.write_text(text)
    return workspace


def test_files_come_as_attachments_that_no_browser_runs(door: Door) -> None:
    accepted = a_finished_execution(door.registry)
    base, key = f"/api/executions/{accepted.execution_id}", door.key()
    for path in FILES:
        problem(door.client.get(base + path, headers=key), 404)
    filled(door, accepted)
    told = door.client.get(f"{base}/artefacts", headers=key).json()
    assert (told["screenshots"], told["report"], told["plan"]) == (["desktop.jpg"], True, True)
    for path, kind in FILES.items():
        response = door.client.get(base + path, headers=key)
        assert response.status_code == 200
        assert response.headers["content-type"].startswith(kind)
        assert response.headers["content-disposition"].startswith("attachment;")
        assert response.headers["content-security-policy"].startswith("sandbox")
        assert response.headers["x-content-type-options"] == "nosniff"


def archived(door: Door, accepted: Accepted, text: str) -> Path:
    """The session's folder in the archive, with the three files in it; the workspace that they came from is gone."""
    workspace = filled(door, accepted, text)
    archive = Archive(str(door.settings.home / "store"))
    archive.save_texts(accepted.user_id, accepted.session_id, workspace)
    archive.save_views(accepted.user_id, accepted.session_id, workspace)
    shutil.rmtree(workspace.root)
    return door.settings.home / "store" / accepted.user_id / accepted.session_id


def test_files_come_from_the_archive_when_the_workspace_is_gone_or_older(door: Door) -> None:
    accepted = a_finished_execution(door.registry)
    base, key = f"/api/executions/{accepted.execution_id}", door.key()
    session = archived(door, accepted, "archived")
    told = door.client.get(f"{base}/artefacts", headers=key).json()
    assert (told["screenshots"], told["report"], told["plan"]) == (["desktop.jpg"], True, True)
    for path, kind in FILES.items():
        response = door.client.get(base + path, headers=key)
        assert (response.status_code, response.text) == (200, "archived")
        assert response.headers["content-type"].startswith(kind)
        assert response.headers["content-security-policy"].startswith("sandbox")
    workspace = filled(door, accepted, "of this machine")
    os.utime(workspace.plan, (0, 0))
    assert door.client.get(f"{base}/plan", headers=key).text == "of this machine", "whatever the agent says of its age"
    archive = Archive(str(door.settings.home / "store"))
    archive.save_file(accepted.user_id, accepted.session_id, "output/plan.md", b"newer")
    assert door.client.get(f"{base}/plan", headers=key).text == "newer", "another machine has made it"
    shutil.rmtree(workspace.root)
    shutil.rmtree(session)
    for path in FILES:
        problem(door.client.get(base + path, headers=key), 404)


def test_nothing_in_the_archive_leads_out_of_it_and_nothing_endless_is_read(door: Door) -> None:
    accepted = a_finished_execution(door.registry)
    base, key = f"/api/executions/{accepted.execution_id}", door.key()
    session = archived(door, accepted, "archived")
    secret = door.settings.home / "secret"
    (secret / "deployment" / "tests").mkdir(parents=True)
    (secret / "deployment" / "tests" / "report.html").write_text("secret")
    (secret / "twice").write_text("secret")
    (session / "output" / "plan.md").unlink()
    (session / "output" / "plan.md").symlink_to(secret / "deployment" / "tests" / "report.html")
    (session / "deployment" / "screenshots" / "phone.jpg").hardlink_to(secret / "twice")
    with (session / "deployment" / "tests" / "report.html").open("r+b") as report:
        report.truncate(files.LIMIT + 1)
    os.mkfifo(session / "deployment" / "screenshots" / "desktop-pipe.jpg")
    for path in ("/plan", "/report", "/screenshots/phone.jpg", "/screenshots/desktop-pipe.jpg"):
        problem(door.client.get(base + path, headers=key), 404)
    told = door.client.get(f"{base}/artefacts", headers=key).json()
    assert (told["screenshots"], told["report"], told["plan"]) == (["desktop.jpg"], False, False)
    for below, outside in ((session / "deployment", secret / "deployment"), (session.parent, secret)):
        shutil.rmtree(below)
        below.symlink_to(outside)
        problem(door.client.get(f"{base}/report", headers=key), 404)


def test_an_archive_that_needs_a_key_is_told_as_such(open_door: OpenDoor) -> None:
    door = open_door(store="s3://")
    accepted, waiting = a_finished_execution(door.registry), a_running_execution(door.registry)
    base, key = f"/api/executions/{accepted.execution_id}", door.key()
    for path in (*FILES, "/artefacts"):
        assert "no key to" in problem(door.client.get(base + path, headers=key), 404)["detail"]
    filled(door, accepted, "here")
    assert door.client.get(f"{base}/plan", headers=key).text == "here"
    shown = door.client.get(f"/api/executions/{waiting.execution_id}/artefacts", headers=key)
    assert shown.json()["screenshots"] == [], "of what has not begun there is nothing anywhere"


def test_no_link_of_the_agents_leads_out_of_its_workspace(door: Door) -> None:
    accepted = a_finished_execution(door.registry)
    workspace = Workspace.of(door.settings.home, accepted.user_id, accepted.session_id)
    workspace.lay_out()
    secret = door.settings.home / "secret"
    secret.mkdir()
    (secret / "plan.md").write_text("secret")
    (secret / "report.html").write_text("secret")
    (secret / "twice").write_text("secret")
    base, key = f"/api/executions/{accepted.execution_id}", door.key()
    workspace.plan.symlink_to(secret / "plan.md")
    workspace.report.parent.rmdir()
    workspace.report.parent.symlink_to(secret)
    (workspace.screenshots / "phone.jpg").hardlink_to(secret / "twice")
    for path in ("/plan", "/report", "/screenshots/phone.jpg", "/screenshots/..%2f..%2foutput%2fplan.md"):
        problem(door.client.get(base + path, headers=key), 404)


def test_checks_are_shown_with_their_findings(door: Door) -> None:
    accepted = a_finished_execution(door.registry)
    door.registry.record_check(accepted.run_id, Check(name="health_check", outcome=Outcome.PASSED))
    told = door.client.get(f"/api/executions/{accepted.execution_id}/checks", headers=door.key()).json()
    assert [check["name"] for check in told["checks"]] == ["health_check"]


def test_the_queue_is_bounded_and_a_users_day_is_too(open_door: OpenDoor) -> None:
    door = open_door(max_queue=3, max_per_user_day=2)
    key = door.key()
    for _ in range(2):
        assert door.order(key).status_code == 202
    refused = door.order(key)
    assert "within a day" in problem(refused, 429)["detail"]
    assert 86_000 < int(refused.headers["retry-after"]) <= 86_400
    assert door.order(key, email="ben@example.com").status_code == 202
    full = door.order(key, email="cleo@example.com")
    problem(full, 503)
    assert full.headers["retry-after"] == "60"
    assert counts(door.registry)["executions"] == 3


def test_a_registry_that_is_away_is_told_as_such(door: Door, monkeypatch) -> None:
    def away(*_args: object) -> None:
        raise ConnectionError("the registry at postgresql://u:hunter2hunter2@h/d did not answer")

    key = door.key()
    monkeypatch.setattr(door.registry, "find_executions", away)
    response = door.client.get("/api/executions", headers=key)
    problem(response, 503)
    assert response.headers["retry-after"]
    assert "hunter2" not in response.text


def test_an_error_of_ours_says_nothing_of_its_inside(door: Door, monkeypatch) -> None:
    def broken(*_args: object) -> None:
        raise RuntimeError("the inside")

    key = door.key()
    monkeypatch.setattr(door.registry, "find_executions", broken)
    response = door.client.get("/api/executions", headers=key)
    problem(response, 500)
    assert "inside" not in response.text
