"""A site that keeps what visitors send: the designed pages with a small server of their own."""

import json
from collections.abc import Callable
from pathlib import Path

from . import sections
from .brief import Brief
from .markup import visible
from .sections import Hand

_SERVER = Path(__file__).parent / "scripts" / "app.txt"
PAGES = "public/"
TEMPLATES = "templates/"
PUBLIC = frozenset({"guestbook"})
"""Forms whose entries every visitor may read; those of the others are shown to whoever sent them."""

_LIMITS = {"email": 254, "tel": 40, "date": 10, "number": 5, "text": 120, "textarea": 4000}
REQUIREMENTS = b"# Nothing: the server needs Python 3.11 or later and its standard library.\n"


def forms(brief: Brief) -> tuple[str, ...]:
    """Kinds of forms that stand on the site's pages."""
    return tuple(section.kind for section in brief.sections if sections.has_form(section, brief))


def files(hand: Hand, address: Callable[[str], str]) -> dict[str, bytes]:
    """What lies beside the pages. ``address`` tells where a section is."""
    return {
        "app.py": _SERVER.read_bytes(),
        "requirements.txt": REQUIREMENTS,
        "site.json": (json.dumps(words(hand, address), ensure_ascii=True, indent=1) + "\n").encode(),
    }


def words(hand: Hand, address: Callable[[str], str]) -> dict[str, object]:
    """``site.json``: what the server has to know of this one site."""
    brief, voice = hand.brief, hand.voice
    known = [
        {
            "kind": kind,
            "action": sections.ACTIONS[kind],
            "page": address(kind),
            "public": kind in PUBLIC,
            "empty": voice.say("entries_empty"),
            "fields": [
                {
                    "name": field.name,
                    "label": visible(field.label),
                    "kind": field.kind,
                    "required": field.required,
                    "limit": _LIMITS[field.kind],
                }
                for field in sections.fields(kind, hand)
            ],
        }
        for kind in forms(brief)
    ]
    return {
        "forms": known,
        "required": voice.say("err_required"),
        "email": voice.say("err_email"),
        "too_long": voice.say("too_long"),
        "try_later": voice.say("try_later"),
        "not_stored": voice.say("not_stored"),
    }
