"""The one style sheet of a site: tokens from palette and language, the shared rules, the rules of the look.

Fonts are those of the visitor's system (https://modernfontstacks.com), with faces for the language's script.
"""

from pathlib import Path

from .brief import Brief
from .colour import Colour, contrast
from .look import Look
from .palette import Palette

_HERE = Path(__file__).parent / "styles"

_STACKS = {
    "old": '"Iowan Old Style", "Palatino Linotype", Palatino, "URW Palladio L", P052, "Book Antiqua"',
    "transitional": 'Charter, "Bitstream Charter", "Sitka Text", Cambria, Georgia',
    "didone": 'Didot, "Bodoni MT", "Noto Serif Display", "URW Palladio L", P052, Sylfaen',
    "antique": 'Superclarendon, "Bookman Old Style", "URW Bookman", "URW Bookman L", "Georgia Pro", Georgia',
    "humanist": 'Seravek, "Gill Sans Nova", "Segoe UI", Ubuntu, Calibri, "Noto Sans", "Source Sans Pro"',
    "grotesque": 'Inter, "Helvetica Neue", Roboto, "Segoe UI", "Arial Nova", "Nimbus Sans", "Noto Sans", Arial',
    "geometric": 'Avenir, "Avenir Next", Montserrat, Corbel, "URW Gothic", "Noto Sans Display", "Source Sans Pro"',
    "rounded": 'ui-rounded, "SF Pro Rounded", "Hiragino Maru Gothic ProN", Quicksand, Comfortaa, Nunito, '
    '"Arial Rounded MT Bold", "Trebuchet MS", "Noto Sans Display"',
    "condensed": 'Bahnschrift, "DIN Alternate", "Franklin Gothic Medium", "Nimbus Sans Narrow", "Arial Narrow", '
    '"Noto Sans Display"',
    "mono": 'ui-monospace, "Cascadia Code", "SF Mono", "Source Code Pro", Menlo, Consolas, "DejaVu Sans Mono"',
}
_SERIFS = {"old", "transitional", "didone", "antique"}
_SCRIPTS = {  # sans, serif
    "ar": (
        '"Noto Kufi Arabic", "Geeza Pro", "SF Arabic", "Segoe UI", "Noto Sans Arabic", Tahoma',
        '"Noto Naskh Arabic", Amiri, "Geeza Pro", "Sakkal Majalla", "Traditional Arabic"',
    ),
    "fa": (
        'Vazirmatn, "Noto Sans Arabic", "Geeza Pro", "Segoe UI", Tahoma',
        '"Noto Naskh Arabic", "Geeza Pro", "Segoe UI", Tahoma',
    ),
    "he": (
        '"Noto Sans Hebrew", "Arial Hebrew", "Segoe UI", Arial',
        '"Noto Serif Hebrew", "New Peninim MT", "Frank Ruehl CLM", David',
    ),
    "hi": (
        '"Noto Sans Devanagari", "Kohinoor Devanagari", "Nirmala UI", Mangal',
        '"Noto Serif Devanagari", "Kohinoor Devanagari", "Nirmala UI", Mangal',
    ),
    "ja": (
        '"Hiragino Sans", "Yu Gothic", "Noto Sans JP", "Noto Sans CJK JP", Meiryo',
        '"Hiragino Mincho ProN", "Yu Mincho", "Noto Serif JP", "Noto Serif CJK JP"',
    ),
    "zh": (
        '"PingFang SC", "Microsoft YaHei", "Noto Sans SC", "Noto Sans CJK SC"',
        '"Songti SC", STSong, "Noto Serif SC", "Noto Serif CJK SC", SimSun',
    ),
    "ko": (
        '"Apple SD Gothic Neo", "Malgun Gothic", "Noto Sans KR", "Noto Sans CJK KR"',
        '"AppleMyungjo", "Nanum Myeongjo", "Noto Serif KR", "Noto Serif CJK KR", Batang',
    ),
}
_FACES = {  # display, body
    "hearth": ("old", "humanist"),
    "darkroom": ("grotesque", "grotesque"),
    "chambers": ("transitional", "humanist"),
    "bloom": ("didone", "humanist"),
    "playground": ("rounded", "rounded"),
    "console": ("geometric", "grotesque"),
    "stage": ("condensed", "grotesque"),
    "paper": ("antique", "transitional"),
    "workshop": ("geometric", "humanist"),
    "quiet": ("transitional", "humanist"),
}


def write(brief: Brief, look: Look, palette: Palette) -> str:
    parts = [_tokens(brief, look, palette)]
    parts += [(_HERE / name).read_text(encoding="utf-8") for name in ("base.css", f"{look.name}.css")]
    return "\n".join(parts)


def _family(face: str, code: str) -> str:
    generic = "monospace" if face == "mono" else "serif" if face in _SERIFS else "sans-serif"
    script = _SCRIPTS.get(code)
    faces = [_STACKS[face]]
    if script:
        own = script[1] if face in _SERIFS else script[0]
        # The look's Latin faces have no letters of these scripts, save a few that draw Arabic or Hebrew badly.
        faces = [own, *faces] if code in {"ar", "fa", "he", "hi"} else [*faces, own]
    return ", ".join([*faces, generic])


def _tokens(brief: Brief, look: Look, palette: Palette) -> str:
    code = brief.language.code
    display, body = _FACES[look.name]
    tokens = {
        "ground": palette.ground.hex,
        "surface": palette.surface.hex,
        "surface-root": palette.surface.hex,
        "raised": palette.raised.hex,
        "ink": palette.ink.hex,
        "muted": palette.muted.hex,
        "card-ink": palette.ink.hex,
        "card-muted": palette.muted.hex,
        "card-accent": palette.accent_ink.hex,
        "line": palette.line.hex,
        "line-faint": palette.line.mixed(palette.ground, 0.55).hex,
        "field-line": palette.field_line.hex,
        "accent": palette.accent.hex,
        "on-accent": palette.on_accent.hex,
        "accent-ink": palette.accent_ink.hex,
        "second": palette.second.hex,
        "on-second": palette.on_second.hex,
        "third": (palette.art[2] if len(palette.art) > 5 else palette.accent.mixed(palette.second, 0.5)).hex,
        "band": band(palette).hex,
        "deep": palette.deep.hex,
        "on-deep": palette.on_deep.hex,
        "deep-muted": palette.deep_muted.hex,
        "deep-accent": palette.deep_accent.hex,
        "deep-line": palette.deep.mixed(palette.on_deep, 0.28).hex,
        "art-ground": Colour.lch(0.15, 0.012, palette.art[0].oklch[2]).hex,
        "on-art": Colour.lch(0.975, 0.004, palette.art[0].oklch[2]).hex,
        "error": palette.error.hex,
        "display-font": _family(display, code),
        "body-font": _family(body, code),
        "mono-font": _family("mono", code),
    }
    lines = [f"  --{name}: {value};" for name, value in tokens.items()]
    scheme = "dark" if palette.dark else "light"
    return "\n".join([":root {", f"  color-scheme: {scheme};", *lines, "}"])


def band(palette: Palette) -> Colour:
    """A ground between sections that leans to the companion colour as far as the text on it allows."""
    for share in (0.6, 0.68, 0.76, 0.84, 0.9, 0.95):
        found = palette.second.mixed(palette.ground, share)
        if all(contrast(ink, found) >= 4.6 for ink in (palette.ink, palette.muted, palette.accent_ink)):
            return found
    return palette.surface
