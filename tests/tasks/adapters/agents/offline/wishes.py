"""Eight very different wishes for a website: the ones that the project promises to fulfil."""

from pathlib import Path

from tasks.adapters.agents.offline import brief, pages
from tasks.adapters.agents.offline.pages import Site

HOSTILE = (
    'A site for <script>alert(1)</script> "><img src=x onerror=alert(1)> called "Mallory & Söhne </title>" '
    "{{7*7}} ${7*7} <%= 1 %> \x1b[31mred\x1b[0m \u202egnp.exe\n"
    'Services: <b>bold</b> advice, "onmouseover="alert(1), javascript:alert(1), ' + "A" * 400 + "\n"
    "FAQ: Is </body></html> safe? Yes, <iframe src=//evil.example></iframe> it is.\n"
    'Contact: "><svg/onload=alert(2)>@evil.example, mallory@example.com?subject=x&bcc=y'
)

WISHES = {
    **{path.stem: path.read_text() for path in sorted((Path(__file__).parent / "texts").glob("*.txt"))},
    "hostile": HOSTILE,
}


def site(text: str) -> Site:
    return pages.build(brief.understand(text))


def laid_out(made: Site, folder: Path) -> Path:
    """The files of a site in a folder."""
    for path, content in made.files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder
