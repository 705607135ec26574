"""Drawn art: scenes for front pages and works for galleries, from a palette and a digest. No bitmaps, no fonts."""

import math
from collections.abc import Callable, Iterable
from itertools import pairwise

from .colour import Colour
from .dice import Dice
from .markup import Element, h, svg
from .palette import Palette

Shapes = list[Element]


class Canvas:
    """A drawing under way. Colours come from the palette, places from the dice."""

    def __init__(self, width: int, height: int, palette: Palette, *seed: str) -> None:
        self.width, self.height, self.palette = width, height, palette
        self.dice = Dice("art", *seed)
        self.shapes: Shapes = []
        self.definitions: Shapes = []

    @property
    def short(self) -> float:
        return min(self.width, self.height)

    def add(self, tag: str, **attributes: str | float) -> None:
        self.shapes.append(_shape(tag, **attributes))

    def fill(self, colour: Colour, opacity: float = 1.0) -> None:
        self.add("rect", width=self.width, height=self.height, fill=colour.hex, fill_opacity=opacity)

    def gradient(self, *stops: Colour, upright: bool = True) -> str:
        """A gradient's reference, for a ``fill``."""
        name = f"g{len(self.definitions) + 1}"
        last = max(1, len(stops) - 1)
        self.definitions.append(
            h(
                "linearGradient",
                {"id": name, "x1": "0", "y1": "0", "x2": "0" if upright else "1", "y2": "1"},
                [
                    h("stop", {"offset": _number(index / last), "stop-color": stop.hex})
                    for index, stop in enumerate(stops)
                ],
            )
        )
        return f"url(#{name})"

    def circle(self, x: float, y: float, radius: float, **attributes: str | float) -> None:
        self.add("circle", cx=x, cy=y, r=radius, **attributes)

    def path(self, steps: Iterable[str], **attributes: str | float) -> None:
        self.add("path", d=" ".join(steps), **attributes)

    def written(self, title: str) -> str:
        return svg(
            h(
                "svg",
                {
                    "xmlns": "http://www.w3.org/2000/svg",
                    "width": self.width,
                    "height": self.height,
                    "viewBox": f"0 0 {self.width} {self.height}",
                    "role": "img",
                },
                h("title", None, title),
                h("defs", None, self.definitions) if self.definitions else None,
                self.shapes,
            )
        )


def _shape(tag: str, **attributes: str | float) -> Element:
    return h(
        tag,
        {
            name.replace("_", "-"): value if isinstance(value, str) else _number(value)
            for name, value in attributes.items()
        },
    )


def _number(value: float) -> str:
    return f"{round(value, 2):g}"


def at(x: float, y: float) -> str:
    return f"{_number(x)} {_number(y)}"


def draw(scene: str, width: int, height: int, palette: Palette, title: str, *seed: str, motif: str = "") -> str:
    """An SVG file. The same arguments draw the same picture."""
    canvas = Canvas(width, height, palette, scene, *seed)
    SCENES[scene](canvas)
    if motif:
        MOTIFS.get(motif, _circles_motif)(canvas)
    return canvas.written(title)


def _tones(canvas: Canvas) -> tuple[Colour, Colour, Colour, Colour]:
    """Sky, near, far and light for this picture: variations of the palette."""
    palette, dice = canvas.palette, canvas.dice
    accent, second = palette.art[0], palette.art[1]
    if len(palette.art) > 5 and dice.number() < 0.4:
        second = palette.art[2]
    if dice.number() < 0.5:
        accent, second = second, accent
    if palette.dark:
        return (
            accent.mixed(palette.ground, 0.8),
            accent.mixed(palette.ground, 0.2),
            second.mixed(palette.ground, 0.35),
            second,
        )
    return accent.mixed(Colour.of("#ffffff"), 0.82), accent, second, second.mixed(Colour.of("#ffffff"), 0.3)


def _between(far: Colour, near: Colour, share: float, sky: Colour) -> Colour:
    """A step from one tone to the other; opposite hues meet in a light of each and not in grey."""
    if abs((far.oklch[2] - near.oklch[2] + 180) % 360 - 180) < 80:
        return far.mixed(near, share)
    return far.mixed(sky, 0.5 * share) if share < 0.5 else near.mixed(sky, 0.5 * (1 - share))


def _wave(canvas: Canvas, base: float, swing: float, phase: float, bends: float = 1.6) -> list[str]:
    """A closed shape below a wavy line."""
    width, height = canvas.width, canvas.height
    steps = 8
    points = [
        (width * index / steps, base + swing * math.sin(phase + bends * 2 * math.pi * index / steps))
        for index in range(steps + 1)
    ]
    drawn = [f"M0 {height}", f"L{at(*points[0])}"]
    for (x0, y0), (x1, y1) in pairwise(points):
        middle = (x0 + x1) / 2
        drawn.append(f"C{at(middle, y0)} {at(middle, y1)} {at(x1, y1)}")
    return [*drawn, f"L{at(width, height)}", "Z"]


def _dunes(canvas: Canvas) -> None:
    sky, near, far, light = _tones(canvas)
    dice = canvas.dice
    canvas.add("rect", width=canvas.width, height=canvas.height, fill=canvas.gradient(sky, sky.mixed(light, 0.45)))
    radius = canvas.short * dice.number(0.13, 0.22)
    canvas.circle(
        canvas.width * dice.number(0.25, 0.75), canvas.height * dice.number(0.34, 0.44), radius, fill=light.hex
    )
    layers = 4
    for index in range(layers):
        base = canvas.height * (0.5 + 0.13 * index)
        tone = _between(far, near, index / (layers - 1), sky)
        canvas.path(
            _wave(canvas, base, canvas.height * dice.number(0.03, 0.07), dice.number(0, 6.3), dice.number(0.5, 1.1)),
            fill=tone.hex,
        )


def _ridges(canvas: Canvas) -> None:
    sky, near, _far, light = _tones(canvas)
    dice = canvas.dice
    canvas.add("rect", width=canvas.width, height=canvas.height, fill=canvas.gradient(sky.mixed(light, 0.25), sky))
    canvas.circle(
        canvas.width * dice.number(0.3, 0.75),
        canvas.height * dice.number(0.33, 0.42),
        canvas.short * 0.09,
        fill=light.hex,
    )
    layers = 5
    for index in range(layers):
        tone = sky.mixed(
            near if canvas.palette.dark else near.mixed(canvas.palette.deep, 0.35), 0.2 + 0.75 * index / (layers - 1)
        )
        base = canvas.height * (0.48 + 0.12 * index)
        peaks = 5 + index
        drawn = [f"M0 {canvas.height}", f"L{at(0, base)}"]
        for peak in range(1, peaks + 1):
            x = canvas.width * peak / peaks
            lift = canvas.height * dice.number(0.04, 0.16)
            drawn.append(f"L{at(x - canvas.width / peaks * dice.number(0.4, 0.6), base - lift)} L{at(x, base)}")
        canvas.path([*drawn, f"L{at(canvas.width, canvas.height)}", "Z"], fill=tone.hex)


def _light(canvas: Canvas) -> None:
    palette, dice = canvas.palette, canvas.dice
    accent, second = palette.art[0], palette.art[1]
    night = Colour.lch(0.15, 0.012, accent.oklch[2])
    fill = canvas.gradient(night, accent.mixed(night, 0.72), second.mixed(night, 0.6), upright=False)
    canvas.add("rect", width=canvas.width, height=canvas.height, fill=fill)
    for _ in range(9):
        tone = accent if dice.number() < 0.5 else second
        canvas.circle(
            canvas.width * dice.number(0.3, 1.05),
            canvas.height * dice.number(-0.05, 0.85),
            canvas.short * dice.number(0.07, 0.42),
            fill=tone.hex,
            fill_opacity=dice.number(0.07, 0.2),
        )
    x, y, radius = canvas.width * 0.72, canvas.height * 0.42, canvas.short * 0.27
    blades = 7
    turn = dice.number(0, 1)
    for index in range(blades):
        one = 2 * math.pi * (index + turn) / blades
        other = 2 * math.pi * (index + turn + 1.9) / blades
        canvas.path(
            [
                f"M{at(x + radius * math.cos(one), y + radius * math.sin(one))}",
                f"L{at(x + radius * math.cos(other), y + radius * math.sin(other))}",
            ],
            stroke=accent.mixed(Colour.of("#ffffff"), 0.35).hex,
            stroke_width=canvas.short * 0.004,
            stroke_opacity=0.75,
            fill="none",
        )
    canvas.circle(x, y, radius, fill="none", stroke=accent.hex, stroke_width=canvas.short * 0.006, stroke_opacity=0.85)


def _columns(canvas: Canvas) -> None:
    sky, near, far, light = _tones(canvas)
    dice = canvas.dice
    canvas.fill(sky)
    count = dice.whole(9, 13)
    step = canvas.width / count
    tones = (near, near.mixed(sky, 0.3), far, near.mixed(canvas.palette.deep, 0.45), light)
    for index in range(count):
        top = canvas.height * (0.36 + 0.28 * abs(math.sin((index + 1) * 0.55 + dice.number(0, 0.3))))
        tone = tones[dice.whole(0, 4) if index % 3 == 2 else index % 2]
        canvas.add(
            "rect",
            x=index * step + step * 0.14,
            y=top,
            width=step * 0.72,
            height=canvas.height,
            rx=step * 0.36,
            fill=tone.hex,
        )
    canvas.circle(canvas.width * dice.number(0.2, 0.8), canvas.height * 0.38, canvas.short * 0.075, fill=light.hex)


def _leaf(x: float, y: float, length: float, angle: float, plump: float = 0.34) -> list[str]:
    tip = (x + length * math.cos(angle), y + length * math.sin(angle))
    side = (-math.sin(angle) * length * plump, math.cos(angle) * length * plump)
    middle = (x + 0.5 * length * math.cos(angle), y + 0.5 * length * math.sin(angle))
    return [
        f"M{at(x, y)}",
        f"Q{at(middle[0] + side[0], middle[1] + side[1])} {at(*tip)}",
        f"Q{at(middle[0] - side[0], middle[1] - side[1])} {at(x, y)}",
        "Z",
    ]


def _leaves(canvas: Canvas) -> None:
    sky, near, far, light = _tones(canvas)
    dice = canvas.dice
    canvas.add("rect", width=canvas.width, height=canvas.height, fill=canvas.gradient(sky, sky.mixed(light, 0.3)))
    canvas.circle(canvas.width * 0.5, canvas.height * 0.46, canvas.short * 0.33, fill=light.hex, fill_opacity=0.5)
    for stem in range(5):
        x = canvas.width * (0.08 + 0.21 * stem + dice.number(-0.04, 0.04))
        lean = dice.number(-0.22, 0.22)
        reach = canvas.height * dice.number(0.42, 0.8)
        tone = _between(near, far, dice.number(0, 0.9), sky)
        top = (x + reach * math.sin(lean), canvas.height - reach * math.cos(lean))
        canvas.path(
            [f"M{at(x, canvas.height)}", f"L{at(*top)}"],
            stroke=tone.hex,
            stroke_width=canvas.short * 0.007,
            fill="none",
        )
        pairs = dice.whole(4, 6)
        for pair in range(pairs):
            share = 0.3 + 0.7 * pair / pairs
            foot = (x + (top[0] - x) * share, canvas.height + (top[1] - canvas.height) * share)
            length = canvas.short * dice.number(0.13, 0.2) * (1.15 - 0.5 * share)
            for side in (-1, 1):
                canvas.path(_leaf(*foot, length, lean - math.pi / 2 + side * 0.85), fill=tone.hex, fill_opacity=0.88)
        canvas.path(_leaf(*top, canvas.short * 0.12, lean - math.pi / 2), fill=tone.hex)


def _blobs(canvas: Canvas) -> None:
    palette, dice = canvas.palette, canvas.dice
    colours = [palette.art[0], palette.art[1], *palette.art[2:-2]]
    canvas.fill(colours[dice.whole(0, 1)].mixed(palette.ground, 0.72))
    for index in range(6):
        x, y = canvas.width * dice.number(0.05, 0.95), canvas.height * dice.number(0.05, 0.95)
        radius = canvas.short * dice.number(0.1, 0.27)
        bends = 6
        points = []
        for bend in range(bends):
            angle = 2 * math.pi * bend / bends
            reach = radius * dice.number(0.75, 1.2)
            points.append((x + reach * math.cos(angle), y + reach * math.sin(angle)))
        middles = [
            ((one[0] + other[0]) / 2, (one[1] + other[1]) / 2)
            for one, other in zip(points, points[1:] + points[:1], strict=True)
        ]
        drawn = [f"M{at(*middles[-1])}"]
        drawn += [f"Q{at(*point)} {at(*middle)}" for point, middle in zip(points, middles, strict=True)]
        canvas.path([*drawn, "Z"], fill=colours[index % len(colours)].hex)
    for index in range(16):
        x, y = canvas.width * dice.number(), canvas.height * dice.number()
        size = canvas.short * dice.number(0.012, 0.028)
        tone = colours[(index + 1) % len(colours)].mixed(palette.ground, 0.1)
        if index % 3 == 0:
            canvas.add(
                "rect",
                x=x,
                y=y,
                width=size * 2,
                height=size * 2,
                fill=tone.hex,
                transform=f"rotate({dice.whole(0, 80)} {at(x, y)})",
            )
        else:
            canvas.circle(x, y, size, fill=tone.hex)


def _lattice(canvas: Canvas) -> None:
    palette, dice = canvas.palette, canvas.dice
    accent, second = palette.art[0], palette.art[1]
    base = palette.deep if not palette.dark else palette.surface
    canvas.add(
        "rect",
        width=canvas.width,
        height=canvas.height,
        fill=canvas.gradient(base, base.mixed(accent, 0.35), upright=False),
    )
    step = canvas.short / 9
    columns, rows = int(canvas.width / step) + 1, int(canvas.height / step) + 1
    for column in range(columns):
        for row in range(rows):
            canvas.circle(
                (column + 0.5) * step, (row + 0.5) * step, step * 0.035, fill=palette.on_deep.hex, fill_opacity=0.35
            )
    for _ in range(9):
        column, row = dice.whole(1, max(1, columns - 3)), dice.whole(1, max(1, rows - 2))
        drawn = [f"M{at((column + 0.5) * step, (row + 0.5) * step)}"]
        for _ in range(dice.whole(2, 4)):
            if dice.number() < 0.5:
                column = min(columns - 1, max(0, column + dice.whole(-3, 3)))
            else:
                row = min(rows - 1, max(0, row + dice.whole(-2, 2)))
            drawn.append(f"L{at((column + 0.5) * step, (row + 0.5) * step)}")
        tone = accent.mixed(Colour.of("#ffffff"), 0.3) if dice.number() < 0.6 else second
        canvas.path(
            drawn, stroke=tone.hex, stroke_width=step * 0.07, stroke_linejoin="round", fill="none", stroke_opacity=0.9
        )
        canvas.circle((column + 0.5) * step, (row + 0.5) * step, step * 0.17, fill=tone.hex)
    for _ in range(4):
        column, row = dice.whole(1, max(1, columns - 3)), dice.whole(1, max(1, rows - 3))
        canvas.add(
            "rect",
            x=column * step,
            y=row * step,
            width=step * 2,
            height=step * 2,
            rx=step * 0.2,
            fill=(second if dice.number() < 0.5 else accent).hex,
            fill_opacity=0.32,
        )


def _beams(canvas: Canvas) -> None:
    palette, dice = canvas.palette, canvas.dice
    accent, second = palette.art[0], palette.art[1]
    night = Colour.lch(0.17, 0.03, accent.oklch[2])
    canvas.fill(night)
    x, y = canvas.width * dice.number(0.55, 0.75), canvas.height * dice.number(0.95, 1.15)
    rings = 9
    for ring in range(rings, 0, -1):
        tone = (accent, second, night)[ring % 3]
        canvas.circle(x, y, canvas.short * 0.135 * ring, fill=tone.hex, fill_opacity=1 if ring % 3 else 0.9)
    for index in range(5):
        left = canvas.width * (index / 5 + dice.number(-0.05, 0.05))
        wide = canvas.width * dice.number(0.03, 0.08)
        canvas.path(
            [
                f"M{at(left, 0)}",
                f"L{at(left + wide, 0)}",
                f"L{at(left + wide * 4, canvas.height)}",
                f"L{at(left + wide * 1.5, canvas.height)}",
                "Z",
            ],
            fill=palette.on_deep.hex,
            fill_opacity=0.05 + 0.02 * index,
        )


def _tiles(canvas: Canvas) -> None:
    palette, dice = canvas.palette, canvas.dice
    colours = [
        palette.art[0],
        palette.art[1],
        palette.art[0].mixed(palette.ground, 0.65),
        palette.art[1].mixed(palette.ground, 0.6),
        palette.deep,
    ]
    canvas.fill(colours[2])
    across = 4 if canvas.width <= canvas.height else 6
    size = canvas.width / across
    for row in range(math.ceil(canvas.height / size)):
        for column in range(across):
            x, y = column * size, row * size
            ground, figure = dice.pick(colours), dice.pick(colours)
            if ground == figure:
                figure = colours[(colours.index(figure) + 1) % len(colours)]
            canvas.add("rect", x=x, y=y, width=size + 0.5, height=size + 0.5, fill=ground.hex)
            match dice.whole(0, 4):
                case 0:
                    canvas.circle(x + size / 2, y + size / 2, size * 0.34, fill=figure.hex)
                case 1:
                    canvas.path(
                        [
                            f"M{at(x, y)}",
                            f"A{at(size, size)} 0 0 1 {at(x + size, y + size)}",
                            f"L{at(x, y + size)}",
                            "Z",
                        ],
                        fill=figure.hex,
                    )
                case 2:
                    canvas.path([f"M{at(x, y)}", f"L{at(x + size, y)}", f"L{at(x, y + size)}", "Z"], fill=figure.hex)
                case 3:
                    canvas.path(
                        [
                            f"M{at(x + size, y)}",
                            f"A{at(size, size)} 0 0 0 {at(x, y + size)}",
                            f"L{at(x + size, y + size)}",
                            "Z",
                        ],
                        fill=figure.hex,
                    )
                case _:
                    for stripe in range(3):
                        canvas.add(
                            "rect",
                            x=x,
                            y=y + size * (0.14 + 0.28 * stripe),
                            width=size,
                            height=size * 0.14,
                            fill=figure.hex,
                        )


def _arcs(canvas: Canvas) -> None:
    sky, near, far, light = _tones(canvas)
    dice = canvas.dice
    canvas.fill(sky)
    corners = [
        (0.0, float(canvas.height)),
        (float(canvas.width), float(canvas.height)),
        (canvas.width / 2, float(canvas.height)),
    ]
    x, y = dice.pick(corners)
    rings = dice.whole(5, 7)
    for ring in range(rings, 0, -1):
        tone = (near, light, far)[ring % 3]
        canvas.circle(x, y, canvas.short * 1.05 * ring / rings, fill=tone.hex)
    canvas.circle(
        canvas.width - x if x != canvas.width / 2 else canvas.width * 0.78,
        canvas.height * 0.2,
        canvas.short * 0.08,
        fill=near.hex,
    )


def _circles(canvas: Canvas) -> None:
    sky, near, far, light = _tones(canvas)
    dice = canvas.dice
    canvas.fill(sky)
    for index in range(7):
        tone = (near, far, light)[index % 3]
        canvas.circle(
            canvas.width * dice.number(0.12, 0.88),
            canvas.height * dice.number(0.12, 0.88),
            canvas.short * dice.number(0.1, 0.3),
            fill=tone.hex,
            fill_opacity=0.72,
        )


def _contours(canvas: Canvas) -> None:
    sky, near, far, _light_tone = _tones(canvas)
    dice = canvas.dice
    canvas.fill(sky)
    lines = 15
    phase, bends = dice.number(0, 6.3), dice.number(0.7, 1.3)
    for index in range(lines):
        base = canvas.height * (0.08 + 0.9 * index / lines)
        swing = canvas.height * (0.02 + 0.075 * abs(math.sin(phase + index * 0.33)))
        shape = _wave(canvas, base, swing, phase + index * 0.21, bends)
        canvas.path(
            [*["M" + shape[1][1:]], *shape[2:-2]],
            fill="none",
            stroke=_between(near, far, index / lines, sky).hex,
            stroke_width=canvas.short * (0.004 + 0.0006 * index),
        )
    canvas.circle(canvas.width * dice.number(0.2, 0.8), canvas.height * 0.27, canvas.short * 0.1, fill=far.hex)


def _enso(canvas: Canvas) -> None:
    palette, dice = canvas.palette, canvas.dice
    accent, second = palette.art[0], palette.art[1]
    canvas.fill(accent.mixed(palette.ground, 0.86))
    x, y, radius = canvas.width * 0.5, canvas.height * 0.44, canvas.short * 0.31
    gap, turn = dice.number(0.25, 0.5), dice.number(0, 6.3)
    for stroke in range(5):
        reach = radius * (1 + 0.028 * (stroke - 2))
        start, end = turn + gap * (0.6 + 0.12 * stroke), turn + 2 * math.pi - gap * (0.4 - 0.06 * stroke)
        canvas.path(
            [
                f"M{at(x + reach * math.cos(start), y + reach * math.sin(start))}",
                f"A{at(reach, reach)} 0 1 1 {at(x + reach * math.cos(end), y + reach * math.sin(end))}",
            ],
            fill="none",
            stroke=accent.hex,
            stroke_width=canvas.short * (0.03 - 0.004 * abs(stroke - 2)),
            stroke_opacity=0.35 + 0.13 * stroke,
            stroke_linecap="round",
        )
    for layer in range(3):
        tone = _between(accent, second, 0.3 * layer, palette.ground)
        base = canvas.height * (0.8 + 0.07 * layer)
        canvas.path(
            _wave(canvas, base, canvas.height * 0.03, dice.number(0, 6), 0.7),
            fill=tone.hex,
            fill_opacity=0.4 + 0.3 * layer,
        )


SCENES: dict[str, Callable[[Canvas], None]] = {
    "dunes": _dunes,
    "ridges": _ridges,
    "light": _light,
    "columns": _columns,
    "leaves": _leaves,
    "blobs": _blobs,
    "lattice": _lattice,
    "beams": _beams,
    "tiles": _tiles,
    "arcs": _arcs,
    "circles": _circles,
    "contours": _contours,
    "enso": _enso,
}


def _plate(canvas: Canvas, share: float = 0.3) -> tuple[float, float, float]:
    """A disc to draw a sign upon: its middle and radius."""
    x, y, radius = canvas.width / 2, canvas.height * 0.46, canvas.short * share
    canvas.circle(x, y, radius, fill=canvas.palette.ground.hex)
    canvas.circle(
        x,
        y,
        radius * 0.92,
        fill="none",
        stroke=canvas.palette.accent_ink.hex,
        stroke_width=canvas.short * 0.004,
        stroke_opacity=0.5,
    )
    return x, y, radius * 0.62


def _lines(canvas: Canvas, *paths: str, width: float = 0.016) -> None:
    for drawn in paths:
        canvas.add(
            "path",
            d=drawn,
            fill="none",
            stroke=canvas.palette.accent_ink.hex,
            stroke_width=canvas.short * width,
            stroke_linecap="round",
            stroke_linejoin="round",
        )


def _wheat(canvas: Canvas) -> None:
    x, y, size = _plate(canvas)
    ink = canvas.palette.accent_ink
    for lean in (-0.42, 0.0, 0.42):
        foot = (x, y + size * 1.05)
        top = (x + size * 1.7 * math.sin(lean), foot[1] - size * 1.75 * math.cos(lean))
        _lines(canvas, f"M{at(*foot)} L{at(*top)}", width=0.007)
        for pair in range(5):
            share = 0.42 + 0.13 * pair
            seat = (foot[0] + (top[0] - foot[0]) * share, foot[1] + (top[1] - foot[1]) * share)
            for side in (-1, 1):
                canvas.path(_leaf(*seat, size * 0.36, lean - math.pi / 2 + side * 0.6, 0.4), fill=ink.hex)
        canvas.path(_leaf(*top, size * 0.36, lean - math.pi / 2, 0.4), fill=ink.hex)


def _cup(canvas: Canvas) -> None:
    x, y, s = _plate(canvas)
    ink = canvas.palette.accent_ink.hex
    canvas.path(
        [
            f"M{at(x - s * 0.75, y - s * 0.1)}",
            f"L{at(x + s * 0.55, y - s * 0.1)}",
            f"Q{at(x + s * 0.55, y + s * 0.85)} {at(x - s * 0.1, y + s * 0.85)}",
            f"Q{at(x - s * 0.75, y + s * 0.85)} {at(x - s * 0.75, y - s * 0.1)}",
            "Z",
        ],
        fill=ink,
    )
    _lines(
        canvas,
        f"M{at(x + s * 0.55, y + s * 0.05)} Q{at(x + s * 1.1, y + s * 0.1)} {at(x + s * 0.42, y + s * 0.52)}",
        *(
            f"M{at(x + s * dx, y - s * 0.35)} q{at(s * 0.16, -s * 0.2)} 0 {_number(-s * 0.38)} t0 {_number(-s * 0.36)}"
            for dx in (-0.45, -0.1, 0.25)
        ),
    )


def _dish(canvas: Canvas) -> None:
    x, y, s = _plate(canvas)
    ink = canvas.palette.accent_ink.hex
    canvas.path([f"M{at(x - s, y + s * 0.4)}", f"A{at(s, s)} 0 0 1 {at(x + s, y + s * 0.4)}", "Z"], fill=ink)
    canvas.circle(x, y - s * 0.7, s * 0.13, fill=ink)
    _lines(canvas, f"M{at(x - s * 1.15, y + s * 0.62)} L{at(x + s * 1.15, y + s * 0.62)}", width=0.02)


def _rings(canvas: Canvas) -> None:
    x, y, s = _plate(canvas)
    ink = canvas.palette.accent_ink.hex
    for side in (-1, 1):
        canvas.circle(
            x + side * s * 0.42, y + s * 0.1, s * 0.72, fill="none", stroke=ink, stroke_width=canvas.short * 0.016
        )
    for side in (-1, 1):
        canvas.path(_leaf(x, y - s * 0.72, s * 0.5, -math.pi / 2 + side * 0.8, 0.36), fill=ink)


def _lotus(canvas: Canvas) -> None:
    x, y, s = _plate(canvas)
    ink = canvas.palette.accent_ink.hex
    for step in range(-3, 4):
        canvas.path(
            _leaf(x, y + s * 0.7, s * (1.45 - 0.12 * abs(step)), -math.pi / 2 + step * 0.42, 0.26),
            fill=ink,
            fill_opacity=0.5 + 0.07 * (3 - abs(step)),
        )


def _cross(canvas: Canvas) -> None:
    x, y, s = _plate(canvas)
    ink = canvas.palette.accent_ink.hex
    canvas.add("rect", x=x - s * 0.25, y=y - s * 0.8, width=s * 0.5, height=s * 1.6, rx=s * 0.25, fill=ink)
    canvas.add("rect", x=x - s * 0.8, y=y - s * 0.25, width=s * 1.6, height=s * 0.5, rx=s * 0.25, fill=ink)


def _balloon(canvas: Canvas) -> None:
    x, y, s = canvas.width / 2, canvas.height * 0.42, canvas.short * 0.2
    palette = canvas.palette
    for step, tone in ((-1, palette.art[1]), (1, palette.art[2 if len(palette.art) > 5 else 0]), (0, palette.art[0])):
        cx, cy = x + step * s * 1.05, y + abs(step) * s * 0.5
        _lines(canvas, f"M{at(cx, cy + s)} Q{at(cx - s * 0.3 * step, cy + s * 1.7)} {at(x, y + s * 3)}", width=0.006)
        canvas.add(
            "ellipse", cx=cx, cy=cy, rx=s * 0.8, ry=s, fill=tone.hex, stroke=palette.ground.hex, stroke_width=s * 0.06
        )
        canvas.add(
            "ellipse", cx=cx - s * 0.28, cy=cy - s * 0.4, rx=s * 0.13, ry=s * 0.24, fill="#ffffff", fill_opacity=0.65
        )


def _book(canvas: Canvas) -> None:
    x, y, s = _plate(canvas)
    ink = canvas.palette.accent_ink.hex
    for side in (-1, 1):
        canvas.path(
            [
                f"M{at(x, y - s * 0.45)}",
                f"Q{at(x + side * s * 0.5, y - s * 0.85)} {at(x + side * s, y - s * 0.5)}",
                f"L{at(x + side * s, y + s * 0.6)}",
                f"Q{at(x + side * s * 0.5, y + s * 0.28)} {at(x, y + s * 0.66)}",
                "Z",
            ],
            fill=ink,
            fill_opacity=0.85 if side < 0 else 0.6,
        )


def _moon(canvas: Canvas) -> None:
    x, y, s = _plate(canvas)
    ink = canvas.palette.accent_ink.hex
    canvas.path(
        [
            f"M{at(x - s, y + s * 0.6)}",
            f"L{at(x - s * 0.25, y - s * 0.45)}",
            f"L{at(x + s * 0.15, y + s * 0.1)}",
            f"L{at(x + s * 0.45, y - s * 0.2)}",
            f"L{at(x + s, y + s * 0.6)}",
            "Z",
        ],
        fill=ink,
    )
    canvas.circle(x + s * 0.5, y - s * 0.65, s * 0.2, fill=ink, fill_opacity=0.6)


def _house(canvas: Canvas) -> None:
    x, y, s = _plate(canvas)
    ink = canvas.palette.accent_ink.hex
    canvas.path(
        [f"M{at(x - s, y - s * 0.05)}", f"L{at(x, y - s * 0.85)}", f"L{at(x + s, y - s * 0.05)}", "Z"], fill=ink
    )
    canvas.add("rect", x=x - s * 0.7, y=y + s * 0.08, width=s * 1.4, height=s * 0.75, fill=ink, fill_opacity=0.75)
    canvas.add("rect", x=x - s * 0.17, y=y + s * 0.3, width=s * 0.34, height=s * 0.53, fill=canvas.palette.ground.hex)


def _flower(canvas: Canvas) -> None:
    x, y, s = _plate(canvas)
    ink = canvas.palette.accent_ink.hex
    for petal in range(8):
        canvas.path(_leaf(x, y - s * 0.2, s * 0.85, petal * math.pi / 4, 0.3), fill=ink, fill_opacity=0.75)
    canvas.circle(x, y - s * 0.2, s * 0.2, fill=canvas.palette.ground.hex)
    _lines(canvas, f"M{at(x, y + s * 0.6)} L{at(x, y + s * 1.15)}", width=0.012)


def _drop(canvas: Canvas) -> None:
    x, y, s = _plate(canvas)
    ink = canvas.palette.accent_ink.hex
    canvas.path(
        [
            f"M{at(x, y - s)}",
            f"C{at(x + s * 0.3, y - s * 0.4)} {at(x + s * 0.7, y)} {at(x + s * 0.7, y + s * 0.35)}",
            f"A{at(s * 0.7, s * 0.6)} 0 1 1 {at(x - s * 0.7, y + s * 0.35)}",
            f"C{at(x - s * 0.7, y)} {at(x - s * 0.3, y - s * 0.4)} {at(x, y - s)}",
            "Z",
        ],
        fill=ink,
    )


def _bag(canvas: Canvas) -> None:
    x, y, s = _plate(canvas)
    ink = canvas.palette.accent_ink.hex
    canvas.path(
        [
            f"M{at(x - s * 0.7, y - s * 0.3)}",
            f"L{at(x + s * 0.7, y - s * 0.3)}",
            f"L{at(x + s * 0.85, y + s * 0.85)}",
            f"L{at(x - s * 0.85, y + s * 0.85)}",
            "Z",
        ],
        fill=ink,
    )
    _lines(
        canvas,
        f"M{at(x - s * 0.35, y - s * 0.3)} C{at(x - s * 0.35, y - s)} {at(x + s * 0.35, y - s)} "
        f"{at(x + s * 0.35, y - s * 0.3)}",
    )


def _people(canvas: Canvas) -> None:
    x, y, s = _plate(canvas)
    ink = canvas.palette.accent_ink.hex
    for index in range(7):
        angle = 2 * math.pi * index / 7
        canvas.circle(
            x + s * 0.72 * math.cos(angle),
            y + s * 0.72 * math.sin(angle),
            s * 0.22,
            fill=ink,
            fill_opacity=0.55 + 0.06 * index,
        )


def _bars(canvas: Canvas) -> None:
    x, y, s = _plate(canvas)
    ink = canvas.palette.accent_ink.hex
    for index, tall in enumerate((0.5, 0.85, 0.65, 1.2)):
        canvas.add(
            "rect",
            x=x - s * 0.85 + index * s * 0.45,
            y=y + s * 0.65 - s * tall,
            width=s * 0.32,
            height=s * tall,
            fill=ink,
            fill_opacity=0.6 + 0.12 * index,
        )


def _window(canvas: Canvas) -> None:
    x, y, s = _plate(canvas)
    ink = canvas.palette.accent_ink.hex
    canvas.add("rect", x=x - s, y=y - s * 0.7, width=s * 2, height=s * 1.4, rx=s * 0.14, fill=ink)
    canvas.add(
        "rect",
        x=x - s * 0.86,
        y=y - s * 0.36,
        width=s * 1.72,
        height=s * 0.92,
        rx=s * 0.06,
        fill=canvas.palette.ground.hex,
    )
    _lines(
        canvas,
        f"M{at(x - s * 0.55, y - s * 0.05)} l{at(s * 0.22, s * 0.18)} l{at(-s * 0.22, s * 0.18)}",
        f"M{at(x - s * 0.1, y + s * 0.34)} h{_number(s * 0.5)}",
        width=0.011,
    )


def _note(canvas: Canvas) -> None:
    x, y, s = _plate(canvas)
    ink = canvas.palette.accent_ink.hex
    for ring in range(4):
        canvas.circle(x, y, s * (1 - 0.22 * ring), fill="none", stroke=ink, stroke_width=canvas.short * 0.008)
    canvas.circle(x, y, s * 0.2, fill=ink)


def _columns_motif(canvas: Canvas) -> None:
    x, y, s = _plate(canvas)
    ink = canvas.palette.accent_ink.hex
    canvas.path([f"M{at(x - s, y - s * 0.45)}", f"L{at(x, y - s)}", f"L{at(x + s, y - s * 0.45)}", "Z"], fill=ink)
    for index in range(4):
        canvas.add("rect", x=x - s * 0.82 + index * s * 0.46, y=y - s * 0.32, width=s * 0.24, height=s * 0.85, fill=ink)
    canvas.add("rect", x=x - s, y=y + s * 0.62, width=s * 2, height=s * 0.18, fill=ink)


def _aperture(canvas: Canvas) -> None:
    x, y, s = _plate(canvas)
    paths = []
    for index in range(6):
        one, other = math.pi * index / 3, math.pi * (index + 1.75) / 3
        paths.append(
            f"M{at(x + s * math.cos(one), y + s * math.sin(one))} "
            f"L{at(x + s * math.cos(other), y + s * math.sin(other))}"
        )
    canvas.circle(x, y, s, fill="none", stroke=canvas.palette.accent_ink.hex, stroke_width=canvas.short * 0.012)
    _lines(canvas, *paths, width=0.009)


def _circles_motif(canvas: Canvas) -> None:
    x, y, s = _plate(canvas)
    ink = canvas.palette.accent_ink.hex
    canvas.circle(x - s * 0.3, y, s * 0.6, fill=ink, fill_opacity=0.7)
    canvas.circle(x + s * 0.35, y, s * 0.6, fill=ink, fill_opacity=0.5)


MOTIFS: dict[str, Callable[[Canvas], None]] = {
    "bakery": _wheat,
    "tea": _cup,
    "cafe": _cup,
    "restaurant": _dish,
    "photographer": _aperture,
    "developer": _window,
    "software": _window,
    "wedding": _rings,
    "yoga": _lotus,
    "law": _columns_motif,
    "consulting": _bars,
    "medical": _cross,
    "kids": _balloon,
    "school": _book,
    "music": _note,
    "event": _people,
    "hotel": _moon,
    "craft": _house,
    "garden": _flower,
    "beauty": _drop,
    "club": _people,
    "portfolio": _circles_motif,
    "shop": _bag,
    "blog": _book,
}


def favicon(palette: Palette, letter_seed: str, look: str) -> str:
    """A mark without letters: two shapes in the site's colours."""
    canvas = Canvas(64, 64, palette, "favicon", letter_seed)
    dice = canvas.dice
    rounding = {"stage": 0, "darkroom": 0, "chambers": 4, "quiet": 32, "bloom": 32, "playground": 22}.get(look, 14)
    canvas.add("rect", width=64, height=64, rx=rounding, fill=palette.accent.hex)
    match dice.whole(0, 3):
        case 0:
            canvas.path(["M14 50", "A36 36 0 0 1 50 14", "L50 50", "Z"], fill=palette.on_accent.hex)
        case 1:
            canvas.circle(32, 32, 15, fill=palette.on_accent.hex)
            canvas.circle(39, 27, 12, fill=palette.accent.hex)
        case 2:
            canvas.path(_leaf(14, 50, 50, -math.pi / 4, 0.36), fill=palette.on_accent.hex)
        case _:
            canvas.path(["M16 44", "L32 16", "L48 44", "Z"], fill=palette.on_accent.hex)
    return canvas.written("")


def portrait(name: str, palette: Palette, *seed: str) -> str:
    """A stand-in for a photograph of somebody: head and shoulders as plain shapes."""
    canvas = Canvas(480, 480, palette, "portrait", name, *seed)
    sky, near, far, light = _tones(canvas)
    canvas.fill(sky)
    canvas.circle(240, 520, 190, fill=near.hex)
    canvas.circle(240, 205, 92, fill=far.mixed(light, 0.4).hex if far != near else light.hex)
    return canvas.written("")


def map_art(palette: Palette, *seed: str) -> str:
    """Streets that exist nowhere, with a pin: it decorates an address."""
    canvas = Canvas(800, 500, palette, "map", *seed)
    dice = canvas.dice
    canvas.fill(palette.surface)
    for _ in range(5):
        x, y = dice.number(0, 700), dice.number(0, 420)
        canvas.add(
            "rect",
            x=x,
            y=y,
            width=dice.number(70, 180),
            height=dice.number(50, 120),
            rx=8,
            fill=palette.art[1].hex,
            fill_opacity=0.22,
        )
    for index in range(9):
        a, b = dice.number(0, 1), dice.number(0, 1)
        ends = (f"M{at(-20, 500 * a)} L{at(820, 500 * b)}", f"M{at(800 * a, -20)} L{at(800 * b, 520)}")
        canvas.add(
            "path", d=ends[index % 2], stroke=palette.raised.hex, stroke_width=24 if index < 2 else 11, fill="none"
        )
    canvas.add(
        "path",
        d="M400 330 C330 240 330 220 330 200 A70 70 0 0 1 470 200 C470 220 470 240 400 330 Z",
        fill=palette.accent.hex,
    )
    canvas.circle(400, 200, 26, fill=palette.on_accent.hex)
    return canvas.written("")
