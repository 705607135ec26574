"""Packages are really installed, by the real installers, from the registries in use."""

import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.adapters.hosts.app_folder import dependencies_folder
from tasks.adapters.hosts.dependencies import Installer, Registries, unused
from tasks.adapters.hosts.local_app import LocalAppHost
from tasks.adapters.sandbox import Confinement, Egress, run
from tasks.domain.app import App, app_of
from tasks.domain.errors import HostingError
from tests.support.apps import KeeperProcess, keeper, node_app, python_app, site_server
from tests.support.releases import Packager
from tests.support.site_server import SiteServer

__all__ = ["keeper", "site_server"]

PACKAGE = '{"scripts": {"start": "node server.js"}, "dependencies": {"is-number": "^7.0.0"}}'


def app(files: dict[str, str]) -> App:
    return app_of(set(files), files)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def site(site_server: SiteServer, keeper: KeeperProcess) -> Iterator[LocalAppHost]:
    name = f"tmux-{secrets.token_hex(4)}-{secrets.token_hex(4)}"
    host = LocalAppHost(site_server.home, name, site_server.port, 3, "bwrap")
    yield host
    assert host.teardown().left == ()


def test_a_python_program_gets_its_packages_and_its_commands(
    site: LocalAppHost, site_server: SiteServer, tmp_path: Path
) -> None:
    program = python_app("unused")
    program["app.py"] = "import iniconfig\nPAGE = iniconfig.__name__\n" + program["app.py"].replace(
        "PAGE = 'unused'", ""
    )
    packager = Packager(tmp_path)
    served = site.publish(
        packager.package({"index.html": "x", **program, "requirements.txt": "iniconfig==2.0.0  # tiny\n"})
    )
    assert site_server.get(served.name, "/").body == b"iniconfig"


def test_a_node_program_gets_its_packages(site: LocalAppHost, site_server: SiteServer, tmp_path: Path) -> None:
    program = node_app("number: ", **{"package.json": PACKAGE})
    program["server.js"] = program["server.js"].replace(
        "response.end(PAGE)", "response.end(PAGE + require('is-number')(7))"
    )
    served = site.publish(Packager(tmp_path).package({"index.html": "x", **program}))
    assert site_server.get(served.name, "/").body == b"number: true"


def test_the_same_set_is_installed_once(home: Path) -> None:
    """The second time there is no registry to ask."""
    wanted = app({"requirements.txt": "iniconfig", "app.py": ""})
    first = Installer(home, "bwrap", "x").install(wanted)
    nowhere = Installer(home, "bwrap", "x", Registries(python="https://127.0.0.1:1/simple"), deadline_s=60)
    assert nowhere.install(app({"requirements.txt": "# other words\n\niniconfig", "app.py": "changed"})) == first
    with pytest.raises(HostingError, match=r"could not be installed"):
        nowhere.install(app({"requirements.txt": "iniconfig>=1", "app.py": ""}))
    folder = dependencies_folder(home)
    assert [entry.name for entry in folder.iterdir()] == [first]


def test_a_program_that_needs_nothing_asks_nobody(home: Path) -> None:
    nowhere = Installer(
        home, "bwrap", "x", Registries("https://127.0.0.1:1/", "", "https://127.0.0.1:1/"), deadline_s=5
    )
    assert nowhere.install(app({"requirements.txt": "# nothing\n", "app.py": ""})).startswith("python-")
    assert nowhere.install(app({"package.json": "{}", "server.js": ""})) == ""


def test_a_package_that_is_not_there_is_an_error_with_the_installers_words(home: Path) -> None:
    name = "no-such-package-of-tmux-builder"
    for files in (
        {"requirements.txt": f"{name}==9.9.9", "app.py": ""},
        {"package.json": f'{{"dependencies": {{"{name}": "9.9.9"}}}}', "server.js": ""},
    ):
        with pytest.raises(HostingError, match=f"(?s)could not be installed.*{name}") as caught:
            Installer(home, "bwrap", "x").install(app(files))
        assert "what was live is live" in str(caught.value)
    assert list(dependencies_folder(home).iterdir()) == []


def test_a_registry_is_an_https_address_without_a_password() -> None:
    for address in ("http://x/simple", "https://user:secret@x/", "file:///x", "x"):
        with pytest.raises(ValueError, match="no package registry"):
            Registries(python=address)


def test_what_nobody_names_any_more_is_found_by_age(home: Path) -> None:
    name = Installer(home, "bwrap", "x").install(app({"requirements.txt": "", "app.py": ""}))
    folder = dependencies_folder(home) / name
    assert unused(home, 60, time.time()) == []
    os.utime(folder, (1, 1))
    assert unused(home, 60, time.time()) == [folder]
    plan = home / "sites" / "tmux-a1b2c3d4-9f8e7d6c" / "apps" / "r1-000000000000" / ".app.json"
    plan.parent.mkdir(parents=True)
    plan.write_text(f'{{"dependencies": "{name}"}}')
    assert unused(home, 60, time.time()) == []


# ---------------------------------------------------------------- the only way out

ASK = """
import socket, sys
for target in sys.argv[1:]:
    with socket.create_connection(("127.0.0.1", 3128), timeout=5) as client:
        client.sendall(f"CONNECT {target} HTTP/1.1\\r\\n\\r\\n".encode())
        answer = client.recv(100).split(b"\\r\\n")[0].decode() or "closed"
    print(answer)
for address in (("127.0.0.1", int(sys.argv[1].rpartition(":")[2])), ("203.0.113.80", 443)):
    try:
        socket.create_connection(address, timeout=2)
        print("reached", address)
    except OSError:
        print("no way")
"""


def test_the_installers_way_out_leads_to_the_names_on_its_list_and_never_to_this_machine(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        allowed = {f"localhost:{port}", f"127.0.0.1:{port}", f"[::1]:{port}", f"[::ffff:127.0.0.1]:{port}"}
        with Egress(allowed) as egress:
            targets = [f"127.0.0.1:{port}", f"localhost:{port}", f"[::ffff:127.0.0.1]:{port}", "example.com:443"]
            confinement = Confinement(
                ("/usr/bin/env", "python3", "-I", "-S", "-c", ASK, *targets),
                cwd="/tmp",  # noqa: S108 (the sandbox's own)
                bridge=egress.path,
                bridge_port=3128,
            )
            finished = run(confinement, "bwrap", 60)
        assert finished.stdout.splitlines() == ["HTTP/1.1 403 Forbidden"] * 4 + ["no way"] * 2, finished.stderr
        assert egress.refused == targets
