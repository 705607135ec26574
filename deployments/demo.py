"""Builds one website and shows how: ``python -m deployments.demo``.

Brings the service up, orders one website over HTTP as a person's form would, follows the record of the run, and leaves
the site up.
``DEMO_TEXT`` is what to build. Exits with 0 only where every step and every check of the built site passed.
"""

import os
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import httpx
from pydantic import ValidationError
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from deployments.agent_key import prepare
from deployments.configuration import Service, ServiceRefused
from deployments.front.scopes import Scope
from deployments.front.tokens import KEY, mint, sha256_of
from deployments.postgres import ClusterError
from deployments.service import configure, up
from tasks.adapters.agents.claude import find_program
from tasks.adapters.redaction import redact
from tasks.adapters.registry import Event, Registry
from tasks.adapters.workspace import Workspace
from tasks.domain.errors import AgentMissing, BuilderError
from tasks.domain.pipeline import TOTAL_STEPS, Progress, Status, Step, Verdict
from tasks.domain.request import AgentKind, HostProvider, SiteRequest, SiteType, vet

TEXT = (
    "A dark portfolio website called Northlight Studio for the photographer Ana Reis, with a projects gallery, "
    "an about section, prices, testimonials and a contact form. Warm amber as the accent colour."
)

DEADLINE_S = 1200.0
"""Then the demo stops watching; the run has deadlines of its own."""

LOOK_S = 0.15

WORTH_TELLING_S = 1.0
"""A step that takes less is told of once, when it is done."""


@dataclass(frozen=True)
class Row:
    """What is known of one step."""

    step: Step
    state: str = "waiting"
    began: datetime | None = None
    ended: datetime | None = None

    def seconds(self, now: datetime) -> float | None:
        return ((self.ended or now) - self.began).total_seconds() if self.began else None


def fold(rows: Sequence[Row], events: Sequence[Event]) -> list[Row]:
    """The rows after these events. A step that is tried again keeps the time of its first start."""
    known = {row.step: row for row in rows}
    for event in events:
        if event.kind not in _STATES:
            continue
        step = Step(event.data["step"])
        row = replace(known[step], state=_STATES[event.kind])
        if event.kind == "step_began":
            row = replace(row, began=row.began or event.at, ended=None)
        else:
            row = replace(row, began=row.began or event.at, ended=event.at)
        known[step] = row
    return [known[step] for step in Step]


_STATES = {"step_began": "running", "step_done": "done", "step_failed": "failed"}


def _duration(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f} s"


class Screen:
    """The steps as they happen: redrawn in place on a terminal, one line an event elsewhere."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._live = Live(console=console, refresh_per_second=10, transient=True) if console.is_terminal else None
        self._spinner = Spinner("dots", style="cyan")
        self._seen: dict[Step, str] = {}

    def __enter__(self) -> "Screen":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_error: object) -> None:
        if self._live:
            self._live.stop()

    def show(self, rows: Sequence[Row], progress: Progress, now: datetime) -> None:
        if self._live:
            self._live.update(self._picture(rows, progress, now))
            return
        for row in rows:
            if self._seen.get(row.step, "waiting") != row.state:
                if row.state == "running" and (row.seconds(now) or 0) < WORTH_TELLING_S:
                    continue
                self._seen[row.step] = row.state
                took = f" {_duration(row.seconds(now))}" if row.ended else ""
                self.console.print(f"step {row.step}/{TOTAL_STEPS} {row.step.task_name}: {row.state}{took}")

    def _picture(self, rows: Sequence[Row], progress: Progress, now: datetime) -> Group:
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            ProgressBar(total=100, completed=progress.percent_complete, width=44),
            f"{progress.percent_complete} %",
            Text(progress.status.value.replace("_", " "), style="dim"),
        )
        return Group(self._table(rows, now), Text(), bar)

    def _table(self, rows: Sequence[Row], now: datetime) -> Table:
        table = Table.grid(padding=(0, 1))
        for row in rows:
            style = {"waiting": "dim", "failed": "red"}.get(row.state, "")
            name = Text(row.step.task_name, style=style)
            table.add_row(self._mark(row.state), str(int(row.step)), name, Text(_duration(row.seconds(now)), "dim"))
        return table

    def _mark(self, state: str) -> RenderableType:
        match state:
            case "running":
                return self._spinner
            case "done":
                return Text("✓", style="green")
            case "failed":
                return Text("✗", style="red")
            case _:
                return Text("·", style="dim")


def request_for(text: str, site_type: str = SiteType.STATIC, agent: str = AgentKind.OFFLINE) -> SiteRequest:
    return SiteRequest(
        requirements=text,
        email="demo@example.com",
        phone="+4915112345678",
        host_provider=HostProvider.LOCAL,
        site_type=SiteType(site_type),
        agent=AgentKind(agent),
        hosting="local-hosting/default",
    )


@dataclass(frozen=True)
class Ordered:
    """``page`` is where a person watches and steers it; whoever has it may."""

    user_id: str
    session_id: str
    execution_id: str
    page: str


def order(registry: Registry, url: str, request: SiteRequest) -> Ordered:
    """Order it at the front door, with a key that is good for this one order.

    Raises ServiceRefused with the front door's words.
    """
    token = mint(KEY)
    key = registry.add_key("make demo", sha256_of(token), [Scope.ORDER])
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": str(uuid.uuid4())}
    try:
        with httpx.Client(base_url=url, headers=headers, timeout=30, trust_env=False) as client:
            answer = client.post("/api/create-user", json=request.model_dump(mode="json"))
        told = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise ServiceRefused(f"the front door at {url} did not answer: {error}; see logs/web.log") from error
    finally:
        registry.revoke_key(key.key_id)
    if answer.status_code != httpx.codes.ACCEPTED:
        raise ServiceRefused(f"the front door refused the order: {told.get('detail', answer.status_code)}")
    return Ordered(told["user_id"], told["session_id"], told["execution_id"], told["links"]["page"])


def follow(
    registry: Registry, execution_id: str, screen: Screen, clock: Callable[[], float] = time.monotonic
) -> tuple[Progress, list[Row]]:
    """Show the run until it is over, or nobody knows it is after DEADLINE_S."""
    rows, seen = [Row(step) for step in Step], 0
    end = clock() + DEADLINE_S
    while True:
        progress = registry.progress(execution_id)
        events = registry.events(execution_id, seen)
        seen = events[-1].seq if events else seen
        rows = fold(rows, events)
        screen.show(rows, progress, datetime.now().astimezone())
        if (progress.status.is_final and not events) or clock() > end:
            return progress, rows
        time.sleep(LOOK_S)


def closing_words(
    service: Service, progress: Progress, rows: Sequence[Row], workspace: Workspace, seconds: float
) -> tuple[str, bool]:
    """What is printed at the end, and whether all went well."""
    lines = [
        f"{row.step.task_name:<20} {row.state:<8} {_duration(row.seconds(datetime.now().astimezone())):>8}"
        for row in rows
    ]
    steps_s = sum(row.seconds(datetime.now().astimezone()) or 0 for row in rows)
    lines += [f"{'start and end':<20} {'':<8} {_duration(max(0.0, seconds - steps_s)):>8}"]
    lines += [f"{'total':<20} {progress.status.value:<8} {_duration(seconds):>8}", ""]
    if progress.deployed_url:
        lines.append(f"website      {progress.deployed_url}")
    lines += [f"screenshots  {path}" for path in sorted(workspace.screenshots.iterdir())]
    if workspace.report.exists():
        lines.append(f"test report  {workspace.report}")
    lines += [f"workspace    {workspace.root}", f"Prefect UI   {service.ui_url}/runs"]
    lines.append(f"             log in with the line in {service.folder / 'prefect-auth-string'}")
    lines += [
        f"publish again  set -a; . {service.folder / 'service.env'}; set +a",
        f"               .venv/bin/prefect deployment run redeploy/on-demand -p execution_id={progress.execution_id}",
    ]
    well = progress.status is Status.COMPLETED and progress.verdict is Verdict.PASSED
    if not progress.status.is_final:
        lines += ["", f"it is still {progress.status.value} after {DEADLINE_S:.0f} s; watch it in the Prefect UI"]
    elif progress.error:
        where = f"step {progress.error.step} {progress.error.step_name}: " if progress.error.step else ""
        lines += ["", f"it failed: {where}{progress.error.message}"]
    elif progress.status is not Status.COMPLETED:
        lines += ["", f"the run was {progress.status.value}; start it again in the Prefect UI, or with make demo"]
    elif not well:
        lines += ["", "the site is up, but not all of its tests passed; the test report says which"]
    else:
        lines += ["", "The site stays up until: make down"]
    return "\n".join(lines), well


def main() -> int:
    os.umask(0o077)
    console = Console(highlight=False, soft_wrap=True)
    try:
        given = [
            os.environ.get(name) or default for name, default in (("DEMO_SITE_TYPE", "static"), ("AGENT", "offline"))
        ]
        request = request_for(os.environ.get("DEMO_TEXT") or TEXT, *given)
        vet(request)
        if request.agent is AgentKind.CLAUDE:
            find_program("")
    except AgentMissing as error:
        console.print(f"AGENT=claude: {error}", markup=False)
        return 2
    except ValueError as error:
        if not isinstance(error, ValidationError):
            console.print(f"{error}; allowed: DEMO_SITE_TYPE=static|dynamic, AGENT=offline|claude", markup=False)
            return 2
        console.print(f"DEMO_TEXT: {_first_complaint(error)}", markup=False)
        return 2
    except BuilderError as error:
        console.print(f"DEMO_TEXT: {_first_complaint(error)}", markup=False)
        return 2
    execution_id = None
    try:
        service = configure()
        up(service, lambda line: console.print(line, markup=False))
        if request.agent is AgentKind.CLAUDE:
            block, words = prepare(service)
            request = request.model_copy(update={"coding_agent": block})
            console.print(words, markup=False)
        registry = Registry.open(service.registry_url.get_secret_value())
        began = time.monotonic()
        ordered = order(registry, service.web_url, request)
        execution_id = ordered.execution_id
        console.print(f"building execution {execution_id}: {request.requirements[:100]}", markup=False)
        console.print(f"watch and steer it at {ordered.page}", markup=False)
        with Screen(console) as screen:
            progress, rows = follow(registry, execution_id, screen)
        workspace = Workspace.of(service.home, ordered.user_id, ordered.session_id)
        words, well = closing_words(service, progress, rows, workspace, time.monotonic() - began)
        console.print(words, markup=False)
        return 0 if well else 1
    except (ServiceRefused, ClusterError, BuilderError, ConnectionError, ValueError) as error:
        console.print(f"make demo: {redact(str(error))}", markup=False)
        return 1
    except KeyboardInterrupt:
        if execution_id is None:
            console.print("\ninterrupted; what was started so far goes on. Stop it with: make down", markup=False)
        else:
            console.print(
                f"\nthe run of {execution_id} goes on; watch it in the Prefect UI, {service.ui_url}/runs. "
                "Stop everything with: make down",
                markup=False,
            )
        return 130


def _first_complaint(error: ValidationError | BuilderError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}; allowed: 1 to 20,000 characters of text"
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
