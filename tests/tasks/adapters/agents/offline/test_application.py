"""The server of a dynamic site, really run: a process of its own, a free port, a database on disk."""

import functools
import http.client
import json
import os
import re
import select
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tasks.adapters.agents.offline import brief, pages, suite
from tasks.adapters.agents.offline.pages import Site
from tasks.adapters.browser import find_browser
from tests.tasks.adapters.agents.offline.wishes import laid_out

TEXT = "Guesthouse Seeblick in Lindau: rooms, a guestbook, booking, newsletter and a contact form, hi@seeblick.example"
MESSAGE = {
    "name": "Robin <b>Bold</b>",
    "email": "robin@example.org",
    "message": 'one & "two"\n<script>alert(1)</script>',
}
POSTED = {"Content-Type": "application/x-www-form-urlencoded"}
LISTENING = re.compile(r"listening on http://127\.0\.0\.1:(\d+)")


def dynamic(text: str) -> Site:
    return pages.build(brief.understand(text, dynamic=True))


@dataclass
class App:
    source: Path
    data: Path
    process: "subprocess.Popen[str]" = field(init=False)
    port: int = field(init=False)

    def start(self) -> None:
        env = {"PATH": os.environ["PATH"], "PORT": "0", "DATA_DIR": str(self.data)}
        self.process = subprocess.Popen(
            [sys.executable, "-I", "app.py"], cwd=self.source, env=env, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        assert select.select([self.process.stderr], [], [], 30)[0], "the app says nothing"
        said = self.process.stderr.readline()
        found = LISTENING.search(said)
        assert found, said + self.process.stderr.read()
        self.port = int(found[1])
        threading.Thread(target=functools.partial(self.process.stderr.read), daemon=True).start()

    def ask(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read().decode()
        finally:
            connection.close()

    def post(self, path: str, fields: dict[str, str], **headers: str) -> tuple[int, dict[str, str], str]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.ask("POST", path, urlencode(fields).encode(), {**POSTED, **named})

    def entries(self) -> list[dict[str, str]]:
        env = {"PATH": os.environ["PATH"], "DATA_DIR": str(self.data)}
        done = subprocess.run(
            [sys.executable, "-I", "app.py", "entries"], cwd=self.source, env=env, capture_output=True, check=True
        )
        return [json.loads(line) for line in done.stdout.decode().splitlines()]


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    running = App(laid_out(dynamic(TEXT), tmp_path / "source"), tmp_path / "data")
    running.start()
    yield running
    running.process.kill()
    running.process.wait(10)


def test_a_dynamic_site_is_detected_as_python_and_needs_nothing_installed() -> None:
    files = dynamic(TEXT).files
    assert {"app.py", "requirements.txt", "site.json", "README.md", "public/index.html"} <= set(files)
    assert all(line.startswith("#") for line in files["requirements.txt"].decode().splitlines())
    assert "DATA_DIR=./data python app.py" in files["README.md"].decode()
    assert not any("data/" in path for path in files)


def test_the_words_of_a_wish_are_data_and_never_code() -> None:
    hostile = 'Site "A</script>\'\'\'{{7*7}}" with a contact form; __import__("os").system("x")'
    assert dynamic(hostile).files["app.py"] == dynamic(TEXT).files["app.py"]


def test_the_pages_are_those_of_the_static_site_but_for_what_becomes_of_forms() -> None:
    still = pages.build(brief.understand(TEXT))
    moving = dynamic(TEXT)
    styles = [path for path in still.files if path.endswith(".css")]
    assert [moving.files[f"public/{path}"] for path in styles] == [still.files[path] for path in styles]
    assert [page.path for page in moving.pages] == [page.path for page in still.pages]


def test_pages_come_with_their_types_and_with_headers_that_confine_them(app: App) -> None:
    status, headers, text = app.ask("GET", "/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "Guesthouse Seeblick" in text
    assert "form-action 'self'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    for path, kind in re.findall(r'(?:href|src)="(/(?:assets/[^"]+|favicon)\.(css|js|svg))"', text):
        status, headers, _ = app.ask("GET", path)
        assert status == 200
        assert {"css": "text/css", "js": "text/javascript", "svg": "image/svg"}[kind] in headers["Content-Type"]
    assert app.ask("HEAD", "/")[2] == ""
    tag = app.ask("GET", "/")[1]["ETag"]
    assert app.ask("GET", "/", headers={"If-None-Match": tag})[0] == 304
    assert app.ask("GET", "/healthz")[0] == 200


@pytest.mark.parametrize(
    "path",
    ["/../app.py", "/app.py", "/site.json", "/%2e%2e/app.py", "/public/index.html", "//etc/passwd", "/..%2fapp.py",
     "/templates/trouble.html", "/messages/../app.py", "/assets/", "/messages/0000"],
)  # fmt: skip
def test_nothing_but_its_pages_can_be_read(app: App, path: str) -> None:
    status, _, text = app.ask("GET", path)
    assert status == 404
    assert "Page not found" in text


def test_a_message_is_stored_and_shown_to_its_sender_escaped(app: App) -> None:
    status, headers, _ = app.post("/messages", MESSAGE)
    assert status == 303
    status, shown, text = app.ask("GET", headers["Location"])
    assert status == 200
    assert shown["Cache-Control"] == "no-store"
    assert "Robin &lt;b&gt;Bold&lt;/b&gt;" in text
    assert "one &amp; &quot;two&quot;\n&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script>alert" not in text
    assert "Robin" not in app.ask("GET", "/")[2], "nobody else sees it"
    assert app.entries() == [{"form": "contact", "stored_at": app.entries()[0]["stored_at"], **MESSAGE}]


def test_a_guestbook_entry_is_shown_to_everybody_until_its_writer_removes_it(app: App) -> None:
    _, headers, _ = app.post("/guestbook", {"name": "Ann <i>", "message": "Lovely \u202e& quiet"})
    text = app.ask("GET", "/")[2]
    assert "Ann &lt;i&gt;" in text
    assert "Lovely &amp; quiet" in text, "characters that turn the direction of writing are left out"
    assert app.ask("POST", headers["Location"], b"", POSTED)[0] == 303
    assert "Lovely" not in app.ask("GET", "/")[2]
    assert app.ask("POST", headers["Location"], b"", POSTED)[0] == 404


def test_what_is_incomplete_too_long_or_odd_is_refused_and_not_stored(app: App) -> None:
    assert app.post("/messages", {**MESSAGE, "name": " "})[0] == 422
    assert app.post("/messages", {**MESSAGE, "email": "nobody"})[0] == 422
    assert app.post("/messages", {**MESSAGE, "message": "x" * 4001})[0] == 422
    assert app.post("/messages", {**MESSAGE, "message": "x" * 40_000})[0] == 413
    assert app.ask("POST", "/messages", b"name=a&name=b&email=a@b.cd&message=x", POSTED)[0] == 422
    assert app.ask("POST", "/messages", b"&".join(b"a%d=1" % n for n in range(50)), POSTED)[0] == 400
    assert app.ask("POST", "/messages", b"name=\xff", POSTED)[0] == 400
    assert app.ask("POST", "/messages", b"{}", {"Content-Type": "application/json"})[0] == 415
    assert app.ask("POST", "/nothing", b"a=b", POSTED)[0] == 404
    assert app.ask("POST", "/", b"a=b", POSTED)[0] == 405
    assert app.ask("DELETE", "/messages")[0] == 405
    status, _, text = app.post("/messages", {**MESSAGE, "name": ""})
    assert status == 422
    assert "Your name: Please fill in this field." in text
    assert app.entries() == []


def test_another_site_cannot_make_a_browser_send(app: App) -> None:
    assert app.post("/messages", MESSAGE, Sec_Fetch_Site="cross-site")[0] == 403
    assert app.post("/messages", MESSAGE, Origin="https://evil.example")[0] == 403
    assert app.post("/messages", MESSAGE, Origin=f"http://127.0.0.1:{app.port}")[0] == 303


def test_one_visitor_cannot_write_without_end_and_does_not_stop_the_others(app: App) -> None:
    answers = [app.post("/subscriptions", {"email": "a@b.cd"}, X_Forwarded_For="192.0.2.1")[0] for _ in range(30)]
    assert answers[:20] == [303] * 20
    assert 429 in answers
    assert app.post("/subscriptions", {"email": "a@b.cd"}, X_Forwarded_For="192.0.2.2")[0] == 303
    assert app.ask("GET", "/")[0] == 200


def test_a_full_form_says_so_and_stores_no_more(app: App) -> None:
    rows = [("contact", f"{number:032x}", "2026-01-01T00:00:00Z", "{}") for number in range(5000)]
    with sqlite3.connect(app.data / "entries.sqlite3") as connection:
        connection.executemany("INSERT INTO entries (form, token, stored_at, content) VALUES (?, ?, ?, ?)", rows)
    connection.close()
    assert app.post("/messages", MESSAGE)[0] == 503
    assert app.post("/guestbook", {"name": "Ann", "message": "still open"})[0] == 303


def test_what_was_acknowledged_survives_a_kill(app: App) -> None:
    kept: list[str] = []
    stop = threading.Event()

    def write(client: str) -> None:
        while not stop.is_set():
            words = f"{client} {len(kept)}"
            try:
                status = app.post("/guestbook", {"name": client, "message": words}, X_Forwarded_For=words)[0]
            except OSError:
                return
            if status == 303:
                kept.append(words)

    writers = [threading.Thread(target=write, args=(f"client{number}",)) for number in range(4)]
    for writer in writers:
        writer.start()
    end = time.monotonic() + 30
    while len(kept) < 25:
        assert time.monotonic() < end, "the app takes nothing"
        time.sleep(0.005)
    app.process.send_signal(signal.SIGKILL)
    app.process.wait(10)
    stop.set()
    for writer in writers:
        writer.join(10)
    assert set(kept) <= {entry["message"] for entry in app.entries()}
    app.start()
    assert app.ask("GET", "/healthz")[0] == 200


def test_a_stop_lets_the_request_under_way_finish_and_ends_at_once(app: App) -> None:
    idle = socket.create_connection(("127.0.0.1", app.port))
    slow = socket.create_connection(("127.0.0.1", app.port))
    body = urlencode(MESSAGE).encode()
    head = (
        f"POST /messages HTTP/1.1\r\nHost: x\r\nContent-Type: {POSTED['Content-Type']}\r\nContent-Length: {len(body)}"
    )
    slow.sendall(f"{head}\r\n\r\n".encode() + body[:10])
    assert app.ask("GET", "/healthz")[0] == 200, "the slow one has been taken up before this"
    app.process.send_signal(signal.SIGTERM)
    with pytest.raises(subprocess.TimeoutExpired):
        app.process.wait(0.5)
    slow.sendall(body[10:])
    assert slow.recv(4096).startswith(b"HTTP/1.1 303")
    assert app.process.wait(5) == 0
    assert len(app.entries()) == 1
    idle.close()
    slow.close()


@pytest.mark.parametrize("port", ["x", "70000", "-1"])
def test_a_port_that_is_none_is_said(tmp_path: Path, port: str) -> None:
    source = laid_out(dynamic(TEXT), tmp_path / "source")
    done = subprocess.run(
        [sys.executable, "-I", "app.py"], cwd=source, env={"PORT": port}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "PORT: expected a number" in done.stderr


def test_a_wish_without_any_form_gets_one_and_one_that_refuses_it_does_not() -> None:
    assert [form["kind"] for form in forms(dynamic("Law office with services and a team"))] == ["contact"]
    assert forms(dynamic("Law office with services and a team, no contact form")) == []


def forms(site: Site) -> list[dict[str, object]]:
    found = json.loads(site.files["site.json"])["forms"]
    assert isinstance(found, list)
    return found


def test_a_static_site_says_that_it_has_no_guestbook() -> None:
    still = brief.understand(TEXT)
    assert "guestbook" in still.beyond
    assert not still.has("guestbook")
    assert b"action=" not in pages.build(still).files["index.html"]


PLUGIN = """
import pytest
@pytest.fixture(scope="session")
def browser_type_launch_args():
    return {{"executable_path": {browser!r}, "args": ["--no-sandbox", "--disable-background-networking"]}}
"""


def run_suite(app: App, site: Site, folder: Path, only: str) -> "subprocess.CompletedProcess[str]":
    folder.mkdir()
    (folder / "e2e_test.py").write_text(suite.suite(site))
    (folder / "conftest.py").write_text(PLUGIN.format(browser=str(find_browser(None))))
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", f"--rootdir={folder}", "-p", "no:cacheprovider"),
            *(
                "--base-url",
                f"http://127.0.0.1:{app.port}",
                "--tb=line",
                "-rfs",
                "-k",
                only,
                str(folder / "e2e_test.py"),
            ),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_suite_is_green_on_the_running_app_and_leaves_nothing_behind(app: App, tmp_path: Path) -> None:
    done = run_suite(app, dynamic(TEXT), tmp_path / "suite", "")
    assert done.returncode == 0, done.stdout[-3000:]
    assert "skipped" not in done.stdout
    assert app.entries() == []


def forget(text: str) -> str:
    return text.replace(
        "row = (form, token, now, json.dumps(content, ensure_ascii=False))", 'row = (form, token, now, "{}")'
    )


def trust(text: str) -> str:
    return text.replace('return html.escape("".join(kept), quote=True)', 'return "".join(kept)')


def swallow(text: str) -> str:
    return text.replace('if len(text) > field["limit"]:', "if False:")


@pytest.mark.parametrize(
    ("damage", "red"),
    [
        (forget, "test_form_stores_what_is_sent"),
        (trust, "test_form_stores_what_is_sent"),
        (swallow, "test_server_refuses_what_is_incomplete_or_too_long"),
    ],
)
def test_the_suite_is_red_on_a_damaged_app(tmp_path: Path, damage: Callable[[str], str], red: str) -> None:
    """It forgets what was sent, writes it into the page as it came, or takes what is too long."""
    site = dynamic("Site of the singer Ada Moon with a guestbook")
    here = App(laid_out(site, tmp_path / "source"), tmp_path / "data")
    code = (here.source / "app.py").read_text()
    assert damage(code) != code
    (here.source / "app.py").write_text(damage(code))
    here.start()
    try:
        done = run_suite(here, site, tmp_path / "suite", red)
    finally:
        here.process.kill()
        here.process.wait(10)
    assert done.returncode == 1, done.stdout[-2000:]
    assert f"::{red}" in done.stdout
