"""What is seen of good, broken and hostile sites, by a real Chromium in the real sandbox."""

import io
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tasks.adapters.browser import (
    TourLost,
    develop,
    find_browser,
    photograph,
    read_report,
    redrawn,
    sight_of,
    thumbnail,
)
from tasks.adapters.sandbox import Finished
from tasks.domain.check import Check, Finding, Outcome
from tasks.domain.errors import BrowserError
from tasks.domain.hosting import Site
from tests.support.sites import Serve, page, serve, serving

__all__ = ["serve"]

NAV = '<nav><a href="/">Home</a> <a href="/about.html">About</a> <a href="/menu/#prices">Menu</a></nav>'
SQUARE = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="90" height="90"><rect width="90" height="90" fill="red"/></svg>'
)


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    folder = tmp_path / "deployment" / "screenshots"
    folder.mkdir(parents=True)
    return folder


def found(check: Check, name: str) -> Finding:
    return next(finding for finding in check.findings if finding.name == name)


def red(check: Check) -> dict[str, str]:
    return {finding.name: finding.detail for finding in check.findings if finding.outcome is Outcome.FAILED}


# --- sites -------------------------------------------------------------------------------------------------------


def test_a_good_site_is_green_and_photographed_on_both_devices(serve: Serve, screenshots: Path) -> None:
    (screenshots / "desktop-gone.jpg").write_bytes(b"of an earlier release")
    (screenshots / "notes.txt").write_text("not ours to remove")
    served = serve(
        {
            "/": page(f'{NAV}<h1>Hello</h1><img src="/square.svg" alt="red"><p>{"word " * 900}</p>'),
            "/about.html": page(f'{NAV}<h1>About</h1><a href="/index.html">front</a><a href="#">up</a>'),
            "/index.html": page("the front page under its other name"),
            "/menu/": page(f'{NAV}<h1 id="prices">Menu</h1><a href="mailto:a@b.example">write</a>'),
            "/square.svg": SQUARE,
        }
    )
    check = photograph(served.site, screenshots, "bwrap")
    assert check.outcome is Outcome.PASSED
    assert red(check) == {}
    assert found(check, "looked at").detail.startswith("3 pages")
    names = [f"{device}{page}.jpg" for page in ("", "-about", "-menu") for device in ("desktop", "phone")]
    assert list(check.evidence) == [f"deployment/screenshots/{name}" for name in names]
    assert sorted(path.name for path in screenshots.iterdir()) == sorted([*names, "notes.txt"])
    with Image.open(screenshots / "desktop.jpg") as desktop, Image.open(screenshots / "phone.jpg") as phone:
        assert desktop.width == 1280
        assert desktop.height >= 800
        assert phone.width == 780
        assert phone.height > 844 * 2
        assert desktop.getpixel((50, 120)) != desktop.getpixel((1200, 120))  # the square, and not an empty picture
    assert {host for host, _ in served.asked} == {served.site.url.removeprefix("http://").rstrip("/")}


def test_what_shows_only_when_scrolled_to_is_in_the_picture(serve: Serve, screenshots: Path) -> None:
    style = (
        "<style>i{display:block;height:300px;margin:400px 0;opacity:0;transition:opacity 2s;background:#00f}</style>"
    )
    script = """<script>
      const show = one => { if (one.isIntersecting) one.target.style.opacity = 1; };
      const seen = new IntersectionObserver(all => all.forEach(show));
      document.querySelectorAll('i').forEach(element => seen.observe(element));
    </script><img loading="lazy" src="/square.svg" alt="red" style="display:block">"""
    served = serve({"/": page("<i></i>" * 6 + script, style), "/square.svg": SQUARE})
    photograph(served.site, screenshots, "bwrap")
    for device, scale in (("desktop", 1), ("phone", 2)):
        with Image.open(screenshots / f"{device}.jpg") as picture:
            pixels = picture.convert("RGB")
            for number in range(6):
                red_, green, blue = pixels.getpixel((100, scale * (8 + 400 + 150 + number * 700)))  # type: ignore[misc]
                assert blue > 200, (device, number)
                assert red_ + green < 60, (device, number)
            assert pixels.getpixel((scale * 50, pixels.height - scale * 50))[0] > 200  # type: ignore[index]


def test_what_is_broken_is_named_with_its_page(serve: Serve, screenshots: Path) -> None:
    served = serve(
        {
            "/": page(
                '<h1>Broken</h1><a href="/missing.html">gone</a> <a href="#nowhere">place</a>'
                '<a href="/round">round</a> <a href="/other">other</a> <a href="/paper.pdf">paper</a>'
                '<a href="/throws.html">throws</a>'
                '<img src="/lost.png"><div style="width:900px">wide</div>'
            ),
            "/round": (302, {"Location": "/round2"}, b""),
            "/round2": (302, {"Location": "/round"}, b""),
            "/other": (302, {"Location": "https://elsewhere.example/"}, b""),
            "/paper.pdf": (200, {"Content-Type": "application/pdf"}, b"%PDF-1.4"),
            "/throws.html": page("<h1>x</h1><script>console.error('said so'); nothing.here()</script>"),
        }
    )
    check = photograph(served.site, screenshots, "bwrap")
    assert check.outcome is Outcome.FAILED
    details = red(check)
    assert "/missing.html (on /): HTTP 404" in details["internal links"]
    assert "/round (on /): redirects in a circle" in details["internal links"]
    assert "/other" not in details["internal links"]
    assert "/paper.pdf" not in details["internal links"]
    assert "HTTP 404: " in details["requests to the site"]
    assert "/lost.png" in details["requests to the site"]
    assert "/throws.html: said so" in details["script errors"]
    assert "/throws.html: nothing is not defined" in details["script errors"]
    assert "/#nowhere (on /)" in details["anchors"]
    assert "/lost.png" in details["images"]
    assert "/lost.png" in details["alternative texts"]
    assert "px too wide" in details["phone width"]
    gates = {finding.name for finding in check.findings if finding.gate}
    assert gates == {"front page", "internal links", "requests to the site", "script errors"}
    assert len(check.red_gates) == 3


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        ((500, {"Content-Type": "text/html"}, b"<h1>oops</h1>"), "HTTP 500"),
        ((302, {"Location": "/"}, b""), "ERR_TOO_MANY_REDIRECTS"),
        ((302, {"Location": "http://169.254.169.254/latest/"}, b""), "ERR_NAME_NOT_RESOLVED"),
        (page("<script>while (true) {}</script>"), "was not loaded|kept the browser busy"),
    ],
    ids=["error", "redirect-loop", "redirect-to-metadata", "endless-script"],
)
def test_a_front_page_that_does_not_come_up_is_a_red_gate(
    serve: Serve, screenshots: Path, answer: object, detail: str
) -> None:
    served = serve({"/": answer})  # type: ignore[dict-item]  # each is an Answer
    endless = "not loaded" in detail
    check = photograph(served.site, screenshots, "bwrap", look_s=3 if endless else 15)
    assert check.outcome is Outcome.FAILED
    said = found(check, "front page").detail
    assert any(word in said for word in detail.split("|")), said


def test_a_site_that_is_not_served_at_all_is_the_sites_fault(screenshots: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    site = Site(name="x", url=f"http://x.localhost:{port}/", release_id="r1-0", dial=f"127.0.0.1:{port}")
    check = photograph(site, screenshots, "bwrap")
    assert "net::ERR_" in found(check, "front page").detail


@pytest.fixture
def canary() -> Iterator[tuple[int, list[bytes]]]:
    """A service on the host's loopback that no page may reach; and what it heard."""
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    heard.append(connection.recv(100))

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1], heard
        server.shutdown(socket.SHUT_RDWR)


def test_a_page_reaches_nothing_but_its_own_site(
    serve: Serve, screenshots: Path, canary: tuple[int, list[bytes]]
) -> None:
    port, heard = canary
    targets = [f"http://127.0.0.1:{port}/", f"http://other.localhost:{port}/", f"http://[::1]:{port}/"]
    targets += ["http://169.254.169.254/latest/meta-data/"]
    script = f"""
      const targets = {json.dumps(targets)};
      Promise.all(targets.map(url => fetch(url, {{mode: 'no-cors'}}).then(() => 'REACHED ' + url, () => 'no')))
        .then(said => {{ document.title = said.join(' '); for (const word of said)
          if (word !== 'no') console.error(word); }});
      new WebSocket('ws://127.0.0.1:{port}/');
      window.open('http://127.0.0.1:{port}/');
    """
    frame = f'<iframe src="http://127.0.0.1:{port}/"></iframe><img src="http://127.0.0.1:{port}/x.png" alt="">'
    served = serve({"/": page(f"<h1>x</h1>{frame}<script>{script}</script>")})
    check = photograph(served.site, screenshots, "bwrap")
    assert heard == []
    assert "REACHED" not in str(check)
    assert found(check, "requests elsewhere").outcome is Outcome.FAILED
    assert "169.254.169.254" in found(check, "requests elsewhere").detail
    assert found(check, "front page").outcome is Outcome.PASSED


def test_what_fails_without_an_outside_script_is_no_gate(serve: Serve, screenshots: Path) -> None:
    served = serve({"/": page('<script src="https://cdn.example/lib.js"></script><script>lib.start()</script>')})
    check = photograph(served.site, screenshots, "bwrap")
    assert check.red_gates == ()
    assert "lib is not defined" in found(check, "script errors, outside scripts kept out").detail
    assert "https://cdn.example/lib.js" in found(check, "requests elsewhere").detail


def test_hostile_pages_neither_hang_nor_flood(serve: Serve, screenshots: Path) -> None:
    ask = "alert('hello'); confirm('sure?'); onbeforeunload = event => { event.preventDefault(); return 'stay'; };"
    lies = "document.querySelectorAll = () => []; Array.prototype.map = () => []; String = () => 'forged';"
    flood = "for (let i = 0; i < 5000; i++) console.error('flood ' + i + ' ' + 'x'.repeat(10000));"
    served = serve(
        {
            "/": page(f'<h1>{"<i>x</i>" * 200}</h1><a href="/tall.html">a</a><script>{ask}{lies}</script>'),
            "/tall.html": page(
                f'<a href="/wide.html">b</a><div style="height:200000px">{"y " * 50_000}</div><!--{"y" * 10_000_000}-->'
            ),
            "/wide.html": page(f'<a href="/many.html">c</a><script>{flood}</script><div style="width:99999px">w</div>'),
            "/many.html": page("".join(f'<a href="/n{i}?\N{RIGHT-TO-LEFT OVERRIDE}\n">l</a>' for i in range(3000))),
        }
    )
    started = time.monotonic()
    check = photograph(served.site, screenshots, "bwrap")
    assert time.monotonic() - started < 60
    assert found(check, "dialogs").detail.startswith("/: alert: hello; /: confirm: sure?")
    assert found(check, "looked at").detail.startswith("4 pages, 200 links")  # the forged functions hid no link
    assert all(len(finding.detail) < 1500 and finding.detail.isprintable() for finding in check.findings)
    with Image.open(screenshots / "desktop-tall.jpg") as tall, Image.open(screenshots / "desktop-wide.jpg") as wide:
        assert tall.size == (1280, 12_000)
        assert wide.width == 1280


def test_the_tour_ends_when_its_time_is_up_and_blames_no_page_for_it(screenshots: Path) -> None:
    endless = page('<img src="/never.svg" alt="">')
    with serving({"/": page('<a href="/a">a</a>'), "/a": endless}, slow={"/never.svg": 60}) as served:
        check = photograph(served.site, screenshots, "bwrap", budget_s=6)
    assert found(check, "looked at").detail == "1 pages, 1 links, 1 more not visited, the time was up"
    assert found(check, "time").detail == "1 page not visited when the time was up"
    assert red(check) == {}
    assert check.outcome is Outcome.SKIPPED  # what was not looked at has not passed


def test_a_site_that_never_answers_for_its_links_does_not_keep_the_tour_past_its_time(screenshots: Path) -> None:
    links = "".join(f'<a href="/slow{number}">x</a>' for number in range(30))
    pages = {"/": page(links)}
    started = time.monotonic()
    with serving(pages, slow={f"/slow{number}": 4.5 for number in range(30)}) as served:
        check = photograph(served.site, screenshots, "bwrap", budget_s=8)
        assert time.monotonic() - started < 20
    assert "links not followed when the time was up" in found(check, "time").detail


def test_a_page_that_is_stuck_spoils_no_other(serve: Serve, screenshots: Path) -> None:
    served = serve(
        {
            "/": page('<a href="/stuck">a</a><a href="/fine">b</a>'),
            "/stuck": page("<script>while (true) {}</script>"),
            "/fine": page("<h1>Fine</h1>"),
        }
    )
    check = photograph(served.site, screenshots, "bwrap", look_s=6)
    assert red(check) == {"internal links": "/stuck: was not loaded after 6 s"}
    assert "deployment/screenshots/phone-fine.jpg" in check.evidence


def test_no_time_at_all_is_no_verdict(serve: Serve, screenshots: Path) -> None:
    check = photograph(serve({"/": page("x")}).site, screenshots, "bwrap", budget_s=0)
    assert (check.outcome, check.red_gates) == (Outcome.SKIPPED, ())
    assert found(check, "time").detail == "1 page not visited when the time was up"


def test_a_link_that_is_no_address_is_a_dead_link_and_the_rest_is_seen(serve: Serve, screenshots: Path) -> None:
    odd = [
        "http://[#x",
        "http://",
        "http://a:99999999/",
        "https://exa mple/",
        "http://[::1%25eth0]/",
        "//[",
        "http://a]b/",
    ]
    links = "".join(f"<a href='{link}'>x</a>" for link in odd)
    mail = '<a href="mailto:a@b.example">m</a><a href="tel:+1">t</a><a href="#here">h</a><i id="here"></i>'
    drawn = '<svg><a href="/drawn.html"><text>s</text></a></svg>'
    served = serve({"/": page(f'{links}{mail}{drawn}<a href="/fine.html">f</a>'), "/fine.html": page("fine")})
    check = photograph(served.site, screenshots, "bwrap")
    dead = found(check, "internal links").detail
    assert "http://[#x (on /): is no address" in dead
    assert "http://a:99999999/ (on /): is no address" in dead
    assert "/drawn.html (on /): HTTP 404" in dead
    assert "mailto" not in dead
    assert found(check, "looked at").detail.startswith("2 pages")
    assert "deployment/screenshots/phone-fine.jpg" in check.evidence


def test_halves_of_characters_in_what_a_page_says_do_not_spoil_the_report(serve: Serve, screenshots: Path) -> None:
    smile = "\N{GRINNING FACE}"
    script = r"""<script>
      console.error('half \ud83d of one'); console.error('x'.repeat(299) + '\ud83d\ude00' + 'y');
      document.title = 'x'.repeat(299) + '\ud83d\ude00'; alert('\ude00');
      document.body.id = '\ud83d'; throw new Error('\ud83d');
    </script>"""
    served = serve({"/": page(f"<h1>{smile}</h1>{script}"), "/favicon.ico": SQUARE})
    check = photograph(served.site, screenshots, "bwrap")
    assert set(red(check)) == {"script errors", "dialogs"}
    assert "half ? of one" in red(check)["script errors"]
    assert found(check, "looked at").detail.startswith("1 pages")


def test_an_italian_page_is_seen_as_italians_see_it(serve: Serve, screenshots: Path) -> None:
    field = '<input type="date" value="2026-02-01" style="font-size:60px">'
    month = "new Date(0).toLocaleDateString(undefined, {month: 'long'})"
    spoken = f"<script>console.error(navigator.language + ' ' + {month})</script>"
    seen = {}
    for language in ("it", "en-GB", "en-US"):
        written = page(field + spoken).replace('lang="en"', f'lang="{language}"')
        check = photograph(serve({"/": written, "/favicon.ico": SQUARE}).site, screenshots, "bwrap")
        with Image.open(screenshots / "desktop.jpg") as picture:
            seen[language] = picture.tobytes()
        assert f"/: {language} {'gennaio' if language == 'it' else 'January'}" in red(check)["script errors"]
    assert seen["it"] == seen["en-GB"]  # 01/02/2026, and not 02/01/2026
    assert seen["it"] != seen["en-US"]


def test_no_more_than_twenty_pages_are_visited(serve: Serve, screenshots: Path) -> None:
    links = "".join(f'<a href="/p{i}.html">{i}</a>' for i in range(30))
    served = serve({"/": page(links), **{f"/p{i}.html": page(links) for i in range(30)}})
    check = photograph(served.site, screenshots, "bwrap")
    assert found(check, "looked at").detail == "20 pages, 30 links, 11 more not visited"
    assert len(check.evidence) == 16


def test_without_the_sandbox_the_same_is_seen_and_the_host_stays_out_of_reach(
    serve: Serve, screenshots: Path, canary: tuple[int, list[bytes]]
) -> None:
    port, heard = canary
    script = f"<script>fetch('http://127.0.0.1:{port}/', {{mode: 'no-cors'}}).catch(() => 1)</script>"
    served = serve({"/": page(f'<h1>Hi</h1><a href="/gone">x</a>{script}')})
    check = photograph(served.site, screenshots, "unsafe-none")
    assert "/gone (on /): HTTP 404" in found(check, "internal links").detail
    assert heard == []


def test_a_stop_from_outside_ends_it(serve: Serve, screenshots: Path) -> None:
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    served = serve({"/": page("x")})
    with pytest.raises(BrowserError, match="it was stopped"):
        photograph(served.site, screenshots, "bwrap", stop=stop)


# --- the browser -------------------------------------------------------------------------------------------------


def test_a_browser_that_is_named_and_not_there_is_an_error_with_the_next_move(tmp_path: Path) -> None:
    with pytest.raises(BrowserError, match=r"TMUX_BUILDER_BROWSER=.* is not a program"):
        find_browser(tmp_path / "chromium")


def test_no_browser_at_all_is_an_error_with_the_next_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path))
    with pytest.raises(BrowserError, match=r"apt-get install chromium.*make demo"):
        find_browser(None)


def test_playwrights_own_browser_comes_before_one_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for revision in ("chromium_headless_shell-900", "chromium_headless_shell-1200", "chromium-1300"):
        program = tmp_path / revision / "chrome-linux" / ("chrome" if "chromium-" in revision else "headless_shell")
        program.parent.mkdir(parents=True)
        program.touch(mode=0o755)
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path))
    assert find_browser(None) == tmp_path / "chromium_headless_shell-1200" / "chrome-linux" / "headless_shell"


def test_a_snap_launcher_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = tmp_path / "chromium"
    launcher.write_text('#!/bin/sh\nexec /snap/bin/chromium "$@"\n')
    launcher.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path))
    with pytest.raises(BrowserError):
        find_browser(None)


def test_a_program_that_is_no_browser_is_the_browsers_fault(serve: Serve, screenshots: Path) -> None:
    with pytest.raises(BrowserError, match="photographing the site"):
        photograph(serve({"/": page("x")}).site, screenshots, "bwrap", Path("/usr/bin/false"))


def test_a_browser_that_dies_once_it_has_met_the_site_is_a_red_gate(tmp_path: Path, screenshots: Path) -> None:
    (screenshots / "desktop-gone.jpg").write_bytes(b"of an earlier release")
    program = tmp_path / "chromium"
    program.write_text(f'#!/bin/sh\n(sleep 5; kill -9 $$) &\nexec {find_browser(None)} "$@"\n')
    program.chmod(0o755)
    with serving({"/": page("x")}, slow={"/": 20}) as served:
        check = photograph(served.site, screenshots, "bwrap", program)
    assert check.outcome is Outcome.FAILED
    assert check.red_gates == ("browser: Chromium ended in the middle of the tour",)
    assert check.evidence == ()
    assert list(screenshots.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "dial", "near", "rule"),
    [
        ("http://a.localhost:8401/", "127.0.0.1:8401", 8401, "MAP a.localhost:8401 127.0.0.1:8401, MAP * ~NOTFOUND"),
        ("https://a.example", None, 20443, "MAP a.example:443 127.0.0.1:20443, MAP * ~NOTFOUND"),
    ],
)
def test_the_way_to_a_site_is_a_port_that_needs_no_privilege(url: str, dial: str, near: int, rule: str) -> None:
    with sight_of(Site(name="a", url=url, release_id="r1-0", dial=dial), "bwrap") as sight:
        assert sight.port == near
        assert f"--host-resolver-rules={rule}" in sight.arguments
        assert sight.bridge is not None
        assert sight.bridge.is_socket()
    assert not sight.bridge.exists()


# --- what comes out of the sandbox ---------------------------------------------------------------------------------

VIEW = {
    "status": 200, "failure": "", "title": "t", "overflow": 0, "broken": [], "unnamed": [], "console": [],
    "failed": [], "outside": [], "outside_scripts": 0, "dialogs": [], "picture": "",
}  # fmt: skip  # a table
PAGE = {"url": "http://x/", "desktop": VIEW, "phone": VIEW}
REPORT = {
    "pages": [PAGE], "links": [], "anchors": [], "unvisited": 0, "unasked": 0, "browser_lost": False,
    "out_of_time": False,
}  # fmt: skip  # a table
ENDED = Finished(0, "launched\n", "", 1.0)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "NaN",
        json.dumps({**REPORT, "extra": 1}),
        json.dumps({**REPORT, "pages": [PAGE] * 21}),
        json.dumps({**REPORT, "pages": [{**PAGE, "desktop": {**VIEW, "picture": "../../etc/passwd"}}]}),
        json.dumps({**REPORT, "pages": [{**PAGE, "desktop": {**VIEW, "status": "200"}}]}),
        json.dumps({**REPORT, "pages": [{**PAGE, "url": "x" * 1001}]}),
        json.dumps({**REPORT, "pages": [{**PAGE, "url": "http://[#x"}]}),
        "[" * 100_000,
        " " * (17 << 20),
    ],
    ids=lambda content: content[:10] + str(len(content)),
)
def test_a_report_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(TourLost):
        read_report(tmp_path, ENDED)


def test_a_link_in_place_of_the_report_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere.json").write_text(json.dumps(REPORT))
    (tmp_path / "report.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(TourLost):
        read_report(tmp_path, ENDED)


@pytest.mark.parametrize(
    ("exit_code", "said", "fault", "complaint"),
    [
        (1, "launched\n", TourLost, "it ended at the site: KeyError: x"),
        (0, "launched\n", TourLost, "Chromium ended in the middle"),
        (None, "launched\n", TourLost, "kept it busy for 90 s"),
        (1, "", BrowserError, "KeyError: x"),
        (None, "", BrowserError, "not launched within 90 s"),
        (0, "forged: launched\n", BrowserError, "KeyError: x"),
    ],
)
def test_only_before_the_browser_has_met_the_site_is_it_the_browsers_fault(
    tmp_path: Path, exit_code: int | None, said: str, fault: type[Exception], complaint: str
) -> None:
    (tmp_path / "report.json").write_text(json.dumps({**REPORT, "browser_lost": True}))
    with pytest.raises(fault, match=complaint):
        read_report(tmp_path, Finished(exit_code, said, "KeyError: x\n", 90.0))


def test_a_dead_link_may_be_called_anything(tmp_path: Path) -> None:
    link = {"url": "http://[#x", "status": 0, "failure": "is no address", "found_on": "http://x/"}
    (tmp_path / "report.json").write_text(json.dumps({**REPORT, "links": [link]}))
    assert read_report(tmp_path, ENDED).links[0].url == "http://[#x"


def jpeg(width: int, height: int) -> bytes:
    new = io.BytesIO()
    Image.effect_noise((width, height), 90).convert("RGB").save(new, "JPEG", quality=95)
    return new.getvalue()


def claiming(data: bytes, width: int, height: int) -> bytes:
    """The same JPEG with other dimensions in its frame header."""
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        jpeg(60, 60)[:200],
        claiming(jpeg(60, 60), 65_000, 65_000),
        claiming(jpeg(60, 60), 16_000, 16_000),
        claiming(jpeg(60, 60), 10, 65_000),
    ],
    ids=["empty", "svg", "png", "cut", "bomb", "large", "long"],
)
def test_what_is_no_picture_of_bounded_size_is_left_out(data: bytes) -> None:
    assert redrawn(data) is None


def test_a_picture_is_drawn_anew_without_what_it_carried() -> None:
    data = jpeg(60, 40)
    comment = b"\xff\xfe" + struct.pack(">H", 8) + b"<html>"
    new = redrawn(data[:2] + comment + data[2:])
    assert new is not None
    assert b"<html>" not in new
    with Image.open(io.BytesIO(new)) as image:
        assert image.size == (60, 40)


def test_a_picture_that_is_a_link_or_lies_outside_is_not_taken(tmp_path: Path, screenshots: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(jpeg(50, 50))
    out = tmp_path / "out"
    out.mkdir()
    (out / "00-desktop.jpg").symlink_to(tmp_path / "secret.jpg")
    views = {"desktop": {**VIEW, "picture": "00-desktop.jpg"}, "phone": {**VIEW, "picture": "00-phone.jpg"}}
    (out / "report.json").write_text(json.dumps({**REPORT, "pages": [{**PAGE, **views}]}))
    assert develop(read_report(out, ENDED), out, screenshots) == {}
    assert list(screenshots.iterdir()) == []


def test_two_pages_of_like_names_get_two_pictures(tmp_path: Path, screenshots: Path) -> None:
    (tmp_path / "01-desktop.jpg").write_bytes(jpeg(50, 50))
    shown = {**VIEW, "picture": "01-desktop.jpg"}
    pages = [PAGE, *({**PAGE, "url": f"http://x/{path}", "desktop": shown} for path in ("A b", "a-b.html", "%2e%2e/é"))]
    (tmp_path / "report.json").write_text(json.dumps({**REPORT, "pages": pages}))
    taken = develop(read_report(tmp_path, ENDED), tmp_path, screenshots)
    assert list(taken) == ["desktop-a-b.jpg", "desktop-a-b-2.jpg", "desktop-page.jpg"]


@pytest.mark.parametrize("size", [(1280, 12_000), (780, 1688), (300, 200)])
def test_a_thumbnail_is_small_in_every_way(tmp_path: Path, size: tuple[int, int]) -> None:
    (tmp_path / "x.jpg").write_bytes(jpeg(*size))
    data = thumbnail(tmp_path / "x.jpg", 640)
    assert len(data) < 150_000
    with Image.open(io.BytesIO(data)) as image:
        assert image.width <= 640
        assert image.height <= 2 * image.width
