"""Colours: OKLCH for choosing, WCAG contrast for deciding.

Conversions: https://bottosson.github.io/posts/oklab/; contrast: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio
"""

import math
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Colour:
    """An opaque sRGB colour; components 0 to 255."""

    red: int
    green: int
    blue: int

    @classmethod
    def of(cls, code: str) -> "Colour":
        """From ``#rgb`` or ``#rrggbb``.

        >>> Colour.of("#0af").hex
        '#00aaff'
        """
        digits = code.strip().lstrip("#")
        if len(digits) == 3:
            digits = "".join(digit * 2 for digit in digits)
        if not re.fullmatch(r"[0-9a-fA-F]{6}", digits):
            raise ValueError(f"colour: {code!r} is not #rgb or #rrggbb")
        return cls(int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16))

    @classmethod
    def lch(cls, lightness: float, chroma: float, hue: float) -> "Colour":
        """From OKLCH (0 to 1, 0 to about 0.3, degrees). Chroma gives way where sRGB has no such colour."""
        lightness = min(1.0, max(0.0, lightness))
        for step in range(41):
            found = _from_oklch(lightness, chroma * (1 - step / 40), hue)
            if found is not None:
                return cls(*found)
        level = round(lightness * 255)
        return cls(level, level, level)

    @property
    def hex(self) -> str:
        return f"#{self.red:02x}{self.green:02x}{self.blue:02x}"

    @property
    def oklch(self) -> tuple[float, float, float]:
        red, green, blue = (_linear(part / 255) for part in (self.red, self.green, self.blue))
        long = (0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue) ** (1 / 3)
        medium = (0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue) ** (1 / 3)
        short = (0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue) ** (1 / 3)
        lightness = 0.2104542553 * long + 0.7936177850 * medium - 0.0040720468 * short
        a = 1.9779984951 * long - 2.4285922050 * medium + 0.4505937099 * short
        b = 0.0259040371 * long + 0.7827717662 * medium - 0.8086757660 * short
        return lightness, math.hypot(a, b), math.degrees(math.atan2(b, a)) % 360

    @property
    def luminance(self) -> float:
        return 0.2126 * _linear(self.red / 255) + 0.7152 * _linear(self.green / 255) + 0.0722 * _linear(self.blue / 255)

    def mixed(self, other: "Colour", share: float) -> "Colour":
        """This colour with ``share`` (0 to 1) of ``other`` in it."""
        return Colour(
            *(
                round(mine * (1 - share) + theirs * share)
                for mine, theirs in zip(
                    (self.red, self.green, self.blue), (other.red, other.green, other.blue), strict=True
                )
            )
        )

    def at(self, lightness: float, chroma: float | None = None) -> "Colour":
        """The same hue at another lightness."""
        _, own, hue = self.oklch
        return Colour.lch(lightness, own if chroma is None else chroma, hue)


def contrast(one: Colour, other: Colour) -> float:
    """
    >>> round(contrast(Colour.of("#000"), Colour.of("#fff")), 1)
    21.0
    """
    lighter, darker = sorted((one.luminance, other.luminance), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def readable(colour: Colour, *grounds: Colour, at_least: float = 4.5) -> Colour:
    """The colour nearest to ``colour`` in lightness that has the contrast on every ground.

    >>> ground = Colour.of("#ffffff")
    >>> contrast(readable(Colour.of("#ffe94a"), ground), ground) >= 4.5
    True
    """
    lightness, chroma, hue = colour.oklch
    steps = [index / 100 for index in range(101)]
    for distance in steps:
        for candidate in (lightness - distance, lightness + distance):
            if 0 <= candidate <= 1:
                found = Colour.lch(candidate, chroma, hue)
                if all(contrast(found, ground) >= at_least for ground in grounds):
                    return found
    black, white = Colour(0, 0, 0), Colour(255, 255, 255)
    return max((black, white), key=lambda end: min(contrast(end, ground) for ground in grounds))


def text_on(ground: Colour, dark: Colour, light: Colour) -> Colour:
    """Whichever of the two reads better on ``ground``, moved until it reads well."""
    better = max((dark, light), key=lambda end: contrast(end, ground))
    return readable(better, ground, at_least=4.6)


def _linear(part: float) -> float:
    return part / 12.92 if part <= 0.04045 else math.pow((part + 0.055) / 1.055, 2.4)


def _from_oklch(lightness: float, chroma: float, hue: float) -> tuple[int, int, int] | None:
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )
    if any(part < -0.0005 or part > 1.0005 for part in linear):
        return None
    coded = [_coded(min(1.0, max(0.0, part))) for part in linear]
    return round(coded[0] * 255), round(coded[1] * 255), round(coded[2] * 255)


def _coded(part: float) -> float:
    return part * 12.92 if part <= 0.0031308 else 1.055 * math.pow(part, 1 / 2.4) - 0.055
