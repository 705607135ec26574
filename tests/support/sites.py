"""Sites to look at: served by a thread on a free loopback port, under a name of their own."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType

import pytest

from tasks.domain.hosting import Site

Answer = bytes | str | tuple[int, Mapping[str, str], bytes]
"""A page's HTML or text; or status, headers and body."""

TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml", "txt": "text/plain"}


@dataclass
class Served:
    """A running site. ``asked`` are the paths in the order they came, with the Host they were asked of."""

    site: Site
    asked: list[tuple[str, str]] = field(default_factory=list)


@contextmanager
def serving(
    pages: Mapping[str, Answer], name: str = "tmux-00000000-11111111", slow: Mapping[str, float] = MappingProxyType({})
) -> Iterator[Served]:
    """Serve ``pages`` (path → answer) until the block ends; any other path is a 404. ``slow`` are seconds by path."""
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            time.sleep(slow.get(path, 0))
            asked.append((self.headers.get("Host", ""), self.path))
            answer = pages.get(path, (404, {"Content-Type": "text/html"}, b"<h1>not here</h1>"))
            if isinstance(answer, bytes | str):
                kind = TYPES.get(path.rpartition(".")[2], "text/html; charset=utf-8")
                answer = (200, {"Content-Type": kind}, answer.encode() if isinstance(answer, str) else answer)
            status, headers, body = answer
            self.send_response(status)
            for header in headers.items():
                self.send_header(*header)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 (http.server's name)
        do_POST = do_GET  # noqa: N815 (as above)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (http.server's name)
            return

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:
                return  # a browser hangs up as it likes

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        url = f"http://{name}.localhost:{port}/"
        try:
            yield Served(Site(name=name, url=url, release_id="r1-000000000000", dial=f"127.0.0.1:{port}"), asked)
        finally:
            server.shutdown()
            thread.join(5)


Serve = Callable[[Mapping[str, Answer]], Served]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """``serve(pages)``: a `Served` site until the test ends."""
    with ExitStack() as stack:
        yield lambda pages: stack.enter_context(serving(pages))


def page(body: str, head: str = "") -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>A site</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1">{head}</head><body>{body}</body></html>'
    )
