"""The README that travels with a site."""

from .brief import Brief
from .markdown import plain

ORIGIN = (
    "This site was made by the offline agent of tmux-builder. It is a template generator: it has no language model, "
    "reads the request by word lists and patterns, and fills templates. What the request did not say is either left "
    "out or marked as an example on the page."
)


def readme(brief: Brief, files: list[str]) -> str:
    lines = [f"# {plain(brief.brand.name)}", "", ORIGIN, "", "## Files", ""]
    lines += [f"- `{file}`" for file in files]
    lines += [
        "- `assets/`: style sheet, script and drawings, each with a digest of its content in the name",
        "- `favicon.svg`, `robots.txt`",
        "",
        "The pages load nothing from other servers, set no cookies and need no build step. Serve the folder as the",
        "root of an origin: addresses begin with a slash, so that `404.html` works at every depth.",
        "",
        "Drawings are abstract placeholders. To show your own, replace a file under `assets/` and its name in the",
        "pages.",
        "",
    ]
    return "\n".join(lines)
