"""How a site is laid out: one of ten looks, chosen by kind, mood and a digest of the text.

Each look has a style sheet of its own in ``styles/``.
"""

from dataclasses import dataclass

from .brief import Brief
from .dice import Dice


@dataclass(frozen=True)
class Look:
    """``scene`` names the art of the front page; ``wide`` tells a landscape format from a tall one; ``motif`` whether
    a sign of the trade is drawn into it."""

    name: str
    scene: str
    wide: bool = False
    motif: bool = True
    works: tuple[str, ...] = ("dunes", "arcs", "tiles", "leaves", "circles", "contours")
    mark: bool = True
    """Whether the site's sign stands beside its name."""
    backdrop: bool = False
    """Whether the art lies behind the name and not beside it."""
    pictures: bool = True
    """Whether a picture stands beside the words about the requester."""


LOOKS = {
    look.name: look
    for look in (
        Look("hearth", "dunes", works=("dunes", "leaves", "circles", "arcs")),
        Look(
            "darkroom",
            "light",
            wide=True,
            motif=False,
            works=("ridges", "light", "dunes", "contours"),
            mark=False,
            backdrop=True,
        ),
        Look("chambers", "columns", wide=True, motif=False, works=("columns", "tiles", "arcs"), pictures=False),
        Look("bloom", "leaves", works=("leaves", "circles", "dunes", "arcs")),
        Look("playground", "blobs", works=("blobs", "circles", "tiles", "arcs")),
        Look("console", "lattice", wide=True, motif=False, works=("lattice", "tiles", "contours", "arcs")),
        Look("stage", "beams", wide=True, motif=False, works=("beams", "arcs", "tiles", "light")),
        Look("paper", "contours", wide=True, motif=False, works=("contours", "ridges", "leaves", "dunes")),
        Look("workshop", "tiles", works=("tiles", "columns", "arcs", "lattice")),
        Look("quiet", "enso", works=("enso", "ridges", "circles", "contours"), mark=False, pictures=False),
    )
}

_BY_KIND = {
    "bakery": ("hearth", "workshop", "bloom"),
    "tea": ("quiet", "hearth", "paper"),
    "cafe": ("hearth", "workshop", "quiet"),
    "restaurant": ("hearth", "bloom", "stage", "darkroom"),
    "photographer": ("darkroom", "quiet", "paper"),
    "developer": ("console", "quiet", "paper"),
    "wedding": ("bloom", "quiet", "paper"),
    "yoga": ("quiet", "bloom", "hearth"),
    "law": ("chambers", "paper"),
    "consulting": ("chambers", "console", "workshop"),
    "medical": ("workshop", "hearth", "chambers"),
    "kids": ("playground",),
    "school": ("workshop", "playground", "chambers"),
    "music": ("stage", "darkroom"),
    "event": ("stage", "console", "workshop"),
    "hotel": ("bloom", "hearth", "quiet", "darkroom"),
    "craft": ("workshop", "stage", "chambers"),
    "garden": ("bloom", "hearth", "paper"),
    "beauty": ("bloom", "quiet", "darkroom"),
    "software": ("console", "workshop", "quiet"),
    "club": ("workshop", "hearth", "playground"),
    "portfolio": ("quiet", "paper", "darkroom", "stage"),
    "shop": ("hearth", "quiet", "workshop", "paper"),
    "blog": ("paper", "quiet", "hearth"),
    "generic": ("workshop", "hearth", "console", "quiet", "chambers"),
}
_BY_MOOD = {
    "minimal": ("quiet", "paper", "console"),
    "playful": ("playground",),
    "elegant": ("bloom", "chambers", "darkroom"),
    "bold": ("stage", "darkroom"),
    "warm": ("hearth",),
    "calm": ("quiet", "bloom"),
}


def choose(brief: Brief) -> Look:
    """A mood that was asked for decides, within what suits the kind where the two overlap."""
    fitting = _BY_KIND[brief.kind]
    for mood in brief.theme.moods:
        wished = _BY_MOOD.get(mood, ())
        both = tuple(name for name in wished if name in fitting)
        if both or wished:
            return LOOKS[(both or wished)[0]]
    if brief.theme.scheme == "dark" and "darkroom" in fitting:
        return LOOKS["darkroom"]
    return LOOKS[Dice("layout", brief.seed).pick(fitting)]
