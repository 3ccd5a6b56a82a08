"""Who listens to a run: CSV files, TensorBoard, a progress bar. The main process alone calls them."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tome_audio.installation import import_extra
from tome_audio.training.records import EpochRecord, Position, StepRecord, TrainingResult

if TYPE_CHECKING:
    from rich.progress import Progress


class Callback:
    """Base class: does nothing. An exception raised in one ends the run, which can be resumed."""

    def on_start(self, position: Position, total_steps: int) -> None:
        """Called before the first step; the position is that of the checkpoint where a run is resumed."""

    def on_step(self, record: StepRecord) -> None:
        """Called after each optimiser step, before it may be saved."""

    def on_epoch(self, record: EpochRecord) -> None:
        """Called after each epoch has been evaluated, before it is saved."""

    def on_end(self, result: TrainingResult) -> None:
        """Called at the end of a run that was neither interrupted nor stopped by an error."""


class CsvLog(Callback):
    """Write `steps.csv` and `epochs.csv` into a folder; a resumed run first drops the rows it will take again.

    Args:
        folder: Made if need be.
        every: Steps between rows of `steps.csv`; a row is that of its step alone.

    Raises:
        ValueError: `every` is below 1.
    """

    def __init__(self, folder: str | Path, every: int = 1) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1 step, got {every}")
        self.folder, self.every = Path(folder), every

    def on_start(self, position: Position, total_steps: int) -> None:
        """Cut both files back to the position."""
        self.folder.mkdir(parents=True, exist_ok=True)
        steps: list[dict[str, Any]] = []
        if (self.folder / "steps.csv").is_file():
            with (self.folder / "steps.csv").open(newline="", encoding="utf-8") as file:
                # Of a row that a killed run wrote half, the last columns are missing.
                steps = [row for row in csv.DictReader(file) if None not in row.values()]
        _write_rows(self.folder / "steps.csv", [row for row in steps if int(row["step"]) < position.step])
        _write_rows(self.folder / "epochs.csv", [_epoch_row(record) for record in position.records])

    def on_step(self, record: StepRecord) -> None:
        """Append a row."""
        if record.step % self.every == 0:
            row = {name: getattr(record, name) for name in ("epoch", "step", "loss", "lr", "grad_norm")}
            _append_row(self.folder / "steps.csv", {**row, **record.logs, "skipped": record.skipped})

    def on_epoch(self, record: EpochRecord) -> None:
        """Append a row."""
        _append_row(self.folder / "epochs.csv", _epoch_row(record))


class TensorBoardLog(Callback):
    """Write curves for TensorBoard; a resumed run hides what it will take again.

    Args:
        folder: Made if need be.
        every: Steps between points of the training curves.
    """

    def __init__(self, folder: str | Path, every: int = 10) -> None:
        self.folder, self.every = Path(folder), every
        self._writer: Any = None

    def on_start(self, position: Position, total_steps: int) -> None:
        """Open the log.

        Raises:
            ImportError: tensorboard is absent.
        """
        import_extra("tensorboard", "a TensorBoard log", "recipes")
        tensorboard = import_extra("torch.utils.tensorboard", "a TensorBoard log", "recipes")
        self._writer = tensorboard.SummaryWriter(str(self.folder), purge_step=position.step or None)

    def on_step(self, record: StepRecord) -> None:
        """Add a point to the training curves."""
        if record.step % self.every == 0:
            values = {"loss": record.loss, "lr": record.lr, "grad_norm": record.grad_norm, **record.logs}
            self._add("train", values, record.step)
            self._writer.flush()  # else a killed run loses points that lie before its checkpoint

    def on_epoch(self, record: EpochRecord) -> None:
        """Add a point to the validation curves."""
        last = record.step - 1  # one less than where the next epoch begins, which is where a resumed run hides from
        self._add("epoch", {"loss": record.loss}, last)
        self._add("valid", record.metrics, last)
        self._writer.flush()

    def on_end(self, result: TrainingResult) -> None:
        """Close the log."""
        self._writer.close()

    def _add(self, group: str, values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)


class ProgressBar(Callback):
    """Show steps, loss and the latest figures in a `rich` progress display that the caller opens and closes."""

    def __init__(self, bars: Progress, name: str = "train") -> None:
        self._bars, self._name, self._figures = bars, name, ""
        self._bar: Any = None

    def on_start(self, position: Position, total_steps: int) -> None:
        """Add the bar."""
        self._bar = self._bars.add_task(self._name, total=total_steps, completed=position.step)

    def on_step(self, record: StepRecord) -> None:
        """Move on by one step."""
        text = f"{self._name} epoch {record.epoch + 1}, loss {record.loss:.3f}{self._figures}"
        self._bars.update(self._bar, completed=record.step + 1, description=text)

    def on_epoch(self, record: EpochRecord) -> None:
        """Print a line, and show its figures until the next."""
        figures = ", ".join(f"{name} {value:.4g}" for name, value in record.metrics.items())
        self._figures = f" | {figures}" if figures else ""
        self._bars.console.print(f"epoch {record.epoch + 1}: loss {record.loss:.3f}{self._figures}", markup=False)

    def on_end(self, result: TrainingResult) -> None:
        """Fill the bar, also where the run stopped early."""
        self._bars.update(self._bar, total=1, completed=1)


def _epoch_row(record: EpochRecord) -> dict[str, Any]:
    row = {name: getattr(record, name) for name in ("epoch", "step", "loss", "lr", "score", "seconds")}
    return {**row, **record.metrics}


def _append_row(path: Path, row: Mapping[str, Any]) -> None:
    new = not path.is_file() or path.stat().st_size == 0
    with path.open("a", newline="", encoding="utf-8") as file:
        file.write(_csv_text([row], header=new))


def _write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    partial.write_text(_csv_text(rows, header=True) if rows else "", encoding="utf-8")
    partial.replace(path)


def _csv_text(rows: list[Any], header: bool) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
