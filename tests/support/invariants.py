"""What must be true of a service whatever happened to it. `assert_invariants` waits a bounded time for repairs to end.

Each rule is a function of what was found that lists what contradicts it; the found things are real: rows, folders,
processes, answers of the site server, states of the Prefect server.
"""

import base64
import json
import socket
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import psycopg
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, StateType
from psycopg import sql
from sqlalchemy import select

from deployments.dispatcher import status_of
from deployments.postgres import PrivateCluster
from deployments.service import PREFECT_DATABASE
from tasks.adapters.agents.processes import MARK
from tasks.adapters.agents.runtime import RuntimeFolder
from tasks.adapters.http import Unanswered, complaint_about_marker, fetch
from tasks.adapters.registry import Registry
from tasks.adapters.registry.schema import metadata
from tasks.adapters.tmux import TmuxSession
from tasks.domain.hosting import Site
from tasks.domain.pipeline import Status, Step, Verb
from tasks.domain.release import MARKER_PATH
from tests.support.service import ServiceUnderTest

SETTLE_S = 40.0
"""How long a repair may take: a crashed run is started again, a lease is taken over, a sweep comes round."""

CANARY = "AWS_SECRET_ACCESS_KEY"
"""A credential in the worker's environment, as for a cloud; planted by `tests.support.faults`."""

_NO_TEXTS = ("service", "postgresql", "run")
"""Folders of the home that hold the secrets themselves, the database's files, or sockets and records of processes."""


@dataclass(frozen=True)
class Found:
    """One look at a service; rows as mappings, by table."""

    service: ServiceUnderTest
    rows: Mapping[str, list[Mapping[str, Any]]]
    flow_runs: Mapping[str, FlowRun]

    @property
    def home(self) -> Path:
        return self.service.home

    def active(self, execution_id: str) -> bool:
        """Whether some run works on the execution, or is about to."""
        return any(
            run["execution_id"] == execution_id and not Status(run["status"]).is_final for run in self.rows["runs"]
        )


def look_at(service: ServiceUnderTest, registry: Registry) -> Found:
    """Prefect is asked before and the record after: what ends in between is seen as running in Prefect alone."""
    rows = _rows(registry)
    ids = sorted({run["flow_run_id"] for run in rows["runs"] if run["flow_run_id"]})
    flow_runs: dict[str, FlowRun] = {}
    with SyncPrefectClient(service.told["PREFECT_API_URL"], auth_string=service.auth_string) as client:
        for start in range(0, len(ids), 100):
            some = FlowRunFilter(id=FlowRunFilterId(any_=[UUID(flow_run) for flow_run in ids[start : start + 100]]))
            flow_runs |= {str(found.id): found for found in client.read_flow_runs(flow_run_filter=some)}
    return Found(service, rows, flow_runs)


def _rows(registry: Registry) -> dict[str, list[Mapping[str, Any]]]:
    with registry.engine.connect() as connection:
        return {
            name: [dict(row._mapping) for row in connection.execute(select(table))]
            for name, table in metadata.tables.items()
        }


def resources_are_what_is_there(found: Found) -> Iterator[str]:
    """No row that says 'created' without its site, and nothing on the disk that no row knows."""
    sites = {site["site_name"]: site for site in found.rows["sites"]}
    living = {row["name"]: row for row in found.rows["resources"] if row["kind"] == "site" and row["state"] != "gone"}
    for name, row in living.items():
        if row["state"] == "created" and not (found.home / "sites" / name / "live").is_dir():
            yield f"resource site {name} is recorded as created, and nothing is there"
    for folder in _folders(found.home / "sites"):
        if folder.name not in living:
            yield f"{folder} exists, and no resource row names it"
        session = _session_of(found, sites.get(folder.name))
        known = {row["release_id"] for row in found.rows["releases"] if row["session_id"] == session}
        for release in _folders(folder / "releases"):
            if not release.name.startswith(".") and release.name not in known:
                yield f"{release} exists, and no release row names it"
    sessions = {row["session_id"] for row in found.rows["sessions"]}
    for folder in found.home.glob("users/*/sessions/*"):
        if folder.name not in sessions:
            yield f"workspace {folder} exists, and no session row names it"
    executions = {row["execution_id"] for row in found.rows["executions"]}
    for folder in _folders(found.home / "agents"):
        if folder.name not in executions:
            yield f"agent's folder {folder} exists, and no execution row names it"


def _folders(parent: Path) -> list[Path]:
    return [folder for folder in parent.glob("*") if folder.is_dir()] if parent.is_dir() else []


def _session_of(found: Found, site: Mapping[str, Any] | None) -> Any:
    if site is None:
        return None
    return next(row["session_id"] for row in found.rows["executions"] if row["execution_id"] == site["execution_id"])


def writers_hold_their_lease(found: Found) -> Iterator[str]:
    """Who writes holds the site, and nobody holds it who is over."""
    runs = {f"run {run['run_id']}": run for run in found.rows["runs"]}
    sites = {site["execution_id"]: site["site_name"] for site in found.rows["sites"]}
    owners = {lease["site_name"]: lease["owner"] for lease in found.rows["leases"]}
    writing = {row["run_id"] for row in found.rows["steps"] if row["step"] > Step.CREATE_SESSION}
    for owner, run in runs.items():
        status = Status(run["status"])
        if not Verb(run["verb"]).writes or status.is_final or status is Status.PENDING or run["run_id"] not in writing:
            continue
        if owners.get(sites[run["execution_id"]]) != owner:
            yield f"{owner} ({run['verb']}) is {status} and does not hold {sites[run['execution_id']]}"
    for site, owner in owners.items():
        if owner is not None and (owner not in runs or Status(runs[owner]["status"]).is_final):
            yield f"{site} is held by {owner}, which is over"
    for slot in found.rows["slots"]:
        if Status(runs[f"run {slot['run_id']}"]["status"]).is_final and slot["taken_at"] is not None:
            yield f"a slot for an {slot['kind']} is kept by run {slot['run_id']}, which is over"


def agents_have_an_execution(found: Found) -> Iterator[str]:
    """No tmux server and no process of a pane without a run that is not over; no sandbox without any run."""
    sockets = {TmuxSession(found.home, row["execution_id"]).socket.name: row for row in found.rows["executions"]}
    for path in sorted((found.home / "run").glob("*")):
        if stat.S_ISSOCK(path.lstat().st_mode) and _answers(path):
            row = sockets.get(path.name)
            if row is None or not found.active(row["execution_id"]):
                yield f"a tmux server listens on {path}, of {row['execution_id'] if row else 'no execution'}"
    marks = {RuntimeFolder(found.home, row["execution_id"]).mark: row for row in found.rows["executions"]}
    idle = not any(found.active(row["execution_id"]) for row in found.rows["executions"])
    for pid, command, environment in _processes():
        mark = environment.get(MARK.encode(), b"").decode(errors="replace")
        if mark in marks and not found.active(marks[mark]["execution_id"]):
            yield f"process {pid} ({command}) belongs to the agent of {marks[mark]['execution_id']}, which is over"
        elif idle and Path(command.split()[0]).name == "bwrap" and str(found.home) in command:
            yield f"sandbox {pid} lives, and no run does: {command[:200]}"


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def _processes() -> Iterator[tuple[int, str, Mapping[bytes, bytes]]]:
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            pairs = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if command:
            yield int(folder.name), command, dict(pair.split(b"=", 1) for pair in pairs if b"=" in pair)


def sites_serve_their_release(found: Found) -> Iterator[str]:
    """A visitor, the host's pointer and the record say the same release; nothing is served that is not recorded."""
    recorded = {site["site_name"]: site for site in found.rows["sites"]}
    for name, site in recorded.items():
        pointer = found.home / "sites" / name / "live"
        pointed = pointer.readlink().name if pointer.is_symlink() else None
        if pointed != site["live_release"]:
            yield f"{name}: the record says {site['live_release']}, the host's pointer {pointed}"
        if site["live_release"] is None:
            continue
        served = Site(name=name, url=site["url"], release_id=site["live_release"], dial=site["dial"])
        try:
            answer = fetch(served, f"/{MARKER_PATH}", 5)
        except Unanswered as error:
            yield f"{name}: {error.complaint}"
            continue
        if words := complaint_about_marker(answer.status, answer.body, served.release_id):
            yield f"{name}: {words}"
    for folder in _folders(found.home / "sites"):
        if folder.name not in recorded and (folder / "live").exists():
            yield f"{folder} is served, and no site row names it"


_STATES = {
    Status.COMPLETED: (StateType.COMPLETED,),
    Status.CANCELLED: (StateType.CANCELLED,),
    Status.FAILED: (StateType.FAILED, StateType.CRASHED),  # crashed: given up after too many times
}


def states_agree(found: Found) -> Iterator[str]:
    """Prefect and the record tell one story of each run, and the steps' rows fit it."""
    leading = {run["execution_id"]: run for run in found.rows["runs"] if run["leads"]}
    for execution in found.rows["executions"]:
        run = leading[execution["execution_id"]]
        if run["status"] != execution["status"]:
            yield f"{execution['execution_id']} is {execution['status']}, its run {run['run_id']} is {run['status']}"
    for run in found.rows["runs"]:
        yield from _of_steps(run, [row for row in found.rows["steps"] if row["run_id"] == run["run_id"]])
        if run["flow_run_id"] is None or run["verb"] == Verb.REVERIFY:  # one flow run of many executions
            continue
        yield from _of_prefect(run, found.flow_runs.get(run["flow_run_id"]))


def _of_prefect(run: Mapping[str, Any], flow_run: FlowRun | None) -> Iterator[str]:
    status = Status(run["status"])
    if flow_run is None or flow_run.state is None:
        if not status.is_final:
            yield f"run {run['run_id']} is {status}, and Prefect knows no flow run {run['flow_run_id']}"
        return
    state = flow_run.state.type
    if status.is_final:
        if state not in _STATES[status]:
            yield f"run {run['run_id']} ({run['verb']}) is {status}, its flow run is {flow_run.state.name}"
    elif status_of(state, status) is not None or state is StateType.CRASHED:
        yield f"run {run['run_id']} ({run['verb']}) is still {status}, its flow run is {flow_run.state.name}"


def _of_steps(run: Mapping[str, Any], steps: list[Mapping[str, Any]]) -> Iterator[str]:
    verb, status = Verb(run["verb"]), Status(run["status"])
    by_number = {row["step"]: row for row in steps}
    for number, row in by_number.items():
        if (row["status"] == "done") != (row["outcome"] is not None):
            yield f"step {number} of run {run['run_id']} is {row['status']}, its outcome is {row['outcome']!r}"
        if row["status"] == "running" and status is Status.COMPLETED:
            yield f"step {number} of run {run['run_id']} is running, and the run is completed"
    if status is Status.COMPLETED and verb.leads:
        missing = [
            step.task_name for step in Step
            if step >= verb.first_step and by_number.get(step, {}).get("status") != "done"
        ]  # fmt: skip
        if missing:
            yield f"run {run['run_id']} ({verb}) is completed, and not all of its steps are done: {', '.join(missing)}"


def nothing_tells_a_secret(found: Found) -> Iterator[str]:
    """No credential in a file below the home, in the record, or anywhere in Prefect's database."""
    secrets = secrets_of(found.service)
    for path in _text_files(found.home):
        for name in _told(secrets, _content(path)):
            yield f"{path} tells {name}"
    for table, rows in found.rows.items():
        for name in _told(secrets, json.dumps([dict(row) for row in rows], default=str).encode()):
            yield f"the record's table {table} tells {name}"
    for table, text in _prefect_tables(found.service):
        for name in _told(secrets, text.encode()):
            yield f"Prefect's table {table} tells {name}"


def secrets_of(service: ServiceUnderTest) -> dict[str, str]:
    """What nobody may read anywhere, by what it is; also in the form that an HTTP header has."""
    told = service.told
    user, _, password = service.auth_string.partition(":")
    cluster = _cluster(service)
    found = {
        "the auth string's password": password,
        "the auth string as a header": base64.b64encode(f"{user}:{password}".encode()).decode(),
        "the encryption key": (service.home / "service" / "encryption-key").read_text().strip(),
        "the record's database password": str(urlsplit(told["TMUX_BUILDER_DATABASE_URL"]).password),
        "Prefect's database password": str(urlsplit(cluster.url(PREFECT_DATABASE)).password),
    }
    if canary := service.base.get(CANARY):
        found["the worker's AWS secret"] = canary
    return found


def _told(secrets: Mapping[str, str], text: bytes) -> list[str]:
    return [name for name, secret in secrets.items() if secret.encode() in text]


def _text_files(home: Path) -> Iterator[Path]:
    for top in sorted(home.iterdir()):
        if top.name in _NO_TEXTS:
            continue
        files = [top] if top.is_file() else (path for path in top.rglob("*") if not path.is_symlink())
        yield from (path for path in files if path.is_file() and not path.is_symlink())


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _cluster(service: ServiceUnderTest) -> PrivateCluster:
    return PrivateCluster(service.home / "postgresql", int(service.told["TMUX_BUILDER_POSTGRES_PORT"]))


def _prefect_tables(service: ServiceUnderTest) -> Iterator[tuple[str, str]]:
    url = _cluster(service).url(PREFECT_DATABASE).replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(url, connect_timeout=5) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        for (table,) in tables:
            name = sql.Identifier(table)
            rows = connection.execute(sql.SQL("SELECT t::text FROM {} AS t").format(name))
            yield table, "\n".join(row[0] for row in rows)


RULES: tuple[Callable[[Found], Iterable[str]], ...] = (
    resources_are_what_is_there,
    writers_hold_their_lease,
    agents_have_an_execution,
    sites_serve_their_release,
    states_agree,
    nothing_tells_a_secret,
)


def complaints(service: ServiceUnderTest, registry: Registry) -> list[str]:
    """What contradicts the rules at this moment, each with the name of its rule."""
    found = look_at(service, registry)
    return [f"{rule.__name__}: {words}" for rule in RULES for words in rule(found)]


def assert_invariants(service: ServiceUnderTest, settle_s: float = SETTLE_S) -> None:
    """Fail with every contradiction that does not pass within ``settle_s``."""
    registry = service.registry()
    end = time.monotonic() + settle_s
    try:
        while found := complaints(service, registry):
            if time.monotonic() > end:
                pytest.fail(f"after {settle_s:.0f} s these invariants do not hold:\n" + "\n".join(found))
            time.sleep(0.5)
    finally:
        registry.close()
