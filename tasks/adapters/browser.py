"""A site, looked at by a browser that is confined like the code that made the site.

The browser runs in the sandbox with one bridge, to the site. Its report and its pictures come back through a private
folder; both are read as untrusted: bounded, validated, and pictures drawn anew.
"""

import io
import json
import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

from PIL import Image
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from tasks.adapters.sandbox import Confinement, Finished, Mode, SiteBridge, python_runtime, run
from tasks.adapters.trees import sandbox_folder
from tasks.adapters.waiting import Flag
from tasks.adapters.workspace import read_bounded, write_atomic
from tasks.domain.check import Check, Finding, Outcome
from tasks.domain.errors import BrowserError
from tasks.domain.hosting import Site

log = logging.getLogger(__name__)

PAGES, PICTURED, LINKS = 20, 8, 200
BUDGET_S, LOOK_S = 60.0, 15.0
_OVERRUN_S = 30.0
_REPORT_BYTES = 16 << 20
_PICTURE_BYTES, _PICTURE_PIXELS, _PICTURE_SIDE = 64 << 20, 20_000_000, 16_384
_THUMBNAIL_BYTES = 150_000
_SHOWN = 5

_INSIDE = Path(__file__).parent / "inside"
_SCRIPT, _OUT = "/run/photographer.py", "/out"
_LAUNCHED = "launched\n"
"""What the photographer says first, on a pipe: nothing that it meets later can take it back."""

_NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
_FLAGS = (
    "--no-sandbox",  # its own sandbox needs user namespaces, which ours does not give away
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-extensions",
    "--disable-sync",
    "--no-first-run",
    "--mute-audio",
)
_AS_WRITTEN = "--enable-blink-features=LangAttributeAwareFormControlUI"
"""Date fields as the page's language has them, and not as the browser's."""


def find_browser(setting: Path | None) -> Path:
    """The Chromium to use: ``setting``, else Playwright's own, else one on PATH. Raises BrowserError where none is."""
    if setting is not None:
        if not os.access(setting, os.X_OK) or setting.is_dir():
            raise BrowserError("looking for Chromium", f"TMUX_BUILDER_BROWSER={setting} is not a program")
        return setting
    for found in _playwrights_own():
        return found
    for name in _NAMES:
        on_path = shutil.which(name)
        if on_path and not _is_snap(Path(on_path)):
            return _without_wrapper(Path(on_path))
    raise BrowserError(
        "looking for Chromium",
        f"neither Playwright's own nor one of {', '.join(_NAMES)} on PATH; install it (apt-get install chromium) "
        "or name one in TMUX_BUILDER_BROWSER",
    )


def _playwrights_own() -> Iterator[Path]:
    """Newest first; the headless shell before the full browser, since it starts faster."""
    root = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or "~/.cache/ms-playwright").expanduser()
    for kind, names in (
        ("chromium_headless_shell-", ("chrome-headless-shell", "headless_shell")),
        ("chromium-", ("chrome",)),
    ):
        folders = [path for path in root.glob(f"{kind}*") if path.name.removeprefix(kind).isdigit()]
        for folder in sorted(folders, key=lambda path: -int(path.name.removeprefix(kind))):
            yield from (path for name in names for path in folder.glob(f"*/{name}") if os.access(path, os.X_OK))


def _is_snap(path: Path) -> bool:
    """Snap's launchers need a running snapd, which the sandbox has not."""
    return "/snap/" in str(path.resolve()) or b"/snap/" in (read_bounded(path.resolve(), 1 << 16) or b"")


def _without_wrapper(path: Path) -> Path:
    """Debian's `/usr/bin/chromium` is a script that starts this program."""
    program = Path("/usr/lib", path.name, path.name)
    return program if os.access(program, os.X_OK) else path


@dataclass(frozen=True)
class Sight:
    """How one site is reached from where the browser runs: for `Confinement`, and for Chromium's command line."""

    bridge: Path | None
    port: int | None
    dial: str
    hosts: tuple[str, ...]
    arguments: tuple[str, ...]


@contextmanager
def sight_of(site: Site, mode: Mode) -> Iterator[Sight]:
    """The way to ``site`` alone. In the sandbox nothing else exists; without one, other names do not resolve."""
    parts = urlsplit(site.url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    dial = site.dial or f"{host}:{port}"
    near = port if port >= 1024 else port + 20_000  # lower ports take a privilege that nobody has inside
    confined = mode == "bwrap"
    with SiteBridge(dial) if confined else nullcontext() as bridge:
        arrived = f"127.0.0.1:{near}" if confined else dial
        rules = f"MAP {host}:{port} {arrived}, MAP * ~NOTFOUND"
        yield Sight(
            bridge=bridge.path if bridge else None,
            port=near if confined else None,
            dial=arrived,
            hosts=(host,),
            arguments=(*_FLAGS, f"--host-resolver-rules={rules}"),
        )


def browser_folders(browser: Path) -> dict[str, Path]:
    """What a sandbox must show of ``browser``; `/usr` is there anyway."""
    if browser.is_relative_to("/usr") and browser.resolve().is_relative_to("/usr"):
        return {}
    real = browser.resolve()
    return {str(real.parent): real.parent}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


_Text = Field(max_length=1000)
_Texts = Field(max_length=1000)


class _View(_Strict):
    """What one device saw of one page; the names are the photographer's."""

    status: int
    failure: str
    title: str
    overflow: float
    broken: tuple[str, ...] = _Texts
    unnamed: tuple[str, ...] = _Texts
    console: tuple[str, ...] = _Texts
    failed: tuple[str, ...] = _Texts
    outside: tuple[str, ...] = _Texts
    outside_scripts: int
    dialogs: tuple[str, ...] = _Texts
    picture: str = Field(pattern=r"^(|\d\d-(desktop|phone)\.jpg)$")


def _address(url: str) -> str:
    urlsplit(url)
    return url


_Address = Annotated[str, Field(max_length=1000), AfterValidator(_address)]


class _Page(_Strict):
    url: _Address
    desktop: _View
    phone: _View


class _Link(_Strict):
    url: str = _Text
    status: int
    failure: str = _Text
    found_on: _Address


class _Anchor(_Strict):
    url: _Address
    found_on: _Address


class Report(_Strict):
    pages: tuple[_Page, ...] = Field(max_length=PAGES)
    links: tuple[_Link, ...] = Field(max_length=2 * LINKS)
    anchors: tuple[_Anchor, ...] = Field(max_length=1000)
    unvisited: int
    unasked: int
    browser_lost: bool
    out_of_time: bool


def photograph(
    site: Site,
    screenshots: Path,
    mode: Mode,
    browser: Path | None = None,
    *,
    stop: Flag | None = None,
    budget_s: float = BUDGET_S,
    look_s: float = LOOK_S,
) -> Check:
    """Look at the front page and the pages that it leads to; leave pictures in ``screenshots``.

    ``screenshots`` is the workspace's ``deployment/screenshots``, which no sandbox may write to; earlier pictures
    there are replaced. ``look_s`` is how long one page may take to load, ``budget_s`` how long all of it.
    Red gates: the front page, script errors, requests to the site, internal links, and a browser that was well until
    it met the site. Skipped: a tour that ran out of time with pages left. Raises BrowserError where no browser can be
    found or launched, or it was stopped.
    """
    program = find_browser(browser)
    with sandbox_folder("tb-photographs-") as out, sight_of(site, mode) as sight:
        order = {
            "url": site.url if urlsplit(site.url).path else f"{site.url}/",
            "dial": sight.dial,
            "folder": _OUT if mode == "bwrap" else str(out),
            "executable": str(program),
            "arguments": [*sight.arguments, _AS_WRITTEN],
            "pages": PAGES,
            "pictures": PICTURED,
            "links": LINKS,
            "budget_s": budget_s,
            "look_s": look_s,
            "disposable": mode == "bwrap",
        }
        confinement = Confinement(
            command=(sys.executable, "-I", "-B", _SCRIPT, json.dumps(order)),
            readonly={**python_runtime(), **browser_folders(program), _SCRIPT: _INSIDE / "photographer.py"},
            writable={_OUT: out},
            cwd=_OUT,
            bridge=sight.bridge,
            bridge_port=sight.port,
            hosts=sight.hosts,
        )
        finished = run(confinement, mode, budget_s + _OVERRUN_S, stop=stop)
        try:
            report = read_report(out, finished)
        except TourLost as lost:
            findings: tuple[Finding, ...] = (_finding("browser", [str(lost)]),)
            taken: dict[str, str] = {}
            clear(screenshots, taken)
        else:
            taken = develop(report, out, screenshots)
            findings = tuple(_findings(report, taken))
    return Check(
        name="screenshot",
        outcome=outcome_of(findings),
        findings=findings,
        evidence=tuple(f"deployment/screenshots/{name}" for name in taken),
        seconds=round(finished.seconds, 3),
    )


def outcome_of(findings: Sequence[Finding]) -> Outcome:
    if any(finding.outcome is Outcome.FAILED and finding.gate for finding in findings):
        return Outcome.FAILED
    return Outcome.SKIPPED if any(finding.outcome is Outcome.SKIPPED for finding in findings) else Outcome.PASSED


class TourLost(Exception):
    """The browser worked, then met the site, and nothing usable came back."""


def read_report(out: Path, finished: Finished) -> Report:
    """Raises BrowserError where no browser was launched, TourLost where what went wrong did so at the site."""
    doing = "photographing the site"
    if finished.stopped:
        raise BrowserError(doing, "it was stopped")
    if not finished.stdout.startswith(_LAUNCHED):
        late = f"it was not launched within {finished.seconds:.0f} s"
        raise BrowserError(doing, late if finished.exit_code is None else _last_words(finished))
    if finished.exit_code is None:
        raise TourLost(f"the site kept it busy for {finished.seconds:.0f} s, far past its time")
    data = read_bounded(out / "report.json", _REPORT_BYTES)
    if finished.exit_code != 0 or data is None:
        raise TourLost(f"it ended at the site: {_last_words(finished)}")
    try:
        report = Report.model_validate_json(data)
    except ValidationError as error:
        raise TourLost(f"its report is not one: {error.errors()[0]['msg']}") from None
    if report.browser_lost:
        raise TourLost("Chromium ended in the middle of the tour")
    return report


def _last_words(finished: Finished) -> str:
    lines = [line.strip() for line in finished.stderr.splitlines() if line.strip(" ║╔╚═╝╗")]
    errors = [line for line in lines if re.match(r"[\w.]*Error: ", line)]
    return one_line((errors or lines or [f"exit code {finished.exit_code} without a word"])[-1])


def one_line(text: str, length: int = 200) -> str:
    """What a page said, as one printable line of bounded length."""
    clean = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return clean if len(clean) <= length else f"{clean[: length - 1]}…"


def _findings(report: Report, taken: Mapping[str, str]) -> Iterator[Finding]:
    if report.pages:
        front = report.pages[0]
        yield _finding("front page", [complaint for view in _views(front) if (complaint := _not_loaded(view))])
    others = [
        f"{_path(page.url)}: {complaint}"
        for page in report.pages[1:]
        for complaint in sorted({_not_loaded(view) for view in _views(page)} - {""})
    ]
    dead = [
        f"{_named(link.url, report)} (on {_path(link.found_on)}): "
        f"{f'HTTP {link.status}' if link.status else link.failure}"
        for link in report.links
        if link.status == 0 or link.status >= 400
    ]
    yield _finding("internal links", [*dead, *others])
    yield _finding("requests to the site", _noted(report, "failed"))
    # Where a script from elsewhere was kept out, what then fails may be the sandbox's doing.
    own = [page for page in report.pages if not any(view.outside_scripts for view in _views(page))]
    blocked = [page for page in report.pages if page not in own]
    yield _finding("script errors", _noted(report, "console", own))
    if blocked:
        yield _finding("script errors, outside scripts kept out", _noted(report, "console", blocked), gate=False)
    yield _finding("anchors", [f"{_path(a.url)} (on {_path(a.found_on)})" for a in report.anchors], gate=False)
    yield _finding("images", _noted(report, "broken"), gate=False)
    yield _finding("alternative texts", _noted(report, "unnamed"), gate=False)
    wide = [f"{_path(p.url)}: {p.phone.overflow:.0f} px too wide" for p in report.pages if p.phone.overflow > 1]
    yield _finding("phone width", wide, gate=False)
    yield _finding("requests elsewhere", _noted(report, "outside"), gate=False)
    yield _finding("dialogs", _noted(report, "dialogs"), gate=False)
    if report.out_of_time and (left := _left(report)):
        yield Finding(name="time", outcome=Outcome.SKIPPED, detail=f"{left} when the time was up", gate=False)
    untaken = [view.picture for page in report.pages for view in _views(page) if view.picture]
    lost = [] if len(untaken) == len(taken) and taken else [f"{len(taken)} of {len(untaken)} could be read"]
    yield _finding("pictures", lost, gate=False)
    rest = f", {report.unvisited} more not visited" if report.unvisited else ""
    late = ", the time was up" if report.out_of_time else ""
    looked = f"{len(report.pages)} pages, {len(report.links)} links{rest}{late}"
    yield Finding(name="looked at", outcome=Outcome.PASSED, detail=looked, gate=False)


def _left(report: Report) -> str:
    counted = ((report.unvisited, "page", "visited"), (report.unasked, "link", "followed"))
    return ", ".join(
        f"{number} {noun}{'' if number == 1 else 's'} not {done}" for number, noun, done in counted if number
    )


def _finding(name: str, complaints: list[str], gate: bool = True) -> Finding:
    if not complaints:
        return Finding(name=name, outcome=Outcome.PASSED, gate=gate)
    more = f"; and {len(complaints) - _SHOWN} more" if len(complaints) > _SHOWN else ""
    detail = "; ".join(one_line(complaint) for complaint in complaints[:_SHOWN]) + more
    return Finding(name=name, outcome=Outcome.FAILED, detail=detail, gate=gate)


def _views(page: _Page) -> tuple[_View, _View]:
    return page.desktop, page.phone


def _not_loaded(view: _View) -> str:
    if view.failure:
        return view.failure
    return "" if 200 <= view.status < 400 else f"HTTP {view.status}"


def _noted(report: Report, name: str, pages: list[_Page] | None = None) -> list[str]:
    """One line for each thing, however many pages and devices it was seen on; the first page that has it is named."""
    where: dict[str, str] = {}
    for page in report.pages if pages is None else pages:
        for view in _views(page):
            for text in getattr(view, name):
                where.setdefault(text, _path(page.url))
    return [f"{path}: {text}" for text, path in where.items()]


def _named(link: str, report: Report) -> str:
    """The path of a page of this site; anything else as it was written, for it may be no address at all."""
    home = urlsplit(report.pages[0].url)
    return _path(link) if link.startswith(f"{home.scheme}://{home.netloc}/") else link


def _path(url: str) -> str:
    parts = urlsplit(url)
    return (
        (parts.path or "/")
        + (f"?{parts.query}" if parts.query else "")
        + (f"#{parts.fragment}" if parts.fragment else "")
    )


def develop(report: Report, out: Path, screenshots: Path) -> dict[str, str]:
    """Put redrawn pictures in place of all earlier ones; name → the page's path."""
    taken: dict[str, str] = {}
    for page in report.pages:
        slug = _slug(_path(page.url)) if page is not report.pages[0] else ""
        for device, view in (("desktop", page.desktop), ("phone", page.phone)):
            data = read_bounded(out / view.picture, _PICTURE_BYTES) if view.picture else None
            picture = redrawn(data) if data else None
            if picture is None:
                continue
            name = _free_name(f"{device}-{slug}" if slug else device, taken)
            write_atomic(screenshots / name, picture, mode=0o644)
            taken[name] = _path(page.url)
    clear(screenshots, taken)
    return taken


def clear(screenshots: Path, taken: Mapping[str, str]) -> None:
    """Remove earlier pictures of ours; another run of the same execution may do so too."""
    for old in screenshots.glob("*.jpg"):
        if re.fullmatch(r"(desktop|phone)(-[a-z0-9-]+)?\.jpg", old.name) and old.name not in taken:
            old.unlink(missing_ok=True)


def _slug(path: str) -> str:
    """
    >>> _slug("/About Us/index.html?x#y")
    'about-us'
    """
    path = re.sub(r"(index)?\.html?$", "", unquote(re.split(r"[?#]", path)[0]).lower())
    return re.sub(r"[^a-z0-9]+", "-", path).strip("-")[:40].strip("-") or "page"


def _free_name(stem: str, taken: Mapping[str, str]) -> str:
    ordinals = ("" if number == 1 else f"-{number}" for number in range(1, 100))
    return next(name for ordinal in ordinals if (name := f"{stem}{ordinal}.jpg") not in taken)


def redrawn(data: bytes) -> bytes | None:
    """A JPEG as a new JPEG of the same pixels; None for anything else, and for one too large to decode safely."""
    pixels = _pixels(data)
    return None if pixels is None else _as_jpeg(pixels, 88)


def _pixels(data: bytes) -> Image.Image | None:
    try:
        with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
            width, height = image.size
            if max(width, height) > _PICTURE_SIDE or width * height > _PICTURE_PIXELS:
                log.warning("a picture was left out width=%d height=%d", width, height)
                return None
            pixels = image.convert("RGB")
            pixels.info.clear()  # comments and profiles would be saved again
            return pixels
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        log.warning("a picture was left out reason=%s", one_line(str(error)))
        return None


def _as_jpeg(image: Image.Image, quality: int) -> bytes:
    new = io.BytesIO()
    image.save(new, "JPEG", quality=quality, progressive=quality < 88)
    return new.getvalue()


def thumbnail(path: Path, max_width: int) -> bytes:
    """A JPEG below 150 kB of a picture that `photograph` took: its top, at most twice as high as wide."""
    pixels = _pixels(read_bounded(path, _PICTURE_BYTES) or b"")
    if pixels is None:
        raise BrowserError("making a thumbnail", f"{path} is not a picture of ours; run the screenshot step again")
    small = pixels.crop((0, 0, pixels.width, min(pixels.height, 2 * pixels.width)))
    small.thumbnail((max_width, 2 * max_width), Image.Resampling.LANCZOS)
    for quality in (82, 65, 45, 25, 10):
        if len(data := _as_jpeg(small, quality)) < _THUMBNAIL_BYTES:
            return data
    small.thumbnail((480, 960))
    return _as_jpeg(small, 10)
