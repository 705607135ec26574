"""A whole site as files, from a brief. Pages are element trees, so that the suite can ask them what they hold."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from . import application, art, look, palette, sections, stylesheet, voice
from .brief import Brief
from .look import Look
from .markup import Element, h
from .markup import page as written
from .outline import FORMS, Section
from .palette import Palette
from .readme import readme
from .sections import Hand
from .sitemap import Page
from .voice import Voice

GENERATOR = "tmux-builder offline agent (template generator without a language model)"
_SCRIPT = Path(__file__).parent / "scripts" / "site.js"
_NAV_LIMIT = 7
_NAV_LAST = ("custom", "location", "newsletter", "hours", "testimonials")


@dataclass(frozen=True)
class SitePage:
    """``path`` is where it is served, ``file`` where it lies under ``source/``."""

    path: str
    file: str
    title: str
    root: Element


@dataclass(frozen=True)
class Site:
    brief: Brief
    voice: Voice
    look: Look
    palette: Palette
    pages: tuple[SitePage, ...]
    lost: SitePage
    files: dict[str, bytes]

    def page_of(self, kind: str) -> SitePage | None:
        """The page that holds the first section of a kind."""
        for section in self.brief.sections:
            if section.kind == kind:
                for plan, page in zip(self.brief.pages, self.pages, strict=True):
                    if section.key in plan.sections:
                        return page
        return None


def build(brief: Brief) -> Site:
    """The same brief builds the same bytes."""
    chosen, colours = look.choose(brief), palette.choose(brief)
    speech = voice.speak(brief.language.code)
    assets = _Assets()
    pictures = _pictures(brief, chosen, colours, speech, assets)
    style = assets.put("site.css", stylesheet.write(brief, chosen, colours))
    script = assets.put("site.js", _SCRIPT.read_text(encoding="utf-8"))
    hand = Hand(brief, speech, chosen, pictures)
    printer = _Printer(hand, colours, style, script)
    pages = tuple(printer.page(plan) for plan in brief.pages)
    lost = printer.lost()
    files = dict(assets.files)
    for page in (*pages, lost):
        files[page.file] = written(page.root).encode()
    files["favicon.svg"] = art.favicon(colours, brief.seed, chosen.name).encode()
    files["robots.txt"] = b"User-agent: *\nAllow: /\n"
    if brief.dynamic:
        files = {f"{application.PAGES}{path}": content for path, content in files.items()}
        for name, root in printer.templates().items():
            files[f"{application.TEMPLATES}{name}.html"] = written(root).encode()
        files |= application.files(hand, printer.address)
    files["README.md"] = readme(brief, [page.file for page in (*pages, lost)]).encode()
    return Site(brief, speech, chosen, colours, pages, lost, dict(sorted(files.items())))


class _Assets:
    """Files under ``assets/`` with a digest of their content in the name."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    def put(self, name: str, content: str) -> str:
        data = content.encode()
        stem, _, ending = name.rpartition(".")
        path = f"assets/{stem}.{hashlib.sha256(data).hexdigest()[:10]}.{ending}"
        self.files[path] = data
        return f"/{path}"


def _pictures(brief: Brief, chosen: Look, colours: Palette, speech: Voice, assets: _Assets) -> dict[str, str]:
    """Only what the pages show."""
    name, seed = brief.brand.name, brief.seed
    title = speech.say("illustration", brand=name)
    size = (1600, 900) if chosen.wide else (1000, 1250)
    motif = brief.kind if chosen.motif else ""
    found = {"hero": assets.put("hero.svg", art.draw(chosen.scene, *size, colours, title, "hero", seed, motif=motif))}
    kinds = {section.kind for section in brief.sections}
    if "about" in kinds and chosen.pictures:
        found["about"] = assets.put("about.svg", art.draw(chosen.works[1], 800, 600, colours, title, "about", seed))
    if kinds & {"gallery", "projects", "products"} or len(brief.pages) > 1:
        for number in range(sections.WORKS):
            scene = chosen.works[number % len(chosen.works)]
            said = speech.say("artwork", n=str(number + 1))
            drawn = art.draw(scene, 900, 675, colours, said, "work", str(number), seed)
            found[f"work-{number + 1}"] = assets.put(f"work-{number + 1}.svg", drawn)
    if kinds & {"team", "speakers"}:
        for number in range(sections.WORKS):
            drawn = art.portrait(str(number), colours, seed)
            found[f"portrait-{number + 1}"] = assets.put(f"portrait-{number + 1}.svg", drawn)
    if "location" in kinds:
        found["map"] = assets.put("map.svg", art.map_art(colours, seed))
    return found


class _Printer:
    def __init__(self, hand: Hand, colours: Palette, style: str, script: str) -> None:
        self.hand, self.brief, self.voice, self.look = hand, hand.brief, hand.voice, hand.look
        self.colours, self.style, self.script = colours, style, script
        self.many = len(self.brief.pages) > 1

    # Where things are

    def label(self, page: Page) -> str:
        if not page.slug:
            return page.title or self.voice.section("home")
        return page.title or sections.title(self.brief.section(page.sections[0]), self.voice)

    def address(self, key: str) -> str:
        """Of a section, from anywhere on the site."""
        for page in self.brief.pages:
            if key in page.sections:
                first = page.slug and page.sections[0] == key
                return page.path if first else f"{page.path}#{key}"
        return "/"

    def entries(self) -> list[tuple[str, str, bool]]:
        """The navigation: label, address, and whether it is the one thing to do."""
        call = self.call()
        if self.many:
            found = [(self.label(page), page.path, False) for page in self.brief.pages]
            if call and call.key in self.brief.pages[0].sections:
                found.append((self.nav_title(call), self.address(call.key), True))
            return found
        shown = [section for section in self.brief.sections if section != call]
        while len(shown) > _NAV_LIMIT - 1:
            weakest = next((s for kind in _NAV_LAST for s in reversed(shown) if s.kind == kind), shown[-1])
            shown.remove(weakest)
        found = [(self.nav_title(section), self.address(section.key), False) for section in shown]
        if call:
            found.append((self.nav_title(call), self.address(call.key), True))
        return found

    def nav_title(self, section: Section) -> str:
        own = sections.title(section, self.voice)
        return own if len(own) <= 26 or section.kind == "custom" else self.voice.section(section.kind)

    def call(self) -> Section | None:
        for kind in ("booking", "contact", "newsletter"):
            for section in self.brief.sections:
                if section.kind == kind:
                    return section
        return None

    # Whole pages

    def page(self, plan: Page) -> SitePage:
        brief = self.brief
        if not plan.slug:
            title = (
                f"{brief.brand.name} – {self.lead()}"
                if brief.brand.stated
                else f"{brief.brand.name}: {self.headline()}"
            )
            extra = [self.intro(), self.teasers()] if self.many else []
            content: Sequence[Element | None] = [self.hero(), *extra[:1], *self.parts(plan.sections), *extra[1:]]
        else:
            title = f"{self.label(plan)} – {brief.brand.name}"
            content = self.inner(plan)
        return SitePage(plan.path, plan.file, _short(title), self.document(_short(title), plan.path, content))

    def lost(self) -> SitePage:
        said = self.voice.say
        title = _short(f"{said('not_found')} – {self.brief.brand.name}")
        content = self.notice(said("not_found"), h("p", None, said("not_found_text")))
        return SitePage("/404.html", "404.html", title, self.document(title, "/404.html", [content]))

    def templates(self) -> dict[str, Element]:
        """Pages that the server fills: what a form took, and why it took nothing."""
        said = self.voice.say
        found = {}
        for kind in application.forms(self.brief):
            entry = h("dl", {"class": "receipt", "data-entry": kind})
            note = h("p", None, said("public_note" if kind in application.PUBLIC else "private_note"))
            button = h("button", {"class": "button button--quiet", "type": "submit"}, said("withdraw"))
            withdrawal = h("form", {"class": "withdrawal", "method": "post"}, button)
            content = self.notice(said("received"), note, entry, withdrawal)
            found[f"receipt-{kind}"] = self.document(self.titled(said("received")), "", [content])
        content = self.notice(said("not_stored"), h("p", {"role": "alert", "data-trouble": "words"}))
        found["trouble"] = self.document(self.titled(said("not_stored")), "", [content])
        return found

    def titled(self, words: str) -> str:
        return _short(f"{words.rstrip('.。।')} – {self.brief.brand.name}")

    def notice(self, heading: str, *content: Element) -> Element:
        link = h("a", {"class": "button", "href": "/"}, self.voice.say("home_link"))
        return h("section", {"class": "lost"}, h("div", {"class": "wrap"}, h("h1", None, heading), *content, link))

    def document(self, title: str, path: str, content: "Sequence[Element | None]") -> Element:
        brief, language = self.brief, self.brief.language
        description = _short(
            brief.summary or brief.slogan or self.about_line() or f"{brief.brand.name}: {self.headline()}", 180
        )
        listed = any(plan.path == path for plan in brief.pages)
        index = None if listed else h("meta", {"name": "robots", "content": "noindex"})
        head = h(
            "head",
            None,
            h("meta", {"charset": "utf-8"}),
            h("title", None, title),
            h("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
            h("meta", {"http-equiv": "Content-Security-Policy", "content": policy(brief)}),
            h("meta", {"name": "description", "content": description}),
            h("meta", {"name": "theme-color", "content": self.colours.ground.hex}),
            h("meta", {"name": "color-scheme", "content": "dark" if self.colours.dark else "light"}),
            h("meta", {"name": "generator", "content": GENERATOR}),
            h("meta", {"name": "referrer", "content": "strict-origin-when-cross-origin"}),
            index,
            h("meta", {"property": "og:type", "content": "website"}),
            h("meta", {"property": "og:site_name", "content": brief.brand.name}),
            h("meta", {"property": "og:title", "content": title}),
            h("meta", {"property": "og:description", "content": description}),
            h("meta", {"property": "og:locale", "content": language.code}),
            h("link", {"rel": "icon", "href": "/favicon.svg", "type": "image/svg+xml"}),
            h("link", {"rel": "stylesheet", "href": self.style}),
            h("script", {"src": self.script, "defer": True}),
        )
        home = " bar--home" if path == "/" else ""
        return h(
            "html",
            {"lang": language.code, "dir": language.direction},
            head,
            h(
                "body",
                {"class": f"look-{self.look.name}"},
                h("a", {"class": "skip", "href": "#main"}, self.voice.say("skip")),
                self.header(path, home),
                h("main", {"id": "main", "tabindex": "-1"}, content),
                self.footer(),
            ),
        )

    def header(self, path: str, home: str) -> Element:
        items = []
        for label, address, calls in self.entries():
            current = "page" if self.many and address == path else None
            link = h("a", {"href": address, "aria-current": current}, label)
            items.append(h("li", {"class": "nav__call" if calls else None}, link))
        mark = h("img", {"src": "/favicon.svg", "alt": "", "width": 32, "height": 32}) if self.look.mark else None
        return h(
            "header",
            {"class": f"bar{home}"},
            h(
                "div",
                {"class": "wrap bar__inner"},
                h("a", {"class": "brand", "href": "/"}, mark, h("span", None, self.brief.brand.name)),
                h(
                    "button",
                    {
                        "class": "nav-button",
                        "type": "button",
                        "aria-expanded": "false",
                        "aria-controls": "nav",
                        "data-nav-button": True,
                    },
                    self.voice.say("menu"),
                ),
                h("nav", {"class": "nav", "id": "nav", "aria-label": self.voice.say("nav")}, h("ul", None, items)),
            ),
        )

    def footer(self) -> Element:
        brief = self.brief
        reach = []
        if brief.email:
            reach.append(h("li", None, h("a", {"href": f"mailto:{brief.email}"}, brief.email)))
        if brief.phone:
            reach.append(h("li", None, h("a", {"href": sections.telephone(brief.phone)}, h("bdi", None, brief.phone))))
        if brief.address:
            reach.append(h("li", None, brief.address))
        return h(
            "footer",
            {"class": "foot"},
            h(
                "div",
                {"class": "wrap foot__inner"},
                h("p", None, h("strong", None, brief.brand.name)),
                h("ul", None, reach) if reach else None,
                h("p", None, h("a", {"href": "#main"}, self.voice.say("top"))),
            ),
        )

    # The front page

    def headline(self) -> str:
        return self.brief.slogan or self.voice.line(self.brief.kind)

    def lead(self) -> str:
        brief = self.brief
        return brief.slogan or brief.summary or self.voice.line(brief.kind)

    def about_line(self) -> str:
        return next(
            (section.text[0] for section in self.brief.sections if section.kind == "about" and section.text), ""
        )

    def hero(self) -> Element:
        brief, voice = self.brief, self.voice
        stated = brief.brand.stated
        heading = brief.brand.name if stated else self.headline()
        eyebrow = " · ".join(filter(None, (brief.kind_word if stated else brief.brand.name, brief.when, brief.place)))
        lead = self.lead() if stated else " · ".join(voice.offers(brief.kind))
        size = " hero--longer" if len(heading) > 44 else " hero--long" if len(heading) > 18 else ""
        alt = voice.say("illustration", brand=brief.brand.name)
        width, height = (1600, 900) if self.look.wide else (1000, 1250)
        picture = h("img", {"src": self.hand.picture("hero"), "alt": alt, "width": width, "height": height})
        shown = h("div", {"class": "hero__art"}, picture)
        text = h(
            "div",
            {"class": "hero__text"},
            h("p", {"class": "eyebrow"}, eyebrow) if eyebrow else None,
            h("h1", None, heading),
            h("p", {"class": "hero__lead"}, lead),
            self.actions(),
            self.facts(),
        )
        behind = self.look.backdrop
        inner = h("div", {"class": "wrap hero__inner"}, text, None if behind else shown)
        return h("section", {"class": f"hero{size}"}, shown if behind else None, inner)

    def actions(self) -> Element | None:
        call = self.call()
        links = []
        if call:
            words = {"booking": "reserve", "contact": "touch", "newsletter": "subscribe"}[call.kind]
            own = next(
                (self.label(page) for page in self.brief.pages if page.slug and page.sections[0] == call.key),
                call.title,
            )
            label = own if call.kind == "booking" and 0 < len(own) <= 24 else self.voice.say(words)
            links.append(h("a", {"class": "button", "href": self.address(call.key)}, label))
        other = next((s for s in self.brief.sections if s.kind not in {"about", "custom", *FORMS}), None)
        if other:
            quiet = "button button--quiet" if links else "button"
            links.append(h("a", {"class": quiet, "href": self.address(other.key)}, sections.title(other, self.voice)))
        return h("div", {"class": "hero__actions"}, links) if links else None

    def facts(self) -> Element | None:
        brief, voice = self.brief, self.voice
        rows: list[tuple[str, Element | str]] = []
        hours = next((s for s in brief.sections if s.kind == "hours"), None)
        if hours and hours.items and hours.items[0].mark:
            rows.append((sections.title(hours, voice), f"{hours.items[0].title} {hours.items[0].mark}"))
        if brief.address:
            rows.append((voice.section("location"), brief.address))
        if brief.phone:
            number = h("a", {"href": sections.telephone(brief.phone)}, h("bdi", None, brief.phone))
            rows.append((voice.say("phone"), number))
        if not rows:
            return None
        return h(
            "dl",
            {"class": "facts"},
            [h("div", None, h("dt", None, name), h("dd", None, value)) for name, value in rows],
        )

    # Sections

    def parts(self, keys: Sequence[str]) -> list[Element]:
        """The sections of the front page; hours and place share a row where they meet."""
        found: list[Element] = []
        chosen = [self.brief.section(key) for key in keys]
        number = 0
        while number < len(chosen):
            section = chosen[number]
            after = chosen[number + 1] if number + 1 < len(chosen) else None
            tone = self.tone(section, len(found))
            if section.kind == "hours" and after is not None and after.kind == "location":
                pair = [self.part(one, level=2) for one in (section, after)]
                found.append(h("div", {"class": f"section{tone}"}, h("div", {"class": "wrap pair"}, pair)))
                number += 2
                continue
            found.append(self.section(section, tone))
            number += 1
        return found

    def tone(self, section: Section, position: int) -> str:
        if section.kind in {"contact", "booking"} and section == self.call():
            return " section--deep"
        return " section--surface" if position % 2 else ""

    def head(self, section: Section, level: int, lead: str = "") -> Element:
        badge = h("span", {"class": "badge"}, self.voice.say("example")) if self.example(section) else None
        heading = h(f"h{level}", {"id": f"{section.key}-title"}, sections.title(section, self.voice))
        said = h("p", {"class": "section__lead"}, lead) if lead else None
        return h("div", {"class": "section__head"}, heading, badge, said)

    def example(self, section: Section) -> bool:
        return sections.body(section, self.hand, 3).example

    def section(self, section: Section, tone: str) -> Element:
        body = sections.body(section, self.hand, 3)
        return h(
            "section",
            {"class": f"section has-head{tone}", "id": section.key, "aria-labelledby": f"{section.key}-title"},
            h(
                "div",
                {"class": "wrap"},
                self.head(section, 2, body.lead),
                h("div", {"class": "section__body"}, body.parts),
            ),
        )

    def part(self, section: Section, level: int) -> Element:
        body = sections.body(section, self.hand, level + 1)
        return h(
            "section",
            {"class": "pair__part", "id": section.key, "aria-labelledby": f"{section.key}-title"},
            self.head(section, level, body.lead),
            body.parts,
        )

    def inner(self, plan: Page) -> list[Element]:
        """A page of its own: its first section is what the page is about, others follow with headings."""
        first, *others = [self.brief.section(key) for key in plan.sections]
        body = sections.body(first, self.hand, 2)
        badge = h("p", None, h("span", {"class": "badge"}, self.voice.say("example"))) if body.example else None
        lead = h("p", {"class": "section__lead"}, body.lead) if body.lead else None
        top = h(
            "div", {"class": "page-head"}, h("div", {"class": "wrap"}, h("h1", None, self.label(plan)), badge, lead)
        )
        main = h(
            "section",
            {"class": "section", "id": first.key, "aria-label": self.label(plan)},
            h("div", {"class": "wrap"}, h("div", {"class": "section__body"}, body.parts)),
        )
        rest = [
            self.section(section, " section--surface" if not number % 2 else "")
            for number, section in enumerate(others)
        ]
        return [top, main, *rest]

    def intro(self) -> Element | None:
        """The first words about the requester, where the rest of them has a page of its own."""
        about = next((s for s in self.brief.sections if s.kind == "about"), None)
        if about is None or not about.text or about.key in self.brief.pages[0].sections:
            return None
        link = h("p", None, h("a", {"href": self.address(about.key)}, sections.title(about, self.voice)))
        words = h("div", {"class": "prose"}, h("p", None, about.text[0]), link)
        return h("div", {"class": "section intro"}, h("div", {"class": "wrap"}, words))

    def teasers(self) -> Element | None:
        """The ways from the front page to the others."""
        cards = []
        for number, page in enumerate(plan for plan in self.brief.pages if plan.slug):
            section = self.brief.section(page.sections[0])
            told = " · ".join(item.title for item in section.items[:3] if item.title)
            alt = ""
            picture = h(
                "img",
                {
                    "src": self.hand.picture(f"work-{number % sections.WORKS + 1}"),
                    "alt": alt,
                    "width": 900,
                    "height": 675,
                    "loading": "lazy",
                },
            )
            cards.append(
                h(
                    "li",
                    None,
                    h(
                        "a",
                        {"class": "card card--link", "href": page.path},
                        picture,
                        h("h2", None, self.label(page)),
                        h("p", None, told) if told else None,
                    ),
                )
            )
        if not cards:
            return None
        return h(
            "section",
            {"class": "section section--surface section--ways", "aria-label": self.voice.say("more")},
            h("div", {"class": "wrap"}, h("ul", {"class": "cards"}, cards)),
        )


def policy(brief: Brief) -> str:
    """https://www.w3.org/TR/CSP3/"""
    posts = "'self'" if brief.dynamic else "'none'"
    return (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; base-uri 'none'; "
        f"form-action {posts}; connect-src 'self'; manifest-src 'self'"
    )


def _short(text: str, limit: int = 90) -> str:
    """One line of at most ``limit`` characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= limit else flat[: limit - 1].rsplit(" ", 1)[0].rstrip(" ,;:–-") + "…"
