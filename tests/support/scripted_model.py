"""What a model would do that is asked to build a site, as a script for `messages_api`: reads each prompt, and obeys."""

import re
from collections.abc import Sequence

from tests.support.messages_api import Asked, Block, Fault, text, tool

PROMPT = "/workspace/prompts/current.txt"
TITLE = "Crumb & Co"

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Crumb &amp; Co</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="style.css">
</head>
<body>
<header><h1>Crumb &amp; Co</h1><nav><a href="#menu">Menu</a> <a href="#hours">Hours</a></nav></header>
<main>
<section id="menu"><h2>Menu</h2><p>Rye bread, seeded rolls and plum cake.</p></section>
<section id="hours"><h2>Hours</h2><p>Tuesday to Saturday, 7 to 14.</p></section>
</main>
</body>
</html>
"""
STYLE = "body{font-family:sans-serif;max-width:40rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}\n"
SUITE = """
def test_the_name_is_shown(page, base_url):
    page.goto(base_url)
    assert page.title() == "Crumb & Co"


def test_the_menu_is_reached(page, base_url):
    page.goto(base_url)
    page.get_by_role("link", name="Menu").click()
    assert page.locator("#menu").is_visible()
"""


def signal(phase: str) -> Block:
    return tool("Bash", command=f"echo 'PHASE_COMPLETE: {phase}' >> output/status.txt", description="Signal completion")


def work_of(phase: str) -> list[Block]:
    """The tool calls of a phase, its signal last."""
    written = {
        "planning": {"output/plan.md": "# Plan\n\nOne page: menu and opening hours, light, in English.\n"},
        "coding": {"source/index.html": PAGE, "source/style.css": STYLE},
        "test_generation": {"deployment/tests/e2e_test.py": SUITE},
        "verification": {"output/verification.md": "# Verification\n\nEverything that was asked for is shown.\n"},
    }
    files = [tool("Write", file_path=f"/workspace/{name}", content=content) for name, content in written[phase].items()]
    return [*files, signal(phase)]


def phase_asked(results: Sequence[str]) -> str:
    """The phase that the prompt file, as it was read, asks for."""
    found = re.findall(r"PHASE_COMPLETE: ([a-z_]+)", "\n".join(results[:1]))
    return found[-1] if found else ""


def build(asked: Asked) -> list[Block] | Fault:
    """One tool call an answer, as a careful model does."""
    done = len(asked.results)
    if done == 0:
        return [text("I read what I am asked for."), tool("Read", file_path=PROMPT)]
    work = work_of(phase_asked(asked.results))
    if done <= len(work):
        return [work[done - 1]]
    return [text("It is written, and I have signalled it.")]
