"""Faults that come when they are called: a run is held at one line of one step, then something is killed.

Runs are held by the database, not by a hook in the code: a trigger on the table of steps waits for an advisory lock
that the test has. Agents are held by SIGSTOP. Everything that waits has a deadline.
"""

import os
import secrets
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelling
from sqlalchemy import select

from deployments.engines import Engine
from deployments.processes import Process
from tasks.adapters.agents import processes
from tasks.adapters.agents.runtime import RuntimeFolder
from tasks.adapters.registry import Accepted, ExecutionRecord, Registry, RunRecord
from tasks.adapters.registry.runs import run_record
from tasks.adapters.registry.schema import runs
from tasks.adapters.workspace import Workspace, write_atomic
from tasks.domain.pipeline import Status, Step, Verb
from tasks.domain.request import SiteRequest
from tests.support.invariants import CANARY, assert_invariants
from tests.support.service import PROGRAMS, ServiceUnderTest, dispose, new_service, processes_of, until

TEXT = "A light website called Crumb & Co for a bakery, with a menu, opening hours and a contact form"

ENTERING, AMID, LEAVING = "entering", "amid", "leaving"
"""Where in a step: before its row says that it began; while its agent works; when its work is done, and not noted."""

PHASES = {Step.CREATE_PLAN: "planning", Step.GENERATE_CODE: "coding", Step.E2E_TESTS: "test_generation"}

PASSED = pytest.StashKey[bool]()
"""Whether a test got to its end; kept by `tests/faults/conftest.py`."""

_GATES = """
CREATE TABLE IF NOT EXISTS fault_gates (run_id text, step int, status text, key bigint);
CREATE OR REPLACE FUNCTION fault_gate() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE lock bigint;
BEGIN
  SELECT g.key INTO lock FROM fault_gates g
   WHERE g.run_id = NEW.run_id AND g.step = NEW.step AND g.status = NEW.status;
  IF FOUND THEN PERFORM pg_advisory_xact_lock(lock); END IF;
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER fault_gate BEFORE INSERT ON steps FOR EACH ROW EXECUTE FUNCTION fault_gate();
"""


@dataclass
class Gate:
    """Holds a run where it notes that a step began, or that it is done; the note itself is not made yet."""

    service: "Battered"
    run_id: str
    step: Step
    moment: str
    key: int = field(default_factory=lambda: secrets.randbelow(2**30))

    def __post_init__(self) -> None:
        self._connection = self.service.database()
        self._connection.execute("SELECT pg_advisory_lock(%s)", (self.key,))
        status = {ENTERING: "running", LEAVING: "done"}[self.moment]
        row = self.run_id, int(self.step), status, self.key
        self._connection.execute("INSERT INTO fault_gates VALUES (%s, %s, %s, %s)", row)

    def wait(self, deadline_s: float = 240) -> None:
        """Until a run stands before the gate."""
        waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND objid::bigint = %s AND NOT granted"

        def complaint() -> str | None:
            if self._connection.execute(waiting, (self.key,)).fetchone():
                return None
            return f"no run came to {self.moment} step {self.step}; the run is {self.service.told_of(self.run_id)}"

        until(complaint, deadline_s)

    def open(self) -> None:
        """Let through whoever waits and whoever comes. Safe to repeat."""
        if self._connection.closed:
            return
        self._connection.execute("DELETE FROM fault_gates WHERE key = %s", (self.key,))
        self._connection.close()


@dataclass
class Battered(ServiceUnderTest):
    """The service under faults, with a credential in its worker's environment and gates in its database."""

    def __post_init__(self) -> None:
        self._opened: Registry | None = None

    @property
    def record(self) -> Registry:
        if self._opened is None:
            self._opened = self.registry()
        return self._opened

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()

    def database(self) -> "psycopg.Connection[Any]":
        url = self.told["TMUX_BUILDER_DATABASE_URL"].replace("postgresql+psycopg", "postgresql")
        return psycopg.connect(url, autocommit=True, connect_timeout=5)

    def install_gates(self) -> None:
        with self.database() as connection:
            connection.execute(_GATES)

    @contextmanager
    def prefect(self) -> Iterator[SyncPrefectClient]:
        with SyncPrefectClient(self.told["PREFECT_API_URL"], auth_string=self.auth_string) as client:
            yield client

    # -- work --

    def accept(self, **more: Any) -> Accepted:
        """A request as the API accepts it, of a user of its own, so that no other build holds its turn."""
        email = f"p{uuid.uuid4().hex[:12]}@example.com"
        request = SiteRequest.model_validate({"requirements": TEXT, "email": email, "phone": "+4915112345678", **more})
        return self.record.accept(request, f"fault-{uuid.uuid4()}")

    def ask_for(self, built: Accepted, verb: Verb) -> str:
        return self.record.request_run(built.execution_id, verb, f"fault-{uuid.uuid4()}")

    def run_of(self, run_id: str) -> RunRecord:
        with self.record.engine.connect() as connection:
            return run_record(connection.execute(select(runs).where(runs.c.run_id == run_id)).one())

    def execution(self, accepted: Accepted) -> ExecutionRecord:
        return self.record.execution(accepted.execution_id)

    def told_of(self, run_id: str) -> str:
        run = self.run_of(run_id)
        failure = self.record.failure_of(run_id)
        return f"{run.status}, attempt {run.attempt}{f': {failure.message}' if failure else ''}"

    def flow_run(self, run_id: str) -> FlowRun:
        def complaint() -> str | None:
            return None if self.run_of(run_id).flow_run_id else f"run {run_id} was not dispatched"

        until(complaint, 60)
        with self.prefect() as client:
            return client.read_flow_run(UUID(self.run_of(run_id).flow_run_id))

    def engine(self, run_id: str) -> Engine:
        """The process that works on the run; waited for."""
        flow_run_id = self.flow_run(run_id).id
        found: list[Engine] = []

        def complaint() -> str | None:
            engines = Engine.below(self.home / "run" / "engines")
            found[:] = [engine for engine in engines if engine.flow_run_id == flow_run_id and engine.alive]
            return None if found else f"no engine works on {self.told_of(run_id)}"

        until(complaint, 60)
        return found[0]

    def cancel(self, run_id: str) -> None:
        """As the UI and `prefect flow-run cancel` do."""
        with self.prefect() as client:
            client.set_flow_run_state(self.flow_run(run_id).id, Cancelling())

    def becomes(self, run_id: str, status: Status, within_s: float = 300) -> None:
        def complaint() -> str | None:
            run = self.run_of(run_id)
            if run.status.is_final and run.status is not status:
                pytest.fail(f"run {run_id} ended as {self.told_of(run_id)}; {status} was expected")
            return None if run.status is status else f"run {run_id} is {self.told_of(run_id)}; {status} was expected"

        until(complaint, within_s)

    def steps_begun(self, run_id: str) -> dict[int, int]:
        """How often each step of the run began."""
        with self.database() as connection:
            rows = connection.execute("SELECT step, attempt FROM steps WHERE run_id = %s", (run_id,)).fetchall()
        return dict(rows)

    def prompts(self, accepted: Accepted) -> list[str]:
        """The prompts that the agent was given, in order, such as 'planning'."""
        workspace = Workspace.of(self.home, accepted.user_id, accepted.session_id)
        return [path.stem[3:] for path in sorted((workspace.root / "prompts").glob("[0-9][0-9]-*.txt"))]

    # -- places --

    @contextmanager
    def gate(self, run_id: str, step: Step, moment: str) -> Iterator[Gate]:
        gate = Gate(self, run_id, step, moment)
        try:
            yield gate
        finally:
            gate.open()

    def session_of(self, accepted: Accepted) -> list[int]:
        """The processes of the agent's terminal, waited for; without the pane's own: tmux wakes that when it stops."""
        runtime = RuntimeFolder(self.home, accepted.execution_id)
        until(lambda: None if runtime.session() else "no agent was started", 60)
        session = runtime.session()
        assert session is not None
        return [pid for pid in processes.family(session.pid) if pid != session.pid]

    def _freeze(self, accepted: Accepted) -> list[int]:
        """Stop the agent's processes, and those that they made meanwhile."""
        stopped: list[int] = []

        def complaint() -> str | None:
            more = [pid for pid in self.session_of(accepted) if pid not in stopped]
            _signal(more, signal.SIGSTOP)
            stopped.extend(more)
            return "its processes still multiply" if more or not stopped else None

        until(complaint, 30)
        return stopped

    @contextmanager
    def frozen_agent(self, accepted: Accepted, step: Step) -> Iterator[list[int]]:
        """The run waits in ``step`` for an agent that does not move. Thawed at the end, if it lives."""
        with self.gate(accepted.run_id, step, ENTERING) as gate:
            gate.wait()
            if step is not Step.CREATE_PLAN:
                pids = self._freeze(accepted)
            gate.open()
            if step is Step.CREATE_PLAN:  # its agent starts here; planning takes it longer than finding it takes us
                pids = self._freeze(accepted)
        try:
            prompt = PHASES[step]
            if step is not Step.CREATE_PLAN:
                until(lambda: None if prompt in self.prompts(accepted) else f"no prompt for {prompt}", 60)
            yield pids
        finally:
            _signal(pids, signal.SIGCONT)

    # -- the service's programs --

    def kill(self, program: str) -> Process:
        """kill -9; supervisord starts it again."""
        process = self.process(program)
        process.send(signal.SIGKILL)
        assert process.ended_within(10)
        return process

    def control(self, *words: str) -> None:
        control = [
            sys.executable,
            "-m",
            "supervisor.supervisorctl",
            "-s",
            f"unix://{self.home}/service/supervisor.sock",
        ]
        subprocess.run([*control, *words], check=True, capture_output=True, timeout=90)

    @contextmanager
    def away(self, program: str, seconds: float) -> Iterator[None]:
        """kill -9; what is inside happens meanwhile, and ``seconds`` after it the program is started again."""
        self.kill(program)
        self.control("stop", program)  # else supervisord has it back at once
        yield
        time.sleep(seconds)
        self.control("start", program)
        if program == "prefect-server":
            until(self._server_complaint, 120)

    def _server_complaint(self) -> str | None:
        try:
            with self.prefect() as client:
                client.hello()
        except Exception as error:  # noqa: BLE001  # whatever keeps it from answering
            return f"the Prefect server does not answer: {error}"
        return None

    def is_back(self, program: str, before: Process, within_s: float = 60) -> None:
        """Until supervisord has started it anew."""

        def complaint() -> str | None:
            now = self.process(program)
            return None if now != before and now.alive() else f"{program} was not started again"

        until(complaint, within_s)

    def recover(self) -> None:
        """Every program works, and nothing that a failed case left behind is worked on."""
        if not all(self.process(program).alive() for program in PROGRAMS):
            again = self.make("up")
            assert again.returncode == 0, again.stdout + again.stderr
        with self.database() as connection:
            connection.execute("DELETE FROM fault_gates")
        for run in [*self.record.active_runs(), *self.record.undispatched()]:
            self.cancel(run.run_id)
        end = time.monotonic() + 30
        while self.record.active_runs() and time.monotonic() < end:
            time.sleep(0.2)
        if self.record.active_runs():  # its worker is deaf: without one, the dispatcher ends them
            self.control("restart", "worker")
        until(lambda: f"still active: {left}" if (left := self.record.active_runs()) else None, 120)


def pending_signal(process: Process, number: signal.Signals) -> bool:
    """Whether a stopped process has been sent this signal (proc(5): ShdPnd)."""
    status = Path("/proc", str(process.pid), "status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("ShdPnd:")]
    return bool(int(line.split()[1], 16) >> (number - 1) & 1)


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def agents_of(service: ServiceUnderTest) -> list[str]:
    """Terminals and sandboxes of this service that live."""
    return [line for line in processes_of(service.home) if Path(line.split()[0]).name in {"tmux", "tmux:", "bwrap"}]


def gone_within(service: ServiceUnderTest, seconds: float) -> float:
    """How long it took until no agent was left; fails after ``seconds``."""
    began = time.monotonic()
    until(lambda: f"still there: {left}" if (left := agents_of(service)) else None, seconds)
    return time.monotonic() - began


@pytest.fixture(scope="session")
def started_battered() -> Iterator[Battered]:
    plain = new_service()
    canary = f"AKIA-{secrets.token_hex(16)}"
    service = Battered(plain.home, {**plain.base, CANARY: canary, "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE"})
    started = service.make("up")
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        service.install_gates()
        yield service
    finally:
        service.close()
        dispose(service)


@pytest.fixture
def battered(started_battered: Battered, request: pytest.FixtureRequest) -> Iterator[Battered]:
    """The service, whole; after the test its invariants are asserted, and it is mended for the next one."""
    yield started_battered
    try:
        if request.node.stash[PASSED]:
            assert_invariants(started_battered)
    finally:
        started_battered.recover()


Fault = Callable[..., Any]


def fault(did: str, expected: str, sampled: bool = False) -> Callable[[Fault], Fault]:
    """Describe a case for the page. Those that are not ``sampled`` are left to ``make test-faults``."""

    def mark(function: Fault) -> Fault:
        marked = pytest.mark.fault(did=did, expected=expected, sampled=sampled)(function)
        return marked if sampled else pytest.mark.faults(marked)

    return mark


@pytest.fixture(scope="session")
def started_site(started_battered: Battered) -> Accepted:
    """A build that is completed, for what is done to a live site."""
    built = started_battered.accept()
    started_battered.becomes(built.run_id, Status.COMPLETED)
    return built


@pytest.fixture
def site(started_site: Accepted, battered: Battered) -> Accepted:
    """A site that is live, whatever the case before did with it."""
    if battered.execution(started_site).live_release is None:
        battered.becomes(battered.ask_for(started_site, Verb.REDEPLOY), Status.COMPLETED)
    return started_site


def edit(service: Battered, built: Accepted, line: str) -> None:
    """Change what the next redeploy publishes: one line at the end of the home page's body, in place of the last one.

    Written as a new file: what the sandbox may write is never opened for writing.
    """
    page = Workspace.of(service.home, built.user_id, built.session_id).source / "index.html"
    body, _, rest = page.read_text(encoding="utf-8").rpartition("</body>")
    body = body.partition("<!-- edited -->")[0]
    write_atomic(page, f"{body}<!-- edited -->{line}</body>{rest}", 0o644)
