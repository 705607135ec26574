"""How a second machine takes part: the first one writes an invitation, the second one reads it and checks its words.

What they share is the first one's Prefect API, the registry's database and the store of the archive. A machine joins
only where all three are the same for both, seen from where it stands.
"""

import hashlib
import re
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import fsspec  # type: ignore[import-untyped]  # it ships no types
from dotenv import dotenv_values
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]  # it ships no types
from pydantic import BaseModel, ConfigDict, SecretStr
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from deployments.configuration import PROGRAM_VARIABLE, Service, ServiceRefused, refuse_unsafe
from deployments.readiness import ask, credentials
from tasks.adapters.registry import Registry
from tasks.adapters.workspace import write_atomic
from tasks.domain.errors import BuilderError

ROOT = Path(__file__).resolve().parent.parent

INVITATION = "service/invitation.env"
"""Below the home: on the first machine the invitation that it wrote, on a joined one the invitation that it took."""

JOINED = "TMUX_BUILDER_JOINED"
"""In a joined home's copy of the invitation: that it was taken."""

STORE_TOKEN = ".tmux-builder-store"  # noqa: S105  # a file's name
"""In the store: what the first machine wrote there, to be found by who sees the same store."""

_FORGETFUL = ("memory", "data", "http", "https", "dir", "reference", "cached", "filecache", "simplecache")
"""fsspec protocols that live in one process, or cannot be written."""

_PROTOCOL = re.compile(r"(?P<name>[a-z][a-z0-9+.-]*)(://|::)")

_LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1", "")


class Invitation(BaseModel):
    """How a second machine reaches what it shares with the first."""

    model_config = ConfigDict(frozen=True)

    api_url: str
    auth_string: SecretStr
    registry_url: SecretStr
    store: str
    store_token: SecretStr
    max_executions: int
    max_agents: int
    max_per_user: int

    @classmethod
    def of(cls, service: Service, store_token: str, api_url: str = "", registry_url: str = "") -> "Invitation":
        """``api_url`` and ``registry_url``: how another machine reaches them, where it is not as this one does."""
        return cls(
            api_url=api_url or service.api_url,
            auth_string=service.auth_string,
            registry_url=SecretStr(registry_url) if registry_url else service.registry_url,
            store=service.store_url,
            store_token=SecretStr(store_token),
            max_executions=service.max_executions,
            max_agents=service.max_agents,
            max_per_user=service.max_per_user,
        )

    @property
    def lines(self) -> dict[str, str]:
        return {
            "PREFECT_API_URL": self.api_url,
            "PREFECT_API_AUTH_STRING": self.auth_string.get_secret_value(),
            "TMUX_BUILDER_DATABASE_URL": self.registry_url.get_secret_value(),
            "TMUX_BUILDER_STORE": self.store,
            "TMUX_BUILDER_STORE_TOKEN": self.store_token.get_secret_value(),
            "TMUX_BUILDER_MAX_EXECUTIONS": str(self.max_executions),
            "TMUX_BUILDER_MAX_AGENTS": str(self.max_agents),
            "TMUX_BUILDER_MAX_PER_USER": str(self.max_per_user),
        }

    def write(self, file: Path, *, taken: bool) -> None:
        """Mode 0600. Raises ServiceRefused for a value that the file cannot hold."""
        for name, value in self.lines.items():
            refuse_unsafe(name, value)
        head = "# An invitation to take part in a tmux-builder service. It holds secrets (chmod 600).\n"
        head += "# Where the other machine reaches an address by another name, change it here. Then, there:\n"
        head += "#   python -m deployments.service join --from THIS_FILE\n"
        lines = [f"{name}='{value}'" for name, value in self.lines.items()]
        lines += [f"{JOINED}='true'"] if taken else []
        write_atomic(file, head + "\n".join(lines) + "\n", 0o600)

    @classmethod
    def read(cls, file: Path) -> "Invitation":
        """Raises ServiceRefused where it is not there, open to others, or not whole."""
        try:
            mode = file.stat().st_mode
        except OSError as error:
            raise ServiceRefused(
                f"invitation: {file}: {error.strerror}; make one on the first machine with: "
                "python -m deployments.service invite, and bring it here"
            ) from error
        if stat.S_IMODE(mode) & 0o077:
            raise ServiceRefused(
                f"invitation: {file} holds secrets, and its mode {stat.S_IMODE(mode):04o} lets others at it; "
                f"type: chmod 600 {file}"
            )
        return cls.of_lines(dotenv_values(file), str(file))

    @classmethod
    def taken_by(cls, home: Path) -> "Invitation | None":
        """The invitation that this home took, if it is a joined one."""
        file = home / INVITATION
        return cls.read(file) if JOINED in dotenv_values(file) else None

    @classmethod
    def of_lines(cls, lines: Mapping[str, str | None], where: str) -> "Invitation":
        def text(name: str) -> str:
            if not (value := lines.get(name)):
                raise ServiceRefused(
                    f"invitation: {where} has no {name}; make it anew on the first machine with: "
                    "python -m deployments.service invite"
                )
            refuse_unsafe(name, value)
            return value

        def number(name: str) -> int:
            if not text(name).isdecimal() or int(text(name)) < 1:
                raise ServiceRefused(f"invitation: {where}: {name}={text(name)!r} is not a number from 1 on")
            return int(text(name))

        api_url = text("PREFECT_API_URL").rstrip("/")
        parts = urlsplit(api_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or not parts.path.endswith("/api"):
            raise ServiceRefused(
                f"invitation: {where}: PREFECT_API_URL={api_url!r} is not the address of a Prefect API; "
                "allowed: http://HOST:PORT/api or https://HOST/api"
            )
        return cls(
            api_url=api_url,
            auth_string=SecretStr(text("PREFECT_API_AUTH_STRING")),
            registry_url=SecretStr(shared_database(text("TMUX_BUILDER_DATABASE_URL"))),
            store=text("TMUX_BUILDER_STORE"),
            store_token=SecretStr(text("TMUX_BUILDER_STORE_TOKEN")),
            max_executions=number("TMUX_BUILDER_MAX_EXECUTIONS"),
            max_agents=number("TMUX_BUILDER_MAX_AGENTS"),
            max_per_user=number("TMUX_BUILDER_MAX_PER_USER"),
        )


def shared_database(url: str) -> str:
    """The URL with our driver. Raises ServiceRefused for a database that two machines cannot share."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        parsed = None
    if parsed is None or parsed.get_backend_name() != "postgresql" or not parsed.database:
        shown = parsed.render_as_string(hide_password=True) if parsed is not None else "what it holds"
        kind = "SQLite, which is for one machine" if shown.startswith("sqlite") else "no PostgreSQL"
        raise ServiceRefused(
            f"invitation: TMUX_BUILDER_DATABASE_URL: {shown} is {kind}; two machines share a PostgreSQL server: "
            "postgresql://user:password@host:5432/database, given to the first one's make up and in the invitation"
        )
    return parsed.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)


def refuse_store(store: str) -> None:
    """Raises ServiceRefused for a store that several processes cannot share, or that depends on where one stands."""
    protocol = _PROTOCOL.match(store)
    if protocol is None:
        if store and not Path(store).is_absolute():
            raise ServiceRefused(
                f"TMUX_BUILDER_STORE: {store!r} depends on the folder that a program starts in; "
                "give an absolute path, or a URL such as s3://bucket/prefix"
            )
        return
    if protocol["name"] in _FORGETFUL or "::" in store:
        raise ServiceRefused(
            f"TMUX_BUILDER_STORE: {store!r} keeps nothing that another process finds ({protocol['name']}); "
            "allowed: an absolute path, file://, s3://, abfs://, or another fsspec protocol that can be written"
        )


def store_token(store: str) -> str:
    """The store's token; written there where it has none. Raises ServiceRefused."""
    refuse_store(store)
    try:
        files, root = fsspec.core.url_to_fs(store)
        key = f"{str(root).rstrip('/')}/{STORE_TOKEN}"
        if not files.exists(key):
            if isinstance(files, LocalFileSystem):
                Path(root).mkdir(parents=True, exist_ok=True, mode=0o700)
                write_atomic(Path(key), secrets.token_hex(16) + "\n", 0o600)
            else:
                files.pipe_file(key, (secrets.token_hex(16) + "\n").encode())
        return _text(files.cat_file(key))
    except Exception as error:
        raise ServiceRefused(
            f"TMUX_BUILDER_STORE: the store's token could not be written to {store}: {type(error).__name__}: {error}; "
            "see that it exists, that its driver is installed and that this shell has the credentials for it"
        ) from error


def refuse_other_store(store: str, token: str) -> None:
    """Raises ServiceRefused unless the store, as seen from this machine, holds that token."""
    refuse_store(store)
    try:
        files, root = fsspec.core.url_to_fs(store)
        files.invalidate_cache()
        local = isinstance(files, LocalFileSystem)
        key = f"{str(root).rstrip('/')}/{STORE_TOKEN}"
        found = _text(files.cat_file(key)) if files.exists(key) else None
    except Exception as error:
        raise ServiceRefused(
            f"TMUX_BUILDER_STORE: {store} could not be read from this machine: {type(error).__name__}: {error}; "
            "see that its driver is installed and that this shell has the credentials for it"
        ) from error
    if found == token:
        return
    state = "is not there" if found is None else "is another store's"
    move = (
        "a folder is shared only where both machines see the same one (NFS or the like, mounted at this path here); "
        "else give the first machine a store that both reach: TMUX_BUILDER_STORE=s3://… make up, then invite again"
        if local
        else "give both machines the same bucket and prefix, then invite again"
    )
    raise ServiceRefused(f"TMUX_BUILDER_STORE: {root}/{STORE_TOKEN}, which the first machine wrote, {state}; {move}")


def _text(data: bytes) -> str:
    return data[:200].decode("ascii", "replace").strip()


def refuse_stranger(invitation: Invitation) -> None:
    """Raises ServiceRefused unless everything that the two machines share is there and fits this program."""
    refuse_other_api(invitation)
    refuse_other_record(invitation.registry_url.get_secret_value())
    refuse_other_store(invitation.store, invitation.store_token.get_secret_value())


def refuse_other_api(invitation: Invitation) -> None:
    """Raises ServiceRefused unless the API answers, takes the auth string, and has the deployments of this program."""
    header = credentials(invitation.auth_string.get_secret_value())
    api = invitation.api_url
    try:
        status, _ = ask(f"{api}/health", "GET", {}, None, timeout_s=10)
        knows, found = ask(f"{api}/variables/name/{PROGRAM_VARIABLE}", "GET", header, None, timeout_s=10)
    except ValueError as error:  # something that answers, and not in JSON
        raise ServiceRefused(
            f"PREFECT_API_URL: {api} is no Prefect API: {error}; read the invitation's address"
        ) from error
    if status != 200 or not knows:
        found_words = f"HTTP {status}" if status not in (0, 200) else "no word in time"
        near = urlsplit(api).hostname in _LOCAL_HOSTS
        hint = (
            "that address is this very machine; where the first one is another, bring its port here, such as with: "
            "ssh -N -L 4200:127.0.0.1:4200 FIRST_MACHINE, or put its address into the invitation"
            if near
            else "see that make up has finished there, and that this machine may connect"
        )
        raise ServiceRefused(f"PREFECT_API_URL: {api} does not answer ({found_words}); {hint}")
    if knows == 401:
        raise ServiceRefused(
            f"PREFECT_API_AUTH_STRING: {api} does not take the invitation's auth string: it is another service's, "
            "or the invitation is old; make a new one on the first machine with: python -m deployments.service invite"
        )
    stamp = str(found.get("value")) if knows == 200 and isinstance(found, dict) else "none"
    if stamp != (ours := program_stamp()):
        raise ServiceRefused(
            f"the first machine's deployments are of program {stamp[:12]}, this machine has {ours[:12]}; "
            "check out the same version on both, then make up on the first (down before, if it runs), then join"
        )


def refuse_other_record(registry_url: str) -> None:
    """Raises ServiceRefused unless the record answers and has the schema of this program."""
    try:
        Registry.open(registry_url).close()
    except (BuilderError, ConnectionError) as error:
        raise ServiceRefused(f"TMUX_BUILDER_DATABASE_URL: {error}") from error


def program_stamp() -> str:
    """Changes with everything that a run is made of: two machines take runs of one pool only where it is equal."""
    digest = hashlib.sha256()
    files = [ROOT / "prefect.yaml", ROOT / "requirements.lock", ROOT / "deployments" / "engine.sh"]
    for room in ("blocks", "flows", "tasks"):
        files += sorted((ROOT / room).rglob("*.py"))
    for file in files:
        digest.update(file.relative_to(ROOT).as_posix().encode() + b"\0")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()
