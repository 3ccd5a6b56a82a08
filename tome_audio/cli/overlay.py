"""`tome-audio overlay`: clips with several labels out of a corpus with one label per clip."""

from __future__ import annotations

from pathlib import Path

from tome_audio.cli.corpora import CorpusConfig, corpus_manifest
from tome_audio.cli.output import console, progress
from tome_audio.data.corpora.overlays import PARTS_NAME, make_overlays, without_shared_sources
from tome_audio.data.manifest_files import LABELS_NAME, MANIFEST_NAME


def overlay(
    data: str,
    out: str,
    n_train: int = 2000,
    n_valid: int = 400,
    n_test: int = 400,
    seed: int = 0,
    seconds: float | None = None,
    corpus: CorpusConfig | None = None,
) -> int:
    """Overlay two or three clips at a time into clips with several labels; some classes are frequent in train.

    Train, valid and test share no recording. --out is then what --data of train, teacher-logits and evaluate takes;
    parts.csv in it says which clips sound where. A run that was stopped goes on where it was.

    Args:
        data: Folder that `tome-audio manifest` has written, a manifest CSV, or the corpus itself: one label per clip.
        out: Folder for the clips and tables; made if need be.
        n_train: Clips to make for train.
        n_valid: Clips to make for valid.
        n_test: Clips to make for test.
        seed: Of what is drawn: clips, gains, and which classes are frequent.
        seconds: Length of every clip; none takes that of its longest part.
        corpus: Which clips the folder of a corpus gives; a manifest says so itself.
    """
    found = corpus_manifest(corpus or CorpusConfig(), data)
    n_shared = len(found) - len(without_shared_sources(found))
    if n_shared:
        console().print(f"{n_shared} clips are left out: their recordings are in another split too")
    with progress() as bars:
        task = bars.add_task("overlay", total=n_train + n_valid + n_test)
        made = make_overlays(
            found,
            out,
            n_train=n_train,
            n_valid=n_valid,
            n_test=n_test,
            seed=seed,
            seconds=seconds,
            on_progress=lambda done, _: bars.update(task, completed=done),
        )
    console().print(f"{made.summary()}; written: {Path(out) / MANIFEST_NAME}, {LABELS_NAME}, {PARTS_NAME}")
    return 0
