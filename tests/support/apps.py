"""A real keeper of apps over the site server's home, and real programs for it to keep."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasks.adapters.hosts.app_folder import keeper_runs
from tests.support.site_server import SiteServer, site_server

__all__ = ["keeper", "site_server"]

ROOT = Path(__file__).parent.parent.parent

PYTHON_APP = """
import http.server, json, os, sqlite3, sys, threading, time
PAGE = %(page)r
path = os.path.join(os.environ["DATA_DIR"], "messages.db")

def database():
    connection = sqlite3.connect(path, timeout=20)
    connection.execute("create table if not exists messages (text text)")
    return connection

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # a connection may be kept, and outlive a switch
    def answer(self, body, status=200):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        if self.path == "/messages":
            with database() as connection:
                self.answer(json.dumps([row[0] for row in connection.execute("select text from messages")]).encode())
        elif self.path == "/crash":
            os._exit(7)
        elif self.path.startswith("/slow"):
            time.sleep(1)
            self.answer(PAGE.encode())
        elif self.path == "/":
            self.answer(PAGE.encode())
        else:
            self.answer(b"not here", 404)
    def do_POST(self):
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        with database() as connection:
            connection.execute("insert into messages values (?)", (text,))
        self.answer(b"kept")

print("listening on", os.environ["PORT"])
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""

NODE_APP = """
const http = require("http"), fs = require("fs"), path = require("path");
const file = path.join(process.env.DATA_DIR, "messages.txt");
http.createServer((request, response) => {
  if (request.method === "POST") {
    let text = "";
    request.on("data", (part) => (text += part));
    request.on("end", () => { fs.appendFileSync(file, text + "\\n"); response.end("kept"); });
  } else if (request.url === "/messages") {
    response.end(fs.existsSync(file) ? fs.readFileSync(file) : "");
  } else response.end(PAGE);
}).listen(process.env.PORT);
"""


def python_app(page: str, **more: str) -> dict[str, str]:
    return {"app.py": PYTHON_APP % {"page": page}, "requirements.txt": "", **more}


def node_app(page: str, **more: str) -> dict[str, str]:
    start = '{"name": "x", "scripts": {"start": "node server.js"}}'
    return {"package.json": start, "server.js": f'const PAGE = "{page}";\n{NODE_APP}', **more}


def until(what: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.02)


class KeeperProcess:
    """``python -m deployments.apps`` for one home."""

    def __init__(self, home: Path) -> None:
        self.home, self.log = home, home.parent / "keeper.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "deployments.apps"],
                cwd=ROOT,
                env={"PATH": os.environ["PATH"], "TMUX_BUILDER_HOME": str(self.home)},
                stdout=output,
                stderr=output,
            )
        until(lambda: keeper_runs(self.home) or self.process is None or self.process.poll() is not None)
        assert self.process.poll() is None, self.log.read_text()[-2000:]

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(timeout=60)
            self.process = None


@pytest.fixture
def keeper(site_server: SiteServer) -> Iterator[KeeperProcess]:
    kept = KeeperProcess(site_server.home)
    kept.start()
    yield kept
    kept.stop()
