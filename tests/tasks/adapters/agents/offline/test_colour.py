"""Colours that can be read."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.adapters.agents.offline import palette
from tasks.adapters.agents.offline.brief import understand
from tasks.adapters.agents.offline.colour import Colour, contrast
from tasks.adapters.agents.offline.palette import Palette
from tasks.adapters.agents.offline.stylesheet import band

HEX = st.from_regex(r"#[0-9a-f]{6}", fullmatch=True)


def unreadable(colours: Palette) -> list[str]:
    pairs = [(name, contrast(ink, ground)) for name, ink, ground in colours.text_pairs]
    pairs += [
        ("ink on band", contrast(colours.ink, band(colours))),
        ("muted on band", contrast(colours.muted, band(colours))),
    ]
    return [f"{name}: {ratio:.2f}" for name, ratio in pairs if ratio < 4.5]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(HEX, max_size=4), st.sampled_from(["", "dark", "light"]), st.sampled_from(["bakery", "band", "law firm"])
)
def test_every_pair_of_text_and_ground_reads_well_in_any_colours(wished: list[str], scheme: str, kind: str) -> None:
    colours = palette.choose(understand(f"A {scheme} website for a {kind}. Colours: {', '.join(wished)}"))
    assert unreadable(colours) == []
    assert contrast(colours.field_line, colours.ground) >= 3


def test_a_wished_colour_is_the_accent() -> None:
    chosen = palette.choose(understand("A children's club. Colours: #ff6b6b, #4ecdc4"))
    assert (chosen.accent.hex, chosen.second.hex) == ("#ff6b6b", "#4ecdc4")


@pytest.mark.parametrize(
    ("text", "dark"),
    [
        ("A dark site for a bakery", True),
        ("A light site for a band", False),
        ("Website for a hotel in black and gold", True),
        ("Website for a bakery", False),
    ],
)
def test_dark_is_dark_and_light_is_light(text: str, dark: bool) -> None:
    chosen = palette.choose(understand(text))
    assert chosen.dark is dark
    assert (chosen.ground.luminance < 0.05) is dark


@given(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255))
def test_a_colour_survives_the_way_to_oklch_and_back(red: int, green: int, blue: int) -> None:
    colour = Colour(red, green, blue)
    back = Colour.lch(*colour.oklch)
    assert max(abs(colour.red - back.red), abs(colour.green - back.green), abs(colour.blue - back.blue)) <= 8
