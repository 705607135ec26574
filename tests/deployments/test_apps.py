"""The keeper of apps: killed programs, killed keepers, programs that end and end again."""

import os
import re
import secrets
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployments.apps import Log, group_prefix, pause_after
from deployments.processes import Process
from tasks.adapters.hosts.app_folder import AppFolder, State, keeper_runs
from tasks.adapters.hosts.local_app import LocalAppHost
from tasks.adapters.sandbox.cgroup import places
from tasks.domain.errors import HostingError
from tests.support.apps import KeeperProcess, keeper, python_app, site_server, until
from tests.support.releases import Packager
from tests.support.site_server import SiteServer

__all__ = ["keeper", "site_server"]


class Kept:
    """A site whose program can be told from every other process of this machine."""

    def __init__(self, server: SiteServer, root: Path) -> None:
        self.name = f"tmux-{secrets.token_hex(4)}-{secrets.token_hex(4)}"
        self.mark = f"mark-{secrets.token_hex(8)}"
        self.host = LocalAppHost(server.home, self.name, server.port, 3, "bwrap", healthy_s=60)
        self.folder = AppFolder(server.home, self.name)
        self._packager, self._server = Packager(root), server

    def publish(self, **more: str) -> str:
        files = python_app("one", **{"Procfile": f"web: exec python app.py {self.mark}\n", **more})
        return self.host.publish(self._packager.package({"index.html": "x", **files})).release_id

    def status(self, path: str = "/") -> int:
        return self._server.get(self.name, path).status

    def programs(self) -> list[int]:
        """Numbers of the processes that are the program itself, found by looking at all of the machine's."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                except OSError:
                    continue
                if words[:3] == [b"python", b"app.py", self.mark.encode()]:
                    found.append(int(entry.name))
        return found

    def state(self, release_id: str) -> State:
        return self.folder.state(release_id) or State()


@pytest.fixture
def kept(site_server: SiteServer, keeper: KeeperProcess, tmp_path: Path) -> Iterator[Kept]:
    made = Kept(site_server, tmp_path)
    yield made
    if keeper.process is None:
        keeper.start()
    assert made.host.teardown().left == ()
    assert made.programs() == []


def test_a_program_that_was_killed_is_back_within_seconds(kept: Kept) -> None:
    release = kept.publish()
    for times in (1, 2):
        (number,) = kept.programs()
        os.kill(number, signal.SIGKILL)
        start = time.monotonic()
        until(lambda before=number: kept.programs() not in ([], [before]))  # type: ignore[misc]  # bound at once
        assert kept.status() == 200
        assert time.monotonic() - start < 10
        assert kept.state(release).ended == times
    assert re.search(r"ended with exit code 137; starts again in 2 s", kept.host.log(release))


def test_a_visitor_who_comes_while_it_is_started_again_waits_and_is_served(kept: Kept) -> None:
    kept.publish()
    os.kill(kept.programs()[0], signal.SIGKILL)
    until(lambda: kept.programs() == [])
    assert kept.status() == 200


def test_a_program_that_crashes_at_a_request_answers_that_one_with_an_error_and_the_next(kept: Kept) -> None:
    release = kept.publish()
    assert kept.status("/crash") == 502
    assert kept.status() == 200
    assert kept.state(release).ended == 1, "what made it end was not asked again"


@pytest.mark.parametrize(
    ("failures", "pause"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (6, 32), (7, 60), (10_000, 60)]
)
def test_the_pause_doubles_up_to_a_minute(failures: int, pause: float) -> None:
    assert pause_after(failures) == pause


def test_a_program_that_ends_again_and_again_is_started_less_and_less_often(kept: Kept) -> None:
    """It works until it is told to break, then ends at each start."""
    breaks = "import os, sys\nif os.path.exists('/data/broken'): sys.exit('the data is broken')\n"
    release = kept.publish(**{"app.py": breaks + python_app("one")["app.py"]})
    (kept.folder.data / "broken").touch()
    started = time.monotonic()
    os.kill(kept.programs()[0], signal.SIGKILL)
    until(lambda: kept.state(release).ended >= 4)
    assert time.monotonic() - started > 1 + 2 + 4 - 0.2
    log = kept.host.log(release)
    assert [int(pause) for pause in re.findall(r"starts again in (\d+) s", log)] == [1, 2, 4, 8]
    assert log.count("the data is broken") == 3

    (kept.folder.data / "broken").unlink()
    kept.host.activate(release)  # somebody waits for it: no pause
    assert kept.status() == 200


@pytest.mark.parametrize("after_s", [0.0, 0.02, 0.05, 0.1, 0.2, 0.4])
def test_a_keeper_that_is_killed_leaves_no_double_and_no_orphan(
    kept: Kept, keeper: KeeperProcess, after_s: float
) -> None:
    """Killed some moments after its own start, too, while it starts the program."""
    release = kept.publish()
    (before,) = kept.programs()
    keeper.kill()
    until(lambda: kept.programs() == [])
    keeper.start()
    time.sleep(after_s)  # not a wait: it spreads the kill over the start
    keeper.kill()
    keeper.start()
    until(lambda: len(kept.programs()) == 1 and kept.status() == 200)
    (after,) = kept.programs()
    assert after != before
    assert list(kept.host.running()) == [release]
    assert kept.programs() == [after]


def test_what_an_earlier_keeper_recorded_and_left_is_ended_and_a_reused_number_is_not(
    kept: Kept, keeper: KeeperProcess
) -> None:
    release = kept.publish()
    keeper.kill()
    with subprocess.Popen(["sleep", "600"]) as orphan, subprocess.Popen(["sleep", "600"]) as stranger:
        try:
            for child, shift, name in ((orphan, 0, release), (stranger, -1, "r9-000000000000")):
                process = Process.of(child.pid)
                assert process is not None
                kept.folder.state_file(name).parent.mkdir(exist_ok=True)
                identity = f"{process.boot}:{process.pid}:{process.started + shift}"
                State(identity=identity).write(kept.folder.state_file(name))
            keeper.start()
            until(lambda: orphan.poll() is not None)
            until(lambda: len(kept.programs()) == 1)
            assert stranger.poll() is None
        finally:
            stranger.kill()


def test_a_second_keeper_waits_for_the_end_of_the_first(kept: Kept, keeper: KeeperProcess) -> None:
    kept.publish()
    second = KeeperProcess(keeper.home)
    second.start()
    try:
        (number,) = kept.programs()
        keeper.kill()
        until(lambda: kept.programs() not in ([], [number]))
        assert len(kept.programs()) == 1
    finally:
        second.stop()
    assert kept.programs() == []


def test_when_the_keeper_is_asked_to_end_every_program_has_ended_before_it(kept: Kept, keeper: KeeperProcess) -> None:
    kept.publish()
    keeper.stop()
    assert kept.programs() == []
    assert not keeper_runs(keeper.home)
    keeper.start()
    until(lambda: len(kept.programs()) == 1)


def test_a_new_wish_is_noticed_within_a_tenth_of_a_second(kept: Kept) -> None:
    release = kept.publish()
    late = []
    with kept.host._fence.passed(None, 5):
        for _ in range(5):
            wish = kept.folder.wish_for(release)
            start = time.monotonic()
            until(lambda nonce=wish.nonce: kept.state(release).wish == nonce)  # type: ignore[misc]  # bound at once
            late.append(time.monotonic() - start)
        kept.folder.wish_for(None)
    assert min(late) < 0.1, late  # the others tell how busy this machine is


def test_a_flood_of_output_is_bounded_and_keeps_nobody_waiting(
    kept: Kept, site_server: SiteServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    flood = (
        "import threading\ndef flood():\n    while True: print('x' * 1000)\n"
        "threading.Thread(target=flood, daemon=True).start()\n"
    )
    release = kept.publish(**{"app.py": flood + python_app("one")["app.py"]})
    other = Kept(site_server, tmp_path_factory.mktemp("other"))
    until(lambda: kept.folder.log(release).with_name(f"{release}.log.1").exists())
    other.publish()
    assert other.status() == 200
    sizes = [path.stat().st_size for path in kept.folder.logs.iterdir()]
    assert len(sizes) <= 2
    assert max(sizes) < (1 << 20) + (1 << 17)
    assert other.host.teardown().left == ()


def test_a_log_never_follows_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("x")
    (tmp_path / "log").symlink_to(victim)
    Log(tmp_path / "log").write(b"y")
    assert victim.read_text() == "x"


def test_a_home_with_a_long_name_is_no_hindrance() -> None:
    """A unix socket's path holds 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="tb-") as folder:
        home = Path(folder, "h" * 60, "i" * 60)
        app = AppFolder(home, "tmux-a1b2c3d4-9f8e7d6c")
        (app.apps / "r1-000000000000").mkdir(parents=True)
        with app.listen("r1-000000000000") as listener:
            answering = threading.Thread(
                target=lambda: listener.accept()[0].sendall(b"HTTP/1.1 204 No Content\r\n\r\n"), daemon=True
            )
            answering.start()
            assert app.complaint("r1-000000000000", "x", 5) is None
        assert app.complaint("r1-000000000000", "x", 5) == "no answer (Connection refused)"


def test_a_program_that_forks_without_end_stops_itself(kept: Kept) -> None:
    bomb = (
        "import os, time\ncount = 0\ntry:\n    while count < 400:\n        if os.fork() == 0: time.sleep(600)\n"
        "        count += 1\nexcept OSError as error: print('stopped at', count, error, flush=True)\n"
        "raise SystemExit(9)\n"
    )
    with pytest.raises(HostingError, match=r"(?s)stopped at (1\d\d|2[0-5]\d) "):
        kept.publish(**{"app.py": bomb})


def test_programs_that_take_too_much_memory_together_are_ended(kept: Kept) -> None:
    """Each for itself takes less than one process may."""
    greedy = (
        "import os, sys, time\nfor _ in range(3):\n    if os.fork() == 0:\n        x = bytearray(b'x' * (300 << 20))\n"
        "        print('took it', flush=True)\n        time.sleep(600)\n"
        "for _ in range(3):\n    _, status = os.wait()\n    sys.exit(f'ended by {os.WTERMSIG(status)}')\n"
    )
    with pytest.raises(HostingError, match=r"(?s)ended by 9"):
        kept.publish(**{"app.py": greedy})


def test_groups_go_with_their_programs(kept: Kept, keeper: KeeperProcess) -> None:
    def groups() -> list[Path]:
        return [folder for place in places() for folder in place.glob(f"{group_prefix(keeper.home)}*")]

    assert places(), "these tests need control groups that may be written"
    kept.publish()
    assert len(groups()) == len(places())
    keeper.kill()
    keeper.start()
    until(lambda: len(kept.programs()) == 1)
    assert len(groups()) == len(places())
    keeper.stop()
    assert groups() == []
