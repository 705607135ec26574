"""Real releases out of a few lines."""

from collections.abc import Mapping
from pathlib import Path

from tasks.adapters.packaging import package
from tasks.adapters.workspace import Workspace
from tasks.domain.release import Release, content_digest


class Packager:
    """A workspace and the record of its releases, as the registry would keep it."""

    def __init__(self, root: Path) -> None:
        self.workspace = Workspace(root)
        self.workspace.lay_out()
        self.record: dict[str, int] = {}

    def package(self, files: Mapping[str, bytes | str] | None = None) -> Release:
        """Package these files; without any, what `source/` holds."""
        if files is not None:
            write_tree(self.workspace.source, files)
        release = package(self.workspace, self.record.get, self.next_number)
        self.record[content_digest(release.manifest.files)] = release.number
        return release

    def next_number(self) -> int:
        return 1 + max(self.record.values(), default=0)


def write_tree(root: Path, files: Mapping[str, bytes | str]) -> None:
    """Make ``root`` hold these files and nothing else."""
    for path in sorted(root.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
