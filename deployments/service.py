"""Starts and stops the service of one home: ``python -m deployments.service up`` and ``… down``.

`up` brings every program up in order and returns when each does its work; what is up stays untouched. `down` ends what
`up` and its runs started, known by records and sockets below the home, and nothing else on the machine.
`invite` writes what a second machine needs, and `join --from FILE` there starts worker, dispatcher and site server
against the first one's Prefect server and database; from then on `up` and `down` there mean just these.
"""

import argparse
import base64
import fcntl
import hashlib
import importlib.util
import json
import os
import pwd
import secrets
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import yaml  # type: ignore[import-untyped]  # comes with Prefect; its stubs would be one more package
from dotenv import dotenv_values
from pydantic import SecretStr
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from blocks.settings import SERVICE_ENV, Settings, settings
from deployments.configuration import (
    LOOPBACK,
    POOL,
    Service,
    ServiceRefused,
    external_database,
    programs,
    refuse_long_home,
    refuse_path,
    refuse_unsafe,
    service_environment,
    supervisor_configuration,
)
from deployments.databases import create_beside
from deployments.joining import INVITATION, JOINED, Invitation, refuse_store, refuse_stranger, store_token
from deployments.postgres import ClusterError, PrivateCluster
from deployments.processes import Process, end, records
from deployments.readiness import Readiness, last_lines
from deployments.supervision import Supervisor, ambient
from tasks.adapters.hosts.caddy import site_server_argv, write_config
from tasks.adapters.redaction import redact, with_redaction
from tasks.adapters.registry import migrate
from tasks.adapters.registry.machines import machine_id_of
from tasks.adapters.workspace import write_atomic
from tasks.domain.errors import BuilderError

ROOT = Path(__file__).resolve().parent.parent

DEADLINE_S = 180.0
"""For the whole start. The first one, on a slow disk, sets up two databases."""

ENGINES_GRACE_S = 20.0

ENGINE_LOGS_S = 14 * 86_400
"""How long the output of a run's engine is kept, as `make prune` keeps it. Its log in Prefect is not touched."""

REGISTRY_DATABASE, PREFECT_DATABASE = "tmux_builder", "prefect"

Say = Callable[[str], None]


def out(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def cluster_of(home: Path, port: int) -> PrivateCluster:
    return PrivateCluster(home / "postgresql", port)


JOIN = "TMUX_BUILDER_JOIN"
"""In the environment of `make up`: the invitation to take, as with ``join --from``."""


def configure(invitation: Invitation | None = None) -> Service:
    """The service of this home: what the environment says, else what the last start was told, else the defaults.

    Makes the home's secrets where there are none yet. With an invitation, or in a home that took one before: this
    machine's part of the service that invites.
    """
    chosen = settings()
    home = chosen.home
    refuse_path("TMUX_BUILDER_HOME", home)
    refuse_path("this project's folder", ROOT)
    refuse_long_home(home)
    folder = home / "service"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    stored = dotenv_values(home / SERVICE_ENV)
    if invitation is not None:
        _refuse_founder(home, stored)
    elif (invitation := Invitation.taken_by(home)) is None:
        return _founded(chosen, stored)
    return _invited(chosen, invitation)


def _refuse_founder(home: Path, stored: dict[str, str | None]) -> None:
    """Raises ServiceRefused in a home that has a database and a Prefect server to itself."""
    if stored and JOINED not in dotenv_values(home / INVITATION):
        raise ServiceRefused(
            f"TMUX_BUILDER_HOME: {home} has a service of its own, with what was built there; a machine joins with a "
            "home that is empty or joined before, such as: TMUX_BUILDER_HOME=~/.tmux-builder-joined"
        )


def _invited(chosen: Settings, invitation: Invitation) -> Service:
    nothing = SecretStr("")
    service = Service(
        root=ROOT,
        python=Path(sys.executable),
        home=chosen.home,
        prefect_port=urlsplit(invitation.api_url).port or 443,
        sites_port=chosen.sites_port,
        postgres_port=chosen.postgres_port,
        worker_limit=chosen.worker_limit,
        registry_url=invitation.registry_url,
        prefect_database_url=nothing,
        private_cluster=False,
        auth_string=invitation.auth_string,
        encryption_key=nothing,
        machine_id=machine_id_of(chosen.home),
        joined=invitation.api_url,
        store=invitation.store,
        max_executions=invitation.max_executions,
        max_agents=invitation.max_agents,
        max_per_user=invitation.max_per_user,
        min_free_mb=chosen.min_free_mb,
    )
    for name, value in service.client_environment.items():
        refuse_unsafe(name, value)
    return service


def _founded(chosen: Settings, stored: dict[str, str | None]) -> Service:
    home = chosen.home
    folder = home / "service"
    refuse_store(chosen.store)
    external = external_database(os.environ.get("TMUX_BUILDER_DATABASE_URL"), stored)
    if external is None:
        cluster = cluster_of(home, chosen.postgres_port)
        registry_url = cluster.url(REGISTRY_DATABASE)
        prefect_url = cluster.url(PREFECT_DATABASE, driver="asyncpg")
    else:
        registry_url, prefect_url = beside(external)
    service = Service(
        root=ROOT,
        python=Path(sys.executable),
        home=home,
        prefect_port=_port("PREFECT_SERVER_API_PORT", stored, 4200),
        sites_port=chosen.sites_port,
        postgres_port=chosen.postgres_port,
        worker_limit=chosen.worker_limit,
        registry_url=SecretStr(registry_url),
        prefect_database_url=SecretStr(prefect_url),
        private_cluster=external is None,
        auth_string=SecretStr(_secret(folder / "prefect-auth-string", lambda: f"admin:{secrets.token_urlsafe(24)}")),
        encryption_key=SecretStr(
            _secret(folder / "encryption-key", lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode())
        ),
        machine_id=machine_id_of(home),
        store=chosen.store,
        web_port=chosen.web_port,
        max_executions=chosen.max_executions,
        max_agents=chosen.max_agents,
        max_per_user=chosen.max_per_user,
        min_free_mb=chosen.min_free_mb,
        notices=chosen.notices,
    )
    for name, value in (service.client_environment | service.server_environment).items():
        refuse_unsafe(name, value)
    return service


def beside(url: str) -> tuple[str, str]:
    """The registry's URL on a server that somebody runs, and that of Prefect's own database beside it.

    >>> beside("postgresql://u:p@db.example:5432/sites")
    ('postgresql+psycopg://u:p@db.example:5432/sites', 'postgresql+asyncpg://u:p@db.example:5432/sites_prefect')
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None
    if parsed is None or parsed.get_backend_name() != "postgresql" or not parsed.database:
        shown = parsed.render_as_string(hide_password=True) if parsed is not None else "what it holds"
        raise ServiceRefused(
            f"TMUX_BUILDER_DATABASE_URL: {shown} cannot hold a service with several processes; allowed: "
            "postgresql://user:password@host:5432/database, or nothing for a private PostgreSQL"
        )
    registry = parsed.set(drivername="postgresql+psycopg")
    prefect = parsed.set(drivername="postgresql+asyncpg", database=f"{parsed.database}_prefect")
    return registry.render_as_string(hide_password=False), prefect.render_as_string(hide_password=False)


def _port(name: str, stored: dict[str, str | None], default: int) -> int:
    told = os.environ.get(name) or stored.get(name) or str(default)
    if not told.isdecimal() or not 1 <= int(told) <= 65535:
        raise ServiceRefused(f"{name}: {told!r} is not a port; allowed: 1 to 65535, {default} by default")
    return int(told)


def _secret(file: Path, mint: Callable[[], str]) -> str:
    if not file.exists():
        write_atomic(file, mint() + "\n", 0o600)
    return file.read_text(encoding="ascii").strip()


@contextmanager
def _alone(service: Service) -> Iterator[None]:
    """One `up` or `down` of a home at a time; the second waits."""
    with (service.folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def up(service: Service, say: Say = out, invitation: Invitation | None = None) -> None:
    """Raises ServiceRefused, ClusterError, BuilderError or ConnectionError, each of which says what to do.

    ``invitation``: what ``service`` was configured with, kept for later starts once nothing speaks against it.
    """
    with _alone(service):
        if service.joined:
            invitation = invitation or Invitation.read(service.home / INVITATION)
            refuse_stranger(invitation)
            invitation.write(service.home / INVITATION, taken=True)
        _Start(service, say).run()


def invite(service: Service, api_url: str, registry_url: str) -> Path:
    """Write what another machine joins with; the file. Raises ServiceRefused."""
    file = service.home / INVITATION
    if service.joined:
        raise ServiceRefused(f"TMUX_BUILDER_HOME: {service.home} is a guest itself; the first machine invites")
    if not (service.home / SERVICE_ENV).exists():
        raise ServiceRefused(
            f"TMUX_BUILDER_HOME: {service.home} has no service to take part in; start it with: make up"
        )
    told = Invitation.of(service, store_token(service.store_url), api_url, registry_url)
    Invitation.of_lines(told.lines, "what was given")
    told.write(file, taken=False)
    return file


class _Start:
    def __init__(self, service: Service, say: Say) -> None:
        self.service, self.say = service, say
        self.supervisor = Supervisor(service)
        self.ready = Readiness(service, self.supervisor)
        self.cluster = cluster_of(service.home, service.postgres_port)
        self.deadline = time.monotonic() + DEADLINE_S

    def run(self) -> None:
        service = self.service
        members = programs(
            service, self.cluster.argv() if service.private_cluster else [], site_server_argv(service.home)
        )
        user = pwd.getpwuid(os.geteuid()).pw_name
        configuration = supervisor_configuration(service, members, user)
        if self.supervisor.running():
            self._refuse_other(configuration)
        else:
            self._prepare(configuration)
        if not all(member.state == "RUNNING" for member in self.supervisor.members().values()):
            self._start()
        elif not self.service.joined and self._registered() != _registration_stamp():
            self._finish_registration(self._begin_registration())
        self._wait_until_ready()

    def _refuse_other(self, configuration: str) -> None:
        if (self.service.folder / "supervisord.conf").read_text(encoding="utf-8") != configuration:
            raise ServiceRefused(
                f"the service of {self.service.home} runs with other settings (ports, database, limits or this "
                "folder's place have changed since); make down first, then make up"
            )

    def _prepare(self, configuration: str) -> None:
        service = self.service
        end([record.process for record in records(service.records)], 20)  # what an ended supervisord left behind
        ports = [("TMUX_BUILDER_SITES_PORT", service.sites_port)]
        if not service.joined:
            ports.append(("PREFECT_SERVER_API_PORT", service.prefect_port))
            ports.append(("TMUX_BUILDER_WEB_PORT", service.web_port))
        if service.private_cluster:
            ports.append(("TMUX_BUILDER_POSTGRES_PORT", service.postgres_port))
        for name, port in ports:
            refuse_taken(name, port)
        for folder in (service.logs, service.logs / "engines", service.records, service.engines):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        forget_old_logs(service.logs / "engines", time.time() - ENGINE_LOGS_S)
        if service.private_cluster:
            if not (self.cluster.data / "PG_VERSION").exists():
                self.say("setting up PostgreSQL")
            self.cluster.init()
        write_config(service.home, service.sites_port)
        (service.folder / "logging.yml").write_text(_logging_configuration(), encoding="utf-8")
        write_atomic(service.home / SERVICE_ENV, service_environment(service), 0o600)
        write_atomic(service.folder / "supervisord.conf", configuration, 0o600)
        self.supervisor.spawn(service.folder / "supervisord.conf", ambient(os.environ, service.python))

    def _start(self) -> None:
        service, start = self.service, self.supervisor.start
        self.say("starting the service")
        start("sites")
        start("apps")
        if service.joined:
            start("worker")
            start("dispatcher")
            return
        if service.private_cluster:
            start("postgresql")
            self.cluster.wait_ready(self.deadline - time.monotonic())
            self.cluster.create_database(REGISTRY_DATABASE)
            self.cluster.create_database(PREFECT_DATABASE)
        else:
            create_beside(service.registry_url.get_secret_value(), service.prefect_database_url.get_secret_value())
        start("prefect-server")
        registration = self._begin_registration()
        migrate(service.registry_url.get_secret_value())
        start("web")
        self.ready.wait("prefect-server", self.ready.server, self.deadline)
        start("worker")
        start("dispatcher")
        self._finish_registration(registration)

    def _wait_until_ready(self) -> None:
        for name, complaint in (
            *([] if self.service.joined else [("prefect-server", self.ready.server)]),
            ("sites", self.ready.sites),
            ("apps", lambda: self.ready.down("apps")),
            ("worker", self.ready.worker),
            ("dispatcher", self.ready.dispatcher),
            *([] if self.service.joined else [("web", self.ready.web)]),
        ):
            self.ready.wait(name, complaint, self.deadline)

    def _registered(self) -> str:
        try:
            return (self.service.folder / "registered").read_text(encoding="ascii")
        except FileNotFoundError:
            return ""

    def _begin_registration(self) -> "subprocess.Popen[bytes]":
        log = self.service.logs / "register.log"
        with log.open("wb") as output:
            return subprocess.Popen(
                [str(self.service.python), "-m", "deployments.register"],
                cwd=ROOT,
                env=ambient(os.environ, self.service.python) | self.service.worker_environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    def _finish_registration(self, registration: "subprocess.Popen[bytes]") -> None:
        try:
            code = registration.wait(max(1, self.deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            registration.kill()
            code = registration.wait()
        if code != 0:
            log = self.service.logs / "register.log"
            raise ServiceRefused(
                f"the deployments of prefect.yaml were not registered (exit code {code}); {log} ends:\n"
                f"{self.ready.redact(last_lines(log))}\nmend that, then run make up again"
            )
        write_atomic(self.service.folder / "registered", _registration_stamp())


def _registration_stamp() -> str:
    """Changes with everything that the registration reads."""
    digest = hashlib.sha256()
    files = [ROOT / "prefect.yaml", *sorted(ROOT.glob("flows/*.py")), *sorted(ROOT.glob("blocks/*.py"))]
    for file in [*files, *sorted(ROOT.glob("tasks/domain/*.py")), Path(__file__).parent / "register.py"]:
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _logging_configuration() -> str:
    """Prefect's own, with redaction; found without importing Prefect, which takes seconds."""
    package = importlib.util.find_spec("prefect")
    if package is None or package.origin is None:
        raise ServiceRefused("prefect is not installed in this environment; install what requirements.lock lists")
    own = Path(package.origin).parent / "logging" / "logging.yml"
    # JSON is YAML, too.
    return json.dumps(with_redaction(yaml.safe_load(own.read_text(encoding="utf-8"))), indent=1)


def forget_old_logs(folder: Path, before: float) -> None:
    for log in folder.glob("*.log"):
        if log.stat().st_mtime < before:
            log.unlink(missing_ok=True)


def refuse_taken(name: str, port: int) -> None:
    """Raises ServiceRefused where somebody listens on the port, or nobody may."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise ServiceRefused(
                f"port {port} on {LOOPBACK} cannot be used: {error.strerror}; "
                f"end what listens there, or choose another port, such as: {name}={port % 60000 + 1000} make up"
            ) from error


def down(service: Service, say: Say = out) -> None:
    """Safe where nothing runs. Runs that were going on end as crashed, and can be retried after the next start."""
    with _alone(service):
        supervisor = Supervisor(service)
        running = supervisor.running()
        if running:  # first, so that no run begins while the others end
            for name in ("dispatcher", "worker"):
                supervisor.stop(name)
        engines = [record for record in records(service.engines) if record.process.alive()]
        # While the server is there to hear of it. The records stay: what an engine could not say, the dispatcher of
        # the next start says for it.
        end([record.process for record in engines], ENGINES_GRACE_S)
        agents = _end_tmux_servers(service.home / "run")
        if running:
            supervisor.shutdown()
        left = [record.process for record in records(service.records) if record.process.alive()]
        end(left, 40)
        for record in records(service.records):
            record.path.unlink(missing_ok=True)
        (service.home / "run" / "dispatcher.ready").unlink(missing_ok=True)
    if not (running or engines or agents or left):
        say(f"nothing of {service.home} was running")
        return
    parts = ["the service"] if running or left else []
    parts += [f"{len(engines)} run{'s' * (len(engines) > 1)}"] if engines else []
    parts += [f"{agents} agent session{'s' * (agents > 1)}"] if agents else []
    say(f"stopped {' and '.join(parts)} of {service.home}; everything that was built is kept there")


def _end_tmux_servers(folder: Path) -> int:
    """End every tmux server whose socket is directly in the folder."""
    ended = 0
    for path in sorted(folder.glob("*")):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            continue
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(2)
            try:
                probe.connect(str(path))
            except OSError:
                path.unlink(missing_ok=True)
                continue
        ended += _end_tmux_server(path)
    return ended


def _end_tmux_server(path: Path) -> bool:
    tmux = ["tmux", "-N", "-S", str(path)]
    try:
        told = subprocess.run([*tmux, "display-message", "-p", "#{pid}"], capture_output=True, timeout=5, check=False)
        server = Process.of(int(told.stdout)) if told.stdout.strip().isdigit() else None
        if server is None:
            return False
        subprocess.run([*tmux, "kill-server"], capture_output=True, timeout=5, check=False)
    except subprocess.TimeoutExpired:
        return False
    if not server.ended_within(5):
        server.send(signal.SIGKILL)
    path.unlink(missing_ok=True)
    return True


def where_to_look(service: Service) -> str:
    home = service.home
    if service.joined:
        return f"""
this machine takes part, as {service.worker_name}.

  Prefect UI   {service.ui_url}, of the first machine
  sites        http://{{site}}.localhost:{service.sites_port}, of what is published from here
  commands     set -a; . {home / SERVICE_ENV}; set +a
               {service.python.parent}/prefect work-pool inspect {POOL}
  logs         {service.logs}
  everything   {home}

Stop this machine's part with: make down
"""
    return f"""
tmux-builder is up.

  Prefect UI   {service.ui_url}
               log in with the line in {service.folder / "prefect-auth-string"}
               Deployments > full-build/on-demand > Run > Custom run
  web API      {service.web_url}/api, described at {service.web_url}/api/openapi.json
  sites        http://{{site}}.localhost:{service.sites_port}
  commands     set -a; . {home / SERVICE_ENV}; set +a
               {service.python.parent}/prefect deployment ls
               {service.python} -m deployments.front.keys create NAME
  logs         {service.logs}
  everything   {home}

Stop it with: make down
"""


def _arguments(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m deployments.service", description=__doc__)
    words = parser.add_subparsers(dest="word", required=True)
    words.add_parser("up", help=f"start the service; with {JOIN}=FILE in the environment: join")
    words.add_parser("down", help="stop what up or join started")
    inviting = words.add_parser("invite", help="write what a second machine joins with")
    inviting.add_argument("--api-url", default="", help="how the other machine reaches the Prefect API")
    inviting.add_argument("--database-url", default="", help="how the other machine reaches the registry's database")
    joining = words.add_parser("join", help="take part in another machine's service")
    joining.add_argument("--from", dest="invitation", type=Path, required=True, metavar="FILE")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    os.umask(0o077)
    told = _arguments(arguments)
    try:
        match told.word:
            case "down":
                down(configure())
            case "invite":
                file = invite(configure(), told.api_url, told.database_url)
                out(f"{file}\nbring it to the other machine, and there: python -m deployments.service join --from FILE")
            case word:
                given = told.invitation if word == "join" else os.environ.get(JOIN)
                invitation = Invitation.read(Path(given).expanduser()) if given else None
                service = configure(invitation)
                up(service, invitation=invitation)
                out(where_to_look(service))
    except (ServiceRefused, ClusterError, BuilderError, ConnectionError, ValueError) as error:
        sys.stderr.write(f"{'make ' if told.word in ('up', 'down') else ''}{told.word}: {redact(str(error))}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted; what was started so far goes on. Stop it with: make down\n")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
