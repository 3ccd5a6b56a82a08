"""Artificial mixes: what each setting does to a window of known songs, and who decides on what."""

import pytest
import torch

from tome_audio.audio.spectrogram_flips import mixed
from tome_audio.audio.vqt import peak_normalised
from tome_audio.data.clips import DataError
from tome_audio.data.song_mixes import EverySong, FlipSettings, SongMixes

SHAPE = {"n_frames": 50, "frames_per_second": 10.0, "bins_per_octave": 24}
STILL = {
    "semitones": 0.0, "tempo": (1.0, 1.0), "level": (0.0, 0.0), "eq": 0.0, "whole": 1.0, "loop": 0.0, "cover": 1.0,
    "offset": 0.0, "retake": 0.0,
}  # fmt: skip


def songs(n=4, stems=3, frames=120, bins=40):
    return [torch.rand(stems, frames, bins, generator=torch.Generator().manual_seed(i)).half() for i in range(n)]


def mixes(given=None, **changes):
    return SongMixes(songs() if given is None else given, **SHAPE, settings=FlipSettings(**{**STILL, **changes}))


def drawn(made, index=0, seed=0):
    return made.draw(index, torch.Generator().manual_seed(seed))


def test_a_sample_that_nothing_happens_to_is_its_reference():
    item = drawn(mixes())
    torch.testing.assert_close(peak_normalised(item["sample"]), item["reference"], atol=1e-4, rtol=0)
    assert item["reference"].shape == item["sample"].shape == item["backing"].shape == (50, 40)


def test_the_backing_has_some_of_the_stems_at_the_same_place():
    made = mixes()
    power = made.songs[0].float().square()
    item = drawn(made)
    subsets = [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2)]
    at = [
        s
        for s in range(71)
        if torch.allclose(peak_normalised(power[:, s : s + 50].sum(0)), item["reference"], atol=1e-4)
    ]
    assert len(at) == 1
    own = power[:, at[0] : at[0] + 50]
    assert any(torch.allclose(own[list(some)].sum(0), item["backing"], rtol=1e-3) for some in subsets)


def test_a_song_in_one_piece_is_its_own_only_stem():
    item = drawn(mixes(songs(stems=1)))
    torch.testing.assert_close(peak_normalised(item["backing"]), item["reference"], atol=1e-4, rtol=0)


def test_semitones_tempo_loop_cover_and_level_are_heard():
    ramp = torch.zeros(1, 120, 40)
    ramp[:, :, 20] = torch.linspace(0.2, 1, 120)[:, None].T
    pair = [ramp, ramp]
    moved = {int(drawn(mixes(pair, semitones=6.0), seed=s)["sample"].sum(0).argmax()) for s in range(8)}
    assert len(moved) > 3 and all(8 <= place <= 32 for place in moved)
    slow, plain = (drawn(mixes(pair, tempo=(t, t)))["sample"][:, 20].sqrt() for t in (0.5, 1.0))
    assert float(slow[30] - slow[10]) == pytest.approx(float(plain[20] - plain[10]), abs=1e-3)
    looped = drawn(mixes(pair, loop=1.0))["sample"][:, 20]
    assert (looped.diff() < 0).sum() >= 1 and (plain.diff() >= 0).all()
    covered = [int((drawn(mixes(pair, cover=0.5), seed=s)["sample"].sum(1) == 0).sum()) for s in range(20)]
    assert 0 < max(covered) <= 25
    levels = [float(drawn(mixes(pair, level=(-6.0, 3.0)), seed=s)["level"]) for s in range(30)]
    assert -6 <= min(levels) < -3 and 0 < max(levels) <= 3


def test_a_song_is_taken_again_in_another_key_and_mix():
    ramp = torch.zeros(2, 120, 40)
    ramp[0, :, 20], ramp[1, :, 30] = 1.0, 0.5
    found = [drawn(mixes([ramp, ramp], retake=1.0, retake_semitones=2.0, retake_db=9.0), seed=s) for s in range(12)]
    for item in found:  # reference and sample are the same take
        torch.testing.assert_close(peak_normalised(item["sample"]), item["reference"], atol=1e-4, rtol=0)
    assert len({int(item["sample"].sum(0).argmax()) for item in found}) > 3
    louder = {float(item["sample"].sum(0).topk(3).values.min() / item["sample"].sum(0).max()) for item in found}
    assert len(louder) > 3


def test_the_generator_decides_and_fixed_items_stay():
    made = SongMixes(songs(), **SHAPE)
    for name, value in drawn(made, 1, 5).items():
        assert torch.equal(value, drawn(made, 1, 5)[name])
    assert not torch.equal(drawn(made, 1, 5)["sample"], drawn(made, 1, 6)["sample"])
    item, again = made[3], SongMixes(songs(), **SHAPE)[3]
    assert all(torch.equal(item[name], again[name]) for name in item)


def test_a_fixed_mix_has_the_backing_of_the_next_song():
    made = mixes()
    own, following = (made.draw(i, made._generator(i)) for i in (3, 0))
    expected = peak_normalised(mixed(own["sample"], following["backing"], own["level"]))
    torch.testing.assert_close(made[3]["mix"], expected)


def test_a_silent_beginning_is_not_where_windows_are():
    quiet = torch.zeros(1, 400, 40)
    quiet[:, 300:] = 1
    heard = [bool((drawn(mixes([quiet, quiet]), seed=s)["reference"] > -1).any()) for s in range(20)]
    assert sum(heard) >= 18


@pytest.mark.parametrize(
    ("given", "said"), [(songs(1), "two songs"), ([*songs(2), songs(1, frames=30)[0]], "song 2 has 30 frames")]
)
def test_songs_that_cannot_be_mixed_are_named(given, said):
    with pytest.raises(DataError, match=said):
        SongMixes(given, **SHAPE)


@pytest.mark.parametrize(
    "settings",
    [{"semitones": -1}, {"whole": 1.5}, {"tempo": (0, 1)}, {"tempo": (2, 1)}, {"level": (3, 0)}, {"shortest": 0}],
)
def test_settings_out_of_range_are_named(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        FlipSettings(**settings)


def test_rounds_take_every_song_once_each():
    order = EverySong(5, 3, seed=1)
    first = list(order)
    assert len(order) == 15 and all(sorted(first[i : i + 5]) == list(range(5)) for i in (0, 5, 10))
    assert first == list(order)
    order.set_epoch(1)
    assert first != list(order)
    with pytest.raises(ValueError, match="round"):
        EverySong(5, 0, seed=1)
