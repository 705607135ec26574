"""Each invariant is broken on purpose, and says so: otherwise none of the faults' outcomes would mean anything."""

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from prefect.states import Completed, Running

from tasks.adapters.agents.processes import MARK
from tasks.adapters.agents.runtime import RuntimeFolder
from tasks.adapters.registry import Accepted
from tasks.adapters.tmux import TmuxSession
from tasks.domain.pipeline import Status
from tests.support.faults import Battered
from tests.support.invariants import CANARY, complaints
from tests.support.service import until

pytestmark = pytest.mark.timeout(900)


def seen(battered: Battered, rule: str, words: str) -> None:
    """Some rule of this name says these words, and no other rule but those that follow from it."""

    def complaint() -> str | None:
        found = complaints(battered, battered.record)
        hit = any(line.startswith(f"{rule}: ") and words in line for line in found)
        return None if hit else f"{rule} did not say {words!r}; it said {found}"

    until(complaint, 15)


@contextmanager
def written(battered: Battered, change: str, undo: str, *values: object) -> Iterator[None]:
    """A row that is changed behind the record's back, and set back at the end."""
    with battered.database() as connection:
        assert connection.execute(change, values).rowcount == 1
        try:
            yield
        finally:
            assert connection.execute(undo, values).rowcount == 1


@pytest.fixture(scope="module")
def built(started_battered: Battered) -> Accepted:
    """A site with one run: what other files do to theirs leaves further ones."""
    accepted = started_battered.accept()
    started_battered.becomes(accepted.run_id, Status.COMPLETED)
    return accepted


@pytest.fixture
def whole(battered: Battered, built: Accepted) -> Accepted:
    """A live site, and nothing that any rule complains about before the test or after it."""
    until(lambda: str(found) if (found := complaints(battered, battered.record)) else None, 40)
    return built


def test_a_created_resource_that_is_not_there(battered: Battered, whole: Accepted) -> None:
    folder = battered.home / "sites" / whole.site_name
    (folder / "live").rename(folder / "away")
    try:
        seen(battered, "resources_are_what_is_there", "recorded as created, and nothing is there")
        seen(battered, "sites_serve_their_release", "the host's pointer None")
    finally:
        (folder / "away").rename(folder / "live")


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("sites/tmux-00000000-00000000", "no resource row names it"),
        ("sites/{site}/releases/r99-000000000000", "no release row names it"),
        ("users/{user}/sessions/sess20000101000000", "no session row names it"),
        ("agents/00000000_sess20000101000000", "no execution row names it"),
    ],
)
def test_something_that_no_row_knows(battered: Battered, whole: Accepted, place: str, words: str) -> None:
    folder = battered.home / place.format(site=whole.site_name, user=whole.user_id)
    folder.mkdir()
    try:
        seen(battered, "resources_are_what_is_there", words)
    finally:
        folder.rmdir()


def test_a_writer_without_its_lease(battered: Battered, whole: Accepted) -> None:
    change = "UPDATE runs SET status = 'running', ended_at = NULL WHERE run_id = %s"
    undo = "UPDATE runs SET status = 'completed', ended_at = now() WHERE run_id = %s"
    battered.control("stop", "dispatcher")  # it would mend this at once
    try:
        with written(battered, change, undo, whole.run_id):
            seen(battered, "writers_hold_their_lease", "does not hold")
            seen(battered, "states_agree", "is still running, its flow run is Completed")
            seen(battered, "states_agree", "is completed, its run")
    finally:
        battered.control("start", "dispatcher")


def test_a_lease_of_a_run_that_is_over(battered: Battered, whole: Accepted) -> None:
    lease = battered.record.acquire_lease(whole.site_name, f"run {whole.run_id}", 60)
    try:
        seen(battered, "writers_hold_their_lease", "which is over")
    finally:
        battered.record.release_lease(lease)


def test_a_terminal_without_a_run(battered: Battered, whole: Accepted) -> None:
    socket = TmuxSession(battered.home, whole.execution_id).socket
    subprocess.run(["tmux", "-S", str(socket), "new-session", "-d", "sleep", "300"], check=True, timeout=10)
    try:
        seen(battered, "agents_have_an_execution", "a tmux server listens")
    finally:
        subprocess.run(["tmux", "-S", str(socket), "kill-server"], check=True, timeout=10)


@pytest.mark.parametrize("kind", ["a marked process", "a sandbox"])
def test_a_process_of_an_agent_without_a_run(battered: Battered, whole: Accepted, kind: str) -> None:
    mark = RuntimeFolder(battered.home, whole.execution_id).mark
    if kind == "a sandbox":
        command = ["bwrap", "--bind", "/", "/", "--bind", str(battered.home), str(battered.home), "sleep", "300"]
        environment, words = dict(os.environ), "lives, and no run does"
    else:
        command = [sys.executable, "-c", "import time; time.sleep(300)"]
        environment, words = {**os.environ, MARK: mark}, "belongs to the agent"
    with subprocess.Popen(command, env=environment) as process:
        try:
            seen(battered, "agents_have_an_execution", words)
        finally:
            process.kill()


def test_a_site_that_serves_another_release_than_is_recorded(battered: Battered, whole: Accepted) -> None:
    change = "UPDATE sites SET live_release = live_release || 'x' WHERE site_name = %s"
    undo = "UPDATE sites SET live_release = left(live_release, -1) WHERE site_name = %s"
    with written(battered, change, undo, whole.site_name):
        seen(battered, "sites_serve_their_release", "the host's pointer")
        seen(battered, "sites_serve_their_release", "serves r")


def test_a_site_that_does_not_answer(battered: Battered, whole: Accepted) -> None:
    battered.control("stop", "sites")
    try:
        seen(battered, "sites_serve_their_release", "refused")
    finally:
        battered.control("start", "sites")


def test_prefect_and_the_record_tell_two_stories(battered: Battered, whole: Accepted) -> None:
    flow_run_id = battered.flow_run(whole.run_id).id
    with battered.prefect() as client:
        client.set_flow_run_state(flow_run_id, Running(), force=True)
        try:
            seen(battered, "states_agree", "is completed, its flow run is Running")
        finally:
            client.set_flow_run_state(flow_run_id, Completed(), force=True)


@pytest.mark.parametrize(
    ("change", "undo", "words"),
    [
        (
            "UPDATE steps SET status = 'running', outcome = NULL WHERE run_id = %s AND step = 3",
            "UPDATE steps SET status = 'done', outcome = '{}' WHERE run_id = %s AND step = 3",
            "is running, and the run is completed",
        ),
        (
            "UPDATE steps SET status = 'failed', outcome = NULL WHERE run_id = %s AND step = 9",
            "UPDATE steps SET status = 'done', outcome = '{}' WHERE run_id = %s AND step = 9",
            "not all of its steps are done: e2e_tests",
        ),
    ],
    ids=["still running", "failed"],
)
def test_a_completed_run_whose_steps_are_not(
    battered: Battered, whole: Accepted, change: str, undo: str, words: str
) -> None:
    with battered.database() as connection:
        (kept,) = connection.execute("SELECT run_id FROM runs WHERE leads AND execution_id = %s", (whole.execution_id,))
    with written(battered, change, undo, kept[0]):
        seen(battered, "states_agree", words)


@pytest.mark.parametrize("where", ["a log", "a workspace", "the record", "Prefect"])
def test_a_secret_that_is_told(battered: Battered, whole: Accepted, where: str) -> None:
    secret = {"a log": battered.base[CANARY], "a workspace": battered.auth_string.partition(":")[2]}.get(where)
    if secret is not None:
        name = f"canary-{secrets.token_hex(4)}"
        workspace = battered.home / "users" / whole.user_id / "sessions" / whole.session_id
        file = {"a log": battered.home / "logs", "a workspace": workspace / "output"}[where] / name
        file.write_text(f"export X={secret}\n")
        try:
            seen(battered, "nothing_tells_a_secret", f"{name} tells")
        finally:
            file.unlink()
    elif where == "the record":
        key = (battered.home / "service" / "encryption-key").read_text().strip()
        row = whole.execution_id, "user", f"my key is {key}"
        with battered.database() as connection:
            connection.execute(
                "INSERT INTO messages (execution_id, author, body, created_at) VALUES (%s, %s, %s, now())", row
            )
            try:
                seen(battered, "nothing_tells_a_secret", "the record's table messages tells the encryption key")
            finally:
                connection.execute("DELETE FROM messages WHERE body = %s", row[2:])
    else:
        with battered.prefect() as client:
            flow_run_id = battered.flow_run(whole.run_id).id
            name = client.read_flow_run(flow_run_id).name
            client.set_flow_run_name(flow_run_id, battered.base[CANARY])
            try:
                seen(battered, "nothing_tells_a_secret", "Prefect's table flow_run tells the worker's AWS secret")
            finally:
                client.set_flow_run_name(flow_run_id, name)


def test_a_folder_that_is_served_and_that_no_row_names(battered: Battered, whole: Accepted) -> None:
    folder = battered.home / "sites" / "tmux-11111111-11111111"
    shutil.copytree(battered.home / "sites" / whole.site_name, folder, symlinks=True)
    try:
        seen(battered, "sites_serve_their_release", "is served, and no site row names it")
    finally:
        shutil.rmtree(folder)
