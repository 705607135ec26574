"""The colours of one site. Every pair that carries text is moved apart until it reads well."""

from dataclasses import dataclass

from .brief import Brief
from .colour import Colour, contrast, readable, text_on
from .dice import Dice

_CHOICES: dict[str, tuple[tuple[str, str, str], ...]] = {  # accent, companion, tint of the ground
    "bakery": (("#a4501c", "#d9a441", "#fbf4e9"), ("#8b3a2f", "#e0a877", "#faf1ec"), ("#5d6b32", "#c98a3d", "#f8f5e8")),
    "tea": (("#4c6b3c", "#b58b4c", "#f5f4ea"), ("#7a4b34", "#8ea07a", "#f7f2ea")),
    "cafe": (("#6b3f2a", "#d28b4b", "#f8f2ec"), ("#2f5d56", "#d9a05b", "#f3f5f1"), ("#b4472e", "#2f4858", "#faf4ee")),
    "restaurant": (
        ("#9c2f2f", "#c99a4b", "#faf3ec"),
        ("#3d5a40", "#d08c4f", "#f5f4ec"),
        ("#26384f", "#d97b4a", "#f4f3ef"),
    ),
    "photographer": (
        ("#c8a26a", "#6f8a94", "#f6f5f2"),
        ("#e0603f", "#8a94a0", "#f5f4f3"),
        ("#5f8796", "#c9b38c", "#f4f5f5"),
    ),
    "developer": (
        ("#2f6df0", "#12b5a6", "#f5f7fb"),
        ("#5b4be0", "#f2704f", "#f6f5fb"),
        ("#0f8a6a", "#e6a23c", "#f3f7f5"),
    ),
    "wedding": (
        ("#9a6a6a", "#b8a06a", "#fbf6f3"),
        ("#6f7f64", "#c99b8b", "#f7f6f0"),
        ("#7a6486", "#c8a47e", "#f8f5f8"),
    ),
    "yoga": (("#5b7f73", "#d3a17e", "#f4f6f2"), ("#8a6a94", "#d9b38c", "#f7f4f8"), ("#b2694f", "#7c9a92", "#faf4f0")),
    "law": (("#1f3a5f", "#b08d4f", "#f5f6f8"), ("#274a43", "#b58a55", "#f4f6f4"), ("#4a2c38", "#a8895c", "#f8f5f5")),
    "consulting": (
        ("#234e70", "#e08a4a", "#f4f6f8"),
        ("#2b5b4f", "#d9b04c", "#f3f6f4"),
        ("#4b3f72", "#e0745a", "#f6f5f9"),
    ),
    "medical": (
        ("#1f7a8c", "#f2a37b", "#f1f7f8"),
        ("#3b7a57", "#8ab6d6", "#f2f7f4"),
        ("#3d63a8", "#6fbfa5", "#f3f6fb"),
    ),
    "kids": (("#e2574c", "#2fa6a0", "#fff8e8"), ("#7a4fd0", "#ffb52e", "#fbf6ff"), ("#1f8ad0", "#ff7b54", "#f2faff")),
    "school": (("#24558f", "#f0a202", "#f4f7fb"), ("#8a2f4f", "#3f8f88", "#faf4f6"), ("#35653f", "#e08e3a", "#f4f7f2")),
    "music": (("#ff4d6d", "#7b5cff", "#f7f4f8"), ("#f2c230", "#e2463f", "#f8f6ee"), ("#22c3a6", "#ff7ab8", "#f3f7f6")),
    "event": (("#5b3fd6", "#ff7a45", "#f5f3fc"), ("#e0334c", "#1fb6c9", "#faf4f5"), ("#0f6b5c", "#ffc145", "#f2f7f5")),
    "hotel": (("#2c5f6f", "#c9996b", "#f4f6f5"), ("#7a5a3a", "#7f9a86", "#f8f4ee"), ("#3f4f7a", "#d8a48f", "#f5f5f9")),
    "craft": (("#d9600e", "#2c4a5e", "#f6f5f2"), ("#1f5f8b", "#f0b429", "#f3f6f8"), ("#a63d2f", "#4a5a4f", "#f7f4f1")),
    "garden": (("#3f7a45", "#e08aa0", "#f4f7f0"), ("#7a4a7f", "#a3b86c", "#f8f5f8"), ("#c0563a", "#5f8a4f", "#faf5ef")),
    "beauty": (("#a8516b", "#c9a27e", "#fbf4f4"), ("#5a4a42", "#d8a7a0", "#f7f3f0"), ("#2f4f4f", "#d0a98f", "#f3f5f4")),
    "software": (
        ("#3b5bfd", "#13c296", "#f4f6ff"),
        ("#7c3aed", "#f59e0b", "#f7f4fe"),
        ("#0e7c86", "#f97362", "#f1f7f8"),
    ),
    "club": (("#2f6f4f", "#f0a83c", "#f4f7f2"), ("#b03a48", "#3a6ea5", "#faf4f4"), ("#2b5797", "#f28c38", "#f3f6fa")),
    "portfolio": (
        ("#d1495b", "#30638e", "#f8f6f4"),
        ("#2a2a2a", "#e0a458", "#f6f5f2"),
        ("#3f6c51", "#e07a5f", "#f5f6f2"),
    ),
    "shop": (("#b5542f", "#3f6f73", "#faf5ef"), ("#4f4789", "#e8a25c", "#f6f5fa"), ("#2f5d50", "#d98a8a", "#f4f6f4")),
    "blog": (("#7a3b2e", "#4f6d7a", "#faf7f2"), ("#34536b", "#c08552", "#f6f6f4"), ("#4f5d2f", "#a65e5e", "#f7f6f0")),
    "generic": (
        ("#2f5d8a", "#e0894a", "#f5f6f8"),
        ("#5a4a86", "#4fa38f", "#f6f5f9"),
        ("#2f6b5a", "#d98a4f", "#f4f6f3"),
        ("#8a3f55", "#5a8a9a", "#f9f5f6"),
    ),
}
_DARK_BY_NATURE = {"music", "photographer"}


@dataclass(frozen=True)
class Palette:
    """``accent`` fills and `accent_ink` writes; ``deep`` is the ground of bands that stand out."""

    dark: bool
    ground: Colour
    surface: Colour
    raised: Colour
    ink: Colour
    muted: Colour
    line: Colour
    field_line: Colour
    accent: Colour
    on_accent: Colour
    accent_ink: Colour
    second: Colour
    on_second: Colour
    deep: Colour
    on_deep: Colour
    deep_muted: Colour
    deep_accent: Colour
    error: Colour
    art: tuple[Colour, ...]

    @property
    def text_pairs(self) -> tuple[tuple[str, Colour, Colour], ...]:
        """Every pair of writing and ground that the styles use."""
        return (
            ("ink on ground", self.ink, self.ground),
            ("ink on surface", self.ink, self.surface),
            ("ink on raised", self.ink, self.raised),
            ("muted on ground", self.muted, self.ground),
            ("muted on surface", self.muted, self.surface),
            ("muted on raised", self.muted, self.raised),
            ("accent_ink on ground", self.accent_ink, self.ground),
            ("accent_ink on surface", self.accent_ink, self.surface),
            ("accent_ink on raised", self.accent_ink, self.raised),
            ("on_accent on accent", self.on_accent, self.accent),
            ("on_second on second", self.on_second, self.second),
            ("on_deep on deep", self.on_deep, self.deep),
            ("deep_muted on deep", self.deep_muted, self.deep),
            ("deep_accent on deep", self.deep_accent, self.deep),
            ("error on raised", self.error, self.raised),
            ("error on ground", self.error, self.ground),
            ("error on surface", self.error, self.surface),
        )


def choose(brief: Brief) -> Palette:
    """The wished colours where there are any, else one of those that suit the kind of site."""
    dice = Dice("palette", brief.seed)
    chosen = dice.pick(_CHOICES[brief.kind])
    accent, second, tint = (Colour.of(code) for code in chosen)
    wished = [Colour.of(code) for code in brief.theme.colours]
    lively = [colour for colour in wished if colour.oklch[1] >= 0.03 and not _paper(colour)]
    blackish = any(colour.oklch[0] < 0.3 and colour.oklch[1] < 0.03 for colour in wished)
    pale = next((colour for colour in wished if _paper(colour)), None)
    greys = [colour for colour in wished if colour not in lively and not _paper(colour)]
    if lively:
        accent = lively[0]
        hue = accent.oklch[2]
        second = lively[1] if len(lively) > 1 else Colour.lch(0.68, 0.11, (hue + dice.pick((38, -42, 160, 195))) % 360)
        tint = Colour.lch(0.972, 0.012, hue)
    elif greys:
        accent = greys[0]
        second = greys[1] if len(greys) > 1 else Colour.lch(0.62, 0.02, 80)
        tint = Colour.lch(0.97, 0.003, 90)
    if pale is not None:
        tint = pale if pale.oklch[1] > 0.01 else Colour.of("#ffffff")
    dark = _dark(brief, bool(lively) and blackish, dice)
    if dark and not lively:
        accent = accent if accent.oklch[0] > 0.55 else accent.at(0.74)
    return _built(dark, accent, second, tint, lively[2:], plain=pale is not None and pale.oklch[1] <= 0.01)


def _paper(colour: Colour) -> bool:
    return colour.oklch[0] > 0.93


def _dark(brief: Brief, black_and: bool, dice: Dice) -> bool:
    if brief.theme.scheme:
        return brief.theme.scheme == "dark"
    if black_and:
        return True
    gentle = {"playful", "warm", "calm", "minimal"} & set(brief.theme.moods)
    return brief.kind in _DARK_BY_NATURE and not gentle and dice.number() < 0.7


def _built(dark: bool, accent: Colour, second: Colour, tint: Colour, further: list[Colour], *, plain: bool) -> Palette:
    hue = accent.oklch[2]
    ground_hue = tint.oklch[2] if tint.oklch[1] > 0.004 else hue
    chroma = min(tint.oklch[1], 0.02)
    if dark:
        ground = Colour.lch(0.165, min(0.012, accent.oklch[1]), hue)
        surface = Colour.lch(0.205, min(0.014, accent.oklch[1]), hue)
        raised = Colour.lch(0.245, min(0.016, accent.oklch[1]), hue)
        ink, muted = Colour.lch(0.955, 0.006, hue), Colour.lch(0.76, 0.012, hue)
        line, field_line = Colour.lch(0.34, 0.014, hue), Colour.lch(0.58, 0.015, hue)
        deep = Colour.lch(0.235, min(0.022, accent.oklch[1] * 0.4), hue)
        if accent.oklch[0] < 0.5:
            accent = accent.at(0.56)
        error = Colour.lch(0.75, 0.15, 25)
    else:
        ground = (
            Colour.of("#ffffff") if plain else Colour.lch(min(0.985, max(0.965, tint.oklch[0])), chroma, ground_hue)
        )
        surface = Colour.lch(0.945 if not plain else 0.965, max(chroma, 0.006) * 1.25, ground_hue)
        raised = Colour.of("#ffffff") if not plain else Colour.lch(0.985, 0.003, ground_hue)
        ink, muted = Colour.lch(0.23, 0.02, hue), Colour.lch(0.46, 0.02, hue)
        line, field_line = Colour.lch(0.86, 0.014, ground_hue), Colour.lch(0.6, 0.02, ground_hue)
        deep = Colour.lch(0.285, min(0.075, max(0.02, accent.oklch[1] * 0.6)), hue)
        error = Colour.lch(0.48, 0.17, 25)
    grounds = (ground, surface, raised)
    dark_text, light_text = Colour.lch(0.19, 0.02, hue), Colour.of("#ffffff")
    on_deep = readable(Colour.lch(0.97, 0.008, hue), deep, at_least=7)
    deep_base = second if contrast(second, deep) > contrast(accent, deep) else accent
    apart = abs((accent.oklch[2] - second.oklch[2] + 180) % 360 - 180)
    between = accent.mixed(second, 0.5) if apart < 80 else accent.mixed(ground, 0.45)  # opposite hues mix to grey
    art = (accent, second, *further, between, deep, surface)
    return Palette(
        dark=dark,
        ground=ground,
        surface=surface,
        raised=raised,
        ink=readable(ink, *grounds, at_least=11),
        muted=readable(muted, *grounds, at_least=5),
        line=line,
        field_line=readable(field_line, *grounds, at_least=3.2),
        accent=accent,
        on_accent=text_on(accent, dark_text, light_text),
        accent_ink=readable(accent, *grounds, at_least=4.8),
        second=second,
        on_second=text_on(second, dark_text, light_text),
        deep=deep,
        on_deep=on_deep,
        deep_muted=readable(Colour.lch(0.82, 0.02, hue), deep, at_least=5),
        deep_accent=readable(deep_base, deep, at_least=4.8),
        error=readable(error, *grounds, at_least=4.8),
        art=art,
    )
