"""A program as a site: real sandboxes behind the real site server, kept running by a real keeper."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.adapters.hosts.app_folder import last_lines
from tasks.adapters.hosts.local_app import LocalAppHost, complaint_about_app
from tasks.domain.app import Runtime
from tasks.domain.errors import HostingError
from tests.support.apps import ROOT, KeeperProcess, keeper, node_app, python_app, site_server, until
from tests.support.releases import Packager, write_tree
from tests.support.site_server import Answer, SiteServer

__all__ = ["keeper", "site_server"]


class AppSite:
    """One dynamic site: publish programs, ask for paths."""

    def __init__(self, server: SiteServer, root: Path) -> None:
        self.name = f"tmux-{secrets.token_hex(4)}-{secrets.token_hex(4)}"
        self.packager = Packager(root / self.name)
        self.folder = server.home / "sites" / self.name
        self._server = server
        self.wait_for(60)

    def wait_for(self, healthy_s: float) -> None:
        self.host = LocalAppHost(self._server.home, self.name, self._server.port, 3, "bwrap", healthy_s=healthy_s)

    def publish(self, files: dict[str, str]) -> str:
        # index.html: what packaging asks of every site
        return self.host.publish(self.packager.package({"index.html": "never served", **files})).release_id

    def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        return self._server.get(self.name, path, method, **headers)

    def body(self, path: str = "/") -> str:
        return self.get(path).body.decode()

    def marker(self) -> str:
        return str(json.loads(self.body("/.well-known/release.json"))["release_id"])

    def say(self, text: str) -> None:
        connection = socket.create_connection(("127.0.0.1", self._server.port), timeout=10)
        with connection:
            connection.sendall(
                f"POST / HTTP/1.1\r\nHost: {self.name}.localhost\r\nConnection: close\r\n"
                f"Content-Length: {len(text)}\r\n\r\n{text}".encode()
            )
            assert b"kept" in connection.makefile("rb").read()


@pytest.fixture
def make_site(site_server: SiteServer, keeper: KeeperProcess, tmp_path: Path) -> Iterator[Callable[[], AppSite]]:
    made: list[AppSite] = []

    def make() -> AppSite:
        made.append(AppSite(site_server, tmp_path))
        return made[-1]

    yield make
    for site in made:
        assert site.host.teardown().left == ()


@pytest.fixture
def site(make_site: Callable[[], AppSite]) -> AppSite:
    return make_site()


# ---------------------------------------------------------------- serving


def test_a_node_program_and_a_python_program_answer_at_the_address_of_the_site(site: AppSite) -> None:
    one = site.publish(python_app("from python"))
    assert (site.body(), site.marker()) == ("from python", one)
    assert site.host.log(one).count("listening on 8080") == 1
    two = site.publish(node_app("from node"))
    assert (site.body(), site.marker()) == ("from node", two)


def test_what_it_stores_outlives_releases_and_going_back(site: AppSite) -> None:
    one = site.publish(python_app("one"))
    site.say("hello")
    site.publish(python_app("two"))
    site.say("again")
    assert json.loads(site.body("/messages")) == ["hello", "again"]

    site.host.activate(one)
    assert (site.body(), site.marker()) == ("one", one)
    assert json.loads(site.body("/messages")) == ["hello", "again"]
    assert [path.name for path in (site.folder / "data").iterdir()] == ["messages.db"]


def test_the_programs_own_files_are_never_served(site: AppSite) -> None:
    site.publish(python_app("one"))
    for path in ("/app.py", "/index.html", "/.app.json", "/.state.json", "/s", "/%2eapp.json"):
        answer = site.get(path)
        assert (answer.status, answer.body) == (404, b"not here"), path


def test_headers_of_the_site_server_and_of_the_program_stand_side_by_side(site: AppSite) -> None:
    site.publish(python_app("one"))
    headers = site.get("/").headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"] == "frame-ancestors 'self'"
    assert headers["cache-control"] == "no-cache"
    assert "server" not in headers


# ---------------------------------------------------------------- switching


def test_no_request_fails_and_marker_and_program_agree_while_releases_change(site: AppSite) -> None:
    pages = {site.publish(python_app("page 0")): "page 0"}
    bad: list[object] = []
    asked = 0
    over = threading.Event()

    def visit() -> None:
        nonlocal asked
        while not over.is_set():
            try:
                before, answer, after = site.marker(), site.get("/"), site.marker()
            except Exception as error:  # noqa: BLE001 (whatever failed, a visitor saw it)
                bad.append(error)
                continue
            asked += 1
            if answer.status != 200 or (before == after and answer.body.decode() != pages[before]):
                bad.append((before, after, answer.status, answer.body))

    visitors = [threading.Thread(target=visit) for _ in range(3)]
    for visitor in visitors:
        visitor.start()
    try:
        for number in range(1, 3):
            files = python_app(f"page {number}")
            release = site.packager.package({"index.html": "x", **files})
            pages[release.release_id] = f"page {number}"
            site.host.publish(release)
            assert site.body() == f"page {number}"
        first = min(pages)
        site.host.activate(first)
        assert site.body() == pages[first]
    finally:
        over.set()
        for visitor in visitors:
            visitor.join(20)
    assert bad == []
    assert asked > 20
    until(lambda: list(site.host.running()) == [first])  # the others were stopped after


def test_an_answer_that_is_on_its_way_is_finished_by_the_old_release(site: AppSite) -> None:
    site.publish(python_app("old"))
    answers: list[Answer] = []
    slow = threading.Thread(target=lambda: answers.append(site.get("/slow")))
    slow.start()
    site.publish(python_app("new"))
    slow.join(20)
    assert [(answer.status, answer.body) for answer in answers] == [(200, b"old")]


@pytest.mark.parametrize(
    ("program", "seconds", "complaint"),
    [
        ("raise SystemExit('the table is missing')", 60, r"ended 3 times.*exit code 1.*the table is missing"),
        ("import nothing_of_this_name", 60, r"No module named 'nothing_of_this_name'"),
        (
            "import http.server, os\nclass H(http.server.BaseHTTPRequestHandler):\n"
            "    def do_GET(self): self.send_error(500)\n"
            "http.server.HTTPServer(('127.0.0.1', int(os.environ['PORT'])), H).serve_forever()",
            9,
            r"HTTP 500 at / after",
        ),
        ("import time\nprint('dreaming')\ntime.sleep(600)", 9, r"no answer within .*dreaming"),
    ],
    ids=["ends", "does not import", "answers 500", "never listens"],
)
def test_a_broken_release_leaves_the_old_one_serving_and_says_what_its_log_said(
    make_site: Callable[[], AppSite], program: str, seconds: float, complaint: str
) -> None:
    site = make_site()
    good = site.publish(python_app("good"))
    site.wait_for(seconds)
    with pytest.raises(HostingError, match=f"(?s){complaint}") as caught:
        site.publish({"app.py": program, "requirements.txt": ""})
    assert "what was live is live" in str(caught.value)
    assert (site.body(), site.marker(), site.host.releases()) == ("good", good, [good])
    until(lambda: list(site.host.running()) == [good])


def test_a_first_release_that_is_broken_leaves_no_site(make_site: Callable[[], AppSite]) -> None:
    site = make_site()
    with pytest.raises(HostingError, match="did not become healthy"):
        site.publish({"app.py": "raise SystemExit(1)", "requirements.txt": ""})
    assert (site.host.live(), site.host.releases(), site.get("/").status) == (None, [], 404)


def test_a_live_release_that_was_damaged_is_put_back_and_its_program_started_anew(site: AppSite) -> None:
    files = python_app("one")
    one = site.publish(files)
    (site.folder / "releases" / one / "app.py").write_text("damaged")
    before = site.host.running()

    assert site.publish(files) == one
    assert site.body() == "one"
    assert site.host.running() != before


def test_a_publisher_that_is_killed_leaves_the_old_release_and_nothing_else_running(
    make_site: Callable[[], AppSite], site_server: SiteServer
) -> None:
    site = make_site()
    good = site.publish(python_app("good"))
    site.packager.package({"index.html": "x", "app.py": "import time\ntime.sleep(600)", "requirements.txt": ""})
    script = (
        "import sys; from pathlib import Path; from tasks.adapters.packaging import load_release;"
        "from tasks.adapters.hosts.local_app import LocalAppHost;"
        "h = LocalAppHost(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), 3, 'bwrap');"
        "h.publish(load_release(Path(sys.argv[4]), 2))"
    )
    arguments = [str(site_server.home), site.name, str(site_server.port), str(site.packager.workspace.releases)]
    publisher = subprocess.Popen([sys.executable, "-c", script, *arguments], cwd=ROOT)
    until(lambda: len(site.host.running()) == 2)
    publisher.kill()
    publisher.wait()

    until(lambda: list(site.host.running()) == [good])
    assert (site.host.live(), site.body()) == (good, "good")
    assert site.publish(python_app("next"))
    assert site.body() == "next"


# ---------------------------------------------------------------- what it can reach

ATTACKS = """
import http.server, json, os, socket
from pathlib import Path

def works(attack):
    try:
        return attack() is not False
    except Exception:
        return False

def connects(family, address):
    with socket.socket(family) as client:
        client.settimeout(2)
        client.connect(address)

def report():
    question = json.loads(Path("question.json").read_text())
    home = question["home"]
    found = {
        "host loopback": works(lambda: connects(socket.AF_INET, ("127.0.0.1", question["port"]))),
        "abstract socket": works(lambda: connects(socket.AF_UNIX, chr(0) + question["abstract"])),
        "network": works(lambda: connects(socket.AF_INET, ("203.0.113.80", 443))),
        "names": works(lambda: socket.getaddrinfo("example.com", 443)),
        "other site": works(lambda: list(Path(home, "sites").iterdir())),
        "home": Path(home).exists(),
        "the builder": any(map(os.path.exists, question["builder"])),
        "writes the release": works(lambda: Path("/app/x").write_text("x")),
        "writes the packages": works(lambda: Path("/dependencies/x").write_text("x")),
        "writes /run": works(lambda: Path("/run/x").write_text("x")),
        "sees the socket": works(lambda: any(map(Path.exists, map(Path, ["/app/s", "/run/s", "/s"])))),
        "the service's environment": "TMUX_BUILDER_HOME" in os.environ,
        "the builder's packages": works(lambda: __import__("prefect")),
        "descriptors": [
            os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd") if int(n) > 2
            and works(lambda: os.readlink(f"/proc/self/fd/{n}").startswith(("/", "pipe:")) or False)
            and not os.readlink(f"/proc/self/fd/{n}").startswith("/proc")
        ],
        "processes of others": len([p for p in os.listdir("/proc") if p.isdigit()]) > 5,
        "keeps data": works(lambda: Path(os.environ["DATA_DIR"], "x").write_text("x")),
        "has temporary space": works(lambda: Path("/tmp/x").write_text("x")),
    }
    return [name for name, value in found.items() if value]

answer = json.dumps(report()).encode()

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(answer)

http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


def test_it_reaches_its_own_data_and_nothing_else(make_site: Callable[[], AppSite], site_server: SiteServer) -> None:
    neighbour, site = make_site(), make_site()
    neighbour.publish(python_app("neighbour"))
    neighbour.say("a secret")
    with socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind(f"\0{site.name}")
        abstract.listen()
        builder = [str(ROOT), sys.prefix]
        question = {"home": str(site_server.home), "port": site_server.port, "abstract": site.name, "builder": builder}
        site.publish({"app.py": ATTACKS, "requirements.txt": "", "question.json": json.dumps(question)})
    assert json.loads(site.body()) == ["keeps data", "has temporary space"]


def test_links_that_a_program_leaves_in_its_data_lead_nobody_anywhere(
    make_site: Callable[[], AppSite], tmp_path: Path
) -> None:
    site = make_site()
    victim = tmp_path / "victim"
    victim.mkdir()
    victim.chmod(0o750)  # whatever the umask is
    (victim / "file").write_text("x")
    program = python_app("one")
    program["app.py"] = (
        "import os\nfor name in ('a', 'live', 'app.json'):\n"
        f"    os.path.lexists(f'/data/{{name}}') or os.symlink({str(victim)!r}, f'/data/{{name}}')\n"
        "os.makedirs('/data/closed/below', exist_ok=True)\nos.chdir('/data/closed/below')\n"
        "for _ in range(3000):\n    os.mkdir('d')\n    os.chdir('d')\n"
        "os.chdir('/app')\nos.chmod('/data/closed', 0)\n" + program["app.py"]
    )
    site.publish(program)
    receipt = site.host.teardown()
    assert receipt.left == ()
    assert not site.folder.exists()
    assert (victim / "file").read_text() == "x"
    assert victim.stat().st_mode & 0o777 == 0o750


# ---------------------------------------------------------------- the end


def test_teardown_names_process_and_data_and_looks_whether_they_are_gone(site: AppSite) -> None:
    release = site.publish(python_app("one"))
    site.say("hello")
    (number,) = site.host.running().values()

    receipt = site.host.teardown()
    assert receipt.left == ()
    for named in (f"process {number} of {release}", f"release {release}", f"data {site.folder}/data", site.name):
        assert any(named in removed for removed in receipt.removed), named
    assert not Path(f"/proc/{number}").exists()
    assert site.get("/").status == 404


def test_teardown_ends_the_program_itself_where_the_keeper_does_not(
    site_server: SiteServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A keeper that hangs: frozen by SIGSTOP, it holds its lock and does nothing."""
    kept = KeeperProcess(site_server.home)
    kept.start()
    site = AppSite(site_server, tmp_path)
    site.publish(python_app("one"))
    (number,) = site.host.running().values()
    assert kept.process is not None
    os.kill(kept.process.pid, 19)
    monkeypatch.setattr("tasks.adapters.hosts.local_app._STOPPED_S", 0.5)  # else the test waits 20 s
    try:
        receipt = site.host.teardown()
        assert receipt.left == ()
        assert any(f"process {number} of" in removed for removed in receipt.removed)
    finally:
        kept.kill()


def test_without_a_keeper_publishing_says_who_is_missing(site_server: SiteServer, tmp_path: Path) -> None:
    site = AppSite(site_server, tmp_path)
    with pytest.raises(HostingError, match=r"the program `apps` of the service does, start it: make up"):
        site.publish(python_app("one"))
    assert site.host.teardown().left == ()


def test_a_program_that_is_not_there_is_a_clear_page(site_server: SiteServer, tmp_path: Path) -> None:
    kept = KeeperProcess(site_server.home)
    kept.start()
    site = AppSite(site_server, tmp_path)
    site.publish(python_app("one"))
    kept.stop()
    start = time.monotonic()
    answer = site.get("/app.py")
    assert (answer.status, answer.headers["retry-after"]) == (502, "5")
    assert b"This site does not answer at the moment" in answer.body
    assert time.monotonic() - start > 3, "a program that is started again is waited for"
    assert site.host.teardown().left == ()


# ---------------------------------------------------------------- what is no program


def test_a_folder_without_a_program_is_refused_before_anything_is_written(site: AppSite) -> None:
    with pytest.raises(HostingError, match=r"a dynamic site needs package\.json \(node\) or requirements\.txt"):
        site.publish({"main.html": "x"})
    assert not (site.folder / "releases").exists()


def test_the_agent_is_told_what_is_wrong_with_its_folder(tmp_path: Path) -> None:
    for files, complaint in (
        ({"index.html": "x"}, "a dynamic site needs"),
        ({"requirements.txt": "-e .", "app.py": ""}, "source/requirements.txt line 1, '-e .', is an option for pip"),
        ({"requirements.txt": ""}, "none of app.py"),
        ({"package.json": "{"}, "source/package.json is not JSON"),
    ):
        write_tree(tmp_path, files)
        assert complaint in (complaint_about_app(tmp_path) or ""), files
    (tmp_path / "requirements.txt").unlink(missing_ok=True)
    write_tree(tmp_path, {"app.py": "x"})
    (tmp_path / "requirements.txt").symlink_to("/etc/passwd")
    assert complaint_about_app(tmp_path) is None  # a link is read as nothing; packaging refuses it by name
    write_tree(tmp_path, python_app("x"))
    assert complaint_about_app(tmp_path) is None


def test_a_log_that_is_shown_holds_no_control_characters(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"one\n\x1b[2Jtwo\x00\xff\n" + b"three\n" * 3)
    assert last_lines(tmp_path / "log", 4) == " [2Jtwo \N{REPLACEMENT CHARACTER}\nthree\nthree\nthree"


def test_node_that_is_not_installed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.adapters.hosts import dependencies
    from tasks.domain.app import App

    monkeypatch.setattr(dependencies, "PATH", str(tmp_path))  # a machine without node
    with pytest.raises(HostingError, match="apt-get install nodejs npm"):
        dependencies.Installer(tmp_path, "bwrap", "x").install(App(runtime=Runtime.NODE, command=("x",), reason=""))


assert shutil.which("node", path="/usr/local/bin:/usr/bin:/bin"), "these tests need node (apt-get install nodejs npm)"
