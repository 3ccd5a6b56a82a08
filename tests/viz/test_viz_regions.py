"""Regions against what they stand for: every outline is checked by painting it back onto the grid."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tome_audio.viz.group_colours import PALETTE, colour_groups, colour_layers
from tome_audio.viz.regions import (
    find_regions,
    group_sizes,
    groups_on_grid,
    longest_run,
    parts,
    patches_per_token,
    touching,
)


@st.composite
def grids(draw, slots=6):
    shape = draw(st.tuples(st.integers(1, 7), st.integers(1, 9)))
    numbers = draw(st.lists(st.integers(0, slots - 1), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))
    return np.array(numbers).reshape(shape)


def painted(rings, shape):
    """The cells inside an odd number of rings: count the upright sides to the left of each cell's centre."""
    crossings = np.zeros(shape, dtype=int)
    for ring in rings:
        for (row, column), (next_row, next_column) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
            if column == next_column:
                crossings[min(row, next_row) : max(row, next_row), column:] += 1
    return crossings % 2 == 1


@given(grids())
def test_outlines_enclose_exactly_the_patches_of_their_token(groups):
    regions = find_regions(groups)
    for region in regions:
        assert (painted(region.rings, groups.shape) == (groups == region.slot)).all()
        assert region.size == (groups == region.slot).sum()
    assert [(-r.size, r.slot) for r in regions] == sorted((-r.size, r.slot) for r in regions)
    assert {r.slot for r in regions} == set(groups.ravel().tolist())


@given(grids())
def test_outlines_have_corners_only_and_keep_the_patches_on_their_left(groups):
    for region in find_regions(groups):
        signed = 0.0
        for ring in region.rings:
            steps = np.roll(ring, -1, axis=0) - ring
            assert ((steps == 0).sum(axis=1) == 1).all()  # upright or level, never both, never of no length
            headings = np.sign(steps)
            assert (headings != np.roll(headings, 1, axis=0)).any(axis=1).all()
            signed += turning(ring) / 2
        assert signed == region.size


def turning(ring):
    """Twice the area, positive for an outline around a part and negative around a hole."""
    rows, columns = ring[:, 0], ring[:, 1]
    return (columns * np.roll(rows, -1) - rows * np.roll(columns, -1)).sum()


def test_a_ring_with_a_hole_has_two_outlines_and_parts_that_meet_in_a_corner_stay_apart():
    groups = np.ones((3, 3), dtype=int)
    groups[1, 1] = 0
    assert [(r.slot, len(r.rings)) for r in find_regions(groups)] == [(1, 2), (0, 1)]
    assert [len(r.rings) for r in find_regions(np.eye(2, dtype=int))] == [2, 2]


def test_patches_are_frequency_major_behind_the_prefix():
    assign = np.array([0, 1, 2, 3, 4, 5, 6, 7])
    assert groups_on_grid(assign, (2, 3), 2).tolist() == [[2, 3, 4], [5, 6, 7]]
    with pytest.raises(ValueError, match="assign must have 8 entries"):
        groups_on_grid(assign[:7], (2, 3), 2)


@given(grids())
def test_touching_equals_looking_at_every_pair_of_patches(groups):
    near = touching(groups)
    cells = list(np.ndenumerate(groups))
    expected = {int(slot): set() for slot in np.unique(groups)}
    for (f, t), a in cells:
        for (g, u), b in cells:
            if abs(f - g) + abs(t - u) == 1 and a != b:
                expected[int(a)].add(int(b))
    assert near == expected


@given(grids())
def test_tokens_of_all_columns_add_up(groups):
    mean = patches_per_token(groups)
    assert mean.shape == groups.shape[1:]
    assert (groups.shape[0] / mean).sum() == pytest.approx(len(np.unique(groups)))
    assert mean.min() >= 1 - 1e-12 and mean.max() <= max(group_sizes(groups).values()) + 1e-12


@given(grids(slots=3))
def test_parts_are_as_many_as_the_outer_outlines_and_lie_inside_them(groups):
    for region in find_regions(groups):
        found = parts(groups == region.slot)
        assert (sum(part.astype(int) for part in found) == (groups == region.slot)).all()
        assert [-part.sum() for part in found] == sorted(-part.sum() for part in found)
        for part in found:
            # One outline goes round each part, the others round its holes.
            alone = next(own for own in find_regions(part.astype(int)) if own.slot == 1)
            assert sum(turning(ring) > 0 for ring in alone.rings) == 1
        assert len(found) == sum(turning(ring) > 0 for ring in region.rings)


def test_text_goes_where_there_is_most_room():
    groups = np.array([[0, 0, 1, 0], [1, 1, 1, 0], [0, 1, 1, 0]])
    assert longest_run(groups == 1) == (1, 0, 3)
    assert longest_run(np.ones((3, 5), dtype=bool)) == (1, 0, 5)
    with pytest.raises(ValueError, match="no cell"):
        longest_run(groups == 7)


@given(grids(slots=len(PALETTE)))
def test_groups_that_touch_differ_in_colour(groups):
    colours, near, sizes = colour_groups(groups), touching(groups), group_sizes(groups)
    assert set(colours) == {slot for slot, size in sizes.items() if size > 1}
    assert all(colours[a] != colours[b] for a in colours for b in near[a] if b in colours)


def test_many_groups_on_a_large_grid_still_differ():
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 250, (12, 101))
    colours, near = colour_groups(groups), touching(groups)
    assert all(colours[a] != colours[b] for a in colours for b in near[a] if b in colours)


def test_a_group_keeps_its_colour_from_layer_to_layer():
    first = np.array([[0, 0, 1, 1, 2, 3, 3]])
    second = np.array([[0, 0, 0, 0, 1, 2, 2]])
    early, late = colour_layers([first, second])
    assert early[3] == late[2] and late[0] in (early[0], early[1]) and early[0] != early[1]
    assert set(early) == {0, 1, 3} and set(late) == {0, 2}


# Machado et al. 2009, full strength, on linear RGB.
_BLINDNESS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def _lab(linear):
    xyz = linear.clip(0, 1) @ np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]).T
    f = np.cbrt(xyz / np.array([0.9505, 1.0, 1.089]))
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


@pytest.mark.parametrize("kind", _BLINDNESS)
def test_the_first_seven_colours_differ_for_colour_blind_readers(kind):
    srgb = np.array([[int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)] for colour in PALETTE[:7]])
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    lab = _lab(linear @ np.array(_BLINDNESS[kind]).T)
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=2)[~np.eye(7, dtype=bool)]
    assert apart.min() > 10  # 2.3 is what one just sees
