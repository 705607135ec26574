"""What is done in each phase. Every function takes the workspace and yields one line for each thing it did."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from . import coverage, pages
from .brief import understand
from .coverage import Requirement
from .pages import Site
from .plan import plan
from .suite import suite
from .verification import outcome, verification

_LIMIT_BYTES = 4 * 2**20


class PhaseFailed(Exception):
    """A phase that cannot be done. The message says what was expected, what was found, and the next move."""


def planning(workspace: Path) -> Iterator[str]:
    site, requirements = _site(workspace)
    yield _understood(site)
    if (workspace / "docs" / "PROJECT_GUIDELINES.md").is_file():
        yield "Found docs/PROJECT_GUIDELINES.md; a template generator cannot follow prose, its templates are made to"
    yield _wrote(workspace, "output/plan.md", plan(site, requirements).encode())


def coding(workspace: Path) -> Iterator[str]:
    site, _ = _site(workspace)
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


def test_generation(workspace: Path) -> Iterator[str]:
    site, _ = _site(workspace)
    yield _wrote(workspace, "deployment/tests/e2e_test.py", suite(site).encode())
    yield f"The suite looks at {len(site.pages)} pages of this site, and at its forms, pictures and links"


def verify(workspace: Path) -> Iterator[str]:
    site, requirements = _site(workspace)
    result = outcome(_json(workspace / "deployment" / "tests" / "results.json"))
    yield (
        f"Read deployment/tests/results.json: {result.status}"
        if result.known
        else "Found no readable deployment/tests/results.json"
    )
    yield _wrote(workspace, "output/verification.md", verification(site, requirements, result).encode())


PHASES: dict[str, Callable[[Path], Iterator[str]]] = {
    "planning": planning,
    "coding": coding,
    "test_generation": test_generation,
    "verification": verify,
}


def _site(workspace: Path) -> tuple[Site, tuple[Requirement, ...]]:
    """The site that follows from ``requirements.json``; nothing is remembered from one phase to the next."""
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
    return pages.build(understand(text)), requirements


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
