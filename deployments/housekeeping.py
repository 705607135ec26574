"""What is kept, for how long, and how a person gets out: ``python -m deployments.housekeeping COMMAND``.

export USER FILE    everything that is known of a person, as one .tar.gz
erase USER          forget a person everywhere; says what it would do, and does it with --apply
prune               forget what is old; says what it would do, and does it with --apply
backup FILE         the registry in one file, while the service works
restore FILE        the registry as it was; --replace where it holds executions

USER is an e-mail address or a user's id. This is a command and no Prefect deployment: the parameter of a flow run is
kept in Prefect's database, in its events and on its pages, so the run that forgets an address would keep it.

An erasure reaches the registry, the workspaces, sites and logs of this machine, the archive, and Prefect's runs with
their parameters, artifacts, logs and events. It does not reach backups (erase again after restoring one), copies that
somebody made, and bytes that a database has freed and not yet written over. On further machines their reaper removes
the person's folders once the record has no owner for them.
"""

import argparse
import asyncio
import base64
import contextlib
import io
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO
from uuid import UUID

import httpx
import psycopg
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from blocks.settings import settings
from deployments.backup import BackupError, back_up, restore
from deployments.configuration import Service, ServiceRefused
from deployments.postgres import ClusterError, PrivateCluster
from deployments.prefect_runs import Gone, PrefectRuns
from deployments.service import cluster_of, configure
from tasks.adapters.archive_entries import ArchiveEntries
from tasks.adapters.orphans import end_agent
from tasks.adapters.redaction import redact
from tasks.adapters.registry import Registry
from tasks.adapters.registry.people import Belonging, Person
from tasks.adapters.registry.retention import Owner
from tasks.adapters.workspace import Workspace
from tasks.domain.errors import BuilderError, SiteBusy
from tasks.domain.hosting import Receipt
from tasks.domain.request import SiteType
from tasks.domain.traces import Traces
from tasks.parts import host_for, load_hosting

WORKSPACE_DAYS = 30.0
"""After the last thing that happened to an execution. What the archive holds comes back for a redeploy."""

HISTORY_DAYS = 90.0
"""Events, messages, answered questions, superseded checks, refused deliveries."""

PREFECT_DAYS = 14.0
"""Prefect's own runs, after their end, with their artifacts and logs; and the log files of their engines."""

ERASER = "erasure"
_LEASE_S = 300.0
_SCANNED_BYTES = 64 * 2**20
_PACKED_BYTES = 2**20

Say = Callable[[str], None]


class NotOver(Exception):
    """A flow run of the person is not over, and the registry does not know it."""

    def __init__(self, flow_run_id: str, name: str, state: str) -> None:
        super().__init__(flow_run_id, name, state)

    def __str__(self) -> str:
        flow_run_id, name, state = self.args
        return (
            f"the flow run {name} is {state}, and what works cannot be erased; cancel it with: prefect flow-run cancel "
            f"{flow_run_id}, and ask again when it is over"
        )


class StillThere(Exception):
    """``places`` still tell of the person after everything was done."""

    def __init__(self, places: Sequence[str]) -> None:
        super().__init__(tuple(places))

    def __str__(self) -> str:
        (places,) = self.args
        shown = "\n  ".join(places[:20])
        return f"the person was erased, but these still tell of them; look at them, then erase again:\n  {shown}"


@dataclass
class Plan:
    """What would go, in words, each line one kind of thing."""

    lines: list[str] = field(default_factory=list)

    def add(self, count: int, what: str) -> None:
        if count:
            self.lines.append(f"{count:>6} {what}")


class Home:
    """The folders of this machine, as far as they tell of people."""

    def __init__(self, home: Path, store_url: str) -> None:
        self.home = home
        self.archive = ArchiveEntries(store_url)

    @property
    def engine_logs(self) -> Path:
        return self.home / "logs" / "engines"

    def user(self, user_id: str) -> Path:
        return self.home / "users" / user_id

    def logs(self) -> list[Path]:
        return sorted(path for path in (self.home / "logs").rglob("*") if _is_plain(path))

    @property
    def results(self) -> Path:
        """Where Prefect keeps what runs failed with, pickled, one file each."""
        return self.home / "prefect" / "storage"

    def old_results(self, days: float) -> list[Path]:
        before = time.time() - days * 86_400
        return [path for path in sorted(self.results.glob("*")) if _is_plain(path) and path.lstat().st_mtime < before]

    def old_engine_logs(self, days: float) -> list[Path]:
        """Nobody's any more: an engine that still writes has a young log."""
        before = time.time() - days * 86_400
        return [path for path in sorted(self.engine_logs.glob("*.log")) if path.lstat().st_mtime < before]

    def blacken(self, traces: Traces) -> int:
        """Make every trace in the remaining logs illegible, in place: who writes them goes on. How many files."""
        return sum(_blacken(path, traces) for path in self.logs())

    def forget(self, person: Person, flow_run_ids: Iterable[str], results: Iterable[str]) -> None:
        for path in sorted(self.results.glob("*")):
            if path.name in results or _tells(path, person.traces):
                path.unlink(missing_ok=True)
        for belonging in person.belongings:
            end_agent(self.home, belonging.execution_id)
            shutil.rmtree(self.home / "agents" / belonging.execution_id, ignore_errors=True)
        for flow_run_id in flow_run_ids:
            (self.engine_logs / f"{flow_run_id}.log").unlink(missing_ok=True)
            (self.home / "run" / "engines" / flow_run_id).unlink(missing_ok=True)
        if person.user_id is not None:
            shutil.rmtree(self.user(person.user_id), ignore_errors=True)
            receipt = self.archive.remove_user(person.user_id)
            if receipt.left:
                raise StillThere(receipt.left)
        self.blacken(person.traces)

    def telling(self, person: Person, flow_run_ids: Iterable[str]) -> list[str]:
        """Files that are called after the person's things, and small files of the service that hold their words."""
        names = {person.user_id, *flow_run_ids, *(each.execution_id for each in person.belongings)}
        names |= {each.site_name for each in person.belongings}
        found = []
        for root, folders, files in os.walk(self.home):
            below = Path(root).relative_to(self.home).parts[:1]
            if below in ((), ("fences",)):  # a fence outlives its site on purpose, and is a number
                folders[:] = [name for name in folders if name not in ("postgresql", "fences")]
            found += [f"{root}/{name}" for name in (*folders, *files) if Path(name).stem in names or name in names]
            if below in (("users",), ("sites",), ("store",), ("dependencies",)):
                continue
            found += [f"{root}/{name}" for name in files if _tells(Path(root, name), person.traces)]
        if person.user_id is not None:
            found += [f"archive {person.user_id}/{name}" for name in self.archive.sessions_of(person.user_id)]
        return found


class Housekeeping:
    def __init__(self, home: Home, registry: Registry, prefect: PrefectRuns, say: Say) -> None:
        self.home, self.registry, self.prefect, self.say = home, registry, prefect, say

    async def export(self, who: str, file: Path) -> None:
        """One archive with mode 0600: ``registry.json``, ``prefect/``, ``files/``, ``archive/`` and ``logs/``."""
        person = await asyncio.to_thread(self.registry.person, who)
        flow_runs = await self.prefect.of_person(person.user_id, person.traces, person.flow_run_ids)
        told = {str(flow_run.id): await self.prefect.export(flow_run) for flow_run in flow_runs}
        await asyncio.to_thread(self._write_export, person, told, file.absolute())
        self.say(f"{file}: {len(person.belongings)} executions, {len(told)} flow runs")

    def _write_export(self, person: Person, flow_runs: Mapping[str, object], file: Path) -> None:
        rows = self.registry.export_person(person)
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            with (
                os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as output,
                tarfile.open(fileobj=output, mode="w:gz") as tar,
            ):
                _add_json(tar, "registry.json", rows)
                for flow_run_id, told in flow_runs.items():
                    _add_json(tar, f"prefect/{flow_run_id}.json", told)
                    _add_file(tar, f"logs/{flow_run_id}.log", self.home.engine_logs / f"{flow_run_id}.log")
                if person.user_id is not None:
                    root = self.home.user(person.user_id)
                    for folder, _folders, names in os.walk(root):
                        for path in (Path(folder, name) for name in sorted(names)):
                            _add_file(tar, f"files/{path.relative_to(root)}", path)
                    for session_id in self.home.archive.sessions_of(person.user_id):
                        for name, data in self.home.archive.read(person.user_id, session_id):
                            _add_bytes(tar, f"archive/{name}", data)
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)

    async def erase(self, who: str, *, apply: bool) -> None:
        """Sites first, the record last: killed at any moment, the next call finds by the record what is left.

        Raises StillAtWork, NotOver, SiteBusy, SiteStays or HostingError where it cannot be done, and StillThere where
        a last look still finds something.
        """
        person = await asyncio.to_thread(self.registry.person, who)
        await asyncio.to_thread(self.registry.refuse_at_work, person)
        flow_runs = await self.prefect.of_person(person.user_id, person.traces, person.flow_run_ids)
        _refuse_working(flow_runs)
        if not apply:
            await asyncio.to_thread(self._tell, person, flow_runs)
            return
        hosts = {each.site_name: await self._host(each) for each in person.belongings}

        def take_down(belonging: Belonging) -> Receipt:
            return self._take_down(belonging, hosts[belonging.site_name])

        for belonging in person.belongings:
            receipt = await asyncio.to_thread(take_down, belonging)
            if receipt.left:
                raise StillThere(receipt.left)
        ids = {str(flow_run.id) for flow_run in flow_runs} | person.flow_run_ids
        results = await self.prefect.result_keys(flow_runs)
        await asyncio.to_thread(self.home.forget, person, ids, results)
        gone = await self._forget_runs(person, flow_runs)
        erased = await asyncio.to_thread(self.registry.erase_person, person, take_down)
        await asyncio.to_thread(self.home.blacken, person.traces)
        again = await self.prefect.of_person(person.user_id, person.traces, ())
        left = [f"flow run {flow_run.id}" for flow_run in again]
        left += await asyncio.to_thread(self.home.telling, person, ids)
        if left:
            raise StillThere(left)
        self.say(f"erased: {sum(erased.rows.values())} rows of the registry, {len(person.belongings)} executions")
        self.say(f"        {_in_words(gone)}")

    async def _forget_runs(self, person: Person, flow_runs: Sequence[FlowRun]) -> Gone:
        sites = [f"tmux-builder.site.{belonging.site_name}" for belonging in person.belongings]
        known = {UUID(each) for each in person.flow_run_ids}  # also what an erasure that was killed has deleted
        return await self.prefect.delete({*known, *(each.id for each in flow_runs)}, sites, person.traces)

    async def _host(self, belonging: Belonging) -> Callable[[], Receipt]:
        hosting = await load_hosting(belonging.hosting)
        host = host_for(hosting, belonging.site_name, SiteType(belonging.site_type))
        return lambda: host.teardown()

    def _take_down(self, belonging: Belonging, teardown: Callable[[], Receipt]) -> Receipt:
        lease = self.registry.acquire_lease(belonging.site_name, ERASER, _LEASE_S)
        try:
            receipt = teardown()
            if not receipt.left:
                self.registry.record_taken_down(belonging.execution_id, lease)
            return receipt
        finally:
            self.registry.release_lease(lease)

    def _tell(self, person: Person, flow_runs: Sequence[FlowRun]) -> None:
        plan = Plan()
        for table, rows in self.registry.export_person(person).items():
            plan.add(len(rows), f"rows of {table}")
        plan.add(len(person.belongings), "sites, with workspace and archive")
        plan.add(len(flow_runs), "flow runs of Prefect, with parameters, artifacts, logs and events")
        plan.add(sum(_holds(path, person.traces) for path in self.home.logs()), "log files to be blackened")
        self._say_plan(plan, "erase")

    def _say_plan(self, plan: Plan, what: str) -> None:
        if not plan.lines:
            self.say(f"nothing to {what}")
            return
        self.say(f"would {what}:")
        for line in plan.lines:
            self.say(line)
        self.say("nothing was changed; say --apply to do it")

    async def prune(self, workspace_days: float, history_days: float, prefect_days: float, *, apply: bool) -> None:
        """By age. A workspace whose site somebody writes to meanwhile stays. Safe to repeat and to kill."""
        workspaces = await asyncio.to_thread(self._old_workspaces, workspace_days)
        active = {run.flow_run_id for run in await asyncio.to_thread(self.registry.active_runs) if run.flow_run_id}
        flow_runs = await self.prefect.ended(prefect_days, active)
        logs = [path for path in self.home.old_engine_logs(prefect_days) if path.stem not in active]
        logs += self.home.old_results(prefect_days)
        rows = await asyncio.to_thread(self.registry.prune_history, history_days, apply=apply)
        if apply:
            for owner in workspaces:
                await asyncio.to_thread(self._remove_workspace, owner, workspace_days)
            await self.prefect.delete([flow_run.id for flow_run in flow_runs])
            for path in logs:
                path.unlink(missing_ok=True)
        plan = Plan()
        plan.add(len(workspaces), f"workspaces that nothing happened in for {workspace_days:g} days")
        for table, count in rows.items():
            plan.add(count, f"rows of {table} older than {history_days:g} days")
        plan.add(len(flow_runs), f"flow runs of Prefect that ended more than {prefect_days:g} days ago")
        plan.add(len(logs), f"engine logs and stored results older than {prefect_days:g} days")
        if not apply:
            self._say_plan(plan, "remove")
            return
        for line in plan.lines or ["nothing was old enough"]:
            self.say(f"removed {line.strip()}" if plan.lines else line)

    def _old_workspaces(self, days: float) -> list[Owner]:
        """Workspaces that nobody needs: of sites that are up, only such as the archive can bring back."""
        found = []
        for owner in self.registry.ended(days):
            there = Workspace.of(self.home.home, owner.user_id, owner.session_id).root.exists()
            if there and (not owner.served or self._is_archived(owner)):
                found.append(owner)
        return found

    def _is_archived(self, owner: Owner) -> bool:
        newest = next(iter(self.registry.releases(owner.execution_id)), None)
        archived = self.home.archive.release_numbers(owner.user_id, owner.session_id)
        return newest is not None and newest.number in archived

    def _remove_workspace(self, owner: Owner, days: float) -> None:
        """Under the site's lease, and only where nothing has begun since it was found."""
        try:
            lease = self.registry.acquire_lease(owner.site_name, "retention", _LEASE_S)
        except SiteBusy as busy:
            self.say(f"kept the workspace of {owner.execution_id}: {busy}")
            return
        try:
            [now] = self.registry.owners(execution_ids=[owner.execution_id])
            if not now.running and now.idle_s > days * 86_400:
                root = Workspace.of(self.home.home, owner.user_id, owner.session_id).root
                shutil.rmtree(root, ignore_errors=True)
        finally:
            self.registry.release_lease(lease)


def _refuse_working(flow_runs: Sequence[FlowRun]) -> None:
    for flow_run in flow_runs:
        if flow_run.state is not None and not flow_run.state.is_final():
            raise NotOver(str(flow_run.id), flow_run.name, flow_run.state.name or str(flow_run.state.type))


def _in_words(gone: Gone) -> str:
    return f"{gone.flow_runs} flow runs, {gone.artifacts} artifacts and {gone.events} events of Prefect"


def _is_plain(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)


def _tells(path: Path, traces: Traces) -> bool:
    return _is_plain(path) and path.lstat().st_size <= _SCANNED_BYTES and _holds(path, traces)


def _holds(path: Path, traces: Traces) -> bool:
    """Whether a trace stands in the file, as it is or behind base64, as Prefect stores results."""
    try:
        with path.open("rb") as file:
            if any(traces.blackened(line) != line for line in file):
                return True
            file.seek(0)
            packed = file.read(_PACKED_BYTES)
        plain = base64.b64decode(b"".join(packed.split()), validate=True)
    except (OSError, ValueError):
        return False
    return traces.blackened(plain) != plain


def _blacken(path: Path, traces: Traces) -> bool:
    """Line by line, each written over at its place and length: nothing that is appended meanwhile moves or is lost."""
    found, place = False, 0
    with path.open("r+b") as file:
        for line in iter(file.readline, b""):
            black = traces.blackened(line)
            if black != line:
                found = True
                file.seek(place)
                file.write(black)
            place += len(line)
            file.seek(place)
    return found


def _add_json(tar: tarfile.TarFile, name: str, value: object) -> None:
    _add_bytes(tar, name, json.dumps(value, indent=1, ensure_ascii=False, default=str).encode())


def _add_bytes(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), 0o600
    tar.addfile(entry, io.BytesIO(data))


def _add_file(tar: tarfile.TarFile, name: str, path: Path) -> None:
    """A regular file; links, which an agent may have left, are not followed and not carried."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        return
    with os.fdopen(handle, "rb") as file:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode, entry.mtime = status.st_size, 0o600, int(status.st_mtime)
        tar.addfile(entry, _Exactly(file, status.st_size))


class _Exactly(io.RawIOBase):
    """As many bytes as were announced, whatever the file does meanwhile."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        super().__init__()
        self._file, self._left = file, size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        data = self._file.read(wanted)
        data += b"\0" * (wanted - len(data))
        self._left -= wanted
        return data


@contextlib.contextmanager
def running_database(service: Service) -> Iterator[None]:
    """The registry's database answers inside; our own cluster runs meanwhile, where the service is down."""
    cluster: PrivateCluster = cluster_of(service.home, service.postgres_port)
    if not service.private_cluster or not (cluster.data / "PG_VERSION").exists() or _is_up(cluster):
        yield
        return
    with (
        (service.home / "logs" / "postgresql.log").open("ab") as log,
        subprocess.Popen(cluster.argv(), stdin=subprocess.DEVNULL, stdout=log, stderr=log) as server,
    ):
        try:
            cluster.wait_ready()
            yield
        finally:
            server.send_signal(signal.SIGINT)


def _is_up(cluster: PrivateCluster) -> bool:
    try:
        cluster.wait_ready(0)
    except ClusterError:
        return False
    return True


@contextlib.asynccontextmanager
async def housekeeping(service: Service, store_url: str, say: Say) -> AsyncIterator[Housekeeping]:
    """On the machine that runs the service, since only that reaches Prefect's database. Raises ServiceRefused."""
    url, auth = service.api_url, service.auth_string.get_secret_value()
    database = service.prefect_database_url.get_secret_value()
    if not database:
        raise ServiceRefused(f"this machine joined the service at {url}; keep house on the machine that runs it")
    registry = Registry.open(service.registry_url.get_secret_value())
    try:
        with temporary_settings({PREFECT_API_URL: url, PREFECT_API_AUTH_STRING: auth}):
            async with PrefectClient(url, auth_string=auth) as client:
                yield Housekeeping(Home(service.home, store_url), registry, PrefectRuns(client, database), say)
    finally:
        registry.close()


def out(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _days(text: str) -> float:
    days = float(text)
    if not 0 < days <= 36_500:
        raise argparse.ArgumentTypeError(f"{text}: days are more than 0 and at most 36500")
    return days


def _arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deployments.housekeeping", allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True)
    export = commands.add_parser("export", help="write everything that is known of a person to one file")
    export.add_argument("user", help="e-mail address or user id")
    export.add_argument("file", type=Path, help="the .tar.gz to write")
    erase = commands.add_parser("erase", help="forget a person everywhere")
    erase.add_argument("user", help="e-mail address or user id")
    prune = commands.add_parser("prune", help="forget what is old")
    for name, default in (("workspaces", WORKSPACE_DAYS), ("history", HISTORY_DAYS), ("prefect", PREFECT_DAYS)):
        prune.add_argument(f"--{name}", type=_days, default=default, metavar="DAYS", help=f"instead of {default:g}")
    prune.add_argument("--days", type=_days, metavar="DAYS", help="one age for all three")
    for command in (erase, prune):
        command.add_argument("--apply", action="store_true", help="do it; without this, it is only said")
    backup = commands.add_parser("backup", help="write the registry to one file")
    backup.add_argument("file", type=Path)
    back = commands.add_parser("restore", help="make the registry what the file says")
    back.add_argument("file", type=Path)
    back.add_argument("--replace", action="store_true", help="also where the registry holds executions")
    return parser.parse_args(arguments)


async def _keep_house(told: argparse.Namespace, service: Service) -> None:
    async with housekeeping(service, settings().store_url, out) as keeper:
        match told.command:
            case "export":
                await keeper.export(told.user, told.file)
            case "erase":
                await keeper.erase(told.user, apply=told.apply)
            case _:
                ages = (told.days or told.workspaces, told.days or told.history, told.days or told.prefect)
                await keeper.prune(*ages, apply=told.apply)


def _run(told: argparse.Namespace, service: Service) -> None:
    url = service.registry_url.get_secret_value()
    match told.command:
        case "backup":
            with running_database(service):
                manifest = back_up(url, told.file)
            out(f"{told.file}: revision {manifest.revision}, {sum(manifest.rows.values())} rows, {manifest.taken_at}")
        case "restore":
            with running_database(service):
                manifest = restore(url, told.file, replace=told.replace)
            out(f"restored {sum(manifest.rows.values())} rows as of {manifest.taken_at}")
        case _:
            asyncio.run(_keep_house(told, service))


def main(arguments: Sequence[str]) -> int:
    os.umask(0o077)
    told = _arguments(arguments)
    try:
        _run(told, configure())
    except httpx.HTTPError as error:
        sys.stderr.write(f"{told.command}: the Prefect server did not answer ({error}); start the service: make up\n")
        return 1
    except (
        *(BackupError, ServiceRefused, ClusterError, BuilderError, NotOver, StillThere),
        *(ConnectionError, psycopg.OperationalError, OSError, ValueError),
    ) as error:
        sys.stderr.write(f"{told.command}: {redact(str(error))}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
