"""Runs in processes of their own: two that share the work, and one that is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from small_run import NoisySounds, Recorder, make_model, make_trainer, same_tensors
from torch.nn import functional as F

from tome_audio.training.run_folder import read_weights

HERE = Path(__file__).parent


def environment(**changes):
    path = os.pathsep.join([str(HERE), str(HERE.parent.parent), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **changes}


def figures(folder: Path, launcher: list[str], batch_size: int):
    folder.mkdir()
    command = [sys.executable, *launcher, str(HERE / "process_run.py"), str(folder), str(batch_size)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "figures.json").read_text())


def scored_alone(path: Path) -> float:
    """The loss of saved weights on the validation clips."""
    clips, model = NoisySounds(31, seed=1), make_model()
    model.load_state_dict(read_weights(path))
    with torch.no_grad():
        return float(F.cross_entropy(model.eval()(clips.features), clips.labels))


@pytest.fixture(autouse=True)
def one_thread():
    """Sums differ in their last bits with the number of threads, and the processes started here have one each."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_two_processes_learn_what_one_learns_with_twice_the_batch(tmp_path):
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0", "--rdzv-backend=c10d"]
    two = figures(tmp_path / "two", [*launcher, "--rdzv-endpoint=localhost:0"], 3)
    one = figures(tmp_path / "one", [], 6)
    assert (one["processes"], two["processes"]) == (1, 2)
    assert len(one["losses"]) == 15 and two["losses"] == pytest.approx(one["losses"], abs=1e-4)
    assert len(one["merged losses"]) == 9 and two["merged losses"] == pytest.approx(one["merged losses"], abs=1e-4)
    assert two["metrics"] == one["metrics"]
    for found, wanted in zip(two["taught"], one["taught"], strict=True):
        assert found == pytest.approx(wanted, abs=1e-5)
    # What was scored is what was saved, though each process has seen other clips; saved by the main process alone.
    for run in ("plain", "ema"):
        scored = {name: scored_alone(tmp_path / "two" / run / f"{name}.safetensors") for name in ("last", "averaged")}
        assert two["normalised"][run] == pytest.approx(scored, abs=1e-6)
    # The signal came to one process in step 4 (from 0): both end the step after it at the latest, and agree.
    assert two["stopped after"] in (5, 6)


KILLED = """
import os, signal, sys
from small_run import Recorder, make_trainer
make_trainer(sys.argv[1], callbacks=[Recorder(8, lambda: os.kill(os.getpid(), signal.SIGKILL))], keep=1).run()
"""


def test_kill_9_loses_at_most_the_step_interval(tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path / "cut")]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)
    assert done.returncode == -signal.SIGKILL, done.stderr
    whole, model, rest = make_model(), make_model(), Recorder()
    make_trainer(tmp_path / "whole", whole).run()
    make_trainer(tmp_path / "cut", model, callbacks=[rest]).run(resume=True)
    assert rest.steps[0].step == 8 and same_tensors(whole.state_dict(), model.state_dict())


GROUP = """
import os, signal, sys
from small_run import Recorder, make_trainer
seen = Recorder(6, lambda: os.killpg(0, signal.SIGTERM))
make_trainer(sys.argv[1], callbacks=[seen], workers=2, save_every=0).run()
"""


def test_a_sigterm_to_the_whole_group_saves_and_ends_with_its_workers(tmp_path):
    command = [sys.executable, "-c", GROUP, str(tmp_path / "cut")]
    child = subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        _, error = child.communicate(timeout=60)  # returns once the last process that holds the pipe has ended
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    assert "SIGTERM stopped the run; it is saved after step 8" in error, error
    whole, model, rest = make_model(), make_model(), Recorder()
    make_trainer(tmp_path / "whole", whole).run()
    make_trainer(tmp_path / "cut", model, callbacks=[rest]).run(resume=True)
    assert rest.steps[0].step == 8 and same_tensors(whole.state_dict(), model.state_dict())


UNCLOSED = """
from small_run import NoisySounds
from tome_audio.training.batches import Share, Shuffled, training_batches
batches = training_batches(NoisySounds(), Shuffled(52, 3), Share(52, 8), seed=0, epoch=0, workers=1)
next(batches)
raise RuntimeError("left open")
"""


def test_workers_of_batches_that_nobody_closed_end_with_the_program():
    command = [sys.executable, "-c", UNCLOSED]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60)
    assert "left open" in done.stderr
