"""The parts of a page. Each takes what the requester gave, or shows examples and says that they are examples."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from .brief import Brief
from .facts import Item
from .look import Look
from .markup import Element, h
from .outline import FORMS, Section
from .voice import Voice

WORKS = 6
"""How many pictures a gallery without given items shows."""


@dataclass(frozen=True)
class Field:
    """One field of a form; ``sample`` is a value that it accepts."""

    name: str
    label: str
    kind: str
    required: bool
    sample: str
    autocomplete: str = ""


@dataclass(frozen=True)
class Hand:
    """What every section is written with. ``picture`` files a drawing and returns its address."""

    brief: Brief
    voice: Voice
    look: Look
    pictures: "dict[str, str]"

    def picture(self, name: str) -> str:
        return self.pictures[name]


@dataclass(frozen=True)
class Body:
    """A section's inside, and whether it is made of examples."""

    parts: tuple[Element, ...]
    example: bool = False
    lead: str = ""


def title(section: Section, voice: Voice) -> str:
    """Its heading: the requester's label, else the word of the language."""
    return section.title or (voice.section(section.kind) if section.kind != "custom" else section.key)


def is_example(section: Section, brief: Brief) -> bool:
    """Whether it would show examples for want of anything given."""
    if section.kind == "location" and (brief.address or brief.place):
        return False
    return not section.items and not section.text and section.kind not in _SELF_SUFFICIENT


_SELF_SUFFICIENT = {*FORMS, "faq", "testimonials"}
ACTIONS = {"contact": "/messages", "booking": "/bookings", "newsletter": "/subscriptions", "guestbook": "/guestbook"}
"""Where a site with a server of its own takes each form."""


def body(section: Section, hand: Hand, level: int) -> Body:
    """The inside of a section whose items have headings of ``level``."""
    match section.kind:
        case "about":
            return _about(section, hand)
        case "menu":
            return _menu(section, hand, level)
        case "pricing":
            return _pricing(section, hand, level)
        case "gallery" | "projects":
            return _gallery(section, hand, level)
        case "schedule":
            return _schedule(section, hand, level)
        case "speakers" | "team":
            return _people(section, hand, level)
        case "events" | "news" | "blog":
            return _posts(section, hand, level)
        case "testimonials":
            return _quotes(section, hand)
        case "hours":
            return _hours(section, hand)
        case "location":
            return _place(section, hand)
        case "faq":
            return _faq(section, hand, level)
        case "contact" | "booking" | "newsletter":
            return _reach(section, hand)
        case "guestbook":
            return _guestbook(section, hand)
        case "custom":
            return _custom(section, hand, level)
    return _cards(section, hand, level)


def _paragraphs(texts: Sequence[str]) -> Element:
    return h("div", {"class": "prose"}, [h("p", None, text) for text in texts])


def _heading(level: int, text: str) -> Element:
    return h(f"h{level}", None, text)


def _about(section: Section, hand: Hand) -> Body:
    brief, voice = hand.brief, hand.voice
    given = list(section.text)
    if brief.summary and brief.slogan:
        given.insert(0, brief.summary)
    texts = given or [voice.say("about_text", brand=brief.brand.name)]
    image = None
    if hand.look.pictures:
        alt = voice.say("illustration", brand=brief.brand.name)
        image = h("img", {"src": hand.picture("about"), "alt": alt, "width": 800, "height": 600, "loading": "lazy"})
    return Body((h("div", {"class": "about"}, _paragraphs(texts), image),), example=not given)


def _cards(section: Section, hand: Hand, level: int) -> Body:
    items = section.items or tuple(Item(name) for name in hand.voice.offers(hand.brief.kind))
    pictured = section.kind == "products"
    cards = []
    for number, item in enumerate(items):
        image = None
        if pictured:
            alt = hand.voice.say("artwork", n=str(number + 1))
            source = hand.picture(f"work-{number % WORKS + 1}")
            image = h("img", {"src": source, "alt": alt, "width": 900, "height": 675, "loading": "lazy"})
        cards.append(
            h(
                "li",
                {"class": "card"},
                image,
                _heading(level, item.title) if item.title else None,
                h("p", {"class": "price"}, item.mark) if item.mark else None,
                h("p", None, item.text) if item.text else None,
            )
        )
    few = " cards--four" if len(cards) == 4 else " cards--few" if len(cards) < 4 else ""
    return Body((h("ul", {"class": f"cards{few}"}, cards),), example=not section.items)


def _grouped(items: Sequence[Item]) -> list[tuple[str, list[Item]]]:
    groups: list[tuple[str, list[Item]]] = []
    for item in items:
        if not groups or groups[-1][0] != item.group:
            groups.append((item.group, []))
        groups[-1][1].append(item)
    return groups


def _menu(section: Section, hand: Hand, level: int) -> Body:
    voice = hand.voice
    items = section.items or tuple(Item(name) for name in voice.offers(hand.brief.kind))
    parts = []
    for label, entries in _grouped(items):
        rows = [
            h(
                "li",
                None,
                h(
                    "div",
                    {"class": "entry"},
                    h("span", {"class": "entry__name"}, item.title or item.text),
                    h("span", {"class": "entry__price"}, item.mark or voice.say("on_request")),
                ),
                h("p", {"class": "entry__note"}, item.text) if item.text and item.title else None,
            )
            for item in entries
        ]
        two = " entries--two" if len(rows) > 5 else ""
        listed = h("ul", {"class": f"entries{two}"}, rows)
        parts.append(h("div", {"class": "group"}, _heading(level, label) if label else None, listed))
    return Body(tuple(parts), example=not section.items)


def _pricing(section: Section, hand: Hand, level: int) -> Body:
    voice = hand.voice
    items = section.items or tuple(Item(name) for name in voice.offers(hand.brief.kind)[:3])
    if len(items) > 6 or any(item.group for item in items):
        return _menu(section, hand, level)
    cards = [
        h(
            "li",
            {"class": "card plan"},
            _heading(level, item.title or item.text),
            h("p", {"class": "price"}, item.mark or voice.say("on_request")),
            h("p", None, item.text) if item.text and item.title else None,
        )
        for item in items
    ]
    return Body((h("ul", {"class": "cards cards--few"}, cards),), example=not section.items)


def _gallery(section: Section, hand: Hand, level: int) -> Body:
    voice = hand.voice
    offers = voice.offers(hand.brief.kind)
    examples = tuple(Item(name) for name in (*offers, *(f"{name} II" for name in offers)))[:WORKS]
    items = section.items or examples
    figures = []
    for number, item in enumerate(items[:24]):
        alt = voice.say("artwork", n=str(number + 1))
        if section.items and item.title:
            alt = f"{item.title}: {alt}"
        source = hand.picture(f"work-{number % max(WORKS, 1) + 1}")
        figures.append(
            h(
                "figure",
                None,
                h("img", {"src": source, "alt": alt, "width": 900, "height": 675, "loading": "lazy"}),
                h(
                    "figcaption",
                    None,
                    _heading(level, item.title) if item.title else None,
                    h("p", None, " · ".join(filter(None, (item.mark, item.text)))) if item.text or item.mark else None,
                ),
            )
        )
    return Body((h("div", {"class": "gallery"}, figures),), example=not section.items)


def _schedule(section: Section, hand: Hand, level: int) -> Body:
    voice = hand.voice
    items = section.items or tuple(Item(step, mark=voice.say("to_follow")) for step in voice.row("steps"))
    long = " timetable--long" if any(len(item.mark) > 14 for item in items) else ""
    groups = []
    for label, entries in _grouped(items):
        rows = [
            h(
                "li",
                None,
                h("span", {"class": "when"}, item.mark),
                h(
                    "span",
                    {"class": "what"},
                    item.title or item.text,
                    h("span", {"class": "who"}, item.text) if item.text and item.title else None,
                ),
            )
            for item in entries
        ]
        groups.append(
            h(
                "div",
                {"class": "group"},
                _heading(level, label) if label else None,
                h("ol", {"class": f"timetable{long}"}, rows),
            )
        )
    two = " days--two" if len(groups) > 1 else ""
    return Body((h("div", {"class": f"days{two}"}, groups),), example=not section.items)


def _people(section: Section, hand: Hand, level: int) -> Body:
    voice = hand.voice
    items = section.items or tuple(Item(voice.say("person", n=str(n)), mark=voice.say("to_follow")) for n in (1, 2, 3))
    people = [
        h(
            "li",
            {"class": "person"},
            h(
                "img",
                {
                    "src": hand.picture(f"portrait-{number % WORKS + 1}"),
                    "alt": "",
                    "width": 480,
                    "height": 480,
                    "loading": "lazy",
                },
            ),
            _heading(level, item.title),
            h("p", {"class": "role"}, item.mark) if item.mark else None,
            h("p", None, item.text) if item.text else None,
        )
        for number, item in enumerate(items)
    ]
    return Body((h("ul", {"class": "people"}, people),), example=not section.items)


def _posts(section: Section, hand: Hand, level: int) -> Body:
    voice = hand.voice
    offers = voice.offers(hand.brief.kind)
    items = section.items or tuple(
        Item(
            f"{voice.say('post', n=str(n))}: {offers[n - 1]}" if section.kind != "events" else offers[n - 1],
            mark=voice.say("to_follow"),
        )
        for n in (1, 2, 3)
    )
    rows = [
        h(
            "li",
            None,
            h(
                "div",
                None,
                _heading(level, item.title or item.text),
                h("p", None, item.text) if item.text and item.title else None,
            ),
            h("p", {"class": "when"}, item.mark) if item.mark else None,
        )
        for item in items
    ]
    return Body((h("ul", {"class": "posts"}, rows),), example=not section.items)


def _quotes(section: Section, hand: Hand) -> Body:
    if not section.items:
        return Body((_paragraphs([hand.voice.say("testimonials_empty")]),))
    figures = [
        h(
            "figure",
            {"class": "card"},
            h("blockquote", None, h("p", None, item.text)),
            h("figcaption", None, item.title) if item.title else None,
        )
        for item in section.items
    ]
    return Body((h("div", {"class": "quotes"}, figures),))


def _hours(section: Section, hand: Hand) -> Body:
    voice = hand.voice
    items = section.items or tuple(Item(day, mark=voice.say("to_follow")) for day in voice.row("days"))
    rows = [h("div", None, h("dt", None, item.title), h("dd", None, item.mark)) for item in items]
    return Body((h("dl", {"class": "hours"}, rows),), example=not section.items)


def _place(section: Section, hand: Hand) -> Body:
    brief, voice = hand.brief, hand.voice
    image = h("img", {"src": hand.picture("map"), "alt": "", "width": 800, "height": 500, "loading": "lazy"})
    words = [h("p", None, text) for text in section.text]
    if not brief.address:
        where = h("address", None, brief.place) if brief.place else None
        told = None if section.text or where else h("p", None, voice.say("to_follow"))
        shown = h("div", {"class": "place"}, h("div", None, where, words, told), image)
        return Body((shown,), example=not (section.text or where))
    link = h(
        "p",
        None,
        h(
            "a",
            {
                "href": "https://www.openstreetmap.org/search?query=" + quote(brief.address, safe=""),
                "rel": "external noopener noreferrer",
            },
            voice.say("map"),
        ),
    )
    return Body((h("div", {"class": "place"}, h("div", None, h("address", None, brief.address), words, link), image),))


def _faq(section: Section, hand: Hand, level: int) -> Body:
    voice = hand.voice
    brief = hand.brief
    reachable = brief.email or brief.phone or brief.has("contact") or brief.has("booking")
    known = tuple(
        number for number, true in ((1, reachable), (2, not brief.dynamic), (3, True)) if true
    )  # the second answer says that nothing is collected
    items = section.items or tuple(Item(voice.say(f"q{n}"), text=voice.say(f"a{n}")) for n in known)
    pairs = [
        h("div", None, _heading(level, item.title), h("p", None, item.text or voice.say("to_follow"))) for item in items
    ]
    return Body((h("div", {"class": "faq"}, pairs),))


def _custom(section: Section, hand: Hand, level: int) -> Body:
    if not section.items and not section.text:
        return Body((_paragraphs([hand.voice.say("to_follow")]),), example=True)
    parts = [_paragraphs(section.text)] if section.text else []
    if section.items and all(len(item.title) > 60 and not item.text for item in section.items):
        return Body((_paragraphs([*section.text, *(item.title for item in section.items)]),))
    if section.items:
        parts += _cards(section, hand, level).parts
    return Body(tuple(parts))


def fields(kind: str, hand: Hand) -> tuple[Field, ...]:
    """What a form asks for."""
    voice = hand.voice
    name = Field("name", voice.say("name"), "text", True, "Robin Example", "name")
    email = Field("email", voice.say("email"), "email", True, "robin@example.org", "email")
    message = Field(
        "message", voice.say("message"), "textarea", kind in {"contact", "guestbook"}, "A short message\nin two lines"
    )
    date = Field("date", voice.say("date"), "date", True, "2031-05-14")
    people = Field("people", voice.say("people"), "number", True, "2")
    phone = Field("phone", voice.say("phone"), "tel", False, "+1 555 0100", "tel")
    if kind == "newsletter":
        return (email,)
    if kind == "contact":
        return name, email, message
    if kind == "guestbook":
        return name, message
    match hand.brief.kind:
        case "restaurant" | "cafe" | "bakery" | "tea" | "hotel":
            return name, email, date, people, message
        case "wedding" | "event" | "music" | "club":
            return name, email, people, message
        case "kids" | "school":
            return name, email, phone, message
    return name, email, phone, date, message


def _field(form: str, field: Field, hand: Hand) -> Element:
    name = f"{form}-{field.name}"
    error = f"{name}-error"
    shared: dict[str, str | int | bool | None] = {
        "id": name,
        "name": field.name,
        "required": field.required,
        "autocomplete": field.autocomplete or None,
        "aria-describedby": error,
    }
    if field.name == "name":
        shared["data-name"] = True
    control = (
        h("textarea", {**shared, "rows": 5})
        if field.kind == "textarea"
        else h("input", {**shared, "type": field.kind, "min": 1 if field.kind == "number" else None})
    )
    hint = None if field.required else h("span", {"class": "hint"}, f" ({hand.voice.say('optional')})")
    return h(
        "div",
        {"class": "field"},
        h("label", {"for": name, "data-label": field.label}, field.label, hint),
        control,
        h("p", {"class": "field__error", "id": error}),
    )


def form(kind: str, hand: Hand, label: str) -> Element:
    """A form that is sent to the site's server, or that composes a message. It says itself what becomes of it."""
    brief, voice = hand.brief, hand.voice
    asked = fields(kind, hand)
    named = any(field.name == "name" for field in asked)
    short = [field for field in asked if field.kind != "textarea"]
    rows = [short[at : at + 2] for at in range(0, len(short), 2)]
    controls = [h("div", {"class": "form__row"}, [_field(kind, field, hand) for field in row]) for row in rows]
    controls += [_field(kind, field, hand) for field in asked if field.kind == "textarea"]
    checked: dict[str, str | bool | None] = {
        "class": "form",
        "id": f"{kind}-form",
        "aria-label": label,
        "data-check": True,
        "data-required": voice.say("err_required"),
        "data-email": voice.say("err_email"),
    }
    status = h("div", {"class": "status", "role": "status", "aria-live": "polite", "data-status": True})
    if brief.dynamic:
        words = voice.say("subscribe" if kind == "newsletter" else "deliver")
        return h(
            "form",
            {**checked, "method": "post", "action": ACTIONS[kind]},
            controls,
            h("div", None, h("button", {"class": "button", "type": "submit"}, words)),
            h("p", {"class": "note"}, voice.say("public_note" if kind == "guestbook" else "private_note")),
            status,
        )
    return h(
        "form",
        {
            **checked,
            "data-compose": True,
            "data-thanks": voice.say("thanks") if named else voice.say("thanks_plain"),
            "data-ready": voice.say("ready_mail" if brief.email else "ready_copy"),
            "data-mail": brief.email or None,
            "data-subject": f"{brief.brand.name}: {label}",
            "data-open": voice.say("open_mail"),
            "data-copy": voice.say("copy"),
            "data-copied": voice.say("copied"),
        },
        controls,
        h("noscript", None, h("p", {"class": "note"}, voice.say("noscript"))),
        h(
            "div",
            None,
            h(
                "button",
                {"class": "button", "type": "submit"},
                voice.say("subscribe" if kind == "newsletter" else "send"),
            ),
        ),
        h(
            "p",
            {"class": "note"},
            voice.say("mail_note", email=brief.email) if brief.email else voice.say("static_note"),
        ),
        status,
    )


def details(hand: Hand) -> Element | None:
    """How to reach the requester without the form."""
    brief, voice = hand.brief, hand.voice
    rows = []
    if brief.email:
        rows.append((voice.say("mail"), h("a", {"href": f"mailto:{brief.email}"}, brief.email)))
    if brief.phone:
        rows.append((voice.say("phone"), h("a", {"href": telephone(brief.phone)}, h("bdi", None, brief.phone))))
    if brief.address:
        rows.append((voice.section("location"), h("span", None, brief.address)))
    if not rows:
        return None
    return h(
        "dl",
        {"class": "reach__details"},
        [h("div", None, h("dt", None, label), h("dd", None, value)) for label, value in rows],
    )


def telephone(number: str) -> str:
    digits = "".join(character for character in number if character.isascii() and character.isdigit())
    return f"tel:{'+' if number.lstrip().startswith('+') else ''}{digits}"


def has_form(section: Section, brief: Brief) -> bool:
    """Not where the booking form stands in for that of the contact section."""
    reachable = brief.email or brief.phone or brief.address
    spared = section.kind == "contact" and reachable and brief.has("booking") and not brief.contact_form
    return section.kind in FORMS and not spared


def _guestbook(section: Section, hand: Hand) -> Body:
    """What visitors wrote, put in by the server, and the form to write more."""
    entries = h("ul", {"class": "posts", "data-entries": section.kind})
    return Body((entries, form(section.kind, hand, title(section, hand.voice))))


def _reach(section: Section, hand: Hand) -> Body:
    lead = hand.voice.say("newsletter_lead" if section.kind == "newsletter" else "contact_lead")
    sides = details(hand) if section.kind == "contact" else None
    if sides and not has_form(section, hand.brief):
        return Body((sides,), lead=lead)  # the booking form is there already
    written = form(section.kind, hand, title(section, hand.voice))
    name = "reach reach--both" if sides else "reach reach--form"
    return Body((h("div", {"class": name}, sides, written),), lead=lead)
