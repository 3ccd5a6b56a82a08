"""`tome-audio sampleid calibrate`: from which score on a song holds a sample."""

from __future__ import annotations

from pathlib import Path

from tome_audio.audio import AudioError
from tome_audio.cli.output import console, progress, warn
from tome_audio.cli.sampleid.indexed import check_numbers, find_tracks, open_index
from tome_audio.cli.sampleid.query import SearchKind, make_search, scoring_facts
from tome_audio.data.clips import DataError
from tome_audio.retrieval import AlignOptions, VoteOptions, identify, write_calibration
from tome_audio.retrieval.threshold import calibrate as choose_threshold

_VOTES, _ALIGN = VoteOptions(), AlignOptions()


def calibrate(
    index: str,
    without: str,
    with_sample: str | None = None,
    rate: float = 0.05,
    search: SearchKind = "exact",
    hop: float | None = None,
    transpositions: list[float] | None = None,
    tempi: list[float] | None = None,
    votes: VoteOptions = _VOTES,
    align: AlignOptions = _ALIGN,
    model: str | None = None,
    batch_size: int = 32,
    threads: int | None = None,
) -> int:
    """Choose the score above which a song holds a sample, from songs that are known to hold none of the index.

    Writes calibration.json into the index; query uses it. Give the options that query will be given.

    Args:
        index: Folder of the index.
        without: Folder of songs without a sample of these originals.
        with_sample: Folder of songs with one: they choose nothing, but tell how many are found.
        rate: Largest part of the songs without a sample that may seem to hold one.
        search: exact compares with all originals; faiss chooses candidates, for large indexes (extra `faiss`).
        hop: Seconds from one window of a song to the next; none takes that of the index.
        transpositions: Semitones to try, such as [-2,-1,0,1,2]; none tries the songs as they are.
        tempi: Tempo ratios to try, such as [0.8,1,1.25]; none tries the songs as they are.
        votes: How windows vote for a track.
        align: How the tracks with most votes are aligned with a song.
        model: Where the model is that the index was made with, if it has moved.
        batch_size: Windows per forward pass.
        threads: CPU threads; none leaves PyTorch's choice.
    """
    check_numbers(batch_size, threads)
    if not 0 <= rate < 1:
        raise ValueError(f"--rate must be in [0, 1), got {rate}")
    folders = {"without": find_tracks(without), "with": find_tracks(with_sample) if with_sample else {}}
    opened, embedder = open_index(index, model, transpositions=transpositions, tempi=tempi)
    matrix = opened.matrix()
    finder = make_search(search, matrix)
    hop = opened.hop if hop is None else hop

    def best_scores(files: dict[str, Path], description: str) -> list[float]:
        scores = []
        with progress() as bars:
            for path in bars.track(list(files.values()), description=description):
                try:
                    found = identify(
                        path, embedder, finder, votes, align=align, sketch_of=opened.sketch, hop=hop, n_heard=0,
                        batch_size=batch_size,
                    )  # fmt: skip
                except AudioError as error:
                    warn(f"error: {error}")
                else:
                    scores.append(found.best_score)
        return scores

    scores = {name: best_scores(files, f"songs {name}") for name, files in folders.items()}
    if not scores["without"]:
        raise DataError(f"none of {len(folders['without'])} files in {without} could be used; each is named above")
    found = choose_threshold(
        scores["without"], scores["with"], rate=rate, n_references=len(matrix.ids),
        votes=scoring_facts(votes, align, hop, embedder),
    )  # fmt: skip
    path = write_calibration(index, found)
    taken = f"{100 * found.false_positive_rate:.1f} % of {found.n_without} songs without a sample score above"
    hit = "" if found.detection_rate is None else f", and {100 * found.detection_rate:.1f} % of {found.n_with} with one"
    console().out(f"threshold {found.threshold:.4f}: {taken}{hit}; written: {path}")
    return 0 if sum(map(len, scores.values())) == sum(map(len, folders.values())) else 1
