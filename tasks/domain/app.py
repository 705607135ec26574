"""Programs that serve a site: which runtime they need, how they start, what they may ask to have installed. Pure.

Detection is the functional design's: ``package.json`` means node, ``requirements.txt`` means python, neither: static.
Only packages by name, from the registry in use, are installed: an address, a path or an option in a dependency file
would make the installer fetch from wherever a stranger says.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping
from enum import StrEnum
from typing import Any, assert_never

from pydantic import BaseModel, ConfigDict

from tasks.domain.errors import SourceRefused

PACKAGE, PACKAGE_LOCK, REQUIREMENTS, PROCFILE = "package.json", "package-lock.json", "requirements.txt", "Procfile"

READ = (PACKAGE, PACKAGE_LOCK, REQUIREMENTS, PROCFILE)
"""The files whose content decides; everything else counts by its name."""

TEXT_LIMIT_BYTES = 2 * 2**20
MOST_REQUIREMENTS = 200

NODE_FILES = ("server.js", "index.js", "app.js", "main.js", "server.mjs", "index.mjs", "server.cjs", "index.cjs")
PYTHON_FILES = ("app.py", "main.py", "server.py", "run.py", "wsgi.py")


class Runtime(StrEnum):
    NODE = "node"
    PYTHON = "python"


class App(BaseModel):
    """How a release is run. ``command`` is run in the release's folder, with PORT and DATA_DIR in its environment.

    ``installer_files`` are what the installer is given, rewritten by us; empty where nothing needs to be installed.
    ``reason`` is for people.
    """

    model_config = ConfigDict(frozen=True)

    runtime: Runtime
    command: tuple[str, ...]
    reason: str
    installer_files: dict[str, str] = {}


def detect(paths: Collection[str]) -> tuple[Runtime | None, str]:
    """The runtime that the files at the top of ``source/`` mean, and why. None: a static site.

    >>> detect({"package.json", "server.js"})
    (<Runtime.NODE: 'node'>, 'package.json means node')
    >>> detect({"index.html"})
    (None, 'neither package.json nor requirements.txt means a static site')

    With both files, a package.json beside a Python program and no node program is a build's, not the site's:

    >>> detect({"package.json", "requirements.txt", "app.py"})[0]
    <Runtime.PYTHON: 'python'>
    """
    node, python = PACKAGE in paths, REQUIREMENTS in paths
    programs = [any(name in paths for name in names) for names in (NODE_FILES, PYTHON_FILES)]
    if node and python and programs == [False, True]:
        return Runtime.PYTHON, f"{REQUIREMENTS} and a Python program, with no node program for {PACKAGE}"
    if node:
        return Runtime.NODE, f"{PACKAGE} means node"
    if python:
        return Runtime.PYTHON, f"{REQUIREMENTS} means python"
    return None, f"neither {PACKAGE} nor {REQUIREMENTS} means a static site"


def app_of(paths: Collection[str], texts: Mapping[str, str]) -> App:
    """The app that a folder with these files is; ``texts`` holds those of `READ` that are there.

    Raises SourceRefused where there is none, or where it asks for what is not installed.
    """
    runtime, reason = detect(paths)
    match runtime:
        case None:
            found = ", ".join(sorted(path for path in paths if "/" not in path)[:8]) or "nothing"
            raise SourceRefused(
                "",
                f"a dynamic site needs {PACKAGE} (node) or {REQUIREMENTS} (python) at the top, found: {found}; "
                f"write one, an empty {REQUIREMENTS} is enough where only the standard library is used",
            )
        case Runtime.NODE:
            package = _package(texts)
            command, why = _node_start(paths, package)
            return App(
                runtime=runtime,
                command=command,
                reason=f"{reason}; {why}",
                installer_files=_node_files(package, texts.get(PACKAGE_LOCK)),
            )
        case Runtime.PYTHON:
            command, why = _python_start(paths, texts.get(PROCFILE, ""))
            lines = requirements(texts.get(REQUIREMENTS, ""))
            return App(
                runtime=runtime,
                command=command,
                reason=f"{reason}; {why}",
                installer_files={REQUIREMENTS: "".join(f"{line}\n" for line in lines)} if lines else {},
            )
        case _:
            assert_never(runtime)


# ---------------------------------------------------------------- python

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_VERSION = r"(?:===|==|~=|!=|<=|>=|<|>)\s*[A-Za-z0-9.*+!_-]+"
_REQUIREMENT = re.compile(
    rf"{_NAME}\s*(?:\[\s*{_NAME}(?:\s*,\s*{_NAME})*\s*\])?\s*"
    rf"(?:{_VERSION}(?:\s*,\s*{_VERSION})*|\(\s*{_VERSION}(?:\s*,\s*{_VERSION})*\s*\))?\s*"
    r"(?:;[\w .'\"<>=!~(),+-]+)?",
    re.ASCII,
)


def requirements(text: str) -> tuple[str, ...]:
    """The lines of a requirements.txt, comments gone. Raises SourceRefused with the line and the reason.

    >>> requirements("# web\\nflask[async] >= 3, <4 ; python_version > '3.8'\\n\\n")
    ("flask[async] >= 3, <4 ; python_version > '3.8'",)
    """
    found = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = re.sub(r"(^|\s)#.*", "", raw).strip()
        if not line:
            continue
        if complaint := _complaint_about_requirement(line):
            raise SourceRefused(
                REQUIREMENTS,
                f"line {number}, {line[:80]!r}, {complaint}; expected a package by name, such as flask>=3",
            )
        found.append(line)
    if len(found) > MOST_REQUIREMENTS:
        raise SourceRefused(REQUIREMENTS, f"lists {len(found)} packages; allowed are {MOST_REQUIREMENTS}")
    return tuple(found)


def _complaint_about_requirement(line: str) -> str | None:
    if line.startswith("-") or re.search(r"\s--?[A-Za-z]", line):
        return "is an option for pip"
    if "://" in line or "@" in line:
        return "is an address"
    if "/" in line or "\\" in line or line.startswith(".") or re.search(r"\.(whl|zip|tar\.\w+|tgz)\b", line):
        return "is a path or continues on the next line"
    return None if _REQUIREMENT.fullmatch(line) else "is not understood"


def _python_start(paths: Collection[str], procfile: str) -> tuple[tuple[str, ...], str]:
    if web := re.search(r"(?m)^web:[ \t]*(\S.*)$", procfile):
        return ("/bin/sh", "-c", web[1].strip()), f"{PROCFILE} says how it starts"
    for name in PYTHON_FILES:
        if name in paths:
            return ("python", name), f"{name} is started"
    found = ", ".join(sorted(path for path in paths if path.endswith(".py"))[:8]) or "no .py file"
    raise SourceRefused(
        REQUIREMENTS,
        f"means a Python program, and none of {', '.join(PYTHON_FILES)} is at the top (found: {found}); "
        f"name the program app.py, or add a {PROCFILE} with a line such as web: python program.py",
    )


# ---------------------------------------------------------------- node

_RANGE = re.compile(r"[\w.*^~<>=|+\- ]{0,120}", re.ASCII)
_PACKAGE_NAME = re.compile(r"(?:@[a-z0-9~][a-z0-9._~-]*/)?[A-Za-z0-9~][A-Za-z0-9._~-]*", re.ASCII)
_KINDS = ("dependencies", "optionalDependencies", "devDependencies", "peerDependencies")


def _json_object(name: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SourceRefused(name, f"is not JSON ({str(error)[:120]}); mend it") from None
    if not isinstance(value, dict):
        raise SourceRefused(name, f"is {type(value).__name__} in JSON; expected an object")
    return value


def _package(texts: Mapping[str, str]) -> dict[str, Any]:
    return _json_object(PACKAGE, texts.get(PACKAGE, ""))


def _node_start(paths: Collection[str], package: Mapping[str, Any]) -> tuple[tuple[str, ...], str]:
    scripts = package.get("scripts")
    start = scripts.get("start") if isinstance(scripts, dict) else None
    if isinstance(start, str) and start.strip():
        return ("/bin/sh", "-c", start.strip()), "its start script is run"
    main = package.get("main")
    if isinstance(main, str) and (name := main.removeprefix("./")) in paths:
        return ("node", name), f"its main is {name}"
    for name in NODE_FILES:
        if name in paths:
            return ("node", name), f"{name} is started"
    found = ", ".join(sorted(path for path in paths if re.search(r"\.[cm]?js$", path))[:8]) or "no .js file"
    raise SourceRefused(
        PACKAGE,
        f"has no scripts.start, its main is not there, and neither is any of {', '.join(NODE_FILES)} (found: {found}); "
        'add "scripts": {"start": "node server.js"}',
    )


def _node_files(package: Mapping[str, Any], lock: str | None) -> dict[str, str]:
    """A package.json of names and versions alone: no scripts, workspaces or settings of a stranger reach npm."""
    wanted: dict[str, dict[str, str]] = {}
    for kind in _KINDS:
        if specs := package.get(kind):
            wanted[kind] = _specs(kind, specs)
    overrides = package.get("overrides")
    if overrides:
        _refuse_addresses("overrides", overrides)
    if not (wanted.get("dependencies") or wanted.get("optionalDependencies")):
        return {}
    clean = {
        "name": "app",
        "version": "0.0.0",
        "private": True,
        **wanted,
        **({"overrides": overrides} if overrides else {}),
    }
    files = {PACKAGE: json.dumps(clean, sort_keys=True, indent=1)}
    if lock is not None:
        files[PACKAGE_LOCK] = _lock(lock)
    return files


def _specs(kind: str, specs: object) -> dict[str, str]:
    if not isinstance(specs, dict):
        raise SourceRefused(PACKAGE, f"{kind} is {type(specs).__name__}; expected an object of names and versions")
    if len(specs) > MOST_REQUIREMENTS:
        raise SourceRefused(PACKAGE, f"{kind} lists {len(specs)} packages; allowed are {MOST_REQUIREMENTS}")
    for name, spec in specs.items():
        if not _PACKAGE_NAME.fullmatch(name):
            raise SourceRefused(PACKAGE, f"{kind} names {name[:80]!r}, which is no package's name")
        _refuse_address(f"{kind}.{name}", spec)
    return specs


def _refuse_address(where: str, spec: object) -> None:
    if not isinstance(spec, str) or not _RANGE.fullmatch(spec):
        raise SourceRefused(
            PACKAGE,
            f"{where} is {str(spec)[:80]!r}: an address, a path or a link; expected a version, such as ^4.18.0",
        )


def _refuse_addresses(where: str, value: object) -> None:
    if isinstance(value, dict):
        for name, inner in value.items():
            _refuse_addresses(f"{where}.{name}", inner)
    elif not (isinstance(value, str) and value.startswith("$") and _PACKAGE_NAME.fullmatch(value[1:])):
        _refuse_address(where, value)


def _lock(text: str) -> str:
    """The lock file without ``resolved``: npm asks the registry in use, and compares what comes with ``integrity``."""
    lock = _json_object(PACKAGE_LOCK, text)
    for where, entry in _entries(lock):
        resolved, version = entry.get("resolved"), entry.get("version")
        told = f"{resolved or version or ''}"[:80]
        if entry.get("link") or (where and where != "node_modules" and not where.startswith("node_modules/")):
            raise SourceRefused(
                PACKAGE_LOCK, f"{where!r} is a link or a folder of its own; expected packages by version"
            )
        if resolved is not None and not (isinstance(resolved, str) and resolved.startswith("https://")):
            raise SourceRefused(PACKAGE_LOCK, f"{where!r} comes from {told!r}; expected a package of the registry")
        if version is not None and not (isinstance(version, str) and _RANGE.fullmatch(version)):
            raise SourceRefused(PACKAGE_LOCK, f"{where!r} has version {told!r}; expected a package of the registry")
        entry.pop("resolved", None)
    root = lock["packages"].get("") if isinstance(lock.get("packages"), dict) else None
    if isinstance(root, dict):
        for kind in _KINDS:
            if root.get(kind):
                _specs(kind, root[kind])
        root.update(name="app", version="0.0.0")
    lock.pop("dependencies", None)  # the same in the form of npm 6, which newer ones pass over
    lock.update(name="app", version="0.0.0")
    return json.dumps(lock, sort_keys=True, indent=1)


def _entries(lock: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    packages = lock.get("packages")
    if not isinstance(packages, dict):
        raise SourceRefused(
            PACKAGE_LOCK, "has no packages, so an npm older than 7 wrote it; remove it, or write it with a newer npm"
        )
    for where, entry in packages.items():
        if not isinstance(entry, dict):
            raise SourceRefused(PACKAGE_LOCK, f"{where!r} is {type(entry).__name__}; expected an object")
        yield where, entry
    lock.pop("dependencies", None) if isinstance(
        lock, dict
    ) else None  # the old form again, which npm 7 and newer pass over
