"""`tome-audio download` and `tome-audio manifest`: a corpus fetched, and laid out as a table of clips."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from rich.progress import Progress

from tome_audio.cli.output import console, progress
from tome_audio.data.class_splits import apply_class_split, keep_classes, read_class_split
from tome_audio.data.clips import Clip, find_clips
from tome_audio.data.corpora.audioset import download_audioset, prepare_audioset
from tome_audio.data.corpora.esc50 import download_esc50, prepare_esc50
from tome_audio.data.corpora.fsdd import download_fsdd, prepare_fsdd
from tome_audio.data.corpora.imitations import imitate
from tome_audio.data.corpora.speech_commands import download_speech_commands, prepare_speech_commands
from tome_audio.data.download import DownloadError
from tome_audio.data.manifest import Manifest, find_manifest, joined
from tome_audio.data.manifest_files import (
    LABELS_NAME,
    MANIFEST_NAME,
    read_ast_json,
    read_label_csv,
    read_manifest_csv,
    write_manifest_folder,
)
from tome_audio.data.splitting import set_apart

Corpus = Literal["speechcommands", "esc50", "fsdd", "audioset"]

_Fetch = Callable[[str, Callable[[int, int | None], None]], Path]


@dataclass(frozen=True)
class CorpusConfig:
    """Which clips a corpus gives, and their splits.

    Attributes:
        name: speechcommands, esc50, fsdd, audioset; none takes any folder of labelled clips.
        n_labels: Speech Commands with 35, 30 or 12 labels; none takes all there is.
        fold: ESC-50's fold to test on.
        held_out: FSDD's speakers to test on, with commas between; "upstream" takes upstream's split.
        train: AudioSet's balanced segments or all of them, full.
        audio: AudioSet's folder of clips; none takes the folder audio beside the tables.
        made: Where Speech Commands' made clips of _silence_ go; none takes a folder of the corpus.
        seed: Of what is drawn: splits, _silence_, _unknown_.
    """

    name: Corpus | None = None
    n_labels: int | None = None
    fold: int = 1
    held_out: str = "upstream"
    train: Literal["balanced", "full"] = "balanced"
    audio: str | None = None
    made: str | None = None
    seed: int = 0


def download(corpus: Corpus, data: str, version: str = "v0.02", imitation: bool = False) -> int:
    """Fetch a corpus from upstream, or go on fetching it, and print the folder that holds it.

    AudioSet has no audio to fetch: its segment tables come, the clips are yours to bring.

    Args:
        corpus: Which one.
        data: Folder for archives and what they hold; made if need be.
        version: Of Speech Commands: v0.01 or v0.02.
        imitation: Fetch nothing; write a few generated clips laid out as the corpus is, to try a recipe.
    """
    if imitation:
        console().print(str(imitate(corpus, data)))
        return 0
    fetch: dict[str, _Fetch] = {
        "speechcommands": lambda folder, report: download_speech_commands(folder, version, report),
        "esc50": download_esc50,
        "fsdd": download_fsdd,
        "audioset": download_audioset,
    }
    with progress() as bars:
        try:
            found = fetch[corpus](data, _reporter(bars))
        except DownloadError as error:
            raise OSError(str(error)) from error
    console().print(str(found))
    return 0


def manifest(
    data: str,
    out: str,
    corpus: CorpusConfig | None = None,
    add: list[str] | None = None,
    classes: str | None = None,
    part: Literal["train", "valid", "test"] | None = None,
) -> int:
    """Write the clips of a corpus, with labels and splits, as manifest.csv and labels.csv into a folder.

    That folder is what --data of train, teacher-logits and evaluate takes.

    Args:
        data: Folder of the corpus, or of labelled clips in any layout that is known.
        out: Folder for the two tables; made if need be.
        corpus: Which clips.
        add: More folders of labelled clips, such as [words30/, digits/], whose clips come behind; classes of one name
            are one class.
        classes: JSON file with lists of classes under train, val and test: a class gives its clips to one split.
        part: Of --classes: keep the classes of this part alone, with the splits that the data itself has.
    """
    found = corpus_manifest(corpus or CorpusConfig(), data)
    for more in add or ():
        found = joined(found, find_manifest(more, seed=(corpus or CorpusConfig()).seed), Path(more).name)
    if part is not None and classes is None:
        raise ValueError("--part is a part of --classes: give both")
    if classes is not None:
        split = read_class_split(classes)
        found = apply_class_split(found, split) if part is None else keep_classes(found, getattr(split, part))
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest_folder(found, folder)
    console().print(f"{found.summary()}; written: {folder / MANIFEST_NAME}, {LABELS_NAME}")
    return 0


def corpus_manifest(corpus: CorpusConfig, data: str | Path, label_csv: str | None = None) -> Manifest:
    """Make the manifest of a folder, a manifest CSV or an AST datafile.

    `label_csv` gives the classes of a CSV or datafile; without it labels.csv beside the file does.

    Raises:
        DataError: Nothing of that kind is there.
    """
    path = Path(data)
    if is_manifest(path):
        return read_manifest(path, label_csv)
    if corpus.name == "speechcommands":
        return prepare_speech_commands(path, corpus.n_labels, seed=corpus.seed, made=corpus.made)
    if corpus.name == "esc50":
        return prepare_esc50(path, corpus.fold, seed=corpus.seed)
    if corpus.name == "fsdd":
        speakers = [] if corpus.held_out == "upstream" else corpus.held_out.split(",")
        return prepare_fsdd(path, test_speakers=speakers, valid_part=0.1, seed=corpus.seed)
    if corpus.name == "audioset":
        found = prepare_audioset(path, corpus.audio, train=corpus.train)
        return set_apart(found, 0.05, by="source", seed=corpus.seed)
    return find_manifest(path, seed=corpus.seed)


def is_manifest(path: Path) -> bool:
    """Whether the path is a manifest CSV, an AST datafile, or a folder that `tome-audio manifest` has written."""
    return path.suffix in (".csv", ".json") or (path / MANIFEST_NAME).is_file()


def read_manifest(path: Path, label_csv: str | None = None) -> Manifest:
    """Read a manifest; the classes are those of `label_csv`, or of labels.csv beside it where it is there.

    Raises:
        DataError: No such file, or not what it should be.
    """
    table = path / MANIFEST_NAME if path.is_dir() else path
    labels = table.parent / LABELS_NAME if label_csv is None else Path(label_csv)
    if table.suffix == ".json":
        return read_ast_json(table, labels, split="train")
    return read_manifest_csv(table, label_csv=labels if label_csv or labels.is_file() else None)


def manifest_clips(data: str | Path) -> dict[str, Clip]:
    """Return the clips of a manifest by id, with the names of their labels; several are joined by commas.

    Raises:
        DataError: It cannot be read.
    """
    found = read_manifest(Path(data))
    names = dict(zip(found.labels, found.names, strict=True))
    return {
        entry.id: Clip(
            entry.path,
            ",".join(names.get(label, label) for label in entry.labels),
            entry.split or "train",
            entry.speaker,
        )
        for entry in found.entries
    }


def labelled(data: str | Path) -> list[Clip]:
    """Return the labelled clips of a folder of any known layout, or of a manifest.

    Raises:
        DataError: See `find_clips` and `manifest_clips`.
    """
    return list(manifest_clips(data).values()) if is_manifest(Path(data)) else find_clips(data)


def with_validation(found: Manifest, part: float, by: str, seed: int) -> Manifest:
    """Set clips of train apart as valid where there are none yet.

    Raises:
        DataError: There is nothing to set apart.
    """
    if part == 0 or any(entry.split == "valid" for entry in found.entries):
        return found
    entries = tuple(replace(entry, split=entry.split or "train") for entry in found.entries)
    return set_apart(replace(found, entries=entries), part, by=by, seed=seed)


def with_label_csv(found: Manifest, path: str | None) -> Manifest:
    """Put the classes in the order of a label CSV; labels that it lacks stay with their clips.

    Raises:
        DataError: It is no label CSV.
    """
    if path is None:
        return found
    labels = read_label_csv(path)
    return replace(found, labels=labels.labels, names=labels.names)


def _reporter(bars: Progress) -> Callable[[int, int | None], None]:
    task = bars.add_task("download", total=None)
    return lambda done, total: bars.update(task, completed=done, total=total)
