from __future__ import annotations

import csv
import io

import pytest
from rich.console import Console
from rich.progress import Progress
from small_run import Recorder, make_trainer

from tome_audio.training.callbacks import CsvLog, ProgressBar, TensorBoardLog


class Killed(Exception):
    pass


def kill():
    raise Killed


def rows(path, without="seconds"):
    with path.open(newline="") as file:
        return [{name: value for name, value in row.items() if name != without} for row in csv.DictReader(file)]


def test_csv_rows_of_a_killed_and_resumed_run_are_those_of_a_whole_one(tmp_path):
    make_trainer(tmp_path / "a", callbacks=[CsvLog(tmp_path / "a")]).run()
    with pytest.raises(Killed):
        make_trainer(tmp_path / "b", callbacks=[CsvLog(tmp_path / "b"), Recorder(10, kill)]).run()
    with (tmp_path / "b" / "steps.csv").open("a") as file:
        file.write("2,11,0.5")  # half a row
    make_trainer(tmp_path / "b", callbacks=[CsvLog(tmp_path / "b")]).run(resume=True)
    for name, n in (("steps.csv", 20), ("epochs.csv", 4)):
        assert rows(tmp_path / "a" / name) == rows(tmp_path / "b" / name)
        assert len(rows(tmp_path / "a" / name)) == n
    step, epoch = rows(tmp_path / "a" / "steps.csv")[7], rows(tmp_path / "a" / "epochs.csv")[1]
    assert (step["epoch"], step["step"], epoch["epoch"], epoch["step"]) == ("1", "7", "1", "10")
    assert float(step["loss"]) > 0 and float(step["largest"]) > 0 and float(epoch["accuracy"]) <= 1


def test_every_so_many_steps(tmp_path):
    make_trainer(tmp_path, callbacks=[CsvLog(tmp_path, every=6)]).run()
    assert [row["step"] for row in rows(tmp_path / "steps.csv")] == ["0", "6", "12", "18"]
    with pytest.raises(ValueError, match="every must be at least 1 step, got 0"):
        CsvLog(tmp_path, every=0)


def test_tensorboard_curves_of_a_resumed_run_have_each_step_once(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with pytest.raises(Killed):
        make_trainer(tmp_path, callbacks=[TensorBoardLog(tmp_path / "tb", every=1), Recorder(13, kill)]).run()
    make_trainer(tmp_path, callbacks=[TensorBoardLog(tmp_path / "tb", every=1)]).run(resume=True)
    events = accumulator.EventAccumulator(str(tmp_path / "tb"))
    events.Reload()
    assert [event.step for event in events.Scalars("train/loss")] == list(range(20))
    assert [event.step for event in events.Scalars("valid/accuracy")] == [4, 9, 14, 19]
    assert events.Scalars("train/lr")[0].value == pytest.approx(0.0025)


def test_the_progress_bar_ends_full_and_prints_epochs(tmp_path):
    text = io.StringIO()
    with Progress(console=Console(file=text, width=120)) as bars:
        make_trainer(tmp_path, callbacks=[ProgressBar(bars)]).run()
        assert bars.finished
    assert text.getvalue().count("accuracy") >= 4 and "epoch 4: loss" in text.getvalue()
