"""Looks at a site as a visitor on a desktop and on a phone. Runs inside the sandbox.

`python -I -B photographer.py ORDER`, ORDER being JSON (see `Order`). Says `LAUNCHED` on its output once the browser has
shown that it works and before it meets the site: what goes wrong from there on is the site's doing. Writes pictures
and, last, ``report.json`` into the order's folder; `tasks.adapters.browser` reads both as untrusted. Everything a page
can say is cut to a bound.
"""

import asyncio
import contextlib
import dataclasses
import http.client
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from playwright.async_api import (
    Browser,
    ConsoleMessage,
    Dialog,
    Error,
    Page,
    Request,
    Response,
    async_playwright,
)
from playwright.async_api import TimeoutError as PlaywrightTimeout

PER_PAGE = 50
TEXT = 300
URL = 500
LINKS_PER_PAGE = 500
LAUNCHED = "launched"
ANSWER_S = 15.0
"""How long a link is waited for, redirects included."""
LOCALE = "en-US"
"""The visitor's where the front page names no language."""
LANG = re.compile(r"""\slang\s{0,9}=\s{0,9}["']?([a-z]{2,3}(?:-[a-z0-9]{2,8}){0,3})(?![\w-])""", re.IGNORECASE)
HEAD_BYTES = 1 << 16
STUCK_S = 3.0
"""How long a page that did not load in time is still looked at."""
DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
HEIGHT = {"desktop": 12_000, "phone": 8_000}
"""CSS pixels of a page that a picture shows; Chromium draws no more than 16,384 device pixels."""

SEE = """
(async () => {
  const next = () => new Promise(done => { requestAnimationFrame(done); setTimeout(done, 50); });
  const frame = async () => { await next(); await next(); };  // observers of what is in view run after the first
  const root = document.scrollingElement || document.documentElement;
  for (const image of [...document.querySelectorAll('img[loading=lazy]')].slice(0, 500)) image.loading = 'eager';
  for (let step = 1; step <= 15 && step * innerHeight < root.scrollHeight; step++) {
    scrollTo({top: step * innerHeight, behavior: 'instant'}); await frame();
  }
  scrollTo({top: 0, behavior: 'instant'}); await frame();
  const until = performance.now() + 2000;
  const images = [...document.images].slice(0, 500);
  while (performance.now() < until && images.some(image => !image.complete)) await frame();
  const cut = (text, length) => Array.from(String(text).slice(0, 2 * length)).slice(0, length).join('');
  const addresses = [...document.querySelectorAll('a[href],area[href]')].slice(0, 500).map(link => {
    const written = link.getAttribute('href');
    try { return [cut(new URL(written, document.baseURI).href, 501), '']; } catch { return ['', cut(written, 300)]; }
  });
  const ids = [...document.querySelectorAll('[id],a[name]')].slice(0, 5000);
  return {
    title: cut(document.title, 300),
    height: root.scrollHeight,
    overflow: Math.max(root.scrollWidth, document.body ? document.body.scrollWidth : 0) - root.clientWidth,
    links: addresses.map(([address]) => address).filter(Boolean),
    dead: addresses.map(([, written]) => written).filter(Boolean),
    ids: ids.flatMap(element => [element.id, element.getAttribute('name')]).filter(Boolean).map(id => cut(id, 300)),
    broken: images.filter(image => image.complete && !image.naturalWidth && image.currentSrc)
                  .map(image => cut(image.currentSrc, 500)).slice(0, 50),
    unnamed: images.filter(image => !image.hasAttribute('alt')).map(image => cut(image.currentSrc, 500)).slice(0, 50),
  };
})()
"""
"""Evaluated in a world of its own, where the page's scripts cannot have changed what the functions do."""


@dataclasses.dataclass(frozen=True)
class Order:
    """``dial``: where the site's host and port really are. ``budget_s`` is counted from the browser's launch,
    ``look_s`` is how long one page may take to load.

    ``disposable``: all processes here end with this one, so that the browser need not be closed.
    """

    url: str
    dial: str
    folder: str
    executable: str
    arguments: list[str]
    pages: int
    pictures: int
    links: int
    budget_s: float
    look_s: float
    disposable: bool


@dataclasses.dataclass
class View:
    """What one device saw of one page."""

    device: str = ""
    status: int = 0
    failure: str = ""
    title: str = ""
    height: int = 0
    overflow: int = 0
    links: list[str] = dataclasses.field(default_factory=list)
    dead: list[str] = dataclasses.field(default_factory=list)
    ids: list[str] = dataclasses.field(default_factory=list)
    broken: list[str] = dataclasses.field(default_factory=list)
    unnamed: list[str] = dataclasses.field(default_factory=list)
    console: list[str] = dataclasses.field(default_factory=list)
    failed: list[str] = dataclasses.field(default_factory=list)
    outside: list[str] = dataclasses.field(default_factory=list)
    outside_scripts: int = 0
    dialogs: list[str] = dataclasses.field(default_factory=list)
    picture: str = ""


@dataclasses.dataclass
class Device:
    """A kind of visitor: its browser page, and the view that events now belong to."""

    name: str
    options: dict[str, Any]
    page: Page | None = None
    view: View = dataclasses.field(default_factory=View)


def note(into: list[str], text: str) -> None:
    cut = text[:TEXT]
    if len(into) < PER_PAGE and cut not in into:
        into.append(cut)


class Photographer:
    def __init__(self, order: Order) -> None:
        self._order = order
        self._origin = origin(order.url)
        self._until = time.monotonic() + order.budget_s
        self._locale = LOCALE

    @property
    def left_s(self) -> float:
        return self._until - time.monotonic()

    async def work(self) -> None:
        order = self._order
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=order.executable, args=order.arguments)
            await (await browser.new_page()).close()
            sys.stdout.write(f"{LAUNCHED}\n")
            sys.stdout.flush()
            self._until = time.monotonic() + order.budget_s
            report = await self._tour(browser)
            Path(order.folder, "report.json").write_text(json.dumps(scrubbed(report), ensure_ascii=False))
            if not order.disposable:
                with contextlib.suppress(Error, TimeoutError):
                    async with asyncio.timeout(5):
                        await browser.close()
            os._exit(0)  # a thread may still wait for an answer that never comes

    async def _tour(self, browser: Browser) -> dict[str, Any]:
        """Breadth first from the front page; each page on both devices at once."""
        desktop, phone = Device("desktop", DESKTOP), Device("phone", PHONE)
        queue, known = [self._order.url], {page_key(self._order.url)}
        pages: list[dict[str, Any]] = []
        links: dict[str, tuple[int, str, str]] = {}  # by page_key: status, media type or failure, found on
        fragments: list[tuple[str, str, str]] = []
        unasked = 0
        self._locale = await self._language()
        while queue and len(pages) < self._order.pages and self.left_s > 0 and browser.is_connected():
            url, number = queue.pop(0), len(pages)
            views = await asyncio.gather(*(self._look(browser, device, url, number) for device in (desktop, phone)))
            if self.left_s <= 0 and pages:  # what was cut short is no fault of the page
                queue.insert(0, url)
                break
            pages.append({"url": url, **{view.device: dataclasses.asdict(view) for view in views}})
            new: dict[str, str] = {}
            dead = [written for view in views for written in view.dead]
            for link in [link for view in views for link in view.links]:
                if (parts := parted(link)) is None:
                    dead.append(link[:TEXT])
                    continue
                target, fragment = parts
                if origin(target) != self._origin or len(link) > URL:
                    continue
                if fragment:
                    fragments.append((page_key(target), fragment, url))
                if page_key(target) not in links and len(links) + len(new) < self._order.links:
                    new.setdefault(page_key(target), target)
            for (key, target), answer in zip(new.items(), await self._ask(list(new.values())), strict=True):
                if answer is None:
                    unasked += 1
                    continue
                status, kind = answer
                links[key] = (status, kind, url)
                if status == 200 and kind == "text/html" and key not in known:
                    known.add(key)
                    queue.append(target)
            for written in dead[: self._order.links - len(links)]:
                links.setdefault(written, (0, "is no address", url))
        return {
            "pages": [{"url": page["url"], **{name: shown(page[name]) for name in HEIGHT}} for page in pages],
            "links": [
                {"url": key, "status": status, "failure": "" if status else kind, "found_on": found_on}
                for key, (status, kind, found_on) in links.items()
            ],
            "anchors": missing_anchors(pages, fragments),
            "unvisited": len(queue),
            "unasked": unasked,
            "browser_lost": not browser.is_connected(),
            "out_of_time": self.left_s <= 0,
        }

    async def _look(self, browser: Browser, device: Device, url: str, number: int) -> View:
        view = device.view = View(device.name)
        try:
            async with asyncio.timeout(max(1.0, min(2 * self._order.look_s, self.left_s))):
                page = device.page = device.page or await self._page(browser, device)
                try:
                    response = await page.goto(url, wait_until="load", timeout=self._order.look_s * 1000)
                    view.status = response.status if response else 0
                except PlaywrightTimeout:
                    view.failure = f"was not loaded after {self._order.look_s:.0f} s"
                except Error as error:
                    view.failure = reason(error)
                    return view
                async with asyncio.timeout(STUCK_S if view.failure else None):
                    await self._see(page, view)
                if number < self._order.pictures:
                    await self._picture(page, view, number)
        except TimeoutError:
            view.failure = view.failure or "the page kept the browser busy until the time was up"
        except Error as error:
            view.failure = view.failure or reason(error)
        finally:
            if view.failure and device.page is not None:
                await self._leave(device)
        return view

    async def _page(self, browser: Browser, device: Device) -> Page:
        """One page for all of a device's visits: a new one takes as long as a visit."""
        context = await browser.new_context(
            **device.options,
            accept_downloads=False,
            service_workers="block",
            reduced_motion="reduce",
            locale=self._locale,
        )
        context.set_default_timeout(self._order.look_s * 1000)
        page = await context.new_page()
        self._listen(page, device)
        return page

    async def _leave(self, device: Device) -> None:
        """What is wrong with one page shall not be seen on the next."""
        page, device.page = device.page, None
        with contextlib.suppress(Error, TimeoutError):
            async with asyncio.timeout(3):
                if page is not None:
                    await page.context.close()

    def _listen(self, page: Page, device: Device) -> None:
        def on_console(message: ConsoleMessage) -> None:
            # A request that failed is told by the request itself.
            if message.type == "error" and not message.text.startswith("Failed to load resource"):
                note(device.view.console, message.text)

        def on_failed(request: Request) -> None:
            if origin(request.url) != self._origin:
                outside(request)
            elif request.failure != "net::ERR_ABORTED":
                note(device.view.failed, f"{request.failure}: {short(request.url)}")

        def on_response(response: Response) -> None:
            request = response.request
            if origin(request.url) != self._origin:
                outside(request)
            elif response.status >= 400 and not (request.is_navigation_request() and request.frame == page.main_frame):
                note(device.view.failed, f"HTTP {response.status}: {short(request.url)}")

        def outside(request: Request) -> None:
            if request.url.partition(":")[0] in ("http", "https", "ws", "wss"):
                note(device.view.outside, short(request.url))
                device.view.outside_scripts += request.resource_type == "script"

        async def on_dialog(dialog: Dialog) -> None:
            leaving = dialog.type == "beforeunload"
            if not leaving:
                note(device.view.dialogs, f"{dialog.type}: {dialog.message}")
            with contextlib.suppress(Error):
                await (dialog.accept() if leaving else dialog.dismiss())

        async def on_popup(popup: Page) -> None:
            with contextlib.suppress(Error):
                await popup.close()

        def on_crash(_: Page) -> None:
            device.view.failure = "the page crashed the browser's renderer"

        page.on("console", on_console)
        page.on("pageerror", lambda error: note(device.view.console, str(error)))
        page.on("requestfailed", on_failed)
        page.on("response", on_response)
        page.on("dialog", on_dialog)
        page.on("popup", on_popup)
        page.on("crash", on_crash)

    async def _see(self, page: Page, view: View) -> None:
        session = await page.context.new_cdp_session(page)
        frames = await session.send("Page.getFrameTree")
        world = await session.send(
            "Page.createIsolatedWorld", {"frameId": frames["frameTree"]["frame"]["id"], "worldName": "photographer"}
        )
        answer = await session.send(
            "Runtime.evaluate",
            {
                "expression": SEE,
                "contextId": world["executionContextId"],
                "awaitPromise": True,
                "returnByValue": True,
                "timeout": self._order.look_s * 1000,
            },
        )
        seen = answer.get("result", {}).get("value")
        if not isinstance(seen, dict):
            view.failure = view.failure or "the page could not be read"
            return
        for name, value in seen.items():
            setattr(view, name, value)

    async def _picture(self, page: Page, view: View, number: int) -> None:
        size = page.viewport_size or DESKTOP["viewport"]
        name = f"{number:02d}-{view.device}.jpg"
        height = max(size["height"], min(int(view.height), HEIGHT[view.device]))
        await page.screenshot(
            path=Path(self._order.folder, name),
            type="jpeg",  # drawn 5 to 10 times as fast as PNG, which takes up to 1.5 s for a long page
            quality=92,
            full_page=True,
            clip={"x": 0, "y": 0, "width": size["width"], "height": height},
            animations="disabled",
        )
        view.picture = name

    async def _language(self) -> str:
        """What the front page says that it is written in: whom it is made for looks at it."""
        try:
            async with asyncio.timeout(max(0.1, min(ANSWER_S, self.left_s / 4))):
                return await asyncio.to_thread(language_of, self._order.url, self._origin, self._order.dial)
        except (TimeoutError, OSError, http.client.HTTPException, ValueError):
            return LOCALE

    async def _ask(self, urls: list[str]) -> list[tuple[int, str] | None]:
        """Status and media type of each, several at a time; not by the browser, which would download them.

        None where there was no time left to ask.
        """
        gate = asyncio.Semaphore(8)

        async def one(url: str) -> tuple[int, str] | None:
            async with gate:
                if (left_s := self.left_s) <= 0:
                    return None
                try:
                    async with asyncio.timeout(min(ANSWER_S, left_s)):
                        return await asyncio.to_thread(answer_of, url, self._origin, self._order.dial)
                except TimeoutError:
                    return (0, f"no answer within {ANSWER_S:.0f} s") if self.left_s > 0 else None

        return list(await asyncio.gather(*map(one, urls)))


def answer_of(url: str, home: str, dial: str) -> tuple[int, str]:
    """Status and media type after at most five redirects; status 0 and a reason where there is none.

    A redirect that leaves the site counts as answered: where it leads is not the site's.
    """
    seen: set[str] = set()
    try:
        for method in ("HEAD", "GET"):
            for _ in range(6):
                status, kind, location = one_answer(method, url, dial)
                if status not in (301, 302, 303, 307, 308) or not location:
                    break
                seen.add(url)
                target = urldefrag(urljoin(url, location))[0]
                if origin(target) != home:
                    return status, ""
                if target in seen:
                    return 0, "redirects in a circle"
                url = target
            else:
                return 0, "redirects more than 5 times"
            if status not in (405, 501):
                break
    except (OSError, http.client.HTTPException, ValueError) as error:
        return 0, f"{type(error).__name__}: {error}"[:TEXT]
    return status, kind


def one_answer(method: str, url: str, dial: str) -> tuple[int, str, str]:
    with answered(method, url, dial) as response:
        media = response.headers.get_content_type()
        return response.status, media, response.headers.get("Location", "")[:URL]


@contextlib.contextmanager
def answered(method: str, url: str, dial: str) -> Iterator[http.client.HTTPResponse]:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    host, _, port = dial.rpartition(":")
    connection = kind(host, int(port), timeout=5)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request(method, target, headers={"Host": parts.netloc, "Accept": "*/*", "Connection": "close"})
        yield connection.getresponse()
    finally:
        connection.close()


def language_of(url: str, home: str, dial: str) -> str:
    """The ``lang`` of a page's `html` element, as far as its first bytes tell; `LOCALE` without a good one."""
    for _ in range(6):
        with answered("GET", url, dial) as response:
            location = response.headers.get("Location", "")[:URL] if 300 <= response.status < 400 else ""
            if not location:
                return named_language(response.read(HEAD_BYTES).decode("utf-8", "replace"))
        url = urldefrag(urljoin(url, location))[0]
        if origin(url) != home:
            break
    return LOCALE


def named_language(page: str) -> str:
    """
    >>> named_language('<!doctype html><HTML class=x lang="it-IT">'), named_language('<html lang="en">')
    ('it-IT', 'en-US')
    """
    element = re.search(r"<html\b[^>]{0,2000}", page, re.IGNORECASE)
    named = LANG.search(element[0]) if element else None
    return named[1] if named and named[1].lower() != "en" else LOCALE


def parted(link: str) -> tuple[str, str] | None:
    """Address and fragment; None where the link is no address, whatever the browser makes of it."""
    try:
        target, fragment = urldefrag(link)
        _ = urlsplit(target).port  # judged only when it is read
    except ValueError:
        return None
    return target, fragment


def scrubbed(value: Any) -> Any:
    """``value`` with each half of a character, which JavaScript's strings may hold and JSON may not, as a ``?``."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {name: scrubbed(item) for name, item in value.items()}
    return [scrubbed(item) for item in value] if isinstance(value, list) else value


def shown(view: dict[str, Any]) -> dict[str, Any]:
    """A view for the report: without what was only needed here."""
    return {name: value for name, value in view.items() if name not in ("device", "links", "dead", "ids", "height")}


def missing_anchors(pages: list[dict[str, Any]], fragments: list[tuple[str, str, str]]) -> list[dict[str, str]]:
    """Links to a place on a visited page that is not there. Routes of scripts (``#/x``, ``#!x``) are none."""
    ids = {page_key(page["url"]): {*page["desktop"]["ids"], *page["phone"]["ids"]} for page in pages}
    missing: dict[tuple[str, str], dict[str, str]] = {}
    for target, fragment, found_on in fragments:
        known = ids.get(target)
        plain = fragment.split(":~:", 1)[0]
        if known is None or not plain or plain.lower() == "top" or plain[0] in "/!":
            continue
        if plain not in known and unquote(plain) not in known and len(missing) < PER_PAGE:
            missing[target, plain] = {"url": f"{target}#{plain}"[:URL], "found_on": found_on}
    return list(missing.values())


def origin(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return ""
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"


def page_key(url: str) -> str:
    """One name for a page that is linked in two ways: `/`, `/index.html` and the bare origin."""
    bare = urldefrag(url)[0]
    parts = urlsplit(bare)
    path = re.sub(r"(^|/)index\.html?$", r"\1", parts.path) or "/"
    return parts._replace(path=path).geturl()


def short(url: str) -> str:
    return url if len(url) <= 200 else f"{url[:199]}…"


def reason(error: Error) -> str:
    """The first line that says something of Playwright's error, without its call log."""
    text = error.message.split("\n", 1)[0]
    return re.sub(r"^Page\.\w+: ", "", text)[:TEXT]


if __name__ == "__main__":
    asyncio.run(Photographer(Order(**json.loads(sys.argv[1]))).work())
