"""What an app needs besides itself, installed once per set of requirements, where nothing of the app can run.

The installer (pip or npm) gets a sandbox of its own: the only writable place is the folder that it fills; in it are
the files that `domain.app` rewrote, and none of the release. It installs built packages only (``--only-binary``,
``--ignore-scripts``), so no package's code runs either. It has no network but a unix socket to `Egress`, which leads
to the package registry's hosts and nowhere else: not to this machine, whatever a package's metadata names.
"""

import hashlib
import json
import logging
import os
import secrets
import shutil
import subprocess
import sys
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from tasks.adapters.disk import sync
from tasks.adapters.hosts.app_folder import dependencies_folder
from tasks.adapters.sandbox import Confinement, Egress, Finished, Mode, base_runtime, run
from tasks.adapters.sandbox.confinement import PATH
from tasks.domain.app import PACKAGE_LOCK, REQUIREMENTS, App, Runtime
from tasks.domain.errors import HostingError

INSTALL_S = 300.0
INSTALLED_BYTES = 1 << 30
_PROXY_PORT = 3128
_PROXY = f"http://127.0.0.1:{_PROXY_PORT}"
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_TEMPORARY = ".incoming-"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Registries:
    """Where packages come from: https addresses without credentials; empty: pip's and npm's own."""

    python: str = ""
    python_files: str = ""
    node: str = ""

    def __post_init__(self) -> None:
        for address in filter(None, (self.python, self.python_files, self.node)):
            parts = urlsplit(address)
            if parts.scheme != "https" or not parts.hostname or parts.username:
                raise ValueError(f"{address!r} is no package registry; expected https://host/path, without a password")

    def for_pip(self) -> tuple[str, frozenset[str]]:
        """The index, and what may be dialled for it."""
        from pip._internal.models.index import PyPI  # the installer's own idea of its registry

        index = self.python or PyPI.simple_url
        files = self.python_files or ("" if self.python else f"https://{PyPI.file_storage_domain}")
        return index, frozenset(_host_and_port(address) for address in (index, files) if address)

    def for_npm(self) -> tuple[str, frozenset[str]]:
        """As for pip."""
        command = ["/usr/bin/env", "-i", f"PATH={PATH}", "npm", "config", "get", "registry"]
        asked = "" if self.node else subprocess.run(command, capture_output=True, text=True, timeout=30).stdout.strip()
        registry = Registries(node=self.node or asked).node
        return registry, frozenset({_host_and_port(registry)})


def _host_and_port(address: str) -> str:
    parts = urlsplit(address)
    return f"{parts.hostname}:{parts.port or 443}"


class Installer:
    """Keeps what it installs in ``{home}/dependencies``, by digest."""

    def __init__(
        self,
        home: Path,
        mode: Mode,
        block: str,
        registries: Registries | None = None,
        deadline_s: float = INSTALL_S,
    ) -> None:
        self._home, self._mode, self._block = home, mode, block
        self._registries, self._deadline_s = registries or Registries(), deadline_s

    def install(self, app: App) -> str:
        """The name of the folder that holds what the app needs; empty where it needs none.

        A set that was installed before is not asked for again. Raises HostingError with the installer's last words.
        """
        if app.runtime is Runtime.NODE and not app.installer_files:
            self._node()
            return ""
        name = self._name(app)
        folder = dependencies_folder(self._home)
        if (folder / name).is_dir():
            with suppress(OSError):
                os.utime(folder / name)  # in use: `unused` goes by it
            return name
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        incoming = folder / f"{_TEMPORARY}{secrets.token_hex(6)}"
        incoming.mkdir(mode=0o700)
        try:
            match app.runtime:
                case Runtime.PYTHON:
                    self._python_packages(app, incoming)
                case Runtime.NODE:
                    self._node_packages(app, incoming)
            self._refuse_giant(incoming)
            os.sync()  # thousands of small files: one call is cheaper than as many
            with suppress(FileExistsError, OSError):  # another publish was quicker; its content is the same
                incoming.rename(folder / name)
            sync(folder)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
        if not (folder / name).is_dir():
            raise self._trouble("could not be put in place", str(folder / name))
        return name

    def _name(self, app: App) -> str:
        """Another one for another interpreter: what was built for one does not load in the next."""
        basis = [app.runtime, dict(sorted(app.installer_files.items()))]
        basis += [sys.version, _interpreter()] if app.runtime is Runtime.PYTHON else [self._node_version()]
        return f"{app.runtime}-{hashlib.sha256(json.dumps(basis).encode()).hexdigest()[:24]}"

    def _python_packages(self, app: App, incoming: Path) -> None:
        """A virtual environment; without requirements it is empty and nothing is asked for."""
        python = _interpreter()
        site = incoming / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
        site.mkdir(parents=True)
        (incoming / "bin").mkdir()
        for name in ("python", "python3"):
            (incoming / "bin" / name).symlink_to(python)
        version = ".".join(map(str, sys.version_info[:3]))
        (incoming / "pyvenv.cfg").write_text(
            f"home = {Path(python).parent}\ninclude-system-site-packages = false\nversion = {version}\n"
        )
        if not app.installer_files:
            return
        pip = find_spec("pip")
        if pip is None or pip.origin is None:
            raise self._trouble("need pip, which is not there", "install what requirements.lock lists")
        index, allowed = self._registries.for_pip()
        command = ["/dependencies/bin/python", "/run/pip/pip", "--isolated", "--no-input", *self._proxy("--proxy=")]
        command += ["--no-cache-dir", "--disable-pip-version-check", "--retries", "2", "--timeout", "20"]
        command += ["--cert", str(_CERTIFICATES)] if _CERTIFICATES.exists() else []
        command += ["install", "--only-binary", ":all:", "--no-warn-script-location"]
        command += ["--ignore-installed", "--index-url", index, "-r", f"/run/wanted/{REQUIREMENTS}"]
        self._run(app, incoming, command, {"/run/pip/pip": Path(pip.origin).parent}, allowed)

    def _node_packages(self, app: App, incoming: Path) -> None:
        self._node()
        for name, content in app.installer_files.items():
            (incoming / name).write_text(content)
        registry, allowed = self._registries.for_npm()
        how = "ci" if PACKAGE_LOCK in app.installer_files else "install"
        command = ["npm", how, "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--no-update-notifier"]
        command += ["--install-links=false", "--loglevel=error", f"--registry={registry}"]
        command += [*self._proxy("--https-proxy="), *self._proxy("--proxy="), "--cache=/tmp/npm", "--fetch-retries=2"]
        command += [f"--cafile={_CERTIFICATES}"] if _CERTIFICATES.exists() else []
        self._run(app, incoming, command, {}, allowed)
        (incoming / "node_modules").mkdir(exist_ok=True)

    def _run(
        self, app: App, incoming: Path, command: list[str], more: dict[str, Path], allowed: frozenset[str]
    ) -> None:
        with ExitStack() as stack:
            # Chosen by the operator, or pip's and npm's own: a registry may lie in the operator's network.
            egress = stack.enter_context(Egress(allowed, private=allowed))
            wanted = incoming.with_name(f"{incoming.name}.wanted")
            wanted.mkdir(mode=0o700)
            stack.callback(shutil.rmtree, wanted, ignore_errors=True)
            for name, content in app.installer_files.items():
                (wanted / name).write_text(content)
            confinement = Confinement(
                command=tuple(command),
                readonly={**base_runtime(), **more, "/run/wanted": wanted},
                writable={"/dependencies": incoming},
                env={"PATH": PATH, "HOME": "/tmp", "npm_config_userconfig": "/dev/null"},  # noqa: S108 (inside)
                cwd="/dependencies",
                bridge=egress.path,
                bridge_port=_PROXY_PORT,
            )
            finished = run(confinement, self._mode, self._deadline_s)
            if finished.exit_code != 0:
                raise self._failed(app, finished, egress.refused)
        _log.info("installed runtime=%s seconds=%.1f", app.runtime, finished.seconds)

    def _failed(self, app: App, finished: Finished, refused: list[str]) -> HostingError:
        how = (
            f"were not installed within {self._deadline_s:.0f} s"
            if finished.exit_code is None
            else f"could not be installed (exit code {finished.exit_code})"
        )
        said = [line for line in f"{finished.stdout}\n{finished.stderr}".splitlines() if line.strip()][-12:]
        if refused:
            said.append(f"not allowed: {', '.join(sorted(set(refused)))}")
        names = ", ".join(app.installer_files)
        return self._trouble(f"({names}) {how}", "\n".join(said)[-1500:], transient=finished.exit_code is None)

    def _proxy(self, option: str) -> list[str]:
        """The only way out; where nothing is confined, there is no relay that leads to it."""
        return [] if self._mode == "unsafe-none" else [f"{option}{_PROXY}"]

    def _refuse_giant(self, folder: Path) -> None:
        total = sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_symlink())
        if total > INSTALLED_BYTES:
            raise self._trouble(f"take {total >> 20} MiB; allowed are {INSTALLED_BYTES >> 20}", "name fewer packages")

    def _node(self) -> str:
        node = shutil.which("node", path=PATH)
        if node is None:
            raise HostingError(
                self._block,
                f"the site is a node app, and node is not in {PATH} of this machine",
                "install it (Debian, Ubuntu: apt-get install nodejs npm), then start redeploy/on-demand",
            )
        return node

    def _node_version(self) -> str:
        status = os.stat(self._node())
        return f"{status.st_size}:{status.st_mtime_ns}"

    def _trouble(self, complaint: str, said: str, transient: bool = False) -> HostingError:
        return HostingError(
            self._block,
            f"the app's packages {complaint}; what was live is live; {said}",
            "mend the list of packages in source/, then start redeploy/on-demand",
            transient,
        )


def _interpreter() -> str:
    return os.path.realpath(sys.executable)


def unused(home: Path, older_than_s: float, now: float) -> list[Path]:
    """Folders that no release of any site names and that nobody asked for lately: for a reaper to remove."""
    used = set()
    for plan in (home / "sites").glob("*/apps/*/.app.json"):
        with suppress(OSError, ValueError, KeyError):
            used.add(json.loads(plan.read_text())["dependencies"])
    folder = dependencies_folder(home)
    entries = sorted(folder.iterdir()) if folder.is_dir() else []
    return [entry for entry in entries if entry.name not in used and entry.lstat().st_mtime < now - older_than_s]
