"""Answers to songs against the truth of a table: rankings, songs without a sample, where the samples are."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tome_audio.data.clips import DataError
from tome_audio.data.sample_tables import SampleTable
from tome_audio.metrics import (
    LocalisationScores,
    PresenceScores,
    RetrievalScores,
    localisation_scores,
    presence_scores,
    retrieval_scores,
)
from tome_audio.metrics.retrieval import RESAMPLES, places
from tome_audio.retrieval.identify import Match

_OF_MATCH = ("score", "song_start", "song_end", "original_start", "original_end", "semitones", "tempo_ratio")


@dataclass(frozen=True)
class SongAnswer:
    """What was answered to one song.

    Attributes:
        song: Its id.
        scores: Of references by id; one that is not there was not compared and stands last.
        matches: The best match of each of the first references, best first.
    """

    song: str
    scores: Mapping[str, float]
    matches: tuple[Match, ...]

    @property
    def best_score(self) -> float:
        """Of all references but the song itself."""
        return max((score for track, score in self.scores.items() if track != self.song), default=float("-inf"))


@dataclass(frozen=True)
class SampleIdScores:
    """How well songs were answered.

    Attributes:
        retrieval: Of the songs with a sample.
        presence: Of songs with a sample against songs without; None without songs of the second kind.
        localisation: Of the songs whose first reference is right.
        songs: The songs with a sample, in the order of `retrieval`.
        n_without: Songs without a sample.
        n_references: References that are ranked.
        left_out: Songs none of whose records is among the references: they cannot be answered.
    """

    retrieval: RetrievalScores
    presence: PresenceScores | None
    localisation: LocalisationScores
    songs: tuple[str, ...]
    n_without: int
    n_references: int
    left_out: tuple[str, ...]

    def figures(self) -> dict[str, float]:
        """Return every figure by name, with the ends of its interval as NAME_low and NAME_high."""
        presence = {} if self.presence is None else self.presence.figures()
        return {**self.retrieval.figures(), **presence, **self.localisation.figures()}


def score_answers(
    table: SampleTable,
    answers: Sequence[SongAnswer],
    references: Collection[str],
    *,
    within: float = 5.0,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> SampleIdScores:
    """Score the answers to songs. A song that is a reference too stands last in its own ranking.

    Args:
        table: The truth.
        answers: One per song, with samples or without.
        references: Ids of all that is ranked, distractors included.
        within: Largest error of a place, in seconds.
        resamples: Of the bootstrap.
        seed: Of the bootstrap.

    Raises:
        DataError: No song can be scored.
    """
    ids = sorted(references)
    sampled = {answer.song: set(table.originals_of(answer.song)) for answer in answers}
    with_sample = [answer for answer in answers if sampled[answer.song]]
    without = [answer for answer in answers if not sampled[answer.song]]
    asked = [answer for answer in with_sample if sampled[answer.song].intersection(ids)]
    if not asked:
        raise DataError(
            f"no record that one of the {len(with_sample)} songs with a sample uses is among the {len(ids)} references"
        )
    scores, relevant = _matrix(asked, ids), _truth(table, asked, ids)
    hits = _hits(asked, places(scores, relevant), relevant, ids)
    true = [_beginnings(table, answer.song, match.track) for answer, match in hits]
    estimated = torch.tensor([(match.song_start, match.original_start) for _, match in hits], dtype=torch.float64)
    options: dict[str, Any] = {"resamples": resamples, "seed": seed}
    presence = None
    if without:
        best = [torch.tensor([answer.best_score for answer in kind]) for kind in (asked, without)]
        presence = presence_scores(*best, **options)
    return SampleIdScores(
        retrieval_scores(scores, relevant, **options),
        presence,
        localisation_scores(estimated.reshape(-1, 2), true, within=within, **options),
        songs=tuple(answer.song for answer in asked),
        n_without=len(without),
        n_references=len(ids),
        left_out=tuple(answer.song for answer in with_sample if not sampled[answer.song].intersection(ids)),
    )


def ranking_rows(table: SampleTable, answers: Sequence[SongAnswer]) -> list[dict[str, Any]]:
    """Return a row per song and match: place, track, whether the song samples it, score, where, and how changed."""
    rows = []
    for answer in answers:
        originals = table.originals_of(answer.song)
        matches = [match for match in answer.matches if match.track != answer.song]
        for place, match in enumerate(matches, start=1):
            found = {"song": answer.song, "place": place, "track": match.track, "sampled": match.track in originals}
            rows.append({**found, **{name: getattr(match, name) for name in _OF_MATCH}})
    return rows


def _matrix(answers: Sequence[SongAnswer], ids: Sequence[str]) -> Tensor:
    # (Q, R), minus infinity for what was not compared and for the song itself.
    rows = [
        [answer.scores.get(track, -torch.inf) if track != answer.song else -torch.inf for track in ids]
        for answer in answers
    ]
    return torch.tensor(rows, dtype=torch.float64)


def _truth(table: SampleTable, answers: Sequence[SongAnswer], ids: Sequence[str]) -> Tensor:
    sampled = [set(table.originals_of(answer.song)) for answer in answers]
    return torch.tensor([[track in own for track in ids] for own in sampled])


def _hits(
    answers: Sequence[SongAnswer], place: Tensor, relevant: Tensor, ids: Sequence[str]
) -> list[tuple[SongAnswer, Match]]:
    # Songs whose first reference is one that they sample, and the best match of it.
    found = []
    for answer, number, is_right in zip(answers, place.argmin(1).tolist(), relevant, strict=True):
        if bool(is_right[number]):
            found.append((answer, next(match for match in answer.matches if match.track == ids[number])))
    return found


def _beginnings(table: SampleTable, song: str, original: str) -> Tensor:
    # (n, 2): where occurrences begin, in the song and in the original; a loop of known length begins again and again.
    points: list[tuple[float, float]] = []
    for found in table.occurrences_of(song):
        if found.original == original:
            times = 1 if found.song_end is None else found.repetitions or 1
            step = 0.0 if found.song_end is None else (found.song_end - found.song_start) / times
            points += [(found.song_start + i * step, found.original_start) for i in range(times)]
    return torch.tensor(points, dtype=torch.float64)
