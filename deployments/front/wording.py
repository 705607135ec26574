"""What a requester is told of a failure: no places on our disks, and no commands that only an operator can give.

Operators get the words as they are.
"""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

_END = r"\s'\"`<>|(){}\[\]"
_REST = rf"(?:[^{_END}:,;]|[:,;](?![{_END}]|$))*"
"""A path's further characters; a mark that ends a sentence's part ends it too."""

_TOP = (
    *("bin", "boot", "dev", "etc", "home", "lib", "lib64", "media", "mnt", "nix", "opt", "private", "proc", "root"),
    *("run", "sbin", "snap", "srv", "sys", "tmp", "usr", "var", "Users", "Library", "Volumes"),
)
_SESSION = r"/users/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/sessions/[^/\s]{1,100}"
_BEGIN = r"(?<![\w.~%-])(?<!:/)"
"""Neither amid a relative path or an address, nor its ``//``."""

_MOVES = (
    (r"look with: tmux -S [^;\n]*", "try again"),
    (r"(?:see|raise) [^;]{0,60}agent's block(?:, then retry the run)?", "tell the operator, then try again"),
    (r"start it again with: prefect flow-run retry|retry the (?:flow )?run\b", "try again"),
    (
        r"(?:mend source/[\w ]*, then )?start redeploy/on-demand(?: with this execution's id| to publish anew)?",
        "publish it again",
    ),
    (r"start full-build/on-demand", "order it again"),
    (r"start rollback/on-demand or teardown/on-demand with this execution's id", "set it back, or take it down"),
)
"""What operators are told to do, and what who ordered may do."""


class ForRequesters:
    """Shortens paths to their ends. ``homes`` are folders of ours, whatever their names.

    >>> shown = ForRequesters([Path("/data/builder")])
    >>> shown("the disk of /data/builder is full; see /home/bo/x.log")
    'the disk of …/builder is full; see …/x.log'
    >>> shown("/breads/ has no title at http://a.localhost:8401/home/x")
    '/breads/ has no title at http://a.localhost:8401/home/x'
    """

    @classmethod
    def here(cls, home: Path) -> "ForRequesters":
        """For this machine, whose state is below ``home``."""
        return cls([home, Path.home(), Path(__file__).parents[2], Path(sys.prefix)])

    def __init__(self, homes: Iterable[Path]) -> None:
        ours = sorted({str(home) for home in homes if len(home.parts) > 1}, key=len, reverse=True)
        known = rf"(?:{'|'.join(map(re.escape, ours))})(?![\w-]){_REST}|" if ours else ""
        self._paths = re.compile(
            rf"{_BEGIN}(?:{known}/[^\s'\"]{{0,300}}?{_SESSION}{_REST}|{_SESSION}{_REST}|/(?:{'|'.join(_TOP)})/{_REST})"
        )
        self._inside = re.compile(rf"^.*?{_SESSION}/(?=.)", re.DOTALL)
        self._moves = [(re.compile(words), instead) for words, instead in _MOVES]

    def __call__(self, text: str) -> str:
        for words, instead in self._moves:
            text = words.sub(instead, text)
        return self._paths.sub(self._shortened, text)

    def _shortened(self, found: re.Match[str]) -> str:
        inside, cut = self._inside.subn("", found[0], 1)
        return inside if cut else f"…/{found[0].rstrip('/').rpartition('/')[2]}"
