"""Runs that are resumed with more epochs than they were begun with."""

import pytest
from small_run import make_trainer, same_tensors

from tome_audio.training.run_folder import read_weights
from tome_audio.training.schedules import LearningRate


@pytest.mark.parametrize("curve", ["constant", "multistep"])
def test_a_run_whose_learning_rate_knows_no_end_may_be_made_longer(tmp_path, curve):
    settings = {"learning_rate": LearningRate(curve=curve, start=1, every=1), "average": None}
    whole = make_trainer(tmp_path / "whole", epochs=4, **settings).run()
    make_trainer(tmp_path / "longer", epochs=2, **settings).run()
    longer = make_trainer(tmp_path / "longer", epochs=4, **settings).run(resume=True)
    assert same_tensors(read_weights(longer.last_weights), read_weights(whole.last_weights))
    assert [record.loss for record in longer.records] == [record.loss for record in whole.records]
    with pytest.raises(ValueError, match="gone through 4 epochs and 0 steps, beyond the 3 that are asked for"):
        make_trainer(tmp_path / "longer", epochs=3, **settings).run(resume=True)


def test_a_cosine_ends_where_it_was_to_end(tmp_path):
    settings = {"learning_rate": LearningRate(curve="cosine"), "average": None}
    make_trainer(tmp_path, epochs=2, **settings).run()
    with pytest.raises(ValueError, match=r"other settings \(epochs was 2, now 3\)"):
        make_trainer(tmp_path, epochs=3, **settings).run(resume=True)
