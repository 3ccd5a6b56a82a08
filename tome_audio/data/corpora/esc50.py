"""ESC-50: 2000 clips of 50 environmental sounds in five folds (Piczak, 2015)."""

from __future__ import annotations

import csv
from pathlib import Path

from tome_audio.data.clips import EXTENSIONS, DataError
from tome_audio.data.download import Progress, download, unpack
from tome_audio.data.manifest import Entry, Manifest
from tome_audio.data.splitting import set_apart

URL = "https://github.com/karolpiczak/ESC-50/archive/refs/heads/master.zip"
FOLDS = (1, 2, 3, 4, 5)

_COLUMNS = ("filename", "fold", "target", "category", "src_file")


def download_esc50(folder: str | Path, on_progress: Progress | None = None) -> Path:
    """Fetch and unpack ESC-50 below `folder`; return the folder for `prepare_esc50`.

    Upstream publishes no checksum of its archive; damage shows in `check_manifest`.

    Raises:
        DownloadError: See `download` and `unpack`.
    """
    root = Path(folder)
    if not (root / "ESC-50").exists():
        archive = download(URL, root / "ESC-50.zip", on_progress=on_progress).path
        unpack(archive, root / "ESC-50", inside="ESC-50-master")
    return root / "ESC-50"


def prepare_esc50(folder: str | Path, test_fold: int, *, valid_part: float = 0.1, seed: int = 0) -> Manifest:
    """Make the manifest of ESC-50 with one official fold as test and clips of the other four as train and valid.

    Train and valid share no source recording. The official folds share four (hens and roosters, clocks): a test
    fold is upstream's as it is, so that scores compare with published ones.

    Args:
        folder: With meta/esc50.csv and the clips in audio/ or, resampled as AST does, audio_16k/; of any suffix.
        test_fold: 1 to 5.
        valid_part: Of every class in the four folds, at least one recording; 0 for none.
        seed: Of the draw of valid.

    Raises:
        DataError: The folder is not ESC-50, or a setting is out of range.
    """
    if test_fold not in FOLDS:
        raise DataError(f"ESC-50 has the folds 1 to 5, not {test_fold}")
    root = Path(folder)
    rows = _rows(root / "meta" / "esc50.csv")
    audio = next((root / name for name in ("audio_16k", "audio") if (root / name).is_dir()), root / "audio")
    by_stem = {path.stem: path for path in sorted(audio.glob("*")) if path.suffix.lower() in EXTENSIONS}
    labels: dict[int, str] = {}
    entries = []
    for row in rows:
        labels[int(row["target"])] = row["category"]
        stem, fold = Path(row["filename"]).stem, int(row["fold"])
        path = by_stem.get(stem, audio / row["filename"])  # a clip that is not there is for `check_manifest` to name
        split = "test" if fold == test_fold else "train"
        entries.append(Entry(stem, path, (row["category"],), split, fold, source=row["src_file"], duration=5.0))
    manifest = Manifest(tuple(entries), tuple(labels[target] for target in sorted(labels)))
    return set_apart(manifest, valid_part, by="source", seed=seed) if valid_part else manifest


def _rows(table: Path) -> list[dict[str, str]]:
    try:
        with table.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise DataError(f"there is no {table}: give the unpacked ESC-50, which has audio/ and meta/") from error
    if not rows or any(not row.get(name) for row in rows for name in _COLUMNS):
        raise DataError(f"{table} is not ESC-50's table: needs {', '.join(_COLUMNS)} in every row")
    return rows
