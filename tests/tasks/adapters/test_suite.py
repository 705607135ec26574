"""Generated suites, honest and hostile, run for real: what they report, and what they get hold of."""

import json
import os
import re
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from tasks.adapters.browser import find_browser
from tasks.adapters.inside.suite_supervisor import MARK, Witness, Written, signed
from tasks.adapters.suite import (
    Case,
    Counts,
    Sworn,
    complaint_about,
    counted,
    read_cases,
    read_sworn,
    readable,
    run_suite,
    verdict,
)
from tasks.adapters.workspace import Workspace
from tasks.domain.check import SuiteResult
from tasks.domain.errors import BrowserError
from tests.support.sites import Serve, Served, page, serve

__all__ = ["serve"]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "session")
    made.lay_out()
    return made


@pytest.fixture
def site(serve: Serve) -> Served:
    form = '<form action="/sent" method="post"><label>Name <input name="name"></label><button>Send</button></form>'
    return serve({"/": page(f'<h1>Hello</h1><a href="/about">About</a>{form}'), "/about": page("<h1>About</h1>")})


def ran(workspace: Workspace, site: Served, suite: str, deadline_s: float = 60) -> SuiteResult:
    workspace.suite.write_text(suite)
    result = run_suite(workspace, site.site, "bwrap", deadline_s)
    assert SuiteResult.model_validate_json(workspace.results.read_bytes()) == result
    assert set(json.loads(workspace.results.read_bytes())) == set(SuiteResult.model_fields)
    assert workspace.report.read_text().startswith("<!")
    return result


def test_an_honest_suite_passes_with_its_counts(workspace: Workspace, site: Served) -> None:
    result = ran(
        workspace,
        site,
        """
import pytest
from playwright.sync_api import Page, expect

def test_home(page: Page, base_url: str):
    page.goto(base_url)
    expect(page.locator("h1")).to_have_text("Hello")

def test_link(page: Page):
    page.goto("/")
    page.get_by_role("link", name="About").click()
    expect(page).to_have_url("/about")

def test_by_request(page: Page):
    assert page.request.get("/about").ok

def test_phone(new_context):
    page = new_context(viewport={"width": 390, "height": 844}, is_mobile=True).new_page()
    page.goto("/")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390

@pytest.mark.skip(reason="no shop")
def test_shop(page): ...
""",
    )
    assert (result.status, result.exit_code, result.reason) == ("passed", 0, "")
    assert (result.passed, result.failed, result.skipped, result.errors) == (4, 0, 1, 0)
    assert result.url_tested == site.site.url
    assert result.report_path == "deployment/tests/report.html"
    assert "4 passed, 1 skipped" in result.stdout
    assert site.site.url in workspace.report.read_text()


def test_a_red_suite_reports_what_and_shows_the_page(workspace: Workspace, site: Served) -> None:
    result = ran(
        workspace,
        site,
        """
import pytest
from playwright.sync_api import expect

def test_good(page):
    page.goto("/")

def test_bad(page):
    page.goto("/")
    expect(page.locator("h1")).to_have_text("Goodbye", timeout=300)

@pytest.fixture
def broken():
    raise RuntimeError("set-up went wrong")

def test_error(broken): ...
""",
    )
    assert (result.status, result.exit_code, result.reason) == ("failed", 1, "2 of 3 tests failed")
    assert (result.passed, result.failed, result.errors) == (1, 1, 1)
    report = workspace.report.read_text()
    assert "data:image/jpeg;base64," in report or "data:image/jpg;base64," in report
    assert "Goodbye" in report
    assert not re.search(r'(src|href)="(?!"|data:|#|https://pypi.python.org)', report)  # self-contained


def test_without_a_suite_it_is_skipped_and_an_earlier_report_does_not_stay(workspace: Workspace, site: Served) -> None:
    workspace.report.write_text("of an earlier run")
    result = run_suite(workspace, site.site, "bwrap", 60)
    assert (result.status, result.exit_code, result.reason) == ("skipped", None, "No tests generated")
    assert "earlier" not in workspace.report.read_text()
    assert json.loads(workspace.results.read_bytes())["status"] == "skipped"


@pytest.mark.parametrize("kind", ["link", "folder", "fifo", "huge"])
def test_a_suite_that_is_no_plain_file_is_not_run(
    workspace: Workspace, site: Served, tmp_path: Path, kind: str
) -> None:
    match kind:
        case "link":
            (tmp_path / "elsewhere.py").write_text("def test_x(): ...")
            workspace.suite.symlink_to(tmp_path / "elsewhere.py")
        case "folder":
            workspace.suite.mkdir()
        case "fifo":
            os.mkfifo(workspace.suite)
        case _:
            workspace.suite.write_text("#" * 600_000)
    result = run_suite(workspace, site.site, "bwrap", 60)
    assert result.status == "skipped"
    assert result.reason.startswith("No tests generated: e2e_test.py is not a plain file")


@pytest.mark.parametrize(
    ("suite", "status", "reason"),
    [
        ("import os; os._exit(0)", "failed", "pytest ended with exit code 0 and left no readable JUnit file"),
        ("def test_x(): import os; os._exit(0)", "failed", "exit code 0 and left no readable JUnit file"),
        ("import sys; sys.exit(0)", "failed", ""),
        ("x = 1", "failed", "the suite holds no test"),
        ("def broken(:", "failed", "the suite cannot be parsed: line 1: invalid syntax"),
        ("x = " + "(" * 5000, "failed", "the suite cannot be parsed"),
        ("def test_a(): ...\nasync def test_b(): ...", "failed", "e2e_test::test_b is an async def, which pytest does"),
        ("import pytest; pytest.skip('no', allow_module_level=True)", "failed", ""),
        ("import pytest\ndef test_x(): pytest.skip('no')", "skipped", "all 1 tests skipped themselves"),
        ("import os, signal\ndef test_x(): os.kill(os.getpid(), signal.SIGKILL)", "failed", "exit code 137"),
        (
            "import atexit, os\ndef test_x(): assert False\nxml = '<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>'\n"
            "atexit.register(lambda: (open('/out/junit.xml', 'w').write(xml), os._exit(0)))",
            "failed",
            "left no readable JUnit file",
        ),
        (
            "import atexit, os\ndef test_x(): assert False\natexit.register(lambda: os._exit(0))",
            "failed",
            "exit code 0, but 1 of 1 tests failed",
        ),
        (
            "import atexit, os\ndef test_x(): ...\n"
            "atexit.register(lambda: (os.truncate('/out/junit.xml', 0), os.truncate('/out/junit.xml', 400_000_000)))",
            "failed",
            "left no readable JUnit file",
        ),
    ],
)
def test_a_verdict_is_never_better_than_its_evidence(
    workspace: Workspace, site: Served, suite: str, status: str, reason: str
) -> None:
    result = ran(workspace, site, suite)
    assert result.status == status
    assert reason in result.reason


def test_nothing_beside_the_suite_changes_how_it_runs(workspace: Workspace, site: Served) -> None:
    folder = workspace.suite.parent
    (folder / "conftest.py").write_text("import os; os._exit(3)")
    (folder / "secrets.py").write_text("raise SystemExit('shadowed')")
    (folder / "pytest.ini").write_text("[pytest]\naddopts = -p evil")
    (folder / "pyproject.toml").write_text("[tool.pytest.ini_options]\naddopts = '-p evil'")
    (folder / "evil.py").write_text("import os; os._exit(4)")
    (folder / "sitecustomize.py").write_text("import os; os._exit(5)")
    result = ran(workspace, site, "import secrets, sys\ndef test_x(): assert secrets.token_hex(4)")
    assert (result.status, result.passed) == ("passed", 1)


@pytest.fixture
def canary() -> Iterator[tuple[int, list[bytes]]]:
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.settimeout(5)
                    try:
                        heard.append(connection.recv(100))
                    except OSError:
                        heard.append(b"")

        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1], heard
        server.shutdown(socket.SHUT_RDWR)


def test_a_suite_gets_hold_of_nothing(
    workspace: Workspace, site: Served, canary: tuple[int, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "worker-canary")
    port, heard = canary
    other = workspace.root.parent / "another-session.txt"
    other.write_text("other-canary")
    result = ran(
        workspace,
        site,
        f"""
import glob, os, pathlib, socket, urllib.request
import pytest

def test_environment():
    for path in glob.glob("/proc/*/environ"):
        try:
            assert b"worker-" + b"canary" not in pathlib.Path(path).read_bytes()
        except OSError:
            pass

@pytest.mark.parametrize("path", [{str(other)!r}, "/etc/shadow", "/root/.bashrc", {str(workspace.root)!r}])
def test_files(path):
    assert not os.path.exists(path)

@pytest.mark.parametrize("address", [("127.0.0.1", {port}), ("169.254.169.254", 80), ("10.0.0.1", 22)])
def test_network(address):
    with pytest.raises(OSError):
        socket.create_connection(address, 2)

def test_browser(page):
    page.goto("/")
    assert page.evaluate("fetch('http://127.0.0.1:{port}/', {{mode: 'no-cors'}}).then(() => 1, () => 0)") == 0

def test_its_own_file():
    with pytest.raises(OSError):
        pathlib.Path(__file__).write_text("")
""",
    )
    assert result.status == "passed", result.stdout
    assert heard == []
    assert "worker-canary" not in workspace.report.read_text()


def test_a_suite_that_sleeps_for_ever_is_stopped_and_still_leaves_a_report(workspace: Workspace, site: Served) -> None:
    suite = "import time\ndef test_a(): ...\ndef test_b(): time.sleep(1000)\ndef test_c(): ..."
    started = time.monotonic()
    result = ran(workspace, site, suite, deadline_s=12)
    assert time.monotonic() - started < 14
    assert (result.status, result.passed, result.failed) == ("failed", 1, 1)
    assert "TooLong: this test took longer than" in workspace.report.read_text()


def test_a_suite_that_cannot_be_interrupted_is_killed_with_all_it_started(workspace: Workspace, site: Served) -> None:
    marker = f"marker{os.getpid()}x{time.monotonic_ns()}"
    suite = f"""
import os, signal, subprocess, sys, time
signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 32))
for _ in range(3):
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)", "{marker}"], start_new_session=True)
def test_a(): time.sleep(1000)
"""
    result = ran(workspace, site, suite, deadline_s=3)
    assert (result.status, result.exit_code, result.reason) == ("failed", None, "the suite was killed at its deadline")
    assert "left no report" in workspace.report.read_text()
    left = [p for p in Path("/proc").glob("[0-9]*/cmdline") if marker.encode() in p.read_bytes()]
    assert left == []


def test_a_hundred_megabytes_of_output_are_cut(workspace: Workspace, site: Served) -> None:
    suite = """
import os, sys
def test_a(capfd):
    with capfd.disabled():
        os.write(1, b"\\x1b]52;c;aGk=\\x07\\x1b[31mred\\x1b[0m \\x00")
        for _ in range(1000): os.write(1, b"x" * 100_000)
        os.write(2, b"y" * 1_000_000)
"""
    result = ran(workspace, site, suite)
    assert result.passed == 1
    assert len(result.stdout) < 110_000
    assert len(result.stderr) < 110_000
    assert "red" in result.stdout
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", result.stdout)
    assert workspace.results.stat().st_size < 1_000_000


def test_links_in_place_of_results_are_not_followed(workspace: Workspace, site: Served, tmp_path: Path) -> None:
    """Neither those that the suite leaves in the sandbox, nor those that the agent left in the folder."""
    (tmp_path / "secret").write_text("<! secret of the host")
    workspace.report.symlink_to(tmp_path / "secret")
    workspace.results.symlink_to(tmp_path / "secret")
    suite = f"""
import atexit, os
def swap():
    for name in ("/out/report.html", "/out/junit.xml"):
        os.unlink(name)
        os.symlink({str(tmp_path / "secret")!r}, name)
atexit.register(swap)
def test_a(): ...
"""
    result = ran(workspace, site, suite)
    assert result.status == "failed"
    assert "secret of the host" not in workspace.report.read_text()
    assert (tmp_path / "secret").read_text() == "<! secret of the host"
    assert not workspace.report.is_symlink()
    assert not workspace.results.is_symlink()


@pytest.mark.parametrize("kind", ["folder", "fifo"])
def test_what_the_agent_left_in_place_of_the_results_is_moved_aside(
    workspace: Workspace, site: Served, kind: str
) -> None:
    for path in (workspace.report, workspace.results):
        if kind == "fifo":
            os.mkfifo(path)
        else:
            (path / "below").mkdir(parents=True)
    result = run_suite(workspace, site.site, "bwrap", 60)
    assert workspace.report.read_text().startswith("<!")
    assert SuiteResult.model_validate_json(workspace.results.read_bytes()) == result
    aside = [path.name for path in workspace.results.parent.iterdir() if path.is_dir()]
    assert len(aside) == (2 if kind == "folder" else 0)


def test_folders_that_a_suite_nests_past_any_recursion_do_not_stay(workspace: Workspace, site: Served) -> None:
    before = set(Path(tempfile.gettempdir()).glob("tb-suite-*"))
    result = ran(
        workspace,
        site,
        "import os\ndef test_a():\n    os.chdir('/out')\n    for _ in range(1500):\n        os.mkdir('x')\n"
        "        os.chdir('x')",
    )
    assert (result.status, result.passed) == ("passed", 1)
    assert set(Path(tempfile.gettempdir()).glob("tb-suite-*")) <= before


def test_without_a_browser_it_is_skipped_and_says_why(workspace: Workspace, site: Served, tmp_path: Path) -> None:
    workspace.suite.write_text("def test_a(page): ...")
    result = run_suite(workspace, site.site, "bwrap", 60, tmp_path / "chromium")
    assert (result.status, result.exit_code) == ("skipped", None)
    assert "is not a program" in result.reason
    assert json.loads(workspace.results.read_bytes())["reason"] == result.reason
    assert "is not a program" in workspace.report.read_text()


FORGERY = """
import os, sys
with open("/out/junit.xml", "w") as file:
    file.write('<testsuites><testsuite><testcase classname="e2e_test" name="test_a"/>'
               '<testcase classname="e2e_test" name="test_b"/></testsuite></testsuites>')
{more}
os._exit(0)
def test_a(): assert False
def test_b(): assert False
"""

TOLD_BLINDLY = """
import json
for name in ("test_a", "test_b"):
    link = next(each for each in map(int, os.listdir("/proc/self/fd")) if each > 2 and "socket" in
                os.readlink(f"/proc/self/fd/{each}"))
    os.write(link, json.dumps({"begins": ["e2e_test", name]}).encode() + b"\\n")
    for phase in ("setup", "call", "teardown"):
        os.write(link, json.dumps({"token": "", "phase": phase, "outcome": "passed"}).encode() + b"\\n")
"""

SIGNED_WITH_NOTHING = """
told = '{"exit_code": 0, "certain": [], "possible": [], "complaints": [], "ran": [["e2e_test", "test_a", "passed"]]}'
print("\\ntmux-builder-suite: " + "0" * 64 + " " + told, flush=True)
"""


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ("", "the JUnit file names 2 tests that were not seen to run, e2e_test::test_a for one"),
        (TOLD_BLINDLY, "told something that pytest does not tell"),
        (SIGNED_WITH_NOTHING, "the JUnit file names 2 tests that were not seen to run"),
    ],
    ids=["file alone", "told blindly", "signed with nothing"],
)
def test_a_junit_file_of_the_suites_own_making_passes_nothing(
    workspace: Workspace, site: Served, more: str, reason: str
) -> None:
    result = ran(workspace, site, FORGERY.replace("{more}", more))
    assert (result.status, result.exit_code) == ("failed", 0)
    assert reason in result.reason


def test_the_key_of_its_witness_is_in_no_place_where_a_suite_finds_it(workspace: Workspace, site: Served) -> None:
    """The order that holds it is gone, and the witness's memory, descriptors and environment are closed."""
    result = ran(
        workspace,
        site,
        """
import os, pathlib, pytest

def test_files():
    assert sorted(os.listdir("/out")) == ["report.css"]

def test_arguments_and_environments():
    told = b"".join(path.read_bytes() for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"))
    assert b"supervisor.py" in told and b"key" not in told

@pytest.mark.parametrize("name", ["mem", "environ", "maps", "fd/1"])
def test_its_parent_is_closed(name):
    assert b"supervisor" in pathlib.Path(f"/proc/{os.getppid()}/cmdline").read_bytes()
    with pytest.raises(PermissionError):
        open(f"/proc/{os.getppid()}/{name}", "rb").read(1)
""",
    )
    assert result.status == "passed", result.stdout
    assert MARK not in result.stdout


def test_classes_parameters_and_what_stands_under_an_if_are_known_tests(workspace: Workspace, site: Served) -> None:
    result = ran(
        workspace,
        site,
        """
import unittest, pytest

class Common:
    def test_inherited(self): ...

class TestHome(Common):
    @pytest.mark.parametrize("size", ["a[b]", "a::b"])
    def test_sizes(self, size): ...
    class TestInner:
        def test_inner(self): ...

class Old(unittest.TestCase):
    def test_old(self): ...

@pytest.fixture
def test_data(): return 1

if True:
    def test_below(test_data): assert test_data
else:
    def test_never(): ...

def _made(): ...
test_named = _made
""",
    )
    assert (result.status, result.reason, result.passed) == ("passed", "", 7), result.stdout


def test_a_report_of_the_suites_own_making_can_ask_a_reader_for_nothing(
    workspace: Workspace, site: Served, canary: tuple[int, list[bytes]], tmp_path: Path
) -> None:
    port, heard = canary
    there = f"http://127.0.0.1:{port}/"
    hostile = (
        f"</iframe>\"'><script>setInterval(() => console.log('ran'), 100); new Image().src = '{there}';"
        f"fetch('{there}').catch(() => 0);"
        f"try {{ top.location = '{there}' }} catch {{}} window.open('{there}');"
        f"setTimeout(() => document.forms[0].submit(), 2000); setTimeout(() => location = '{there}', 3000);"
        f"</script><base href='{there}'><form action='{there}'><input name='password' type='password'></form>"
        f"<img src='{there}x.png'><iframe src='{there}'></iframe><meta http-equiv='refresh' content='4;url={there}'>"
    )
    result = ran(
        workspace,
        site,
        f"import os\nopen('/out/report.html', 'w').write({hostile!r})\nos._exit(0)\ndef test_a(): ...",
    )
    assert result.status == "failed"
    assert "</iframe>\"'>" not in workspace.report.read_text()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(None), args=["--no-sandbox"])
        try:
            page = browser.new_page()
            with page.expect_console_message(lambda message: message.text == "ran"):
                page.goto(workspace.report.as_uri())
            page.wait_for_timeout(6000)  # longer than the last of what it tries
            assert page.url == workspace.report.as_uri()
            assert "Everything below this line was written by the generated suite" in page.inner_text("body > p")
            assert len(browser.contexts[0].pages) == 1
        finally:
            browser.close()
    assert [request for request in heard if request] == []  # Chromium may dial ahead of a policy's no, and says nothing


def test_the_report_of_an_honest_suite_works_in_its_frame(workspace: Workspace, site: Served) -> None:
    ran(workspace, site, "def test_a(): ...\ndef test_b(page):\n    page.goto('/')\n    assert False")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(None), args=["--no-sandbox"])
        try:
            page, errors = browser.new_page(), []
            page.on("pageerror", lambda error: errors.append(error))
            page.goto(workspace.report.as_uri())
            report = page.frame_locator("iframe")
            report.locator("td.col-result >> nth=1").wait_for()
            assert report.locator("img").first.evaluate("image => image.naturalWidth") > 0
            report.locator("input[data-test-result=passed]").click()
            report.locator("td.col-result >> nth=1").wait_for(state="detached")
            assert report.locator("td.col-result").all_inner_texts() == ["Failed"]
            assert errors == []
        finally:
            browser.close()


def test_a_stop_from_outside_ends_it(workspace: Workspace, site: Served) -> None:
    workspace.suite.write_text("import time\ndef test_a(): time.sleep(1000)")
    stop = threading.Event()
    threading.Timer(1, stop.set).start()
    started = time.monotonic()
    with pytest.raises(BrowserError, match="it was stopped"):
        run_suite(workspace, site.site, "bwrap", 60, stop=stop)
    assert time.monotonic() - started < 10


def test_without_the_sandbox_it_runs_just_the_same(workspace: Workspace, site: Served) -> None:
    workspace.suite.write_text("def test_a(page):\n    page.goto('/')\n    assert page.title() == 'A site'")
    result = run_suite(workspace, site.site, "unsafe-none", 60)
    assert (result.status, result.passed) == ("passed", 1), result.stdout + result.stderr


# --- pure --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "junit",
    [
        None,
        b"",
        b"<html/>",
        b"\xff\xfe\x00",
        b'<?xml version="1.0" encoding="no-such"?><testsuites/>',
        b'<!DOCTYPE t [<!ENTITY a "x"><!ENTITY b "&a;&a;&a;&a;">]><testsuites>&b;</testsuites>',
        b'<!DOCTYPE t SYSTEM "file:///etc/passwd"><testsuites/>',
        b"<testsuites><testsuite>",
    ],
)
def test_what_is_no_junit_file_counts_nothing(junit: bytes | None) -> None:
    assert read_cases(junit) is None


KEY = b"k" * 32
SWORN = Sworn(
    exit_code=0,
    certain=[("t", "test_a"), ("t.TestB", "test_b")],
    possible=[("t", "test_c")],
    ran=[("t", "test_a[1]", "passed"), ("t", "test_a[2]", "skipped"), ("t.TestB", "test_b", "passed")],
    complaints=[],
)
AGREEING = [
    Case("t", "test_a[1]", "passed"),
    Case("t", "test_a[2]", "skipped"),
    Case("t.TestB", "test_b", "passed"),
]


def test_what_agrees_is_not_complained_of() -> None:
    assert complaint_about(AGREEING, SWORN, 0) is None


@pytest.mark.parametrize(
    ("cases", "change", "complaint"),
    [
        (AGREEING, {"exit_code": 1}, "did not tell the same"),
        (AGREEING[:2], {}, "1 of 3 tests that ran are not in the JUnit file, t.TestB::test_b for one"),
        ([*AGREEING, Case("t", "test_c", "passed")], {}, "names 1 tests that were not seen to run, t::test_c for one"),
        ([*AGREEING[:2], Case("t.TestB", "test_b", "skipped")], {}, "1 of 3 tests that ran are not in the JUnit file"),
        (AGREEING, {"certain": [*SWORN.certain, ("t", "test_z")]}, "1 tests of the suite did not run, t::test_z"),
        (AGREEING, {"certain": SWORN.certain[:1]}, "1 tests ran that are not in the suite's text, t.TestB::test_b"),
    ],
)
def test_what_does_not_agree_is_named(cases: list[Case], change: dict[str, object], complaint: str) -> None:
    assert complaint in str(complaint_about(cases, SWORN.model_copy(update=change), 0))


def test_only_what_is_signed_with_the_key_is_believed() -> None:
    line = signed(KEY, SWORN.model_dump())
    assert read_sworn(f"a\n{line}\nb", KEY) == (SWORN, "a\nb")
    for forged in (
        line.replace("test_a", "test_z"),
        signed(b"x" * 32, SWORN.model_dump()),
        f"{MARK} ",
        f"{MARK} \xe4 {{}}",
    ):
        assert read_sworn(forged, KEY) == (None, forged)
    assert complaint_about(AGREEING, None, 0) is not None


def heard(*told: object) -> Witness:
    """Each ``T`` is the token of the test that runs."""
    witness, token = Witness(), ""
    for each in told:
        token = witness.hear(json.dumps(each).replace('"T"', json.dumps(token)).encode()) or token
    return witness


def phases(*outcomes: str) -> list[object]:
    names = ("setup", "call", "teardown") if len(outcomes) == 3 else ("setup", "teardown")
    return [{"token": "T", "phase": name, "outcome": outcome} for name, outcome in zip(names, outcomes, strict=True)]


BEGIN = {"begins": ["t", "test_a"]}


@pytest.mark.parametrize(
    ("outcomes", "kind"),
    [
        (("passed", "passed", "passed"), "passed"),
        (("passed", "skipped", "passed"), "skipped"),
        (("skipped", "passed"), "skipped"),
        (("failed", "passed"), "failed"),
        (("passed", "failed", "passed"), "failed"),
        (("passed", "passed", "failed"), "failed"),
    ],
)
def test_a_test_that_ran_its_phases_is_witnessed(outcomes: tuple[str, ...], kind: str) -> None:
    witness = heard(BEGIN, *phases(*outcomes), {"begins": ["t", "test_b"]}, *phases("passed", "passed", "passed"))
    assert witness.ran == [("t", "test_a", kind), ("t", "test_b", "passed")]
    assert witness.complaints + witness.unfinished == []


@pytest.mark.parametrize(
    "told",
    [
        [BEGIN, *phases("passed", "passed")],
        [BEGIN, *phases("skipped", "passed", "passed")],
        [BEGIN, phases("passed", "passed")[1]],
        [BEGIN, BEGIN],
        phases("passed", "passed", "passed"),
        [BEGIN, {"token": "", "phase": "setup", "outcome": "passed"}],
        [BEGIN],
        [7],
        [{"begins": "t"}],
        ["x"],
    ],
    ids=range(10),
)
def test_what_pytest_would_not_tell_is_complained_of(told: list[object]) -> None:
    witness = heard(*told)
    assert witness.complaints + witness.unfinished != []


@pytest.mark.parametrize(
    "source", [b"def a(:", b"\0", b"\xff\xfe", b"(" * 5000, b"-" * 200_000 + b"1", b"a." * 90_000 + b"b"]
)
def test_a_suite_that_cannot_be_parsed_is_said_to_be(source: bytes) -> None:
    (complaint,) = Written(source, "t").complaints
    assert complaint.startswith("the suite cannot be parsed: ")


def test_tests_that_nobody_would_run_are_named_and_classes_that_are_none_are_not() -> None:
    source = b"class TestA:\n async def test_a(self): ...\nclass TestB:\n __test__ = False\n def test_b(self): ..."
    written = Written(source, "t")
    assert written.complaints == ["t.TestA::test_a is an async def, which pytest does not run"]
    assert (written.certain, written.possible) == (set(), set())


def test_a_test_that_a_decorator_of_the_suites_own_may_leave_out_is_not_missed() -> None:
    source = b"@each([])\ndef test_a(x): ...\n@pytest.mark.parametrize('x', [])\ndef test_b(x): ...\ndef test_c(): ..."
    written = Written(source, "t")
    assert (written.certain, written.possible) == ({("t", "test_b"), ("t", "test_c")}, {("t", "test_a")})


def test_sums_that_a_junit_file_claims_are_not_believed() -> None:
    case = b"<testcase><error/><failure/></testcase>"
    junit = b'<testsuites><testsuite tests="100" failures="0">' + case + b"</testsuite></testsuites>"
    assert counted(read_cases(junit) or []) == Counts(errors=1)


@pytest.mark.parametrize("exit_code", [None, 0, 1, 2, 3, 4, 5, 137])
@pytest.mark.parametrize(
    "counts",
    [None, Counts(), Counts(passed=2), Counts(passed=2, failed=1), Counts(passed=2, errors=1), Counts(skipped=2)],
)
def test_only_agreeing_evidence_passes(exit_code: int | None, counts: Counts | None) -> None:
    status, reason = verdict(exit_code, counts)
    assert (status == "passed") == (exit_code == 0 and counts == Counts(passed=2))
    assert (reason == "") == (status == "passed")


def test_output_keeps_its_lines_and_loses_its_controls() -> None:
    assert readable("a\x1b[31mb\x1b[0m\r\n\tc\x07\u202ed\x00") == "ab\n\tcd"
    assert len(readable("x" * 1_000_000)) < 100_200
