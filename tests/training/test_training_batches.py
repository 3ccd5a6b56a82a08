from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_run import NoisySounds

from tome_audio.training.batches import Share, Shuffled, evaluation_batches, training_batches


@given(st.integers(1, 200), st.integers(1, 20), st.integers(1, 3), st.integers(1, 4))
def test_every_step_is_shared_out_without_gaps_or_overlap(n_clips, batch_size, accumulate, n_processes):
    fewest = accumulate * n_processes * min(2, batch_size)
    if n_clips < fewest:
        with pytest.raises(ValueError, match=f"{n_clips} training clips are too few .* they need {fewest}"):
            Share(n_clips, batch_size, accumulate, n_processes)
        return
    shares = [Share(n_clips, batch_size, accumulate, n_processes, process) for process in range(n_processes)]
    taken = []
    for step in range(shares[0].n_steps):
        parts = [share.places(step, part) for part in range(accumulate) for share in shares]
        sizes = [len(part) for part in parts]
        assert sum(sizes) == shares[0].step_size(step)
        assert min(sizes) >= min(2, batch_size) and max(sizes) <= batch_size and max(sizes) - min(sizes) <= 1
        taken += [place for part in parts for place in part]
    assert taken == list(range(len(taken)))  # in order, each once
    assert n_clips - len(taken) < fewest


def test_two_processes_take_what_one_takes_with_twice_the_batch():
    one = Share(52, 8)
    two = [Share(52, 4, n_processes=2, process=process) for process in range(2)]
    assert one.n_steps == two[0].n_steps == 7
    for step in range(7):
        assert [*two[0].places(step, 0), *two[1].places(step, 0)] == list(one.places(step, 0))


def read(share=None, **changes):
    sounds = NoisySounds()
    settings = {"seed": 3, "epoch": 1, **changes}
    return list(training_batches(sounds, Shuffled(52, 3), Share(52, 8) if share is None else share, **settings))


def features(batches):
    return torch.cat([batch["features"] for batch in batches])


def test_what_a_clip_gets_depends_on_its_place_alone():
    whole = features(read())
    assert torch.equal(whole, features(read()))
    assert torch.equal(whole[24:], features(read(first_step=3)))
    assert torch.equal(whole, features(read(workers=1)))
    assert torch.equal(whole, features(read(Share(52, 5))))
    parts = [read(Share(52, 4, n_processes=2, process=process)) for process in range(2)]
    woven = [batch for pair in zip(*parts, strict=True) for batch in pair]
    assert torch.equal(whole, features(woven))
    for change in ({"epoch": 2}, {"seed": 4}):
        assert not torch.equal(whole, features(read(**change)))


def test_clips_before_the_first_step_are_not_read_and_the_global_state_is_left_alone():
    class Counted(NoisySounds):
        seen = 0

        def draw(self, index, generator):
            Counted.seen += 1
            return super().draw(index, generator)

    state = torch.get_rng_state()
    batches = training_batches(Counted(), Shuffled(52, 0), Share(52, 8), seed=0, epoch=0, first_step=6)
    assert len(list(batches)) == 1 and Counted.seen == 4
    assert torch.equal(state, torch.get_rng_state())


def test_an_epoch_takes_every_clip_once_in_an_order_of_its_own():
    order, found = Shuffled(52, 3), []
    for epoch in (0, 1, 0):
        order.set_epoch(epoch)
        found.append(list(order))
    assert sorted(found[0]) == list(range(52)) != found[0] == found[2] != found[1] and len(order) == 52
    assert list(Shuffled(52, 4)) != found[0]


def test_a_sampler_of_ones_own_may_take_clips_more_than_once():
    class Thirds:
        def __len__(self):
            return 6

        def set_epoch(self, epoch):
            self.epoch = epoch

        def __iter__(self):
            return iter([self.epoch, 5, 5, 5, 7, 7])

    batches = list(training_batches(NoisySounds(), Thirds(), Share(6, 3), seed=0, epoch=2))
    assert [batch["labels"].tolist() for batch in batches] == [[2, 2, 2], [2, 1, 1]]
    drawn = batches[0]["features"]
    assert not torch.equal(drawn[1], drawn[2])  # the same clip, with noise of its own


@pytest.mark.parametrize("n_processes", [1, 2, 3])
def test_evaluation_reads_every_clip_in_turn_and_all_processes_as_many(n_processes):
    sounds = NoisySounds(10)
    parts = [
        torch.cat([b["features"] for b in evaluation_batches(sounds, 3, process=p, n_processes=n_processes)])
        for p in range(n_processes)
    ]
    together = torch.stack(parts, 1).flatten(0, 1)
    assert torch.equal(together[:10], sounds.features)
    assert all(torch.equal(extra, sounds.features[-1]) for extra in together[10:])
