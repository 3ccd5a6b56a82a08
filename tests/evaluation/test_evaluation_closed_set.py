"""What the windows of a song say together."""

import pytest
import torch

from tome_audio.evaluation.closed_set import SeenAndUnseen, song_logits, song_scores

pytest.importorskip("torchmetrics")
# Three songs of two, one and three windows; the last window of the first song is wrong, but less sure.
LOGITS = torch.tensor([[4.0, 0.0], [0.0, 1.0], [0.0, 2.0], [1.0, 0.0], [0.0, 3.0], [1.0, 0.0]])
SONG, LABELS = torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([0, 0, 1, 0, 0, 0])


def test_a_song_says_the_mean_of_its_windows():
    wanted = [[2.0, 0.5], [0.0, 2.0], [2 / 3, 1.0]]
    torch.testing.assert_close(song_logits(LOGITS, SONG), torch.tensor(wanted))
    order = torch.tensor([4, 0, 2, 5, 1, 3])
    torch.testing.assert_close(song_logits(LOGITS[order], SONG[order]), torch.tensor(wanted))


def test_songs_are_scored_and_not_windows():
    scores, interval = song_scores(LOGITS, LABELS, SONG)
    assert scores.accuracy == pytest.approx(2 / 3) and scores.n_clips == 3
    assert interval.value == pytest.approx(2 / 3) and interval.low < 2 / 3 < interval.high


def test_seen_and_unseen_songs_have_figures_of_their_own():
    assert SeenAndUnseen(SONG, [False, True, True])(LOGITS, LABELS) == {"accuracy": 1.0, "unseen_accuracy": 0.5}
    assert SeenAndUnseen(SONG, [False] * 3)(LOGITS, LABELS) == {"accuracy": pytest.approx(2 / 3)}
    assert SeenAndUnseen(SONG, [False, True, True]).facts() == {"windows": 6, "songs": 3, "unseen": 2}


@pytest.mark.parametrize("song", [torch.tensor([0, 0, 1, 2, 2]), torch.tensor([0, 0, 2, 2, 2, 2])])
def test_every_window_has_a_song_and_every_song_a_window(song):
    with pytest.raises(ValueError, match="every song a window"):
        song_logits(LOGITS, song)
