"""setup.sh on machines that lack something: a PATH of chosen programs, some of which only note how they were called."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.service import ROOT

NEEDED = ("bash", "cat", "cut", "dirname", "env", "flock", "grep", "mktemp", "rm", "sh", "sha256sum", "tail", "true")


class Machine:
    """A checkout with nothing installed, and the programs of a machine that has everything else."""

    def __init__(self, folder: Path) -> None:
        self.root, self.bin, self.calls = folder / "checkout", folder / "bin", folder / "calls"
        (self.root / "deployments").mkdir(parents=True)
        self.bin.mkdir()
        self.calls.touch()
        shutil.copy(ROOT / "deployments" / "setup.sh", self.root / "deployments")
        (self.root / "requirements.lock").write_text("first==1\n")
        for name in NEEDED:
            (self.bin / name).symlink_to(str(shutil.which(name)))
        for name in ("tmux", "bwrap", "git", "chromium"):
            self.program(name, "exit 0")
        self.program("id", "echo 1000")
        self.program("python3", f'exec {sys.executable} "$@"')
        self.program("uv", 'case "$*" in venv*) mkdir -p .venv/bin; ln -sf "$PYTHON3" .venv/bin/python;; esac')
        (self.bin / "mkdir").symlink_to(str(shutil.which("mkdir")))
        (self.bin / "ln").symlink_to(str(shutil.which("ln")))

    def program(self, name: str, body: str) -> None:
        script = self.bin / name
        script.unlink(missing_ok=True)
        script.write_text(f'#!/bin/sh\necho "{name} $*" >>{self.calls}\n{body}\n')
        script.chmod(0o755)

    def without(self, *names: str) -> None:
        for name in names:
            (self.bin / name).unlink()

    def setup(self) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [str(self.root / "deployments" / "setup.sh"), "up"],
            env={"PATH": str(self.bin), "HOME": str(self.root), "PYTHON3": sys.executable},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def called(self, name: str) -> list[str]:
        return [line for line in self.calls.read_text().splitlines() if line.split()[0] == name]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_the_second_time_nothing_is_done_and_nothing_is_said(machine: Machine) -> None:
    assert machine.setup().returncode == 0
    (sync,) = [call for call in machine.called("uv") if "sync" in call]
    assert "--require-hashes" in sync
    assert sync.endswith("requirements.lock")
    before = machine.called("uv")
    again = machine.setup()
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert machine.called("uv") == before


def test_another_lock_file_is_installed(machine: Machine) -> None:
    machine.setup()
    (machine.root / "requirements.lock").write_text("second==2\n")
    machine.setup()
    assert len([call for call in machine.called("uv") if "sync" in call]) == 2


def test_an_installation_that_failed_is_tried_again(machine: Machine) -> None:
    machine.program("uv", 'mkdir -p .venv/bin; ln -sf "$PYTHON3" .venv/bin/python; case "$*" in *sync*) exit 1;; esac')
    for _ in range(2):
        failed = machine.setup()
        assert failed.returncode == 1
        assert "run make again" in failed.stderr
    assert len([call for call in machine.called("uv") if "sync" in call]) == 2


def test_who_may_not_install_gets_the_exact_command(machine: Machine) -> None:
    machine.without("bwrap", "tmux")
    machine.program("apt-get", "exit 0")
    refused = machine.setup()
    assert refused.returncode == 1
    assert "sudo sh -c 'apt-get update && apt-get install -y --no-install-recommends tmux bubblewrap" in refused.stderr
    assert machine.called("apt-get") == []
    assert machine.called("uv") == []


@pytest.mark.parametrize("who", ["root", "sudo"])
def test_who_may_install_does(machine: Machine, who: str) -> None:
    machine.without("git")
    machine.program("apt-get", "exit 0")
    if who == "root":
        machine.program("id", "echo 0")
    else:
        machine.program("sudo", 'shift; exec "$@"')
    done = machine.setup()
    assert done.returncode == 0, done.stderr
    assert [call.split()[1] for call in machine.called("apt-get")] == ["update", "install"]
    assert machine.called("apt-get")[1].split()[-1] == "git"
    assert bool(machine.called("sudo")) is (who == "sudo")


def test_a_sudo_that_asks_for_a_password_is_not_waited_for(machine: Machine) -> None:
    machine.without("git")
    machine.program("apt-get", "exit 0")
    machine.program("sudo", "exit 1")
    refused = machine.setup()
    assert refused.returncode == 1
    assert "Type this" in refused.stderr
    assert machine.called("sudo") == ["sudo -n true"]


def test_what_apt_said_is_shown_when_it_fails(machine: Machine) -> None:
    machine.without("git")
    machine.program("id", "echo 0")
    machine.program("apt-get", "echo 'E: Unable to locate package' >&2; exit 100")
    failed = machine.setup()
    assert failed.returncode == 1
    assert "E: Unable to locate package" in failed.stderr
    assert "git" in failed.stderr


def test_without_apt_it_names_what_is_needed(machine: Machine) -> None:
    machine.without("tmux")
    refused = machine.setup()
    assert refused.returncode == 1
    assert "these are needed and not there: tmux" in refused.stderr


@pytest.mark.parametrize("version", ["3.9.2", "3.10.14", None])
def test_an_older_python_is_refused_by_its_version(machine: Machine, version: str | None) -> None:
    if version:
        numbers = version.replace(".", ", ")
        pretend = f"import sys; sys.version_info = ({numbers}); exec(sys.argv[1])"
        asked = (
            f'[ "$1" = --version ] && echo "Python {version}" && exit; shift; exec {sys.executable} -c "{pretend}" "$@"'
        )
        machine.program("python3", asked)
    else:
        machine.without("python3")
    refused = machine.setup()
    assert refused.returncode == 1
    assert "Python 3.11 or newer is needed" in refused.stderr
    assert (version or "none") in refused.stderr
    assert "make PYTHON=" in refused.stderr


def test_debians_missing_venv_is_a_package_to_install(machine: Machine) -> None:
    """Without uv there is need of ensurepip, which Debian keeps apart."""
    machine.without("uv")
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    machine.program("python3", f'case "$*" in *ensurepip*) exit 1;; esac; exec {sys.executable} "$@"')
    machine.program("apt-get", "exit 0")
    refused = machine.setup()
    assert refused.returncode == 1
    assert f"python{version}-venv" in refused.stderr


def test_a_browser_that_was_named_is_enough(machine: Machine) -> None:
    machine.without("chromium")
    machine.program("apt-get", "exit 0")
    environment = {"PATH": str(machine.bin), "HOME": str(machine.root), "PYTHON3": sys.executable}
    named = subprocess.run(
        [str(machine.root / "deployments" / "setup.sh")],
        env={**environment, "TMUX_BUILDER_BROWSER": "/opt/chrome"},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert named.returncode == 0
    assert machine.called("apt-get") == []


def test_make_lists_every_target_with_what_it_does() -> None:
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    lines = [line.split(maxsplit=2) for line in listed.stdout.splitlines()]
    assert {line[1] for line in lines} == {"help", "demo", "up", "down", "test", "test-faults", "check"} | {
        *("bench", "lock", "prune", "backup"),
    }
    assert all(len(line) == 3 for line in lines)


def forbids_namespaces(machine: Machine) -> None:
    """As Ubuntu 24.04 does, until a profile is loaded."""
    machine.program("bwrap", f"grep -q apparmor_parser {machine.calls}")
    machine.program("sysctl", "echo 1")
    machine.program("install", "exit 0")
    machine.program("apparmor_parser", "exit 0")


@pytest.mark.parametrize("who", ["root", "sudo"])
def test_where_namespaces_need_a_profile_it_is_loaded(machine: Machine, who: str) -> None:
    forbids_namespaces(machine)
    if who == "root":
        machine.program("id", "echo 0")
    else:
        machine.program("sudo", 'shift; exec "$@"')
    done = machine.setup()
    assert done.returncode == 0, done.stderr
    assert machine.called("apparmor_parser") == ["apparmor_parser -r /etc/apparmor.d/tmux-builder-bwrap"]
    assert machine.setup().stderr == "", "the second time nothing is forbidden"


def test_who_may_not_load_a_profile_gets_the_exact_command(machine: Machine) -> None:
    forbids_namespaces(machine)
    refused = machine.setup()
    assert refused.returncode == 1
    command = refused.stderr.strip().splitlines()[-1]
    profile = Path(command.split("install -m 644 ")[1].split()[0])
    assert command.endswith("&& apparmor_parser -r /etc/apparmor.d/tmux-builder-bwrap'")
    assert (
        f"profile tmux-builder-bwrap {machine.bin / 'bwrap'} flags=(unconfined) {{\n  userns,\n}}"
        in profile.read_text()
    )
    profile.unlink()
    assert machine.called("apparmor_parser") == []


def test_a_profile_that_does_not_help_is_told(machine: Machine) -> None:
    forbids_namespaces(machine)
    machine.program("id", "echo 0")
    machine.program("bwrap", "exit 1")
    refused = machine.setup()
    assert refused.returncode == 1
    assert "does not help" in refused.stderr


def test_a_sandbox_that_is_forbidden_for_another_reason_is_left_to_the_self_test(machine: Machine) -> None:
    machine.program("bwrap", "exit 1")
    machine.program("sysctl", "exit 1")
    assert machine.setup().returncode == 0
