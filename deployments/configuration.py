"""What the service consists of, as data: its programs, their environments, the files that `make up` generates. Pure."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, ConfigDict, SecretStr

from tasks.adapters.archive import folder_of

POOL = "tmux-builder"

PROGRAM_VARIABLE = "tmux_builder_program"
"""The Prefect variable that says which program the deployments were registered from, see `deployments.joining`."""

LOOPBACK = "127.0.0.1"

CLUSTER = "TMUX_BUILDER_CLUSTER"
"""In ``service.env``: whether the database there is ours to run, ``private`` or ``external``."""

SOCKET_PATH_BYTES = 107
"""``sun_path`` of unix(7), without its final NUL."""


class ServiceRefused(Exception):
    """The service cannot be started, reached or stopped; the text says what is wrong and what to do."""


class Service(BaseModel):
    """One machine's part of a service: where it keeps its state and how the rest is reached. One home, one part.

    ``joined`` is the URL of the first machine's Prefect API; empty on the first machine itself, which runs server and
    database for all. ``store`` empty: a folder under the home.
    ``notices``: environment variables that say who is told of what; the first machine sends for all.
    """

    model_config = ConfigDict(frozen=True)

    root: Path
    python: Path
    home: Path
    prefect_port: int
    sites_port: int
    postgres_port: int
    worker_limit: int
    registry_url: SecretStr
    prefect_database_url: SecretStr
    private_cluster: bool
    auth_string: SecretStr
    encryption_key: SecretStr
    machine_id: str = ""
    joined: str = ""
    store: str = ""
    web_port: int = 8400
    max_executions: int = 8
    max_agents: int = 4
    max_per_user: int = 2
    min_free_mb: int = 1024
    notices: Mapping[str, str] = {}

    @property
    def folder(self) -> Path:
        """Generated files and secrets; mode 0700."""
        return self.home / "service"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def records(self) -> Path:
        """One record per program, see `deployments.processes.Record`."""
        return self.home / "run" / "programs"

    @property
    def engines(self) -> Path:
        """One record per flow run that is being worked on, written by ``engine.sh``."""
        return self.home / "run" / "engines"

    @property
    def control_socket(self) -> Path:
        return self.folder / "supervisor.sock"

    @property
    def ui_url(self) -> str:
        return self.joined.removesuffix("/api") if self.joined else f"http://{LOOPBACK}:{self.prefect_port}"

    @property
    def api_url(self) -> str:
        return f"{self.ui_url}/api"

    @property
    def worker_name(self) -> str:
        """One a machine: Prefect takes two workers of one name for the same."""
        return f"{POOL}-{self.machine_id[:8]}" if self.machine_id else POOL

    @property
    def store_url(self) -> str:
        return self.store or str(self.home / "store")

    @property
    def client_environment(self) -> dict[str, str]:
        """How this service is reached: what ``service.env`` holds, and what worker and dispatcher are given."""
        return {
            "TMUX_BUILDER_HOME": str(self.home),
            "TMUX_BUILDER_DATABASE_URL": self.registry_url.get_secret_value(),
            "TMUX_BUILDER_WEB_PORT": str(self.web_port),
            "TMUX_BUILDER_SITES_PORT": str(self.sites_port),
            "TMUX_BUILDER_POSTGRES_PORT": str(self.postgres_port),
            "TMUX_BUILDER_WORKER_LIMIT": str(self.worker_limit),
            "TMUX_BUILDER_STORE": self.store,
            "TMUX_BUILDER_MAX_EXECUTIONS": str(self.max_executions),
            "TMUX_BUILDER_MAX_AGENTS": str(self.max_agents),
            "TMUX_BUILDER_MAX_PER_USER": str(self.max_per_user),
            "TMUX_BUILDER_MIN_FREE_MB": str(self.min_free_mb),
            "PREFECT_HOME": str(self.home / "prefect"),
            "PREFECT_API_URL": self.api_url,
            "PREFECT_API_AUTH_STRING": self.auth_string.get_secret_value(),
            "PREFECT_SERVER_API_PORT": str(self.prefect_port),
            "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            **self.notices,
        }

    @property
    def server_environment(self) -> dict[str, str]:
        """Prefect's server: reachable from this machine, by who knows the auth string, from its own pages."""
        return {
            "PREFECT_HOME": str(self.home / "prefect"),
            "PREFECT_API_URL": self.api_url,
            "PREFECT_API_AUTH_STRING": self.auth_string.get_secret_value(),
            "PREFECT_SERVER_API_HOST": LOOPBACK,
            "PREFECT_SERVER_API_PORT": str(self.prefect_port),
            "PREFECT_SERVER_API_AUTH_STRING": self.auth_string.get_secret_value(),
            "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": self.ui_url,
            "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
            # Relative: pages that came from http://localhost call localhost, which the rule above leaves alone.
            "PREFECT_SERVER_UI_API_URL": "/api",
            "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": self.prefect_database_url.get_secret_value(),
            "PREFECT_SERVER_ENCRYPTION_KEY": self.encryption_key.get_secret_value(),
            "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
            "PREFECT_LOGGING_SETTINGS_PATH": str(self.folder / "logging.yml"),
            "PREFECT_CLI_COLORS": "false",
            "DO_NOT_TRACK": "1",
        }

    @property
    def web_url(self) -> str:
        return f"http://{LOOPBACK}:{self.web_port}"

    @property
    def web_environment(self) -> dict[str, str]:
        """The front door's: the registry, and nothing that Prefect or a cloud would believe."""
        names = (
            *("TMUX_BUILDER_HOME", "TMUX_BUILDER_DATABASE_URL", "TMUX_BUILDER_WEB_PORT"),
            *("TMUX_BUILDER_MAX_EXECUTIONS", "TMUX_BUILDER_MAX_AGENTS"),
        )
        store = (
            self.store if folder_of(self.store_url) else f"{self.store.partition(':')[0]}://"
        )  # a URL may hold a key
        told = {"TMUX_BUILDER_WEB_PREFECT": self.ui_url, "TMUX_BUILDER_STORE": store}
        return told | {name: self.client_environment[name] for name in names}

    @property
    def worker_environment(self) -> dict[str, str]:
        return self.client_environment | {
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_S),
            "PREFECT_LOGGING_SETTINGS_PATH": str(self.folder / "logging.yml"),
            "PREFECT_LOGGING_COLORS": "false",
            "PREFECT_CLI_COLORS": "false",
        }


HEARTBEAT_S = 30
"""How often a run says that it lives; Prefect takes nothing shorter."""

PLAIN_KEEP = ("PATH", "HOME", "LANG", "LC_*", "TZ", "TMPDIR", "PYTHONUNBUFFERED")
"""Environment variables that every program may see."""

WEB_KEEP = ("TMUX_BUILDER_WEB_*", "TMUX_BUILDER_HOOK_*", "TMUX_BUILDER_MAX_QUEUE", "TMUX_BUILDER_MAX_PER_USER_DAY")
"""What the front door may be told by the environment of `make up`; ``front.env`` in the home says it for good."""


@dataclass(frozen=True)
class Program:
    """One supervised process.

    ``keep``: environment variables that pass; None: all of them, for the worker alone, whose environment carries the
    credentials that builds need. Programs of a lower ``priority`` start before the others and stop after them.
    """

    name: str
    argv: Sequence[str]
    priority: int
    keep: tuple[str, ...] | None = PLAIN_KEEP
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: str = "TERM"
    stop_seconds: int = 15


def programs(service: Service, cluster_argv: Sequence[str], sites_argv: Sequence[str]) -> list[Program]:
    """In the order of their start. ``cluster_argv`` is not used where another database server was named.

    A machine that joined runs what does the work, and neither database nor Prefect server.
    """
    prefect = [str(service.python), "-m", "prefect"]
    worker = ["worker", "start", "--pool", POOL, "--type", "process", "--name", service.worker_name, "--limit"]
    cluster = Program("postgresql", cluster_argv, 10, stop_signal="INT", stop_seconds=40)  # INT: fast shutdown
    server = Program(
        "prefect-server",
        [*prefect, "server", "start"],
        20,
        (*PLAIN_KEEP, *service.server_environment),
        service.server_environment,
    )
    web = Program(
        "web",
        [str(service.python), "-m", "deployments.front"],
        30,
        (*PLAIN_KEEP, *WEB_KEEP, *service.web_environment),
        service.web_environment,
    )
    return [
        *([cluster] if service.private_cluster else []),
        Program("sites", sites_argv, 20),
        Program(
            "apps",
            [str(service.python), "-m", "deployments.apps"],
            20,
            (*PLAIN_KEEP, "TMUX_BUILDER_HOME", "TMUX_BUILDER_SANDBOX"),
            {"TMUX_BUILDER_HOME": str(service.home)},
            stop_seconds=25,  # answers that are on their way are finished
        ),
        *([] if service.joined else [server, web]),
        Program(
            "worker",
            [*prefect, *worker, str(service.worker_limit)],
            30,
            None,
            service.worker_environment,
        ),
        Program(
            "dispatcher",
            [str(service.python), "-m", "deployments.dispatcher", *([] if service.joined else ["--notices"])],
            30,
            (*PLAIN_KEEP, "TMUX_BUILDER_*", *service.worker_environment),
            service.worker_environment,
        ),
    ]


def supervisor_configuration(service: Service, members: Sequence[Program], user: str) -> str:
    """supervisord.conf(5). No port is opened; the control socket is the owner's alone.

    Nothing starts by itself: `make up` starts the programs in order, and supervisord starts again what ends.
    """
    folder, logs = service.folder, service.logs
    head = f"""\
[unix_http_server]
file={_literal(service.control_socket)}
chmod=0600

[supervisord]
identifier=tmux-builder
user={user}
nodaemon=true
silent=true
umask=077
directory={_literal(service.root)}
pidfile={_literal(folder / "supervisord.pid")}
logfile={_literal(logs / "supervisord.log")}
logfile_maxbytes=5MB
logfile_backups=2
childlogdir={_literal(logs)}

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""
    return head + "".join(_section(service, program) for program in members)


def _section(service: Service, program: Program) -> str:
    launch = [str(service.python), "-S", "-E", "-m", "deployments.launch"]
    launch += ["--record", str(service.records / program.name)]
    if program.keep is not None:
        launch += ["--keep", ",".join(program.keep)]
    environment = {"PYTHONUNBUFFERED": "1", **program.environment}
    return f"""
[program:{program.name}]
command={_literal(shlex.join([*launch, "--", *program.argv]))}
environment={",".join(f'{name}="{_literal(value)}"' for name, value in environment.items())}
priority={program.priority}
autostart=false
autorestart=true
startsecs=1
startretries=1000000
stopsignal={program.stop_signal}
stopwaitsecs={program.stop_seconds}
stopasgroup=false
killasgroup=true
redirect_stderr=true
stdout_logfile={_literal(service.logs / f"{program.name}.log")}
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=3
"""


def service_environment(service: Service) -> str:
    """``service.env``, for `blocks.settings` and for shells: ``set -a; . service.env; set +a``."""
    lines = [
        "# How this service is reached. Written by make up; holds secrets.",
        f"# In a shell: set -a; . {service.folder / 'service.env'}; set +a",
    ]
    lines += [f"{name}='{value}'" for name, value in service.client_environment.items()]
    lines += [f"{CLUSTER}='{'private' if service.private_cluster else 'external'}'"]
    return "\n".join(lines) + "\n"


def external_database(given: str | None, stored: Mapping[str, str | None]) -> str | None:
    """The database server that somebody named; None: a private cluster.

    ``given`` is the environment's TMUX_BUILDER_DATABASE_URL, ``stored`` what ``service.env`` holds from before. What
    was named once stays until something else is named; the empty text means the private cluster again.

    >>> external_database(None, {}), external_database("postgresql://h/d", {})
    (None, 'postgresql://h/d')
    >>> external_database(None, {"TMUX_BUILDER_DATABASE_URL": "postgresql://h/d", "TMUX_BUILDER_CLUSTER": "external"})
    'postgresql://h/d'

    A shell that has read ``service.env`` names the private cluster itself:

    >>> private = {"TMUX_BUILDER_DATABASE_URL": "postgresql://p", "TMUX_BUILDER_CLUSTER": "private"}
    >>> external_database("postgresql://p", private), external_database(None, private)
    (None, None)
    """
    before = stored.get("TMUX_BUILDER_DATABASE_URL")
    if given is None:
        return before if stored.get(CLUSTER) == "external" else None
    if not given or (given == before and stored.get(CLUSTER) == "private"):
        return None
    return given


_UNSAFE = re.compile(r"[\x00-\x1f\x7f'\"\\`$]| [;#]")


def refuse_unsafe(name: str, value: str) -> None:
    """The generated files have different rules for quoting; these characters mean themselves in none of them."""
    if found := _UNSAFE.search(value):
        raise ServiceRefused(
            f"{name}: {found[0]!r} stands in it; use a value without quotes, backslash, $, control characters and "
            "' #' or ' ;' (in a URL, percent-encode them)"
        )


def refuse_path(name: str, path: Path) -> None:
    """`refuse_unsafe`, and no ``%``: supervisord expands some paths once and some twice."""
    refuse_unsafe(name, str(path))
    if "%" in str(path):
        raise ServiceRefused(f"{name}: {path} holds a %; use a folder without it")


def refuse_long_home(home: Path) -> None:
    """A unix socket's path is short; supervisord first binds a name that is longer by its process number."""
    longest = len(str(home / "service" / "supervisor.sock.4194304").encode())
    if longest > SOCKET_PATH_BYTES:
        allowed = SOCKET_PATH_BYTES - longest + len(str(home).encode())
        raise ServiceRefused(
            f"TMUX_BUILDER_HOME: {home} has {len(str(home).encode())} bytes, and sockets below it would get names that "
            f"are too long; choose a folder whose path has at most {allowed} bytes, such as ~/.tmux-builder"
        )


def _literal(value: object) -> str:
    """supervisord expands ``%``."""
    return str(value).replace("%", "%%")
