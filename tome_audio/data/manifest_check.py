"""Look at every clip of a manifest before training starts, and say by name what is wrong."""

from __future__ import annotations

import csv
import dataclasses
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tome_audio.audio.reading import AudioError, audio_seconds
from tome_audio.data.manifest import Entry, Manifest
from tome_audio.data.whole_file import whole_file


@dataclass(frozen=True)
class Problem:
    """What is wrong with one clip.

    Attributes:
        entry: The clip.
        kind: "missing", "empty", "truncated", "not finite", "damaged", "too short", "unknown label" or "no label".
        message: One sentence that names the file or the label.
    """

    entry: Entry
    kind: str
    message: str


@dataclass(frozen=True)
class ManifestCheck:
    """What `check_manifest` found.

    Attributes:
        problems: In the order of the manifest; a clip can have two.
        usable: The manifest without the clips that have a problem, with measured durations.
        n_checked: Clips looked at.
    """

    problems: tuple[Problem, ...]
    usable: Manifest
    n_checked: int

    @property
    def n_skipped(self) -> int:
        """Clips that have a problem."""
        return self.n_checked - len(self.usable)

    @property
    def counts(self) -> dict[str, int]:
        """Problems by kind."""
        return dict(sorted(Counter(problem.kind for problem in self.problems).items()))

    def text(self, limit: int | None = None) -> str:
        """The report: one line of counts, then one line per problem, of which at most `limit`."""
        kinds = ", ".join(f"{count} {kind}" for kind, count in self.counts.items())
        head = f"{self.n_checked} clips checked: {len(self.usable)} usable, {self.n_skipped} not"
        lines = [f"{head} ({kinds})" if kinds else head]
        shown = self.problems[:limit]
        lines += [f"  {problem.kind}: {problem.message}" for problem in shown]
        if len(shown) < len(self.problems):
            lines.append(f"  and {len(self.problems) - len(shown)} more")
        return "\n".join(lines)

    def write_csv(self, path: str | Path) -> None:
        """Write all problems as CSV (id, path, kind, message), whole or not at all."""
        with whole_file(Path(path)) as partial, partial.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["id", "path", "kind", "message"])
            rows.writerows([p.entry.id, str(p.entry.path), p.kind, p.message] for p in self.problems)


def check_manifest(
    manifest: Manifest,
    *,
    min_seconds: float = 0.025,
    n_threads: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> ManifestCheck:
    """Decode every clip whole and look up its labels; nothing that is wrong with a clip raises.

    Whoever calls decides: stop if there are problems, or go on with `usable` and say how many were skipped.

    Args:
        manifest: What to check.
        min_seconds: A shorter clip is too short; one analysis window unless given.
        n_threads: Clips decoded at once.
        on_progress: Called after every clip with (clips done, clips in all).
    """
    known = set(manifest.labels)

    def examine(entry: Entry) -> tuple[list[Problem], Entry]:
        return _examine(entry, known, min_seconds)

    problems: list[Problem] = []
    usable: list[Entry] = []
    with ThreadPoolExecutor(n_threads) as pool:
        for done, (found, measured) in enumerate(pool.map(examine, manifest.entries), start=1):
            problems += found
            usable += [] if found else [measured]
            if on_progress is not None:
                on_progress(done, len(manifest))
    left = dataclasses.replace(manifest, entries=tuple(usable))
    return ManifestCheck(tuple(problems), left, len(manifest))


def _examine(entry: Entry, known: set[str], min_seconds: float) -> tuple[list[Problem], Entry]:
    problems = [
        Problem(entry, "unknown label", f"{entry.id} has the label {label!r}, which is no class of this manifest")
        for label in entry.labels
        if label not in known
    ]
    if not entry.labels:
        problems.append(Problem(entry, "no label", f"{entry.id} has no label"))
    try:
        seconds = audio_seconds(entry.path)
    except AudioError as error:
        problems.append(Problem(entry, error.kind, str(error)))
        return problems, entry
    if seconds < min_seconds:
        length = f"{seconds:.4g} s long where {min_seconds:g} s are needed"
        problems.append(Problem(entry, "too short", f"{entry.path}: is {length}"))
    return problems, dataclasses.replace(entry, duration=seconds)
