"""The sites of eight wishes in a real browser, and the suites that are written for them."""

import functools
import http.server
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from tasks.adapters.agents.offline import brief, pages, suite
from tasks.adapters.browser import find_browser
from tests.tasks.adapters.agents.offline.wishes import WISHES

PLUGIN = """
import pytest
@pytest.fixture(scope="session")
def browser_type_launch_args():
    return {{"executable_path": {browser!r}, "args": ["--no-sandbox", "--disable-background-networking"]}}
"""


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and its own 404 page."""

    def log_message(self, *_: object) -> None:
        return

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        body = (Path(self.directory) / "404.html").read_bytes()
        self.send_response(code)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@dataclass
class Served:
    name: str
    site: pages.Site
    root: Path
    url: str


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Served]]:
    servers: dict[str, tuple[http.server.ThreadingHTTPServer, Served]] = {}

    def serve(name: str) -> Served:
        if name not in servers:
            root = tmp_path_factory.mktemp("site")
            site = pages.build(brief.understand(WISHES[name]))
            for path, content in site.files.items():
                (root / path).parent.mkdir(parents=True, exist_ok=True)
                (root / path).write_bytes(content)
            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(root)))
            threading.Thread(target=server.serve_forever, daemon=True).start()
            servers[name] = server, Served(name, site, root, f"http://127.0.0.1:{server.server_port}")
        return servers[name][1]

    yield serve
    for server, _ in servers.values():
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(find_browser(None)), args=["--no-sandbox", "--disable-background-networking"]
        )
        yield browser
        browser.close()


def paths(site: pages.Site) -> list[str]:
    return [f"/{path}" for path in site.files if path.endswith(".html")]


@pytest.mark.parametrize("name", WISHES)
def test_a_site_is_accessible_quiet_and_fits_every_screen(
    served: Callable[[str], Served], chromium: Browser, name: str
):
    here = served(name)
    context = chromium.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce")
    complaints: list[str] = []
    page = context.new_page()
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: (complaints.append(f"dialog {dialog.message}"), dialog.dismiss()))
    page.on(
        "request",
        lambda request: None if request.url.startswith((here.url, "data:")) else complaints.append(request.url),
    )
    for path in paths(here.site):
        page.set_viewport_size({"width": 1280, "height": 800})
        page.goto(here.url + path)
        assert page.locator("h1").count() == 1, path
        found = Axe().run(page).response["violations"]
        serious = [
            (rule["id"], rule["nodes"][0]["html"]) for rule in found if rule["impact"] in ("serious", "critical")
        ]
        assert serious == [], path
        for width in (320, 390, 768, 1280):
            page.set_viewport_size({"width": width, "height": 800})
            wide = page.evaluate("document.documentElement.scrollWidth")
            assert wide <= width, f"{path} is {wide} px wide at {width} px"
    context.close()
    assert complaints == []


def test_an_unknown_address_shows_the_site_s_own_page(served: Callable[[str], Served], chromium: Browser):
    here = served("bakery")
    page = chromium.new_page()
    answer = page.goto(f"{here.url}/deep/in/nowhere")
    assert answer is not None
    assert answer.status == 404
    assert "Sonnenkorn" in page.title()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgba(0, 0, 0, 0)", "its style is found"
    page.close()


@pytest.mark.parametrize(
    ("name", "language", "direction", "said"),
    [
        ("bakery", "de", "ltr", ["Bäckerei Sonnenkorn", "Croissant", "2,50", "Öffnungszeiten", "Hauptstraße 12"]),
        ("law office", "ar", "rtl", ["خدماتنا", "القضايا التجارية", "التحكيم"]),
        ("tea shop", "ja", "ltr", ["緑風庵", "煎茶", "1,200円"]),
        ("photographer", "en", "ltr", ["Ana Reis"]),
        ("one word", "en", "ltr", ["Bakery"]),
        ("conference", "en", "ltr", ["Maria Silva", "Can I bring my dog?", "08:30"]),
    ],
)
def test_what_was_given_stands_on_the_site_in_its_language(
    served: Callable[[str], Served], chromium: Browser, name: str, language: str, direction: str, said: list[str]
):
    here = served(name)
    page: Page = chromium.new_page()
    page.goto(here.url)
    root = page.locator("html")
    assert (root.get_attribute("lang") or "").split("-")[0] == language
    assert page.evaluate("getComputedStyle(document.documentElement).direction") == direction
    text = page.locator("body").inner_text().casefold()
    assert [words for words in said if words.casefold() not in text] == []
    page.close()


def test_eight_wishes_give_eight_clearly_different_sites(served: Callable[[str], Served]):
    styles = {name: next(p for p in served(name).site.files if p.endswith(".css")) for name in WISHES}
    colours = {
        name: tuple(re.findall(r"#[0-9a-f]{6}", served(name).site.files[path].decode())[:12])
        for name, path in styles.items()
    }
    # The word and the German bakery are of one trade and may share a palette.
    assert len(set(colours.values())) >= 7


@pytest.mark.parametrize("name", WISHES)
def test_the_same_words_give_the_same_bytes(name: str):
    assert pages.build(brief.understand(WISHES[name])).files == pages.build(brief.understand(WISHES[name])).files


def test_a_form_confirms_a_complete_submission_and_says_where_it_goes(
    served: Callable[[str], Served], chromium: Browser
):
    here = served("photographer")
    page = chromium.new_page()
    page.goto(here.url)
    form = page.locator("form").first
    for field in form.locator("input, textarea").all():
        kind = field.get_attribute("type")
        field.fill(
            "ana@example.com"
            if kind == "email"
            else "2026-12-24"
            if kind == "date"
            else "2"
            if kind == "number"
            else "Hello"
        )
    form.locator("button[type=submit], button:not([type])").first.click()
    live = page.locator("[aria-live]").first
    live.wait_for(state="visible")
    assert "Thank you, Hello!" in live.inner_text()
    assert "does not transmit" in live.inner_text()
    page.close()


def run_suite(here: Served, folder: Path, only: str = "") -> "subprocess.CompletedProcess[str]":
    (folder / "e2e_test.py").write_text(suite.suite(here.site))
    (folder / "conftest.py").write_text(PLUGIN.format(browser=str(find_browser(None))))
    return subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "-q", "-c", "/dev/null", f"--rootdir={folder}", "-p", "no:cacheprovider"),
            *("--base-url", here.url, "--tb=line", "-x", "-rf", "-k", only, str(folder / "e2e_test.py")),
        ],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.mark.parametrize("name", ["bakery", "law office", "children", "hostile"])
def test_the_suite_is_green_on_its_site(served: Callable[[str], Served], tmp_path: Path, name: str):
    done = run_suite(served(name), tmp_path)
    assert done.returncode == 0, done.stdout[-2000:]


def replaced(page: Path, pattern: str, by: str) -> None:
    text, count = re.subn(pattern, by, page.read_text(), count=1, flags=re.DOTALL)
    assert count == 1
    page.write_text(text)


def drop_heading(root: Path) -> None:
    replaced(root / "index.html", r"<h2[^>]*>.*?</h2>", "")


def break_link(root: Path) -> None:
    replaced(root / "index.html", r'<li><a href="/#\w+"', '<li><a href="/gone.html"')


def disarm_form(root: Path) -> None:
    """The menu still works; what a form does is gone."""
    for script in (root / "assets").glob("*.js"):
        replaced(script, r"const check = .*$", "}})();\n")


def lose_picture(root: Path) -> None:
    next(iter((root / "assets").glob("map.*.svg"))).unlink()


def change_price(root: Path) -> None:
    replaced(root / "index.html", r"4,80 €", "9,90 €")


def widen(root: Path) -> None:
    for style in (root / "assets").glob("*.css"):
        style.write_text(style.read_text() + "\nh1 { inline-size: 1400px; }\n")


@pytest.mark.parametrize(
    ("damage", "red"),
    [
        (drop_heading, "test_headings"),
        (break_link, "test_internal_links_work"),
        (disarm_form, "test_form_answers_what_is_complete"),
        (lose_picture, "test_images_load"),
        (change_price, "test_given_words"),
        (widen, "test_phone_layout"),
    ],
)
def test_the_suite_is_red_on_a_damaged_site(
    served: Callable[[str], Served], tmp_path: Path, damage: Callable[[Path], None], red: str
):
    here = served("bakery")
    kept = {path: path.read_bytes() for path in here.root.rglob("*") if path.is_file()}
    damage(here.root)
    try:
        done = run_suite(here, tmp_path, only=red)
    finally:
        for path, content in kept.items():
            path.write_bytes(content)
    assert done.returncode == 1, done.stdout[-2000:]
    assert f"::{red}" in done.stdout


def test_another_site_s_suite_is_red_here(served: Callable[[str], Served], tmp_path: Path):
    """The suite tests its site and not any site."""
    bakery = served("bakery")
    elsewhere = Served("mixed", bakery.site, bakery.root, served("photographer").url)
    assert run_suite(elsewhere, tmp_path).returncode == 1
