"""What a search has measured so far, kept on disk, so that a search that was killed goes on where it was."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

FORMAT = "tome_audio search 1"


class LedgerError(ValueError):
    """The state of a search cannot be used; the message says why and what to do."""


class Ledger:
    """Results by name. A search asks for each result by name and computes what nobody has computed before.

    A search is a pure function of its seed and these results, so one that is run again over a ledger repeats its steps
    at no cost and goes on where it was; its end is that of a search that was never stopped.

    Args:
        path: of the state file; None keeps everything in memory.
        every: how many new results go unsaved at most.
    """

    def __init__(self, path: Path | None = None, every: int = 50) -> None:
        self.path = path
        self.every = every
        self.stored: dict[str, Any] = {}
        self.settings: dict[str, Any] = {}
        self._unsaved = 0

    def open(self, settings: dict[str, Any], answers: list[float]) -> None:
        """Read the state file, if there is one.

        Args:
            settings: what results depend on beside the clips and the model, as JSON holds it.
            answers: numbers that tell clips and model; compared to 1e-3, for they vary with threads and machine.

        Raises:
            LedgerError: if the file is damaged, or was written for something else.
        """
        self.settings = {**settings, "answers": answers}
        if self.path is None or not self.path.exists():
            return
        advice = "delete it to start anew"
        try:
            state = json.loads(self.path.read_text(encoding="utf-8"))
            saved, self.stored = dict(state["settings"]), dict(state["results"])
            known = state["format"] == FORMAT
            before = [float(value) for value in saved.pop("answers")]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise LedgerError(f"{self.path} is not the state of a search: {advice} ({error})") from error
        changed = [f"{key} was {saved.get(key)}, now {now}" for key, now in settings.items() if saved.get(key) != now]
        if changed or not known:
            raise LedgerError(f"{self.path} was written for other settings ({'; '.join(changed)}): {advice}")
        if len(before) != len(answers) or not all(
            math.isclose(was, now, rel_tol=1e-3, abs_tol=1e-3) for was, now in zip(before, answers, strict=True)
        ):
            raise LedgerError(f"{self.path} was written for another model or other clips: {advice}")

    def recall(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return the result of this name, computed now where it is not known; JSON must be able to hold it."""
        if name not in self.stored:
            self.stored[name] = compute()
            self._unsaved += 1
            if self._unsaved >= self.every:
                self.save()
        return self.stored[name]

    def save(self) -> None:
        """Write the state file whole or not at all."""
        if self.path is None or not self._unsaved:
            return
        partial = self.path.with_name(f"{self.path.name}.part")
        partial.write_text(
            json.dumps({"format": FORMAT, "settings": self.settings, "results": self.stored}), encoding="utf-8"
        )
        os.replace(partial, self.path)  # noqa: PTH105
        self._unsaved = 0
