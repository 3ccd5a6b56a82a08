import json

import numpy as np
import pytest
import soundfile

import tome_audio.cli.fit as command
from tome_audio.cli.rates import parse_rate, parse_rates, rate_name
from tome_audio.merge import Schedule


@pytest.fixture
def clips(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "clips").mkdir()
    for i in range(24):  # no folder per class: nobody asks for labels
        soundfile.write(tmp_path / "clips" / f"{i}.wav", rng.uniform(-0.5, 0.5, 9000), 16000)
    return tmp_path / "clips"


@pytest.fixture
def fit(checkpoint, clips, run):
    def call(*words, **options):
        options = {"model": checkpoint, "data": clips, "target": "1.5", "clips": 20, "budget": 3, **options}
        return run("fit", *(word for key, value in options.items() for word in (f"--{key}", value)), *words)

    return call


def test_a_schedule_is_fitted_and_used(tmp_path, clips, checkpoint, fit, run):
    path = tmp_path / "deep" / "schedule.json"
    code, out, err = fit(out=path)
    assert code == 0 and str(path) in out.replace("\n", "") and err == ""
    assert [p.name for p in path.parent.iterdir()] == ["schedule.json"]
    facts = json.loads(path.read_text())
    fitted = facts["fitted"]
    assert (facts["depth"], facts["n_tokens"]) == (3, 34)
    assert fitted["model"] == "small.safetensors" and fitted["target"] == 1.5 and fitted["macs_cut"] >= 1.5
    assert (fitted["n_prefix"], fitted["n_clips"], fitted["metric"], fitted["matching"]) == (2, 20, "key", "bipartite")
    assert fitted["divergence"] > 0 and fitted["seed"] == 0 and fitted["versions"]["torch"]
    code, out, _ = run("inspect", "--model", checkpoint, "--r", path, "--time", "false")
    assert code == 0 and rate_name(Schedule.load(path)) in out
    code, out, _ = run("classify", clips / "0.wav", "--model", checkpoint, "--r", path)
    assert code == 0 and "0.wav" in out
    code, _, err = run("inspect", "--model", "ast-tiny224", "--r", path, "--time", "false")
    assert code == 2 and "made for a model of 3 blocks, but this one has 12" in err


def test_a_frontier_and_its_names(tmp_path, fit):
    code, out, _ = fit(target="2,1.5", out=tmp_path / "out")
    assert code == 0 and "1.5x" in out and "2x" in out
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"small-1.5x.json", "small-2x.json"}
    code, _, _ = fit(target="2,1.5", out=tmp_path / "named" / "at-{target}.json")
    assert {p.name for p in (tmp_path / "named").iterdir()} == {"at-1.5.json", "at-2.json"}
    for name, other in (("small-1.5x", "at-1.5"), ("small-2x", "at-2")):
        left, right = (tmp_path / "out" / f"{name}.json", tmp_path / "named" / f"{other}.json")
        assert left.read_text() == right.read_text()


def test_a_run_that_was_killed_goes_on(tmp_path, monkeypatch, fit):
    real = command.fit_frontier

    def killed(*args, **kwargs):
        real(*args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "fit_frontier", killed)
    code, _, _ = fit(out=tmp_path / "a.json")
    assert code == 130 and {p.name for p in tmp_path.glob("*a.json*")} == {".a.json.state"}

    def counted(*args, ledger, **kwargs):
        found = real(*args, ledger=ledger, **kwargs)
        assert not ledger._unsaved, "something was computed again"
        return found

    monkeypatch.setattr(command, "fit_frontier", counted)
    assert fit(out=tmp_path / "a.json")[0] == 0
    assert {p.name for p in tmp_path.glob("*a.json*")} == {"a.json"}


def test_a_broken_clip_is_named_and_left_out(tmp_path, clips, fit):
    (clips / "3.wav").write_bytes(b"RIFF")
    code, _, err = fit(out=tmp_path / "a.json", clips=24)
    assert code == 1 and str(clips / "3.wav") in err
    assert json.loads((tmp_path / "a.json").read_text())["fitted"]["n_clips"] == 23


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": "fast"}, "--target 'fast' is not understood"),
        ({"target": "1"}, "--target '1' is not understood"),
        ({"target": "99"}, "99 times fewer MACs is out of reach"),
        ({"target": "1.5,2"}, "one file for 2 targets"),
        ({"clips": 4}, "--clips must be at least 16"),
        ({"budget": 0}, "must be at least 1"),
        ({"split": "valid"}, "has 0 clips in split 'valid'"),
        ({"split": "x"}, "--split 'x' is unknown"),
        ({"data": "/nowhere"}, "/nowhere is not a folder"),
        ({"model": "ast-tiny224"}, "nothing to fit"),
    ],
)
def test_bad_options_leave_nothing_behind(tmp_path, fit, change, message):
    code, out, err = fit(**{"out": tmp_path / "out" / "a.json", **change})
    assert code == 2 and message in err and out == ""
    assert not list(tmp_path.glob("out/*"))


def test_rates_from_files(tmp_path, monkeypatch):
    schedule = Schedule((3, 1), (5,), depth=3, n_tokens=34)
    odd = tmp_path / "a,b [1].json"
    for path in (odd, tmp_path / "s.json"):
        schedule.save(path)
        assert parse_rate(str(path)) == schedule
    monkeypatch.chdir(tmp_path)
    assert parse_rates("0,s.json,3x")[:2] == [0, schedule]
    with pytest.raises(ValueError, match=r"none\.json cannot be read as a schedule"):
        parse_rate("none.json")
