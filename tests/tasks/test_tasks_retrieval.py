"""Contrastive learning of mixes: against a loop, over several processes, and that it learns."""

import copy

import pytest
import torch
from torch import multiprocessing, nn
from torch.nn import functional as F

from tome_audio.audio.spectrogram_flips import mixed
from tome_audio.audio.vqt import peak_normalised
from tome_audio.models import SongEncoder
from tome_audio.patch import apply_patch, set_r
from tome_audio.tasks import MergedTask, MixRetrieval

SIZES = {"variant": None, "width": 32, "depth": 2, "n_heads": 2, "n_mels": 32, "n_frames": 24, "patch": [8, 4],
         "fstride": 8, "tstride": 4, "pool": "avg"}  # fmt: skip


class Flat(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(24 * 32, 6)

    def forward(self, windows):
        return F.normalize(self.layer(windows.flatten(1)), dim=-1)


def batch(n=6, seed=0):
    g = torch.Generator().manual_seed(seed)
    power = torch.rand(3, n, 24, 32, generator=g)
    return {"reference": peak_normalised(power[0]), "sample": power[1], "backing": power[2],
            "level": torch.linspace(-3, 3, n)}  # fmt: skip


def loss(task, model, given):
    return task.loss(model, given, 0, torch.Generator())


def test_the_loss_is_that_of_a_loop():
    torch.manual_seed(0)
    model, given, n = Flat(), batch(), 6
    found, logs = loss(MixRetrieval(0.1), model, given)
    mixes = [mixed(given["sample"][i], given["backing"][i - 1], given["level"][i]) for i in range(n)]
    m, r = model(peak_normalised(torch.stack(mixes))).double(), model(given["reference"]).double()
    there = back = 0.0
    m, r = m.detach(), r.detach()
    for i in range(n):
        for shift in (0, 1):
            there -= float((m[i] @ r.T / 0.1).log_softmax(0)[i - shift]) / (2 * n)
            back -= float((r[i] @ m.T / 0.1).log_softmax(0)[(i + shift) % n]) / (2 * n)
    assert float(found) == pytest.approx((there + back) / 2, rel=1e-5)
    assert float(logs["mix_to_song"]) == pytest.approx(there, rel=1e-5)


def test_figures_count_ranks_and_ties_against_the_model():
    task, axes = MixRetrieval(), torch.eye(4)
    assert task.metrics({"mix": axes, "reference": axes}) == {"hit_rate": 1.0, "mrr": 1.0}
    swapped = axes[[1, 0, 2, 3]]
    figures = task.metrics({"mix": swapped + 0.1 * axes, "reference": axes})
    assert figures == pytest.approx({"hit_rate": 0.5, "mrr": 0.75}) and task.score(figures) == figures["mrr"]
    same = task.metrics({"mix": torch.ones(4, 2), "reference": torch.ones(4, 2)})
    assert same == {"hit_rate": 0.0, "mrr": 0.25}


def test_it_learns_and_merges():
    torch.manual_seed(0)
    model, task = SongEncoder(SIZES, 16), MixRetrieval()
    apply_patch(model)
    task = MergedTask(task, 2, evaluate=2)
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    losses = []
    tones = torch.eye(32)[2::5][:6, None].expand(6, 24, 32) + 1e-3  # song i is a tone of its own
    given = {**batch(), "sample": tones, "backing": tones, "reference": peak_normalised(tones)}
    for _ in range(25):
        found, _ = loss(task, model, given)
        optimizer.zero_grad()
        found.backward()
        optimizer.step()
        losses.append(float(found.detach()))
    assert losses[-1] < 0.7 * losses[0] and losses[-1] > 0.69  # log 2: two songs are as right as each other
    assert task.outputs(model.eval(), {"mix": batch()["reference"], "reference": batch()["reference"]})[
        "mix"
    ].shape == (6, 16)


def test_r_zero_is_the_unpatched_encoder():
    model = SongEncoder(SIZES, 16).eval()
    windows = batch()["reference"]
    expected = model(windows)
    apply_patch(model)
    set_r(model, 0)
    assert torch.equal(model(windows), expected)
    torch.testing.assert_close(expected.norm(dim=1), torch.ones(6))
    set_r(model, 4)
    assert not torch.equal(model(windows), expected)


def _one_of_two(rank, address, model, out):
    torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    own = slice(0, 4) if rank == 0 else slice(4, 7)  # shares of different sizes
    found, _ = loss(MixRetrieval(), model, {name: value[own] for name, value in batch(7).items()})
    found.backward()
    torch.save({"loss": found.detach(), "grad": model.layer.weight.grad}, f"{out}/{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def test_two_processes_share_their_negatives(tmp_path):
    torch.manual_seed(0)
    model = Flat()
    address = f"file://{tmp_path}/meeting"
    multiprocessing.spawn(_one_of_two, (address, copy.deepcopy(model), str(tmp_path)), nprocs=2)
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    # The same by hand: each share rolls its own backings, and everything is everyone's negative.
    given = batch(7)
    n, shares = 7, (slice(0, 4), slice(4, 7))
    backing = torch.cat([given["backing"][own].roll(1, 0) for own in shares])
    m = model(peak_normalised(mixed(given["sample"], backing, given["level"])))
    r = model(given["reference"])
    losses = []
    for own in shares:
        size, first, total = own.stop - own.start, own.start, 0.0
        for i in range(size):
            for shift in (0, 1):
                total -= (m[first + i] @ r.T / 0.07).log_softmax(0)[first + (i - shift) % size] / (4 * size)
                total -= (r[first + i] @ m.T / 0.07).log_softmax(0)[first + (i + shift) % size] / (4 * size)
        losses.append(total)
    for part, expected in zip(parts, losses, strict=True):
        assert float(part["loss"]) == pytest.approx(float(expected.detach()), rel=1e-5)
    sum(losses).backward()
    torch.testing.assert_close(parts[0]["grad"] + parts[1]["grad"], model.layer.weight.grad, rtol=1e-4, atol=1e-6)
    assert n == len(m)
