"""Songs: what they are made of sounds, is in time and in key, repeats itself, and is another thing in every song."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from tome_audio.songs.arrangement import ROLES, draw_arrangement, draw_line_up, swung
from tome_audio.songs.drums import draw_kit, draw_percussion, drum_part
from tome_audio.songs.finishing import draw_equaliser, draw_room, equalised, finished, loudness
from tome_audio.songs.harmony import SCALES, Key, draw_key, draw_progression
from tome_audio.songs.instruments import play, tone
from tome_audio.songs.notes import Note, melody
from tome_audio.songs.song import TEMPI, make_song
from tome_audio.songs.timbres import FAMILIES, draw_timbre

RATE = 16000
N_SONGS = 12


def rng(*numbers):
    return np.random.default_rng(numbers)


@pytest.fixture(scope="module")
def songs():
    return [make_song(rng(5, number), 12.0) for number in range(N_SONGS)]


def described(samples):
    """Level by third octave and by pitch class, and the rhythm of the envelope, each as a unit vector."""
    power = np.abs(np.fft.rfft(samples.reshape(-1, RATE // 2), axis=1)).mean(axis=0)[10:3000]
    hertz = np.fft.rfftfreq(RATE // 2, 1 / RATE)[10:3000]
    bands = np.bincount(np.round(3 * np.log2(hertz / 20)).astype(int), power)
    classes = np.bincount(np.round(12 * np.log2(hertz / 27.5)).astype(int) % 12, power)
    envelope = np.diff(np.log10(1e-6 + (samples.reshape(-1, 400) ** 2).mean(axis=1))).clip(0)
    rhythm = np.abs(np.fft.rfft(envelope))[1:80]
    return [(v - v.mean()) / np.linalg.norm(v - v.mean()) for v in (np.log10(bands + 1), classes, rhythm)]


# whole songs


def test_a_song_follows_from_its_generator(songs):
    again, other = make_song(rng(5, 0), 12.0), make_song(rng(5, N_SONGS), 12.0)
    assert again.tempo == songs[0].tempo and again.chords == songs[0].chords
    for role, stem in songs[0].stems.items():
        np.testing.assert_array_equal(stem, again.stems[role])
    assert not np.allclose(again.mix(), other.mix())


def test_stems_sound_sum_to_the_mix_and_do_not_clip(songs):
    for song in songs:
        assert 4 <= len(song.stems) <= 6 and list(song.stems) == [role for role in ROLES if role in song.stems]
        assert song.seconds == 12.0
        for role, stem in song.stems.items():
            assert stem.shape == (12 * RATE,) and stem.dtype == np.float32 and np.isfinite(stem).all()
            frames = (stem.reshape(-1, RATE // 10) ** 2).mean(axis=1)
            assert 10 * np.log10(frames.max()) > -50, role
            assert (frames > 1e-3 * frames.max()).mean() > 0.1, role
        np.testing.assert_allclose(song.mix(), sum(song.stems.values()), atol=1e-5)
        assert 0.4 < np.abs(song.mix()).max() <= 0.9 + 1e-5


def test_tempi_keys_instruments_and_levels_vary(songs):
    tempi = [song.tempo for song in songs]
    assert TEMPI[0] <= min(tempi) < 95 and 130 < max(tempi) <= TEMPI[1]
    assert len({song.key for song in songs}) >= N_SONGS - 2 and len({song.key.root for song in songs}) >= 6
    assert len({song.first_bar for song in songs}) == N_SONGS
    line_ups = {tuple(timbre.family for timbre in song.instruments.values()) for song in songs}
    assert len(line_ups) == N_SONGS
    drawn = {family for line_up in line_ups for family in line_up}
    assert len(drawn) >= 12
    levels = [20 * np.log10(loudness(song.mix(), RATE)) for song in songs]
    assert max(levels) - min(levels) > 3


def test_a_song_sounds_like_itself_and_not_like_others(songs):
    firsts = [described(song.mix()[: 6 * RATE]) for song in songs]
    seconds = [described(song.mix()[6 * RATE :]) for song in songs]
    for aspect in range(3):
        alike = np.array([[a[aspect] @ b[aspect] for b in seconds] for a in firsts])
        own, others = np.diag(alike), alike[~np.eye(N_SONGS, dtype=bool)]
        assert (others < np.median(own)).mean() > 0.9, aspect
    summed = np.array([[sum(x @ y for x, y in zip(a, b, strict=True)) for b in seconds] for a in firsts])
    assert (summed.argmax(axis=1) == np.arange(N_SONGS)).mean() > 0.7


def test_strokes_fall_on_the_grid_of_the_tempo():
    seen = 0
    for number in range(40):
        song = make_song(rng(6, number), 8.0)
        if song.swing or "drums" not in song.stems:
            continue
        seen += 1
        power = (song.stems["drums"].reshape(-1, 80) ** 2).mean(axis=1)  # every 5 ms
        rise = np.diff(np.log10(power + 1e-5 * power.max()))
        onsets = (np.flatnonzero((rise > 1.0) & (power[1:] > 0.02 * power.max())) + 1) * 0.005
        assert len(onsets) > 5
        step = 60 / song.tempo / 4
        off = (onsets - song.first_bar) / step
        seconds_off = np.abs(off - np.round(off)) * step
        assert np.median(seconds_off) < 0.012 < step / 4
        if seen == 6:
            return
    raise AssertionError("too few straight songs with drums")


def test_what_is_given_is_what_the_song_has():
    key = Key(3, "dorian")
    song = make_song(rng(7), 5.0, 22050, tempo=101.0, key=key, tuning=0.25)
    assert (song.tempo, song.key, song.tuning, song.sample_rate) == (101.0, key, 0.25, 22050)
    assert all(len(stem) == 5 * 22050 for stem in song.stems.values())
    assert 0 < song.first_bar <= song.beats_per_bar * 60 / 101


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"seconds": 0.0}, "seconds must be between"),
        ({"seconds": float("nan")}, "seconds must be between"),
        ({"seconds": 5.0, "sample_rate": 4000}, "sample_rate must be between"),
        ({"seconds": 5.0, "tempo": 10.0}, "tempo must be between"),
    ],
)
def test_what_no_song_can_be_is_refused(options, said):
    with pytest.raises(ValueError, match=said):
        make_song(rng(8), **options)


# harmony, melody, rhythm


def test_every_pitched_note_but_none_of_another_key_is_in_the_scale():
    for number in range(20):
        draws = rng(9, number)
        key = draw_key(draws)
        roles = tuple(role for role in ROLES if ROLES[role].families)
        arrangement = draw_arrangement(draws, key, roles, 8, 4)
        scale = {(key.root + step) % 12 for step in SCALES[key.scale]}
        pitches = [note.pitch for notes in arrangement.notes.values() for note in notes]
        assert len(pitches) > 100 and {pitch % 12 for pitch in pitches} <= scale
        assert all(20 <= pitch <= 110 for pitch in pitches)
        for role, notes in arrangement.notes.items():
            assert notes and all(note.start >= 0 and note.length > 0 and note.velocity > 0 for note in notes), role


def test_progressions_fill_their_bars_and_change():
    for number in range(30):
        chords = draw_progression(rng(10, number), 16, 4)
        assert chords[0].start == 0 and chords[-1].start + chords[-1].length == 16
        assert all(a.start + a.length == b.start for a, b in pairwise(chords))
        assert len({chord.degrees[0] % 7 for chord in chords}) >= 2


def test_melodies_repeat_their_motifs_and_differ_from_each_other():
    key, lines = Key(0, "major"), []
    for number in range(30):
        chords = draw_progression(rng(11, number), 16, 4)
        notes = melody(rng(12, number), key, chords, 16, 70)
        bars = [frozenset(round(4 * (n.start % 4)) for n in notes if int(n.start) // 4 == bar) for bar in range(4)]
        lines.append((bars, [n.pitch for n in notes]))
    repeating = [len(set(bars)) < 4 for bars, _ in lines]
    assert sum(repeating) > 20
    assert len({tuple(pitches) for _, pitches in lines}) == 30
    assert np.mean([len(set(pitches)) for _, pitches in lines]) > 5


def test_drum_parts_vary_from_bar_to_bar_and_from_song_to_song():
    parts = [drum_part(rng(13, number), 8, 4) for number in range(20)]
    for hits in parts:
        bars = [{(round(h.start % 4, 3), h.drum) for h in hits if int(h.start) // 4 == bar} for bar in range(8)]
        same = [len(a & b) / len(a | b) for a, b in pairwise(bars)]
        assert np.median(same) > 0.5  # a groove
        assert min(same) < 1  # with gaps, ghost notes, fills
    assert len({tuple((h.start, h.drum) for h in hits) for hits in parts}) == 20


def test_line_ups_always_have_harmony_and_a_voice():
    seen = [draw_line_up(rng(14, number)) for number in range(200)]
    assert {len(roles) for roles in seen} == {4, 5, 6}
    assert all({"chords", "pad"} & set(roles) and {"melody", "arpeggio"} & set(roles) for roles in seen)
    assert any("drums" not in roles for roles in seen) and any("bass" not in roles for roles in seen)


def test_swing_delays_off_beats_and_keeps_beats():
    assert [swung(beat, 0.3, 2) for beat in (0.0, 1.0, 2.0)] == [0.0, 1.0, 2.0]
    assert swung(0.5, 0.3, 2) == pytest.approx(0.65) and swung(0.25, 0.3, 1) == pytest.approx(0.325)
    assert swung(1.37, 0.0, 1) == pytest.approx(1.37)


# instruments


@pytest.mark.parametrize("family", FAMILIES)
def test_an_instrument_sounds_at_its_pitch_and_below_half_the_rate(family):
    for number in range(3):
        timbre = draw_timbre(rng(15, number), family)
        for pitch in (40.3, 69.0):
            wave = tone(timbre, pitch, RATE, RATE)
            assert wave.shape == (RATE,) and wave.dtype == np.float32 and np.isfinite(wave).all()
            power = np.abs(np.fft.rfft(wave * np.hanning(RATE))) ** 2
            hertz = np.arange(len(power))
            frequency = 440 * 2 ** ((pitch - 69) / 12)
            nearest = np.maximum(1, np.round(hertz / frequency)) * frequency
            in_tune = np.abs(hertz - nearest) < np.maximum(4, 0.03 * nearest)
            assert power[hertz > 7700].sum() < 0.02 * power.sum()
            if family not in ("bell", "mallet"):  # theirs are no harmonics
                assert power[in_tune].sum() > 0.9 * power.sum()
            else:
                assert power[in_tune].sum() > 0.1 * power.sum()


def test_timbres_of_a_family_differ():
    spectra = [np.abs(np.fft.rfft(tone(draw_timbre(rng(16, n), "guitar"), 57, RATE, RATE))) for n in range(5)]
    spectra = [np.log10(1 + s[:4000].reshape(-1, 40).sum(axis=1)) for s in spectra]
    apart = [np.abs(a - b).mean() for i, a in enumerate(spectra) for b in spectra[:i]]
    assert min(apart) > 0.01


def test_notes_begin_when_they_should_end_when_they_should_and_stop_at_the_end():
    timbre = dataclasses.replace(draw_timbre(rng(17), "organ"), release=0.05, vibrato=0.0)
    notes = [Note(1.0, 1.0, 69, 1.0), Note(3.5, 10.0, 64, 0.5), Note(40.0, 1.0, 64, 1.0)]
    wave = play(timbre, notes, 0.5, 3 * RATE, RATE)
    assert wave.shape == (3 * RATE,)
    assert not wave[: RATE // 2].any() and wave[RATE // 2 + 200 : RATE].std() > 0.05
    assert not wave[int(1.06 * RATE) : int(1.75 * RATE)].any() and wave[-RATE:].std() > 0.02


def test_tuning_moves_every_pitch():
    timbre = dataclasses.replace(draw_timbre(rng(18), "organ"), vibrato=0.0, detune=0.0)
    wave = play(timbre, [Note(0.0, 8.0, 69, 1.0)], 0.5, 4 * RATE, RATE, tuning=0.5)
    power = np.abs(np.fft.rfft(wave))[: 4 * 600]
    assert power.argmax() / 4 == pytest.approx(440 * 2 ** (0.5 / 12), abs=1.0)


def test_kits_sound_and_differ():
    for draw in (draw_kit, draw_percussion):
        first, second = draw(rng(19, 0), RATE), draw(rng(19, 1), RATE)
        assert first.keys() == second.keys()
        for name, sound in first.items():
            assert sound.dtype == np.float32 and 0.05 < np.abs(sound).max() < 4, name
            assert np.abs(sound[-50:]).max() < 0.1 * np.abs(sound).max(), name
            n = min(len(sound), len(second[name]))
            assert not np.allclose(sound[:n], second[name][:n])


# finish


def test_an_equaliser_does_what_its_curve_says():
    noise = rng(20).standard_normal(4 * RATE).astype(np.float32)
    equaliser = dataclasses.replace(draw_equaliser(rng(21), 10.0), bumps=((1000.0, 0.5, 12.0),), low_cut=20.0)
    before, after = (np.abs(np.fft.rfft(x)) ** 2 for x in (noise, equalised(noise, equaliser, RATE)))
    at = slice(4 * 980, 4 * 1020)
    assert 10 * np.log10(after[at].sum() / before[at].sum()) == pytest.approx(12, abs=0.7)
    far = slice(4 * 200, 4 * 240)
    assert 10 * np.log10(after[far].sum() / before[far].sum()) == pytest.approx(0, abs=0.7)


def test_a_room_and_an_echo_follow_the_sound_and_never_come_before_it():
    click = np.zeros(2 * RATE, np.float32)
    click[RATE // 2] = 1
    flat = dataclasses.replace(draw_equaliser(rng(22), 0.0), bumps=(), low_cut=1.0, high_cut=1e6)
    out = finished(click, flat, draw_room(rng(23), RATE), 0.3, RATE, echo=(0.25, 0.4))
    assert np.abs(out[: RATE // 2 - 5]).max() < 1e-3 and out[RATE // 2] == pytest.approx(1, abs=0.05)
    assert out[3 * RATE // 4] == pytest.approx(0.4, abs=0.1) and out[RATE] == pytest.approx(0.16, abs=0.1)
    assert (out[RATE // 2 + 600 :] ** 2).sum() > 0.02


def test_loudness_leaves_silence_out():
    sound = 0.5 * np.sin(np.arange(RATE)).astype(np.float32)
    assert loudness(sound, RATE) == pytest.approx(0.5 / np.sqrt(2), rel=0.01)
    assert loudness(np.concatenate([sound, np.zeros(9 * RATE, np.float32)]), RATE) == pytest.approx(
        loudness(sound, RATE), rel=0.03
    )
    assert loudness(np.zeros(RATE, np.float32), RATE) == 0
