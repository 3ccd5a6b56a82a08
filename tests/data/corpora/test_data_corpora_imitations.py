"""Imitations are laid out so that each corpus's own reader takes them."""

from pathlib import Path

import pytest

from tome_audio.data.clips import DataError
from tome_audio.data.corpora.audioset import prepare_audioset
from tome_audio.data.corpora.esc50 import prepare_esc50
from tome_audio.data.corpora.fsdd import prepare_fsdd
from tome_audio.data.corpora.imitations import imitate
from tome_audio.data.corpora.speech_commands import prepare_speech_commands
from tome_audio.data.manifest_check import check_manifest

PREPARE = {
    "speechcommands": (lambda root: prepare_speech_commands(root, 12), 12),
    "esc50": (lambda root: prepare_esc50(root, 2), 4),
    "fsdd": (lambda root: prepare_fsdd(root, valid_part=0.1), 10),
    "audioset": (prepare_audioset, 527),
}


@pytest.mark.parametrize("corpus", PREPARE)
def test_an_imitation_is_read_as_the_corpus_is(tmp_path, corpus):
    prepare, n_classes = PREPARE[corpus]
    manifest = prepare(imitate(corpus, tmp_path))
    assert len(manifest.labels) == n_classes and {"train", "test"} <= {entry.split for entry in manifest.entries}
    assert check_manifest(manifest).problems == ()
    if corpus != "audioset":  # whose imitation has four of its classes
        assert {entry.labels[0] for entry in manifest.entries if entry.split == "train"} == set(manifest.labels)


def test_the_same_seed_gives_the_same_sounds(tmp_path):
    for name, seed in (("first", 0), ("second", 0), ("third", 1)):
        imitate("fsdd", tmp_path / name, seed)
    clip = Path("fsdd-imitation", "recordings", "3_ann_5.wav")
    first, second, third = ((tmp_path / name / clip).read_bytes() for name in ("first", "second", "third"))
    assert first == second != third


def test_an_unknown_corpus_is_named(tmp_path):
    with pytest.raises(DataError, match="choose one of speechcommands"):
        imitate("musdb", tmp_path)
