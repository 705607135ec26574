"""What a confined program can and cannot do, asked of real bubblewrap."""

import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.adapters.sandbox import Confinement, argv, python_runtime, run, self_test
from tasks.adapters.sandbox.cgroup import places, sweep
from tasks.adapters.sandbox.confinement import Plan, plan
from tasks.domain.errors import SandboxUnavailable

TMP = "/tmp"  # noqa: S108 (the sandbox's own)


def sh(script: str, **more: object) -> Confinement:
    return Confinement(("/bin/sh", "-c", script), **{"cwd": TMP, **more})  # type: ignore[arg-type]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "workspace" / "output").mkdir(parents=True)
    (tmp_path / "workspace" / "prompt.txt").write_text("ours")
    return tmp_path / "workspace"


def processes_naming(marker: str) -> list[str]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != str(os.getpid()):
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            except OSError:
                continue
            if marker in line:
                found.append(line)
    return found


# --- the self-test -----------------------------------------------------------------------------------------------


def test_this_machine_passes_the_self_test() -> None:
    self_test("bwrap")


Break = Callable[[Plan], Plan]


def without(*words: str) -> Break:
    """Leave out a run of arguments."""

    def broken(made: Plan) -> Plan:
        arguments = list(made.arguments)
        at = next(at for at in range(len(arguments)) if arguments[at : at + len(words)] == list(words))
        return replace(made, arguments=(*arguments[:at], *arguments[at + len(words) :]))

    return broken


def besides(*words: str) -> Break:
    """Add arguments, before the root is closed."""
    return lambda made: replace(made, arguments=(*made.arguments[:-4], *words, *made.arguments[-4:]))


def writable(inside: str) -> Break:
    def broken(made: Plan) -> Plan:
        at = len(made.arguments) - 1 - made.arguments[::-1].index(inside)
        flag = next(at for at in range(at, 0, -1) if made.arguments[at] == "--ro-bind")
        return replace(made, arguments=(*made.arguments[:flag], "--bind", *made.arguments[flag + 1 :]))

    return broken


def unfiltered(made: Plan) -> Plan:
    at = made.arguments.index("--seccomp")
    return replace(made, arguments=made.arguments[:at] + made.arguments[at + 2 :], data=made.data[:2])


def both(first: Break, second: Break) -> Break:
    return lambda made: second(first(made))


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (without("--unshare-net"), "reaches the host's loopback"),
        (without("--unshare-net"), "reaches the host's abstract sockets"),
        (without("--unshare-pid"), "shares the host's pid namespace"),
        (without("--unshare-ipc"), "shares the host's ipc namespace"),
        (both(without("--unshare-uts"), without("--hostname", "sandbox")), "shares the host's uts namespace"),
        (without("--disable-userns"), "makes a user namespace of its own"),
        (besides("--cap-add", "CAP_NET_RAW"), "has capabilities"),
        (unfiltered, "types into its own terminal"),
        (writable("/usr"), "writes /usr/.tb"),
        (writable("/workspace"), "writes /workspace/.tb"),
        (without("--remount-ro", "/"), "writes /.tb"),
        (without("--remount-ro", "/dev"), "writes /dev/.tb"),
        (besides("--bind", tempfile.gettempdir(), tempfile.gettempdir()), "reads another session's file"),
        (besides("--ro-bind", "/etc", "/etc"), "sees the host's /etc"),
        (besides("--dir", "/root/.aws"), "sees /root/.aws"),
        (besides("--dir", "/home/somebody"), "sees /home/somebody"),
        (besides("--setenv", "SECRET", "{canary}"), "reads the worker's environment"),
        (besides("--tmpfs", "/workspace/output", "--remount-ro", "/workspace/output"), "does not get its own folder"),
    ],
    ids=lambda value: re.sub(r"\W+", "-", value) if isinstance(value, str) else "",
)
def test_each_broken_wall_fails_the_self_test(broken: Break, complaint: str) -> None:
    def planned(confinement: Confinement) -> Plan:
        canary = json.loads(confinement.command[-1])["canary"][::-1]
        made = broken(plan(confinement))
        words = tuple(word.replace("{canary}", canary) if isinstance(word, str) else word for word in made.arguments)
        return replace(made, arguments=words)

    with pytest.raises(SandboxUnavailable, match=re.escape(complaint)):
        self_test("bwrap", planned)


def test_a_sandbox_that_does_not_start_fails_the_self_test() -> None:
    with pytest.raises(SandboxUnavailable, match="no-such-folder"):
        self_test("bwrap", lambda c: besides("--ro-bind", "/no-such-folder", "/x")(plan(c)))


def test_without_confinement_the_self_test_passes_and_shouts(caplog: pytest.LogCaptureFixture) -> None:
    self_test("unsafe-none")
    assert "sandbox=off" in caplog.text


# --- what a confined program gets --------------------------------------------------------------------------------


def test_only_the_named_folders_are_there_and_only_the_writable_ones_take_writes(workspace: Path) -> None:
    finished = run(
        sh(
            "cat prompt.txt; echo made > output/made.txt; echo x > prompt.txt; echo x > new.txt; exit 7",
            cwd="/workspace",
            readonly={"/workspace": workspace},
            writable={"/workspace/output": workspace / "output"},
        ),
        "bwrap",
        10,
    )
    assert finished.exit_code == 7
    assert finished.stdout.startswith("ours")
    assert (workspace / "output" / "made.txt").read_text() == "made\n"
    assert (workspace / "prompt.txt").read_text() == "ours"
    assert sorted(path.name for path in workspace.iterdir()) == ["output", "prompt.txt"]


def test_the_environment_is_the_given_one_and_nothing_of_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    finished = run(sh("cat /proc/*/environ; env", env={"GREETING": "hello"}), "bwrap", 10)
    assert "canary" not in finished.stdout
    assert "GREETING=hello" in finished.stdout
    assert "HOME=/home/agent" in finished.stdout


def test_host_paths_do_not_show_in_the_command_line_of_the_first_process(workspace: Path) -> None:
    finished = run(sh("cat /proc/1/cmdline", readonly={"/workspace": workspace}), "bwrap", 10)
    assert "bwrap" in finished.stdout
    assert str(workspace) not in finished.stdout


def test_this_python_and_its_packages_work_inside(workspace: Path) -> None:
    command = (sys.executable, "-I", "-c", "import pydantic, ssl, sqlite3; print(pydantic.VERSION)")
    finished = run(Confinement(command, readonly=python_runtime(), cwd=TMP), "bwrap", 20)
    assert finished.exit_code == 0, finished.stderr
    assert re.match(r"\d+\.", finished.stdout)


def test_names_given_as_hosts_mean_loopback() -> None:
    finished = run(sh("getent hosts site.localhost", hosts=("site.localhost",)), "bwrap", 10)
    assert finished.stdout.startswith("127.0.0.1")


def test_no_descriptor_of_the_host_is_inherited(workspace: Path) -> None:
    """`..` of an inherited folder descriptor would lead to the host's root."""
    leaked = os.open(workspace, os.O_RDONLY)
    os.set_inheritable(leaked, True)
    confinement = sh("ls -l /proc/self/fd", readonly={"/workspace": workspace}, writable={"/out": workspace / "output"})
    try:
        done = subprocess.run(argv(confinement, "bwrap"), capture_output=True, text=True, close_fds=False, timeout=10)
    finally:
        os.close(leaked)
    assert done.returncode == 0
    assert str(workspace) not in done.stdout
    assert len(re.findall(r" -> ", done.stdout)) == 4  # three standard ones and the listing's own


@pytest.mark.parametrize("kind", ["readonly", "writable"])
def test_a_link_is_refused_as_a_folder_to_bind(kind: str, workspace: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (workspace / "source").symlink_to(tmp_path / "secret")
    with pytest.raises(SandboxUnavailable, match=r"source: expected .* found: a link"):
        run(sh("ls /source", **{kind: {"/source": workspace / "source"}}), "bwrap", 10)


def test_a_file_is_refused_as_a_writable_folder(workspace: Path) -> None:
    with pytest.raises(SandboxUnavailable, match=r"prompt\.txt: expected a folder, found: a file"):
        run(sh("true", writable={"/x": workspace / "prompt.txt"}), "bwrap", 10)


@pytest.mark.parametrize("place", [TMP, "/dev/shm", "/home/agent"])  # noqa: S108 (as above)
def test_memory_backed_folders_are_bounded(place: str) -> None:
    finished = run(sh(f"head -c 600000000 /dev/zero > {place}/big; stat -c %s {place}/big"), "bwrap", 30)
    assert int(finished.stdout.split()[-1]) <= 512 << 20


GREEDY = """
import os, time
kinds = []
for _ in range(4):
    if os.fork() == 0:
        held = bytearray(os.urandom(1 << 20) * 60)
        time.sleep(1.5)
        held[0] = 1
        os._exit(0)
for _ in range(4):
    kinds.append(os.waitstatus_to_exitcode(os.wait()[1]))
print(sorted(kinds))
"""


@pytest.mark.parametrize(("megabytes", "survive"), [(128, False), (1024, True)])
def test_the_memory_of_all_processes_together_is_bounded(megabytes: int, survive: bool) -> None:
    assert places(), "this test needs control groups that may be written"
    greedy = Confinement((sys.executable, "-I", "-S", "-c", GREEDY), python_runtime(), cwd=TMP)
    done = run(replace(greedy, all_memory=megabytes << 20), "bwrap", 30)
    assert (done.stdout.strip() == "[0, 0, 0, 0]") is survive
    assert not [folder for place in places() for folder in place.glob(f"tmux-builder-run-{os.getpid()}-*")]


def test_the_number_of_processes_is_bounded_for_root_too() -> None:
    assert places(), "this test needs control groups that may be written"
    bomb = "i=0; while [ $i -lt 100 ]; do sleep 5 & i=$((i+1)); done; jobs -p | wc -l"
    done = run(replace(sh(f"({bomb}) 2>&1"), processes=40), "bwrap", 20)
    assert "fork" in done.stdout


def test_the_group_of_a_killed_worker_is_removed_when_it_is_old() -> None:
    place = places()[0]
    left, new = place / "tmux-builder-run-left", place / "tmux-builder-run-new"
    for folder in (left, new):
        folder.mkdir(exist_ok=True)
    try:
        sweep("tmux-builder-run-ne", older_than_s=60)
        assert new.exists(), "it may be about to be joined"
        sweep("tmux-builder-run-le")
        assert not left.exists()
    finally:
        for folder in (left, new):
            if folder.exists():
                folder.rmdir()


def test_a_file_in_a_writable_folder_is_bounded(workspace: Path) -> None:
    script = "truncate -s 600M /out/big; stat -c %s /out/big"
    finished = run(sh(script, writable={"/out": workspace / "output"}), "bwrap", 30)
    assert finished.stdout.split() in ([], ["0"])


# --- the terminal ------------------------------------------------------------------------------------------------


def in_terminal(command: list[str], typed: bytes, until: bytes, deadline_s: float = 10) -> bytes:
    """What ``command`` shows on a terminal of its own, once ``until`` has appeared."""
    child, terminal = pty.fork()
    if child == 0:
        os.execv(command[0], command)  # noqa: S606 (what tmux does)
    shown = b""
    try:
        os.write(terminal, typed)
        end = time.monotonic() + deadline_s
        while until not in shown and time.monotonic() < end:
            ready, _, _ = select.select([terminal], [], [], 0.1)
            if ready:
                try:
                    shown += os.read(terminal, 4096)
                except OSError:  # EIO: the other side is closed
                    break
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        os.close(terminal)
    return shown


def test_a_terminal_works_inside() -> None:
    shown = in_terminal(argv(sh("tty; stty size; read line; echo got-$line-"), "bwrap"), b"abc\r", b"got-abc-")
    assert b"/dev/" in shown
    assert b"got-abc-" in shown


TYPE_INTO_TERMINAL = """
import fcntl, os, termios
for request in (termios.TIOCSTI, 0x541C):
    try:
        fcntl.ioctl(0, request, b"x")
        print("typed")
    except OSError as error:
        print("refused", error.errno)
print("done")
"""


def test_a_confined_program_cannot_type_into_its_terminal() -> None:
    command = (sys.executable, "-I", "-c", TYPE_INTO_TERMINAL)
    shown = in_terminal(argv(Confinement(command, readonly=python_runtime(), cwd=TMP), "bwrap"), b"", b"done")
    assert shown.count(b"refused 1\r") == 2, shown


# --- the end of a run --------------------------------------------------------------------------------------------

FORK_DAEMONS = """
import os, signal, sys, time
for _ in range(5):
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN); signal.signal(signal.SIGHUP, signal.SIG_IGN)
        if sys.argv[2] == "quiet":
            null = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1, 2): os.dup2(null, fd)
        time.sleep(60)
time.sleep(float(sys.argv[3]))
"""


@pytest.mark.parametrize("output", ["quiet", "loud"])
@pytest.mark.parametrize(("sleeps", "exit_code"), [("0", 0), ("60", None)])
def test_no_process_outlives_the_run(output: str, sleeps: str, exit_code: int | None) -> None:
    marker = f"marker-{os.getpid()}-{time.monotonic_ns()}"
    command = (sys.executable, "-I", "-c", FORK_DAEMONS, marker, output, sleeps)
    finished = run(Confinement(command, readonly=python_runtime(), cwd=TMP), "bwrap", 1)
    assert processes_naming(marker) == []
    assert finished.exit_code == exit_code
    assert not finished.stopped
    assert finished.seconds < 5


def test_a_stop_from_outside_ends_it_at_once() -> None:
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    finished = run(sh("echo begun; sleep 60"), "bwrap", 30, stop=stop)
    assert (finished.exit_code, finished.stopped, finished.stdout) == (None, True, "begun\n")
    assert finished.seconds < 5


def test_endless_output_is_cut_in_the_middle_and_does_not_fill_memory() -> None:
    finished = run(sh("echo first; head -c 100000000 /dev/zero | tr '\\0' x; echo; echo last"), "bwrap", 30, 10_000)
    assert finished.exit_code == 0
    assert finished.truncated
    assert finished.stdout.startswith("first\nxxx")
    assert finished.stdout.endswith("xxx\nlast\n")
    assert len(finished.stdout) < 11_000


def test_a_program_that_poses_as_bubblewrap_failing_is_only_a_program_that_failed() -> None:
    finished = run(sh("echo 'bwrap: No permissions' >&2; exit 1"), "bwrap", 10)
    assert finished.exit_code == 1


def test_signals_and_missing_commands_end_in_the_shells_codes() -> None:
    assert run(sh("kill -9 $$"), "bwrap", 10).exit_code == 137
    assert run(Confinement(("/no/such",), cwd=TMP), "bwrap", 10).exit_code == 127


# --- the bridge --------------------------------------------------------------------------------------------------


@pytest.fixture
def echo_socket() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tb-") as folder, socket.socket(socket.AF_UNIX) as listener:
        path = Path(folder, "s")
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"heard " + connection.recv(100))

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield path
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


DIAL = """
import socket, sys
for address in (("127.0.0.1", 8401), ("127.0.0.1", 8402), ("169.254.169.254", 80)):
    try:
        with socket.create_connection(address, 2) as s:
            s.sendall(b"hello"); print(s.recv(100).decode())
    except OSError as error:
        print(type(error).__name__)
"""


def test_the_bridge_is_the_only_way_out(echo_socket: Path) -> None:
    command = (sys.executable, "-I", "-c", DIAL)
    finished = run(Confinement(command, cwd=TMP, bridge=echo_socket, bridge_port=8401), "bwrap", 10)
    assert finished.stdout.split("\n")[:3] == ["heard hello", "ConnectionRefusedError", "OSError"]


# --- without confinement -----------------------------------------------------------------------------------------


def test_unconfined_the_same_command_runs_on_the_hosts_paths(
    workspace: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    confinement = Confinement(
        ("/bin/sh", "-c", 'pwd; cat "$1"; env', "sh", "/workspace/prompt.txt"),
        readonly={"/workspace": workspace},
        writable={"/workspace/output": workspace / "output"},
        env={"OUT": "/workspace/output/x"},
    )
    finished = run(confinement, "unsafe-none", 10)
    assert finished.stdout.startswith(f"{workspace}\nours")
    assert f"OUT={workspace}/output/x" in finished.stdout
    assert "canary" not in finished.stdout
    assert "sandbox=off" in caplog.text


def test_unconfined_a_run_still_ends_at_its_deadline() -> None:
    finished = run(sh("sleep 60 & sleep 60"), "unsafe-none", 0.5)
    assert finished.exit_code is None
    assert finished.seconds < 5
