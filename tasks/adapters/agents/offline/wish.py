"""What is wished for: the requirement text, what an operator changed in it, and of which type the site is.

The planning prompt brings changes, the coding prompt the type; ``output/wish.json`` carries both to the later phases.
"""

import hashlib
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

FILE = "output/wish.json"
_CHANGES = re.compile(r"asks for these changes:\s*$")
_TYPE = re.compile(r"\b(?P<type>static|dynamic) site\b")
_QUOTE = re.compile(r"> ?")


@dataclass(frozen=True)
class Wish:
    text: str
    changes: tuple[str, ...] = ()
    dynamic: bool = False

    def after(self, prompt: str, *, planning: bool) -> "Wish":
        """With what a prompt adds. A planning prompt brings every change so far; one without any begins again."""
        asked = site_type_in(prompt)
        return replace(
            self,
            changes=changes_in(prompt) if planning else self.changes,
            dynamic=self.dynamic if asked is None else asked == "dynamic",
        )


def changes_in(prompt: str) -> tuple[str, ...]:
    """The operator's answers in a planning prompt, in order; a quote mark alone on its line parts them.

    >>> changes_in("> these changes:\\nHe asks for these changes:\\n> dark\\n> no blog\\n>\\n> FAQ\\n---")
    ('dark\\nno blog', 'FAQ')
    """
    lines = prompt.split("\n")
    at = next((n for n, line in enumerate(lines) if not line.startswith(">") and _CHANGES.search(line)), None)
    if at is None:
        return ()
    found: list[list[str]] = [[]]
    for line in lines[at + 1 :]:
        if line == ">":
            found.append([])
        elif line.startswith(">"):
            found[-1].append(_QUOTE.sub("", line, count=1))
        elif any(found) or line.strip():
            break
    return tuple(answer for answer in ("\n".join(words).strip() for words in found) if answer)


def site_type_in(prompt: str) -> str | None:
    """ "static" or "dynamic" where the prompt itself says it; what a requester says in it does not count."""
    own = "\n".join(line for line in prompt.split("\n") if not line.startswith(">"))
    match = _TYPE.search(own)
    return match["type"] if match else None


def recall(workspace: Path, text: str, stored: object) -> Wish:
    """What earlier phases kept for this text. Where the parsed file, ``stored``, is none, what was built tells."""
    if isinstance(stored, dict) and stored.get("of") == _digest(text):
        changes = stored.get("changes")
        kept = tuple(entry for entry in changes if isinstance(entry, str)) if isinstance(changes, list) else ()
        return Wish(text, kept, stored.get("dynamic") is True)
    built = all((workspace / "source" / name).is_file() for name in ("app.py", "requirements.txt"))
    return Wish(text, (), built)


def kept(wish: Wish) -> bytes:
    """The content of the file."""
    document = {"of": _digest(wish.text), "changes": list(wish.changes), "dynamic": wish.dynamic}
    return (json.dumps(document, indent=1) + "\n").encode()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
