"""Originals and songs made of melodies, and an embedder that knows them, in the place of a trained one."""

import functools

import pytest
from melodies import MelodyEmbedder, melody, save

from tome_audio.cli import main
from tome_audio.cli.rates import rate_name
from tome_audio.cli.sampleid import index as index_command
from tome_audio.cli.sampleid import indexed


@pytest.fixture
def one_parser(monkeypatch):
    """Build the parser of all commands once: it takes longer than most of what is called here."""
    monkeypatch.setattr(main, "_parser", lambda commands: _parser())


@functools.cache
def _parser(make=main._parser):
    return make(main._commands())


@pytest.fixture
def embedders(monkeypatch, one_parser):
    """Load fakes by any name; return those that were loaded."""
    loaded = []

    def load(name, r=0, *, hop=None, transpositions=(0.0,), tempi=(1.0,)):
        made = MelodyEmbedder(name, [(int(s), t) for t in tempi for s in transpositions])
        made.facts["r"] = rate_name(r)
        made.hop = hop or made.hop
        loaded.append(made)
        return made

    monkeypatch.setattr(indexed, "load_song_embedder", load)
    monkeypatch.setattr(index_command, "load_song_embedder", load)
    return loaded


@pytest.fixture
def originals(tmp_path):
    for n in range(5):
        save(tmp_path / "originals" / ("a", "b")[n % 2] / f"{n}.flac", melody(n, 12.0))
    return tmp_path / "originals"


@pytest.fixture
def indexed_originals(run, embedders, originals, tmp_path):
    code, _, err = run("sampleid", "index", originals, "--model", "melodies", "--out", tmp_path / "index")
    assert (code, err) == (0, "")
    return tmp_path / "index"
