"""What nobody owns on this machine: found by looking, removed only after looking again.

The record says who owns what; the machine says what is there. A thing is an orphan where the record has no owner for
it, or its owner is over. What a run or a lease owns is never touched, nor what is younger than YOUNGEST_S: it may be
somebody's who has not written it down yet.

BuilderError
└── ForeignRecord   this home belongs to another record
"""

import json
import os
import re
import shutil
import socket
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any
from uuid import UUID

from tasks.adapters.agents import processes
from tasks.adapters.agents.runtime import RuntimeFolder
from tasks.adapters.agents.session import TerminalAgent
from tasks.adapters.archive_entries import ArchiveEntries
from tasks.adapters.hosts.local import LocalHost, sites_folder
from tasks.adapters.registry import Registry
from tasks.adapters.registry.retention import Owner
from tasks.adapters.tmux import TmuxError, TmuxSession, _Server, _session_names
from tasks.adapters.workspace import Workspace, read_bounded
from tasks.domain.errors import BuilderError, SiteBusy
from tasks.domain.hosting import Receipt
from tasks.domain.ids import EXECUTION_ID, SITE_NAME, tmux_session_name

YOUNGEST_S = 600.0
YOUNGEST_DATA_S = 86_400.0
"""For what cannot be made again, workspaces and the archive: after the restore of a backup, they outlive their rows."""

REAPER = "reap"
"""Owner of the lease under which something of a known execution is removed: no run begins to write meanwhile."""

_LEASE_S = 120.0
_RECORD_LIMIT_BYTES = 64 * 1024
_SUSPICIOUS = 3
_ENDS_S = 10.0


class ForeignRecord(BuilderError):
    def __init__(self, home: str, workspaces: int, where: str) -> None:
        super().__init__(home, workspaces, where)
        self.home, self.workspaces, self.where = home, workspaces, where

    def __str__(self) -> str:
        return (
            f"{self.home} has {self.workspaces} workspaces, and the registry at {self.where} knows none of them: it is "
            "another service's, or was restored from before; point TMUX_BUILDER_DATABASE_URL at the right one"
        )


class Kind(StrEnum):
    TERMINAL = "terminal"
    PROCESSES = "processes"
    SOCKET = "socket"
    AGENT_FOLDER = "agent_folder"
    WORKSPACE = "workspace"
    SITE = "site"
    ARCHIVE = "archive"
    ENGINE_RECORD = "engine_record"
    RESOURCE = "resource"

    @property
    def is_data(self) -> bool:
        """Whether removing it loses something that nobody can make again."""
        return self in (Kind.WORKSPACE, Kind.ARCHIVE)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that nobody owns. ``name`` is unique within its kind, and stays while the thing is there."""

    kind: Kind
    name: str
    why: str
    age_s: float


@dataclass(frozen=True, slots=True)
class Removal:
    """``left`` says what is still there, and why; empty where all is gone."""

    finding: Finding
    left: str = ""

    @property
    def removed(self) -> bool:
        return not self.left


@dataclass(frozen=True, slots=True)
class Seen:
    """A thing on the machine. ``key`` is what its owner is looked up by."""

    kind: Kind
    name: str
    key: str
    age_s: float


def judge(
    seen: Seen, owner: Owner | None, youngest_s: float = YOUNGEST_S, youngest_data_s: float = YOUNGEST_DATA_S
) -> Finding | None:
    """Whether nobody owns it, and why. Pure.

    >>> over = Owner("a1b2c3d4_sess20260124143022", "u", "sess20260124143022", "s", False, False, False, idle_s=30)
    >>> judge(Seen(Kind.TERMINAL, over.execution_id, over.execution_id, age_s=9000), over) is None  # just over
    True
    >>> judge(Seen(Kind.TERMINAL, "x", "x", age_s=9000), None).why
    'the record has no execution x'
    """
    age_s = seen.age_s
    match seen.kind:
        case Kind.WORKSPACE | Kind.ARCHIVE:
            if owner is not None:
                return None
            why = f"the record has no session {seen.key}"
        case Kind.SITE:
            if owner is not None and (owner.served or owner.at_work):
                return None
            why = "the record has no such site" if owner is None else "the record says that nothing is served there"
        case _:
            if owner is not None and owner.at_work:
                return None
            why = f"the record has no execution {seen.key}" if owner is None else f"{seen.key} is over"
    if owner is not None:
        age_s = min(age_s, owner.idle_s)
    if age_s < (youngest_data_s if seen.kind.is_data else youngest_s):
        return None
    return Finding(seen.kind, seen.name, why, age_s)


class Orphans:
    """``take_down`` removes the site of that name from its host; without it, a static site of this machine is meant."""

    def __init__(
        self,
        home: Path,
        registry: Registry,
        store_url: str,
        take_down: Callable[[str], Receipt] | None = None,
        youngest_s: float = YOUNGEST_S,
        youngest_data_s: float = YOUNGEST_DATA_S,
    ) -> None:
        self.home, self.registry = home.absolute(), registry
        self._store_url = store_url
        self._take_down = take_down or self._static_site_down
        self._youngest = youngest_s, youngest_data_s

    def find(self) -> list[Finding]:
        """Everything that nobody owns, by kind. Changes nothing. Raises ForeignRecord, and what the parts raise."""
        self._refuse_foreign()
        return [finding for kind in Kind for finding in self._find(kind)]

    def remove(self, finding: Finding) -> Removal:
        """Look again, remove, and look whether it is gone. What got an owner meanwhile stays, and is told so."""
        again = [found for found in self._find(finding.kind) if found.name == finding.name]
        if not again:
            there = any(seen.name == finding.name for seen in self._seen(finding.kind))
            return Removal(finding, "somebody owns it by now, or it is younger than it was" if there else "")
        try:
            with self._interlocked(finding):
                self._remove(finding)
        except SiteBusy as busy:
            return Removal(finding, f"somebody owns it by now: {busy}")
        except (BuilderError, OSError) as error:
            return Removal(finding, f"{type(error).__name__}: {error}")
        return Removal(finding, self._left(finding))

    # -- looking --

    def _find(self, kind: Kind) -> list[Finding]:
        seen = self._seen(kind)
        owners = self._owners(kind, {each.key for each in seen})
        findings = (judge(each, owners.get(each.key), *self._youngest) for each in seen)
        return [finding for finding in findings if finding is not None]

    def _owners(self, kind: Kind, keys: set[str]) -> Mapping[str, Owner]:
        match kind:
            case Kind.WORKSPACE | Kind.ARCHIVE:
                return {owner.session_id: owner for owner in self.registry.owners(session_ids=keys)}
            case Kind.SITE:
                return {owner.site_name: owner for owner in self.registry.owners(site_names=keys)}
            case _:
                known = [key for key in keys if EXECUTION_ID.fullmatch(key)]
                return {owner.execution_id: owner for owner in self.registry.owners(execution_ids=known)}

    def _seen(self, kind: Kind) -> list[Seen]:
        return list(self._looks[kind]())

    @property
    def _looks(self) -> Mapping[Kind, Callable[[], Iterator[Seen]]]:
        return {
            Kind.TERMINAL: self._terminals,
            Kind.PROCESSES: self._processes,
            Kind.SOCKET: self._sockets,
            Kind.AGENT_FOLDER: self._agent_folders,
            Kind.WORKSPACE: self._workspaces,
            Kind.SITE: self._sites,
            Kind.ARCHIVE: self._archive,
            Kind.ENGINE_RECORD: self._engine_records,
            Kind.RESOURCE: self._resources,
        }

    def _terminals(self) -> Iterator[Seen]:
        """Terminals by their execution. A stopped server does not say whose it is; its agent's folder does."""
        by_socket = {TmuxSession(self.home, each.key).socket: each.key for each in self._agent_folders()}
        for path, age_s in self._all_sockets():
            if not _answers(path):
                continue
            names = [by_socket[path]] if path in by_socket else _executions_at(self.home, path)
            for name in names or [path.name]:
                yield Seen(Kind.TERMINAL, name, name, age_s)

    def _sockets(self) -> Iterator[Seen]:
        """Sockets that tmux left behind and nobody answers on."""
        for path, age_s in self._all_sockets():
            if not _answers(path):
                yield Seen(Kind.SOCKET, path.name, path.name, age_s)

    def _all_sockets(self) -> Iterator[tuple[Path, float]]:
        for path in sorted((self.home / "run").glob("[0-9a-f]" * 8)):
            with suppress(FileNotFoundError):
                status = path.lstat()
                if stat.S_ISSOCK(status.st_mode):
                    yield path, _since(status.st_mtime)

    def _processes(self) -> Iterator[Seen]:
        """What an execution's pane started and left running, told by the mark in its environment."""
        marks, named = _marked(self.home)
        ids = named | {seen.key for seen in (*self._agent_folders(), *self._terminals())}
        for execution_id in sorted(filter(EXECUTION_ID.fullmatch, ids)):
            ages = marks.get(RuntimeFolder(self.home, execution_id).mark)
            if ages:
                yield Seen(Kind.PROCESSES, execution_id, execution_id, max(ages))

    def _agent_folders(self) -> Iterator[Seen]:
        for folder in _folders(self.home / "agents", EXECUTION_ID):
            yield Seen(Kind.AGENT_FOLDER, folder.name, folder.name, _age_s(folder))

    def _workspaces(self) -> Iterator[Seen]:
        for folder in sorted((self.home / "users").glob("*/sessions/*")):
            if folder.is_dir() and not folder.is_symlink():
                yield Seen(Kind.WORKSPACE, f"{folder.parts[-3]}/{folder.name}", folder.name, _age_s(folder))

    def _sites(self) -> Iterator[Seen]:
        for folder in _folders(sites_folder(self.home), SITE_NAME):
            yield Seen(Kind.SITE, folder.name, folder.name, _age_s(folder))

    def _archive(self) -> Iterator[Seen]:
        for entry in ArchiveEntries(self._store_url).entries():
            yield Seen(Kind.ARCHIVE, f"{entry.user_id}/{entry.session_id}", entry.session_id, entry.age_s)

    def _engine_records(self) -> Iterator[Seen]:
        """Records of engines that have ended without their wrapper, of flow runs that no run of ours waits for."""
        for path in sorted((self.home / "run" / "engines").glob("*")):
            with suppress(ValueError, FileNotFoundError):
                flow_run_id = str(UUID(path.name))
                age_s = _since(path.lstat().st_mtime)
                if _runs(path) or any(not run.status.is_final for run in self.registry.runs_of(flow_run_id)):
                    continue
                yield Seen(Kind.ENGINE_RECORD, path.name, flow_run_id, age_s)

    def _resources(self) -> Iterator[Seen]:
        for planned in self.registry.planned_resources(self._youngest[0]):
            name = f"{planned.execution_id} {planned.kind} {planned.name}"
            yield Seen(Kind.RESOURCE, name, planned.execution_id, planned.age_s)

    def _refuse_foreign(self) -> None:
        sessions = {seen.key for seen in self._workspaces()}
        if len(sessions) >= _SUSPICIOUS and not self.registry.owners(session_ids=sessions):
            raise ForeignRecord(str(self.home), len(sessions), self.registry.where)

    # -- removing --

    @contextmanager
    def _interlocked(self, finding: Finding) -> Iterator[None]:
        """Hold the lease of the execution's site: a run that wants to write waits, and one that has begun is seen.

        Raises SiteBusy where somebody owns it.
        """
        key = next(seen.key for seen in self._seen(finding.kind) if seen.name == finding.name)
        owner = self._owners(finding.kind, {key}).get(key)
        if owner is None:
            yield
            return
        lease = self.registry.acquire_lease(owner.site_name, REAPER, _LEASE_S)
        try:
            [now] = self.registry.owners(execution_ids=[owner.execution_id])
            if now.running or (finding.kind is Kind.SITE and now.served):
                raise SiteBusy(owner.site_name, f"a run of {owner.execution_id}", "a moment ago")
            yield
        finally:
            self.registry.release_lease(lease)

    def _remove(self, finding: Finding) -> None:
        match finding.kind:
            case Kind.TERMINAL | Kind.PROCESSES:
                if EXECUTION_ID.fullmatch(finding.name):
                    end_agent(self.home, finding.name)
            case Kind.AGENT_FOLDER:
                end_agent(self.home, finding.name)
                shutil.rmtree(self.home / "agents" / finding.name, ignore_errors=True)
            case Kind.SOCKET:
                path = self.home / "run" / finding.name
                if not _answers(path):
                    path.unlink(missing_ok=True)
            case Kind.WORKSPACE:
                user_id, _, session_id = finding.name.partition("/")
                shutil.rmtree(Workspace.of(self.home, user_id, session_id).root, ignore_errors=True)
                for emptied in (self.home / "users" / user_id / "sessions", self.home / "users" / user_id):
                    with suppress(OSError):
                        emptied.rmdir()
            case Kind.SITE:
                self._take_down(finding.name)
            case Kind.ARCHIVE:
                user_id, _, session_id = finding.name.partition("/")
                ArchiveEntries(self._store_url).remove_session(user_id, session_id)
            case Kind.ENGINE_RECORD:
                (self.home / "run" / "engines" / finding.name).unlink(missing_ok=True)
            case Kind.RESOURCE:
                self._settle(*finding.name.split(" ", 2))

    def _settle(self, execution_id: str, kind: str, name: str) -> None:
        """A site that was only planned is taken down where it is, and is then recorded as gone; nothing else is."""
        if kind == "site" and SITE_NAME.fullmatch(name) and not self._take_down(name).left:
            self.registry.resource_gone(execution_id, kind, name)

    def _left(self, finding: Finding) -> str:
        if not any(seen.name == finding.name for seen in self._seen(finding.kind)):
            return ""
        if finding.kind is Kind.RESOURCE:
            execution_id = finding.name.split(" ")[0]
            return f"look at its provider, then start teardown/on-demand with execution_id={execution_id}"
        if finding.kind is Kind.TERMINAL and not EXECUTION_ID.fullmatch(finding.name):
            return f"what answers there is no agent's terminal; see who it is: fuser -v {self.home}/run/{finding.name}"
        return "still there after it was removed; look at what holds it"

    def _static_site_down(self, site_name: str) -> Receipt:
        return LocalHost(self.home, site_name, sites_port=1, keep=1).teardown()


def end_agent(home: Path, execution_id: str) -> None:
    """End the execution's terminal and every process of its pane, as the flow's own end would do it."""
    runtime = RuntimeFolder(home, execution_id)
    there = runtime.root.exists()
    TerminalAgent(runtime, Workspace(runtime.root / "none"), []).stop()
    processes.end(processes.marked(runtime.mark), 0, _ENDS_S)
    if not there:
        shutil.rmtree(runtime.root, ignore_errors=True)  # made to be locked


def _folders(root: Path, name: re.Pattern[str]) -> list[Path]:
    if not root.is_dir():
        return []
    return sorted(
        path for path in root.iterdir() if name.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
    )


def _since(moment: float) -> float:
    return max(0.0, time.time() - moment)


def _age_s(folder: Path) -> float:
    """Since the folder, or what lies right in it, changed last. 0 where it is going away."""
    try:
        return _since(max(path.lstat().st_mtime for path in (folder, *folder.iterdir())))
    except OSError:
        return 0.0


def _executions_at(home: Path, path: Path) -> list[str]:
    """Whose sessions the server at this socket has; empty where it has none, or does not answer."""
    prefix = tmux_session_name("")
    try:
        names = _session_names(_Server(home, path, None))
    except TmuxError:
        return []
    return [name.removeprefix(prefix) for name in names if EXECUTION_ID.fullmatch(name.removeprefix(prefix))]


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(2)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True


def _runs(record: Path) -> bool:
    """Whether the engine of this record, or the wrapper that looks after it, is alive."""
    try:
        told: Any = json.loads(read_bounded(record, _RECORD_LIMIT_BYTES) or b"{}")
        alive = [
            (entry := processes.entry_of(int(each["pid"]))) is not None
            and entry.state not in "ZX"
            and entry.started == each["started"]
            and each["boot"] == processes.boot_id()
            for each in (told.get("process"), told.get("watcher"))
            if each
        ]
    except (ValueError, TypeError, KeyError, AttributeError):
        return False
    return any(alive)


def _marked(home: Path) -> tuple[dict[str, list[float]], set[str]]:
    """Ages of marked processes by their mark, and the executions that command lines name below this home."""
    prefix = f"{processes.MARK}=".encode()
    below = re.compile(re.escape(os.fsencode(home / "agents")) + b"/(" + EXECUTION_ID.pattern.encode() + b")(?![0-9-])")
    ticks, up_s = os.sysconf("SC_CLK_TCK"), float(Path("/proc/uptime").read_text().split()[0])
    marks: dict[str, list[float]] = {}
    named: set[str] = set()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            environment, words = (folder / "environ").read_bytes(), (folder / "cmdline").read_bytes()
        except OSError:
            continue
        entry = processes.entry_of(int(folder.name))
        if entry is None or entry.state in "ZX":
            continue
        named |= {match[1].decode() for match in below.finditer(words)}
        for word in environment.split(b"\0"):
            if word.startswith(prefix):
                mark = word.removeprefix(prefix).decode("ascii", "replace")
                marks.setdefault(mark, []).append(max(0.0, up_s - entry.started / ticks))
    return marks, named
