"""The frontier script: which rows it makes, how it compares labels, and a table scored from start to end."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from tome_audio.merge import SHAPES, Schedule
from tome_audio.models import AST, save_checkpoint

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
N_TOKENS = 26  # of the small AST below


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import frontier
    import frontier_rows
    import frontier_subjects
    import train_small

    return {"table": frontier, "rows": frontier_rows, "subjects": frontier_subjects, "training": train_small}


def small_ast(labels=("high", "low")):
    torch.manual_seed(0)
    sizes = {"width": 32, "depth": 4, "n_heads": 2, "n_mels": 32, "n_frames": 128, "fstride": 10, "tstride": 10}
    return AST(None, n_classes=len(labels), labels=labels, **sizes).eval()


def write_tones(folder):
    """Write twelve tones of 0.6 s, half of them for training, and the split.csv that says so."""
    folder.mkdir()
    rows = ["file,label,split,speaker"]
    for i in range(12):
        label, pitch = ("low", 300) if i % 2 else ("high", 3000)
        wave = 0.3 * np.sin(2 * np.pi * (pitch + 20 * i) * np.arange(9600) / 16000)
        soundfile.write(folder / f"{i}.wav", wave + 0.01 * np.random.default_rng(i).standard_normal(9600), 16000)
        rows.append(f"{i}.wav,{label},{'train' if i < 6 else 'test'},")
    (folder / "split.csv").write_text("\n".join(rows) + "\n")


def save_schedule(folder, name, blocks, seed, target):
    folder.mkdir(exist_ok=True)
    facts = {"seed": seed, "target": target, "model": "small.safetensors", "budget": 3}
    Schedule(blocks, depth=4, n_tokens=N_TOKENS).save(folder / name, facts)


def test_rows_without_data_reach_their_targets(scripts):
    rows, model = scripts["rows"], small_ast()
    found = list(rows.data_free_rows(model, N_TOKENS, (3, 1.5, 2, 50)))
    assert {row.family for row in found} == {*SHAPES, *rows.RIVALS}
    assert [row.target for row in found if row.family == "constant"][:2] == [1.5, 2]
    assert [row.r for row in found if row.family == "front-loaded"][:2] == ["1.5x:front-loaded", "2x:front-loaded"]
    from tome_audio.cli.rates import parse_rate

    for row in found:
        assert rows.macs_cut(model, row.family, parse_rate(row.r), N_TOKENS) >= row.target
    assert not [row for row in found if row.target == 50], "nothing of this size is fifty times cheaper"
    assert {row.seed for row in found if row.family == "random merging"} == {0, 1, 2}
    assert {row.seed for row in found if row.family in ("pruning", "constant")} == {None}


@pytest.mark.parametrize("family", ["random merging", "pruning", "random dropping"])
def test_lists_of_rivals_are_the_mildest_that_reach_the_target(scripts, family):
    rows, model = scripts["rows"], small_ast()
    taken = rows.shrinking(model, family, N_TOKENS, 2.0)
    assert len(taken) == 4 and taken == sorted(taken, reverse=True) and taken[0] <= 12
    assert rows.macs_cut(model, family, taken, N_TOKENS) >= 2.0
    milder = [max(0, r - 1) for r in taken]
    assert rows.macs_cut(model, family, milder, N_TOKENS) < 2.0
    assert rows.shrinking(model, family, N_TOKENS, 40.0) is None


def test_each_family_is_built_as_its_name_says(scripts):
    rows, model = scripts["rows"], small_ast()
    x = torch.randn(4, 128, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        outs = {
            (family, seed): rows.build(model, family, [6, 3], seed)(x)
            for family, seed in [("fitted", 0), ("random merging", 0), ("random merging", 1), ("pruning", None),
                                 ("random dropping", 0), ("random dropping", 1)]
        }  # fmt: skip
    for i, one in enumerate(outs):
        assert torch.equal(outs[one], rows.build(model, one[0], [6, 3], one[1])(x).detach())
        assert not any(torch.allclose(outs[one], outs[other], atol=1e-6) for other in list(outs)[:i])


def test_fitted_rows_are_read_from_folders(scripts, tmp_path):
    read = scripts["rows"].fitted_rows
    save_schedule(tmp_path / "1", "a.json", (3, 2), 1, 2.0)
    save_schedule(tmp_path / "0", "b.json", (9,), 0, 4.0)
    save_schedule(tmp_path / "0", "c.json", (4, 1), 0, 2.0)
    found, facts = read([tmp_path / "1", tmp_path / "0"])
    assert found == [("fitted", 0, 2.0, "[|4,1]"), ("fitted", 0, 4.0, "[|9]"), ("fitted", 1, 2.0, "[|3,2]")]
    assert facts == {"model": "small.safetensors", "budget": 3}
    save_schedule(tmp_path / "0", "d.json", (5,), 0, 4.0)
    with pytest.raises(ValueError, match="second schedule for seed 0, 4x"):
        read([tmp_path / "0"])
    with pytest.raises(ValueError, match="no schedules"):
        read([tmp_path])
    (tmp_path / "bare").mkdir()
    Schedule((3,)).save(tmp_path / "bare" / "x.json")
    with pytest.raises(ValueError, match="does not say for which seed and target"):
        read([tmp_path / "bare"])
    Schedule((3,)).save(tmp_path / "bare" / "x.json", {"seed": 0, "target": 2.0, "metric": "hidden"})
    with pytest.raises(ValueError, match="metric hidden"):
        read([tmp_path / "bare"])


def test_labels_are_compared_clip_by_clip(scripts):
    target = torch.tensor([0] * 100)
    base = torch.tensor([0] * 90 + [1] * 10)  # 90 right
    own = torch.tensor([2] * 6 + [0] * 84 + [0] * 2 + [1] * 8)  # six of them lost, two won
    found = scripts["table"].compare(base, own, target)
    assert found["points_lost"] == pytest.approx(4.0) and found["agreement"] == 92.0 and found["n_clips"] == 100
    # (7 - 3) / 102 -+ 1.96 * sqrt((10 / 102 - (4 / 102) ** 2) / 102)
    assert (found["lost_low"], found["lost_high"]) == pytest.approx((-2.108, 9.951), abs=2e-3)
    differences = np.array([1] * 6 + [-1] * 2 + [0] * 92)
    assert found["standard_error"] == pytest.approx(100 * differences.std(ddof=1) / 10, abs=1e-3)
    same = scripts["table"].compare(base, base, target)
    assert same["points_lost"] == 0 and same["agreement"] == 100
    assert same["lost_low"] < 0 < same["lost_high"], "no clip that differs does not mean that none would"


@pytest.fixture
def subject(scripts, tmp_path, monkeypatch):
    """Let the scripts know a small model of random weights and twelve tones."""
    write_tones(tmp_path / "tones")
    features = {"mean": -5.0, "std": 4.0, "n_frames": 128}
    save_checkpoint(tmp_path / "small.safetensors", small_ast(), features=features)
    made = scripts["subjects"].Subject(
        tmp_path / "small.safetensors", tmp_path / "tones", ("test",), "{} tones", (1.5, 2)
    )
    monkeypatch.setitem(scripts["subjects"].SUBJECTS, "small", made)
    return made


def test_a_table_is_scored_drawn_and_scored_again(scripts, subject, tmp_path, capsys):
    path = tmp_path / "frontier-small-torch2.11-cpu.csv"
    save_schedule(tmp_path / "fit", "2x.json", (9, 2), 0, 2.0)
    scripts["table"].main([str(path), "--schedules", str(tmp_path / "fit")])
    table = pd.read_csv(path)
    assert set(table["n_clips"]) == {6} and table["agreement"].between(0, 100).all()
    assert (table["macs_cut"] >= table["target"] - 1e-3).loc[table["family"] != "fitted"].all()
    assert (table["divergence"] > 0).all()
    fitted = table[table["family"] == "fitted"]
    assert fitted["r"].tolist() == ["[|9,2]"] and fitted["seed"].tolist() == [0]
    facts = json.loads(path.with_suffix(".json").read_text())
    assert facts["n_tokens"] == N_TOKENS and facts["fitting"]["budget"] == 3 and facts["environment"]["torch"]
    assert path.with_suffix(".png").stat().st_size > 1000 and path.with_suffix(".svg").exists()
    assert "| MACs cut | front-loaded | rounds | decreasing | constant |" in capsys.readouterr().out
    before = path.read_text()
    scripts["table"].main([str(path)])  # the fitted rows are now those of the table
    assert path.read_text() == before
    assert json.loads(path.with_suffix(".json").read_text())["fitting"] == facts["fitting"]


def test_a_table_without_a_model_is_refused(scripts, tmp_path, monkeypatch):
    read = scripts["subjects"].subject_of
    with pytest.raises(ValueError, match=r"names no model: write frontier-NAME-torch2\.11-cpu\.csv, NAME one of kwt1"):
        read(Path("accuracy-kwt1-torch2.11-cpu.csv"))
    gone = scripts["subjects"].Subject(tmp_path / "gone.safetensors", tmp_path, ("test",), "")
    monkeypatch.setitem(scripts["subjects"].SUBJECTS, "ast16-fsdd", gone)
    with pytest.raises(ValueError, match=r"run python benchmarks/train_small.py ast16-fsdd"):
        read(Path("frontier-ast16-fsdd-torch2.11-cpu.csv"))


def test_a_small_model_is_trained_and_its_facts_kept(scripts, tmp_path):
    from tome_audio.cli.loading import load_model
    from tome_audio.data.clips import find_clips

    training = scripts["training"]
    write_tones(tmp_path / "tones")
    clips = find_clips(tmp_path / "tones")
    training.write_split(clips, tmp_path / "list")
    assert [(c.path, c.label, c.split) for c in find_clips(tmp_path / "list")] == [
        (c.path.resolve(), c.label, c.split) for c in clips
    ]
    sizes = {"width": 16, "depth": 2, "n_heads": 2, "n_mels": 32, "n_frames": 64, "patch": (32, 4), "fstride": 32}
    recipe = training.Recipe("tones", {**sizes, "tstride": 4}, epochs=12, lr=3e-3, batch_size=4)
    epochs = []
    facts = training.train("tones", recipe, clips, tmp_path / "model.safetensors", epochs.append)
    assert facts["clips_train"] == facts["clips_test"] == 6 and facts["n_tokens"] == 18 and facts["grid"] == [1, 16]
    assert epochs[-1].loss < epochs[0].loss and facts["last_loss"] == epochs[-1].loss
    assert facts["accuracy_test"] == 100, "two pitches an octave and more apart"
    assert json.dumps(facts) and not (tmp_path / "model.state").exists()
    assert load_model(str(tmp_path / "model.safetensors")).need_labels() == ("high", "low")


def test_recipes_are_the_models_they_are_called(scripts):
    grids = {name: AST(None, n_classes=2, **recipe.ast).grid for name, recipe in scripts["training"].RECIPES.items()}
    assert grids["ast16-fsdd"][0] > 1 and grids["ast16-esc50"][0] > 1 and grids["ast-time-fsdd"][0] == 1
    for name, (rows, columns) in grids.items():
        assert 80 <= rows * columns <= 200, name


def test_test_clips_are_of_takes_and_folds_kept_apart(scripts, tmp_path):
    training = scripts["training"]
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta" / "esc50.csv").write_text("filename,fold,category\na.wav,1,dog\nb.wav,5,dog\n")
    found = training.split_esc50(tmp_path)
    assert [(clip.path.name, clip.split) for clip in found] == [("a.flac", "train"), ("b.flac", "test")]
    for digit, take in ((0, 9), (0, 10), (1, 9), (1, 49)):
        soundfile.write(tmp_path / f"{digit}_theo_{take}.wav", np.zeros(100), 8000)
    assert [(clip.path.stem, clip.split) for clip in training.split_fsdd(tmp_path)] == [
        ("0_theo_10", "train"), ("0_theo_9", "test"), ("1_theo_49", "train"), ("1_theo_9", "test")
    ]  # fmt: skip
