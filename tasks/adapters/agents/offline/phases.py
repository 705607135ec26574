"""What is done in each phase. Every function takes workspace and prompt, and yields a line for each thing it did."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from . import coverage, pages, wish
from .brief import understand
from .coverage import Requirement
from .pages import Site
from .plan import plan
from .suite import suite
from .verification import outcome, verification
from .wish import Wish

_LIMIT_BYTES = 4 * 2**20


class PhaseFailed(Exception):
    """A phase that cannot be done. The message says what was expected, what was found, and the next move."""


def planning(workspace: Path, prompt: str) -> Iterator[str]:
    known, requirements = _wish(workspace)
    wanted = known.after(prompt, planning=True)
    site = _site(wanted)
    yield _understood(site)
    for change in site.brief.revisions:
        yield f"Changed on request: {'; '.join(change.effects()) or 'nothing, for nothing was understood'}"
    yield _wrote(workspace, wish.FILE, wish.kept(wanted))
    if (workspace / "docs" / "PROJECT_GUIDELINES.md").is_file():
        yield "Found docs/PROJECT_GUIDELINES.md; a template generator cannot follow prose, its templates are made to"
    yield _wrote(workspace, "output/plan.md", plan(site, requirements).encode())


def coding(workspace: Path, prompt: str) -> Iterator[str]:
    known, _ = _wish(workspace)
    wanted = known.after(prompt, planning=False)
    site = _site(wanted)
    yield _wrote(workspace, wish.FILE, wish.kept(wanted))
    yield _understood(site)
    source = workspace / "source"
    source.mkdir(exist_ok=True)
    left = sorted(source.iterdir())
    for entry in left:
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    if left:
        yield f"Removed what was in source/ ({len(left)} entries)"
    for path, content in site.files.items():
        yield _wrote(workspace, f"source/{path}", content)


def generate_tests(workspace: Path, _: str) -> Iterator[str]:
    site = _site(_wish(workspace)[0])
    yield _wrote(workspace, "deployment/tests/e2e_test.py", suite(site).encode())
    yield f"The suite looks at {len(site.pages)} pages of this site, and at its forms, pictures and links"


def verify(workspace: Path, _: str) -> Iterator[str]:
    known, requirements = _wish(workspace)
    site = _site(known)
    result = outcome(_json(workspace / "deployment" / "tests" / "results.json"))
    yield (
        f"Read deployment/tests/results.json: {result.status}"
        if result.known
        else "Found no readable deployment/tests/results.json"
    )
    yield _wrote(workspace, "output/verification.md", verification(site, requirements, result).encode())


PHASES: dict[str, Callable[[Path, str], Iterator[str]]] = {
    "planning": planning,
    "coding": coding,
    "test_generation": generate_tests,
    "verification": verify,
}


def _site(wanted: Wish) -> Site:
    return pages.build(understand(wanted.text, wanted.dynamic, wanted.changes))


def _wish(workspace: Path) -> tuple[Wish, tuple[Requirement, ...]]:
    """``requirements.json`` with what earlier phases kept of the operator's changes and the type of the site."""
    document = _json(workspace / "requirements.json")
    if document is None:
        raise PhaseFailed(
            f"requirements.json: expected a JSON file of at most {_LIMIT_BYTES} bytes in {workspace}, found none that "
            "can be read; run gather_requirements first"
        )
    try:
        text, requirements = coverage.read(document)
    except ValueError as error:
        raise PhaseFailed(f"{error}; run gather_requirements again") from None
    return wish.recall(workspace, text, _json(workspace / wish.FILE)), requirements


def _json(path: Path) -> object:
    """A parsed file; None where there is none, or it is too long or not JSON."""
    try:
        with path.open("rb") as file:
            data = file.read(_LIMIT_BYTES + 1)
        return None if len(data) > _LIMIT_BYTES else json.loads(data)
    except (OSError, ValueError, RecursionError):
        return None


def _understood(site: Site) -> str:
    brief = site.brief
    found = ", ".join(section.kind if section.kind != "custom" else "a part of your own" for section in brief.sections)
    shape = f"{len(brief.pages)} pages" if len(brief.pages) > 1 else "one page"
    return f"Understood: {brief.brand.name}; kind {brief.kind}; language {brief.language.code}; {shape}; {found}"


def _wrote(workspace: Path, path: str, content: bytes) -> str:
    target = workspace / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    size = f"{len(content) / 1000:.1f} kB" if len(content) >= 1000 else f"{len(content)} bytes"
    return f"Wrote {path} ({size})"
