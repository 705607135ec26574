import io
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from rich.console import Console

from deployments.configuration import Service, ServiceRefused
from deployments.demo import TEXT, Row, Screen, closing_words, fold, order, request_for
from tasks.adapters.registry import Event
from tasks.adapters.workspace import Workspace
from tasks.domain.pipeline import Failure, Progress, Status, Step, Verdict
from tasks.domain.request import vet
from tests.support.front import Door, OpenDoor
from tests.support.service import ServiceUnderTest, processes_of

NOON = datetime(2026, 1, 24, 12, tzinfo=UTC)


def event(kind: str, step: Step, second: float) -> Event:
    return Event(int(second * 10), "x", "r", kind, {"step": int(step)}, NOON + timedelta(seconds=second))


def progress(status: Status = Status.COMPLETED, **more: object) -> Progress:
    values = {"current_step": 9, "current_step_name": "e2e_tests", "percent_complete": 100}
    return Progress.model_validate({"execution_id": "x", "status": status, **values, **more})


def test_events_become_rows_with_the_time_that_each_step_took() -> None:
    rows = fold(
        [Row(step) for step in Step],
        [
            event("step_began", Step.CREATE_USER, 0),
            event("status", Step.CREATE_USER, 0),
            event("step_done", Step.CREATE_USER, 1.5),
            event("step_began", Step.CREATE_SESSION, 2),
        ],
    )
    assert [row.state for row in rows[:3]] == ["done", "running", "waiting"]
    assert [row.seconds(NOON + timedelta(seconds=5)) for row in rows[:3]] == [1.5, 3, None]


def test_a_step_that_is_tried_again_counts_from_its_first_start() -> None:
    first = fold(
        [Row(step) for step in Step], [event("step_began", Step.DEPLOY, 0), event("step_failed", Step.DEPLOY, 1)]
    )
    assert first[5].state == "failed"
    again = fold(first, [event("step_began", Step.DEPLOY, 3)])
    assert (again[5].state, again[5].ended) == ("running", None)
    done = fold(again, [event("step_done", Step.DEPLOY, 4)])
    assert (done[5].state, done[5].seconds(NOON)) == ("done", 4)


def test_without_a_terminal_each_change_is_one_plain_line() -> None:
    said = io.StringIO()
    rows = [Row(step) for step in Step]
    with Screen(Console(file=said, force_terminal=False)) as screen:
        for events in (
            [],
            [event("step_began", Step.CREATE_USER, 0)],
            [],
            [event("step_done", Step.CREATE_USER, 1.25)],
        ):
            rows = fold(rows, events)
            screen.show(rows, progress(Status.RUNNING), NOON + timedelta(seconds=1))
    assert said.getvalue() == "step 1/9 create_user: running\nstep 1/9 create_user: done 1.2 s\n"


def test_without_a_terminal_a_step_that_takes_no_time_is_told_of_once() -> None:
    said = io.StringIO()
    rows = [Row(step) for step in Step]
    with Screen(Console(file=said, force_terminal=False)) as screen:
        for events in ([event("step_began", Step.CREATE_USER, 0)], [event("step_done", Step.CREATE_USER, 0.1)]):
            rows = fold(rows, events)
            screen.show(rows, progress(Status.RUNNING), NOON)
    assert said.getvalue() == "step 1/9 create_user: done 0.1 s\n"


def test_on_a_terminal_all_nine_steps_are_drawn() -> None:
    said = io.StringIO()
    rows = fold([Row(step) for step in Step], [event("step_began", Step.CREATE_USER, 0)])
    with Screen(Console(file=said, force_terminal=True, width=80)) as screen:
        screen.show(rows, progress(Status.WAITING_INPUT, percent_complete=11), NOON)
    assert all(step.task_name in said.getvalue() for step in Step)
    assert "11 %" in said.getvalue()
    assert "waiting input" in said.getvalue()


@pytest.fixture
def told(tmp_path: Path) -> tuple[Service, Workspace]:
    secret = SecretStr("x")
    service = Service(
        root=tmp_path,
        python=tmp_path,
        home=tmp_path,
        prefect_port=4200,
        sites_port=8401,
        postgres_port=8402,
        worker_limit=1,
        registry_url=secret,
        prefect_database_url=secret,
        private_cluster=True,
        auth_string=SecretStr("admin:topsecret"),
        encryption_key=secret,
    )
    workspace = Workspace(tmp_path / "w")
    workspace.lay_out()
    (workspace.screenshots / "desktop.jpg").touch()
    workspace.report.touch()
    return service, workspace


URL = "http://tmux-a1b2c3d4-9f8e7d6c.localhost:8401"


def test_a_build_that_went_well_ends_with_everything_that_was_made(told: tuple[Service, Workspace]) -> None:
    service, workspace = told
    rows = fold([Row(step) for step in Step], [event("step_done", step, 1) for step in Step])
    words, well = closing_words(service, progress(deployed_url=URL, verdict=Verdict.PASSED), rows, workspace, 61.25)
    assert well
    for expected in (URL, "desktop.jpg", "report.html", "61.2 s", "make down", "prefect-auth-string"):
        assert expected in words
    assert "topsecret" not in words


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (
            progress(Status.FAILED, error=Failure(step=6, step_name="deploy", message="disk full; free some")),
            "step 6 deploy: disk full; free some",
        ),
        (progress(Status.FAILED, error=Failure(step=0, step_name="", message="it crashed")), "it failed: it crashed"),
        (progress(Status.COMPLETED, verdict=Verdict.FAILED_CHECKS, deployed_url=URL), "test report says which"),
        (progress(Status.COMPLETED), "test report says which"),
        (progress(Status.CANCELLED), "was cancelled"),
        (progress(Status.RUNNING), "still running after"),
    ],
)
def test_anything_less_is_said_in_words_and_by_the_exit_code(
    told: tuple[Service, Workspace], found: Progress, expected: str
) -> None:
    service, workspace = told
    words, well = closing_words(service, found, [Row(step) for step in Step], workspace, 1)
    assert not well
    assert expected in words


def test_the_demo_orders_at_the_front_door_with_a_key_that_is_worthless_afterwards(door: Door) -> None:
    ordered = order(door.registry, door.url, request_for(TEXT))
    record = door.registry.execution(ordered.execution_id)
    assert (record.user_id, record.session_id) == (ordered.user_id, ordered.session_id)
    assert f"/e/{ordered.execution_id}?token=" in ordered.page
    (key,) = door.registry.api_keys()
    assert key.scopes == {"order"}
    assert key.revoked_at is not None


def test_the_front_doors_words_reach_who_runs_the_demo(open_door: OpenDoor) -> None:
    door = open_door(max_queue=1)
    order(door.registry, door.url, request_for(TEXT))
    with pytest.raises(ServiceRefused, match="1 requests wait and 1 may"):
        order(door.registry, door.url, request_for(TEXT))
    with pytest.raises(ServiceRefused, match="did not answer"):
        order(door.registry, "http://127.0.0.1:1", request_for(TEXT))


def test_the_request_that_the_demo_makes_is_one_that_is_accepted() -> None:
    vet(request_for(TEXT))


@pytest.mark.parametrize("text", ["x" * 20_001, "...", "bell \x07"])
def test_a_text_that_cannot_be_built_is_refused_before_anything_starts(
    own_service: ServiceUnderTest, text: str
) -> None:
    refused = own_service.run("deployments.demo", environment={**own_service.base, "DEMO_TEXT": text})
    assert refused.returncode == 2
    assert refused.stdout.startswith("DEMO_TEXT: requirements: ")
    assert "allowed: " in refused.stdout
    assert processes_of(own_service.home) == []


def test_the_demo_builds_a_website_and_leaves_it_up(service: ServiceUnderTest) -> None:
    shown = service.run(
        "deployments.demo", timeout_s=280, environment={**service.base, "DEMO_TEXT": "A bakery with a menu"}
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert [line for line in shown.stdout.splitlines() if line.startswith("step 9/9 e2e_tests: done")]
    pictures = [line.split()[1] for line in shown.stdout.splitlines() if line.startswith("screenshots ")]
    assert len(pictures) >= 2
    assert all(Path(picture).stat().st_size > 1000 for picture in pictures)
    (url,) = [line.split()[1] for line in shown.stdout.splitlines() if line.startswith("website")]
    assert url.startswith("http://tmux-")
    assert url.split(":")[2].rstrip("/") == service.told["TMUX_BUILDER_SITES_PORT"]
