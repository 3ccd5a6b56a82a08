"""Answers to songs against the truth of a table."""

import math

import pytest

from tome_audio.data.clips import DataError
from tome_audio.data.sample_tables import Occurrence, SampleTable, Track
from tome_audio.evaluation.sample_id import SongAnswer, ranking_rows, score_answers
from tome_audio.retrieval import Match

pytest.importorskip("torchmetrics")
REFERENCES = ("o1", "o2", "o3", "d1", "d2")


def table_of(*occurrences, songs=("s1", "s2", "s3", "clean")):
    tracks = {name: Track(name, None, "test", "song") for name in songs}
    tracks |= {name: Track(name, None, "test", "distractor" if name[0] == "d" else "original") for name in REFERENCES}
    return SampleTable(tracks, tuple(occurrences))


def at(song, original, song_start=0.0, original_start=0.0, song_end=None, **more):
    return Occurrence(song, original, song_start, song_end, original_start, None, **more)


def answer(song, scores, starts=(0.0, 0.0)):
    """References in the order of their scores, all matches at one place."""
    ranked = sorted(scores, key=lambda track: -scores[track])
    matches = tuple(Match(t, scores[t], starts[0], starts[0] + 5, starts[1], starts[1] + 5, 0.0, 1.0) for t in ranked)
    return SongAnswer(song, scores, matches)


TABLE = table_of(at("s1", "o1", 3.0, 10.0), at("s2", "o1"), at("s2", "o2", 20.0, 4.0), at("s3", "o3"))


def test_full_rankings_songs_without_a_sample_and_places():
    answers = [
        answer("s1", {"o1": 0.9, "o2": 0.1, "o3": 0.2, "d1": 0.3, "d2": 0.4}, starts=(7.9, 5.1)),
        answer("s2", {"o1": 0.2, "o2": 0.9, "o3": 0.1, "d1": 0.3, "d2": 0.4}, starts=(0.0, 0.0)),
        answer("s3", {"o1": 0.5, "o2": 0.1, "o3": 0.2, "d1": 0.3, "d2": 0.4}),
        answer("clean", {"o1": 0.6, "o2": 0.1, "o3": 0.1, "d1": 0.1, "d2": 0.1}),
    ]
    found = score_answers(TABLE, answers, REFERENCES)
    # s2 samples two records: places 1 and 4; s3 has its record behind three others.
    wanted = [1.0, (1 + 2 / 4) / 2, 1 / 4]
    assert found.retrieval.average_precision.tolist() == pytest.approx(wanted)
    assert found.songs == ("s1", "s2", "s3") and (found.n_without, found.n_references) == (1, 5)
    figures = found.figures()
    assert figures["hit_rate_1"] == pytest.approx(2 / 3) and figures["hit_rate_3"] == pytest.approx(2 / 3)
    assert figures["median_rank"] == pytest.approx(1 / 5) and figures["auroc"] == pytest.approx(2 / 3)
    # s1 is within 5 s on both sides; s2 was placed where it samples the other record.
    assert found.localisation.n_hits == 2 and figures["localised"] == 0.5 and not found.left_out
    assert score_answers(TABLE, answers, REFERENCES, within=4.8).figures()["localised"] == 0.0


def test_a_loop_is_as_many_places_as_it_has_turns():
    table = table_of(at("s1", "o1", 10.0, 2.0, song_end=42.0, repetitions=8))
    scores = {"o1": 0.9, "o2": 0.1, "o3": 0.2, "d1": 0.3, "d2": 0.4}
    for start, right in ((30.0, True), (38.0, True), (42.9, True), (43.1, False), (5.0, True), (4.9, False)):
        found = score_answers(table, [answer("s1", scores, (start, 2.0))], REFERENCES)
        assert found.figures()["localised"] == float(right), start
    unknown = table_of(at("s1", "o1", 10.0, 2.0, repetitions=8))  # Sample100 says how often, not until when
    assert score_answers(unknown, [answer("s1", scores, (30.0, 2.0))], REFERENCES).figures()["localised"] == 0.0


def test_references_that_were_not_compared_stand_last_and_missing_ones_leave_their_songs_out():
    answers = [answer("s1", {"d1": 0.3}), answer("s3", {"o1": 0.5, "d1": 0.3})]
    found = score_answers(TABLE, answers, ("o1", "o2", "d1", "d2"))
    assert found.retrieval.best_place.tolist() == [4] and found.left_out == ("s3",) and found.songs == ("s1",)
    assert found.presence is None and "auroc" not in found.figures() and math.isnan(found.figures()["localised"])
    with pytest.raises(DataError, match="is among the 2 references"):
        score_answers(TABLE, answers, ("d1", "d2"))


def test_a_song_that_is_a_reference_too_is_no_answer_to_itself():
    table = table_of(at("s1", "o1"), at("s2", "s1"))
    references = (*REFERENCES, "s1")
    asked = answer("s1", {"s1": 1.0, "o1": 0.9, "o2": 0.1, "o3": 0.2, "d1": 0.3, "d2": 0.4})
    found = score_answers(table, [asked], references)
    assert found.figures()["hit_rate_1"] == 1.0 and found.figures()["localised"] == 1.0
    assert asked.best_score == 0.9
    rows = ranking_rows(table, [asked])
    assert [row["track"] for row in rows] == ["o1", "d2", "d1", "o3", "o2"] and rows[0]["place"] == 1


def test_rankings_say_what_is_right():
    rows = ranking_rows(TABLE, [answer("s2", {"o2": 0.9, "d1": 0.5, "o1": 0.4}, (1.0, 2.0))])
    assert [(row["place"], row["track"], row["sampled"]) for row in rows] == [
        (1, "o2", True), (2, "d1", False), (3, "o1", True),
    ]  # fmt: skip
    assert rows[0]["song_start"] == 1.0 and rows[0]["original_end"] == 7.0 and rows[0]["tempo_ratio"] == 1.0
