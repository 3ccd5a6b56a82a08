"""Answers to songs, kept on disk as they come, so that a run that was killed goes on behind them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tome_audio.data.whole_file import whole_file
from tome_audio.evaluation.sample_id import SongAnswer
from tome_audio.retrieval import Match

ANSWERS_NAME = "answers.jsonl"


class KeptAnswers:
    """A file with a line of facts, and a line for every answer under these facts.

    Answers under other facts, and a last line that was not written to its end, are dropped.

    Args:
        path: Of the file; made if need be.
        facts: All that answers depend on beside the song.

    Raises:
        OSError: The file cannot be written.
    """

    def __init__(self, path: Path, facts: Mapping[str, Any]) -> None:
        self._path = path
        wanted = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
        lines = _lines(path)
        known = lines[1:] if lines and lines[0].get("facts") == wanted else []
        self._answers = {(line["song"], line["digest"]): _answer(line) for line in known}
        with whole_file(path) as partial:
            rows = [{"facts": wanted}, *known]
            partial.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")

    def find(self, song: str, digest: str) -> SongAnswer | None:
        """Return the answer to a song by its id and the digest of its file."""
        return self._answers.get((song, digest))

    def add(self, answer: SongAnswer, digest: str) -> None:
        """Keep an answer.

        Raises:
            OSError: It cannot be written.
        """
        matches = [asdict(match) for match in answer.matches]
        line = {"song": answer.song, "digest": digest, "scores": dict(answer.scores), "matches": matches}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _lines(path: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    try:
        with path.open(encoding="utf-8") as file:
            found += (json.loads(line) for line in file)
    except (OSError, ValueError):  # absent, or a run was killed while it wrote: what stands before is whole
        pass
    return found


def _answer(line: Mapping[str, Any]) -> SongAnswer:
    return SongAnswer(line["song"], line["scores"], tuple(Match(**match) for match in line["matches"]))
