"""The README that travels with a site."""

from .brief import Brief
from .markdown import plain

ORIGIN = (
    "This site was made by the offline agent of tmux-builder. It is a template generator: it has no language model, "
    "reads the request by word lists and patterns, and fills templates. What the request did not say is either left "
    "out or marked as an example on the page."
)


_FOLDER = (
    "",
    "The pages load nothing from other servers, set no cookies and need no build step. Serve the folder as the",
    "root of an origin: addresses begin with a slash, so that `404.html` works at every depth.",
    "",
)
_SERVER = (
    "- `app.py`: the server; `site.json`: what it knows of this site; `templates/`: pages that it fills",
    "- `requirements.txt`: empty, for the server needs Python 3.11 or later and nothing else",
    "",
    "The pages load nothing from other servers, set no cookies and need no build step.",
    "",
    "## Run it",
    "",
    "```",
    "PORT=8000 DATA_DIR=./data python app.py",
    "```",
    "",
    "It listens on 127.0.0.1 and PORT (8000 where it is not set); put a server with TLS in front. What visitors send",
    "is kept in SQLite under DATA_DIR (`./data` where it is not set), which belongs outside of what is published.",
    "SIGTERM ends it after the requests that are under way. `/healthz` answers 200 while the database works.",
    "",
    "Read what arrived, one JSON object a line:",
    "",
    "```",
    "DATA_DIR=./data python app.py entries",
    "```",
    "",
    "A form takes 5,000 entries of at most 32 KiB, and after the first 20 one every four seconds from one visitor.",
    "What was sent is shown to its sender, at an address that cannot be guessed and from which it can be removed",
    "again; guestbook entries are shown to everybody besides.",
    "",
)


def readme(brief: Brief, files: list[str]) -> str:
    below = "public/" if brief.dynamic else ""
    lines = [f"# {plain(brief.brand.name)}", "", ORIGIN, "", "## Files", ""]
    lines += [f"- `{below}{file}`" for file in files]
    lines += [
        f"- `{below}assets/`: style sheet, script and drawings, each with a digest of its content in the name",
        f"- `{below}favicon.svg`, `{below}robots.txt`",
        *(_SERVER if brief.dynamic else _FOLDER),
        "Drawings are abstract placeholders. To show your own, replace a file under `assets/` and its name in the",
        "pages.",
        "",
    ]
    return "\n".join(lines)
