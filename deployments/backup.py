"""Backup and restore of the registry: one file that says what it holds, taken while the service works.

The file is a tar: ``manifest.json`` (revision, time, rows of each table), the database itself (``registry.pgdump`` of
pg_dump, or ``registry.db``), and ``SHA256SUMS`` of both, so that ``tar -xf FILE && sha256sum -c SHA256SUMS`` checks it
without this program. It holds what people wrote: mode 0600, and whoever erases a person erases them again after
restoring a backup from before.

BackupError
├── Unreadable      the file is damaged, or no backup at all
├── Unsuitable      it is of another kind of database, or of a newer program
├── NotEmpty        the database holds executions
└── ToolFailed      pg_dump, pg_restore or psql said no
"""

import hashlib
import io
import json
import os
import secrets
import sqlite3
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import psycopg
from psycopg import sql
from sqlalchemy import URL

from deployments.postgres import (
    _command as program,  # the programs that fit our server; it has no public name for the others than the server's own
)
from tasks.adapters.disk import sync
from tasks.adapters.registry import migrate
from tasks.adapters.registry.database import is_known, parse
from tasks.adapters.registry.schema import metadata

FORMAT = 1
MANIFEST, SUMS = "manifest.json", "SHA256SUMS"
PAYLOADS = {"postgresql": "registry.pgdump", "sqlite": "registry.db"}

LOCK_WAIT_S = 30

FENCE_LEAP = 1_000_000
"""Hosts refuse a fencing token that is lower than one they have seen, and a restored record has gone back in time."""

_LEAP = f"UPDATE leases SET fence = fence + {FENCE_LEAP}"  # noqa: S608  # a number of ours
_MANIFEST_LIMIT_BYTES = 2**20
_CHUNK = 1 << 20


class BackupError(Exception):
    """Nothing was written; the text says why and what to do."""


class Unreadable(BackupError):
    def __init__(self, file: str, complaint: str) -> None:
        super().__init__(file, complaint)

    def __str__(self) -> str:
        file, complaint = self.args
        return f"{file} is no whole backup: {complaint}; take another one, this one restores nothing"


class Unsuitable(BackupError):
    def __init__(self, file: str, found: str, expected: str, move: str) -> None:
        super().__init__(file, found, expected, move)

    def __str__(self) -> str:
        file, found, expected, move = self.args
        return f"{file} is a backup of {found}, expected was {expected}; {move}"


class NotEmpty(BackupError):
    def __init__(self, where: str, executions: int) -> None:
        super().__init__(where, executions)

    def __str__(self) -> str:
        where, executions = self.args
        return (
            f"{where} holds {executions} executions, and a restore would lose them; "
            "back it up first, then say --replace"
        )


class ToolFailed(BackupError):
    def __init__(self, tool: str, complaint: str) -> None:
        super().__init__(tool, complaint)

    def __str__(self) -> str:
        tool, complaint = self.args
        return f"{tool} failed: {complaint}; what was there is unchanged"


@dataclass(frozen=True)
class Manifest:
    """``kind``: postgresql or sqlite; ``rows``: how many each table has; ``sha256`` is of the database's bytes."""

    format: int
    kind: str
    revision: str
    taken_at: str
    rows: dict[str, int]
    sha256: str

    def encoded(self) -> bytes:
        return json.dumps(asdict(self), indent=1, sort_keys=True).encode() + b"\n"


def back_up(url: str, file: Path) -> Manifest:
    """Write a backup as of one moment; writers go on meanwhile. ``file`` is replaced in one step, or not at all.

    Raises BackupError, and ConnectionError where the database is away.
    """
    parsed = parse(url)
    kind = parsed.get_backend_name()
    file = file.absolute()
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=".backup-") as folder:
        payload = Path(folder) / PAYLOADS[kind]
        revision, rows = _dump_sqlite(parsed, payload) if kind == "sqlite" else _dump_postgresql(parsed, payload)
        taken_at = datetime.now(UTC).isoformat(timespec="seconds")
        manifest = Manifest(FORMAT, kind, revision, taken_at, rows, _sha256_of(payload))
        whole = Path(folder) / secrets.token_hex(6)
        with os.fdopen(os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as output:
            _write(output, manifest, payload)
            output.flush()
            os.fsync(output.fileno())
        whole.replace(file)
    sync(file.parent)
    return manifest


def restore(url: str, file: Path, *, replace: bool = False) -> Manifest:
    """Make the database hold what the backup holds, all or nothing, and bring it to this program's revision.

    Only the fencing tokens of sites differ: they leap ahead, see FENCE_LEAP.
    Without ``replace`` a database that holds executions is refused. Raises BackupError, and ConnectionError where the
    database is away.
    """
    parsed = parse(url)
    with tempfile.TemporaryDirectory(prefix="tmux-builder-restore-") as folder:
        manifest, payload = unpack(file, Path(folder))
        kind = parsed.get_backend_name()
        if manifest.kind != kind:
            move = "restore it into a database of its own kind"
            raise Unsuitable(str(file), f"a {manifest.kind} database", f"one of {kind}", move)
        if not is_known(manifest.revision):
            known = f"one that this program knows (at most {_newest()})"
            raise Unsuitable(str(file), f"schema revision {manifest.revision}", known, "restore it with that program")
        if kind == "sqlite":
            _load_sqlite(parsed, payload, manifest, replace)
        else:
            _load_postgresql(parsed, payload, manifest, replace, Path(folder))
    migrate(url)
    return manifest


def unpack(file: Path, folder: Path) -> tuple[Manifest, Path]:
    """The manifest, and the database's bytes in ``folder``, after every sum was compared. Raises Unreadable."""
    try:
        with tarfile.open(file, "r:") as tar:
            entries = {entry.name: entry for entry in tar}
            raw = _read(tar, entries, MANIFEST)
            manifest = Manifest(**json.loads(raw))
            if manifest.format != FORMAT or manifest.kind not in PAYLOADS:
                raise Unreadable(str(file), f"format {manifest.format}, {manifest.kind} is not known here")
            name = PAYLOADS[manifest.kind]
            sums = _read(tar, entries, SUMS)
            payload = folder / name
            content = tar.extractfile(entries[name])
            if content is None:
                raise Unreadable(str(file), f"{name} is not a file")
            digest = hashlib.sha256()
            with os.fdopen(os.open(payload, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as output:
                while chunk := content.read(_CHUNK):
                    digest.update(chunk)
                    output.write(chunk)
    except OSError as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise Unreadable(str(file), error.strerror or str(error)) from error
        raise Unreadable(str(file), str(error)) from error
    except (tarfile.TarError, ValueError, TypeError, KeyError, EOFError) as error:
        raise Unreadable(str(file), f"{type(error).__name__}: {error}") from error
    expected = _sums(hashlib.sha256(raw).hexdigest(), digest.hexdigest(), name)
    if sums != expected or manifest.sha256 != digest.hexdigest():
        raise Unreadable(str(file), "its content does not have the checksums that it was written with")
    return manifest, payload


def _write(output: IO[bytes], manifest: Manifest, payload: Path) -> None:
    encoded = manifest.encoded()
    sums = _sums(hashlib.sha256(encoded).hexdigest(), manifest.sha256, payload.name)
    with tarfile.open(fileobj=output, mode="w:", format=tarfile.PAX_FORMAT) as tar:
        for name, data in ((MANIFEST, encoded), (SUMS, sums)):
            tar.addfile(_entry(name, len(data)), io.BytesIO(data))
        with payload.open("rb") as content:
            tar.addfile(_entry(payload.name, payload.stat().st_size), content)


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o600
    return entry


def _read(tar: tarfile.TarFile, entries: dict[str, tarfile.TarInfo], name: str) -> bytes:
    entry = entries[name]
    content = tar.extractfile(entry)
    if content is None or entry.size > _MANIFEST_LIMIT_BYTES:
        raise ValueError(f"{name} is not a small file")
    return content.read()


def _sums(manifest: str, payload: str, name: str) -> bytes:
    return f"{manifest}  {MANIFEST}\n{payload}  {name}\n".encode()


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _newest() -> str:
    from tasks.adapters.registry.schema import REVISION

    return REVISION


# -- SQLite --


def _dump_sqlite(url: URL, payload: Path) -> tuple[str, dict[str, int]]:
    source = Path(str(url.database))
    if not source.exists():
        raise BackupError(f"{source} does not exist; there is nothing to back up")
    payload.touch(mode=0o600)
    with (
        closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as ours,
        closing(sqlite3.connect(payload)) as copy,
    ):
        ours.backup(copy)
        copy.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
        return _look_sqlite(copy, str(source))


def _look_sqlite(connection: sqlite3.Connection, name: str) -> tuple[str, dict[str, int]]:
    complaint = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if complaint != "ok":
        raise Unreadable(name, str(complaint))
    present = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if "alembic_version" not in present:
        raise BackupError(f"{name} has no schema yet; there is nothing to back up")
    revision = str(connection.execute("SELECT version_num FROM alembic_version").fetchone()[0])
    tables = sorted(present & set(metadata.tables))
    counts = {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in tables}  # noqa: S608  # our own names
    return revision, counts


def _load_sqlite(url: URL, payload: Path, manifest: Manifest, replace: bool) -> None:
    target = Path(str(url.database))
    with closing(sqlite3.connect(payload)) as kept:
        revision, rows = _look_sqlite(kept, str(payload.name))
        if (revision, rows) != (manifest.revision, manifest.rows):
            raise Unreadable(str(payload.name), "its rows are not those of its manifest")
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            target.touch(mode=0o600)
        with closing(sqlite3.connect(target, timeout=LOCK_WAIT_S)) as database:
            tables = "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'executions'"
            if not replace and database.execute(tables).fetchone()[0]:
                _refuse_full(str(target), database.execute("SELECT count(*) FROM executions").fetchone()[0])
            kept.execute(_LEAP)
            kept.commit()
            kept.backup(database)  # one transaction of the target: killed, it is rolled back


def _refuse_full(where: str, executions: int) -> None:
    if executions:
        raise NotEmpty(where, executions)


# -- PostgreSQL --


def _dump_postgresql(url: URL, payload: Path) -> tuple[str, dict[str, int]]:
    with _connected(url) as connection:
        # The counts and the dump see one moment: the dump takes over this transaction's snapshot.
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        found = connection.execute("SELECT to_regclass('public.alembic_version')").fetchone()
        if found is None or found[0] is None:
            shown = url.render_as_string(hide_password=True)
            raise BackupError(f"{shown} has no schema yet; there is nothing to back up")
        snapshot = str(_one(connection, "SELECT pg_export_snapshot()"))
        revision = str(_one(connection, "SELECT version_num FROM public.alembic_version"))
        rows = {}
        for name in sorted(metadata.tables):
            if _one(connection, sql.SQL("SELECT to_regclass({})").format(f"public.{name}")) is not None:
                counted = sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier("public", name))
                rows[name] = int(str(_one(connection, counted)))
        with os.fdopen(os.open(payload, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as output:
            options = ["--format=custom", "--no-owner", "--no-privileges", f"--snapshot={snapshot}"]
            _run("pg_dump", [*options, f"--dbname={_without_password(url)}"], url, stdout=output)
    return revision, rows


def _load_postgresql(url: URL, payload: Path, manifest: Manifest, replace: bool, folder: Path) -> None:
    """One transaction: drop our tables, make them again, count. A reader sees the old record until it commits."""
    before = [f"SET lock_timeout = '{LOCK_WAIT_S}s';"]
    if not replace:
        with _connected(url) as connection:
            if _one(connection, "SELECT to_regclass('public.executions')") is not None:
                count = int(str(_one(connection, "SELECT count(*) FROM public.executions")))
                _refuse_full(url.render_as_string(hide_password=True), count)
    before += [f'DROP TABLE IF EXISTS public."{name}" CASCADE;' for name in (*metadata.tables, "alembic_version")]
    before += ["DROP FUNCTION IF EXISTS public.events_stay() CASCADE;"]
    after = [
        f'DO $$ BEGIN IF (SELECT count(*) FROM public."{name}") <> {int(count)} THEN '  # noqa: S608  # our own names
        f"RAISE EXCEPTION 'restored {name} has other rows than the manifest says'; END IF; END $$;"
        for name, count in manifest.rows.items()
        if name in metadata.tables
    ]
    script = folder / "restore.sql"
    with os.fdopen(os.open(script, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as output:
        output.write("\n".join(before).encode() + b"\n")
        output.flush()
        options = ["--no-owner", "--no-privileges", "--file=-"]
        with payload.open("rb") as content:
            _run("pg_restore", options, url, stdin=content, stdout=output)
        output.write("\n".join([*after, f"SET search_path TO public; {_LEAP};"]).encode() + b"\n")
    options = ["--no-psqlrc", "--quiet", "--single-transaction", "--set=ON_ERROR_STOP=1", "--file=-"]
    with script.open("rb") as content:
        _run("psql", [*options, f"--dbname={_without_password(url)}"], url, stdin=content)


@contextmanager
def _connected(url: URL) -> Iterator[psycopg.Connection]:
    plain = url.set(drivername="postgresql").render_as_string(hide_password=False)
    try:
        connection = psycopg.connect(plain, autocommit=True, connect_timeout=10)
    except psycopg.OperationalError as error:
        reason = (str(error).strip().splitlines() or ["no word from it"])[-1]
        where = url.render_as_string(hide_password=True)
        raise ConnectionError(f"{where} took no connection: {reason}; start the service: make up") from error
    with closing(connection):
        yield connection


def _one(connection: psycopg.Connection, query: str | sql.Composed) -> object:
    row = connection.execute(query).fetchone()
    return row[0] if row else None


def _without_password(url: URL) -> str:
    return url.set(drivername="postgresql", password=None).render_as_string(hide_password=False)


def _run(
    tool: str, options: Sequence[str], url: URL, *, stdin: IO[bytes] | None = None, stdout: IO[bytes] | None = None
) -> None:
    """The password travels in the environment: a command line can be read by everybody on the machine."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "PGCONNECT_TIMEOUT": "10"}
    if url.password:
        environment["PGPASSWORD"] = str(url.password)
    done = subprocess.run(
        [*program(tool), *options],
        env=environment,
        stdin=stdin if stdin is not None else subprocess.DEVNULL,
        stdout=stdout if stdout is not None else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        lines = [line for line in done.stderr.decode("utf-8", "replace").splitlines() if line.strip()]
        # What follows the first complaint quotes rows.
        complaint = next((line for line in lines if "error" in line.lower()), lines[0] if lines else "without a word")
        raise ToolFailed(tool, f"{complaint.strip()} (exit code {done.returncode})")
