"""Few-shot evaluation from the command line: classifiers, r, ties, the cache, views, and every kind of model."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from generated_clips import TEST, write_manifest
from torch.nn import functional as F

from tome_audio.audio.front_end import FrontEnd
from tome_audio.data.episodes import ClassMembers, EpisodeShape, drawn_episodes
from tome_audio.data.manifest_files import read_manifest_csv
from tome_audio.data.segmented_clips import SegmentedClips
from tome_audio.models import AST, FewShotNetwork, SpectrogramCNN, TwoLayerCNN, load_checkpoint, save_checkpoint
from tome_audio.models.few_shot_encoders import ConvEncoder

SHAPE = EpisodeShape(2, 2, 2)


def results(folder):
    return json.loads((folder / "evaluate.json").read_text())


def embeddings(clips, network, metadata, labels=TEST):
    """The embedding of every one-segment clip of these classes, in float64, with their labels."""
    found = read_manifest_csv(clips / "manifest.csv", label_csv=clips / "labels.csv")
    numbers = [i for i, entry in enumerate(found.entries) if entry.labels[0] in labels]
    segments = SegmentedClips(found, FrontEnd(**metadata.extra["front_end"]))
    with torch.no_grad():
        values = torch.cat([network.encoder(segments.features(i)[:1]) for i in numbers]).double()
    return values, [found.entries[i].labels[0] for i in numbers]


def accuracy_one_by_one(values, labels, similarity, n_tasks=40, seed=0):
    """What `similarity` of a query (D,) to the clips of a class (k, D) gets right, task by task."""
    right, asked = 0, 0
    for drawn in drawn_episodes(ClassMembers(labels), SHAPE, n_tasks, seed):
        for support, query in zip(drawn.support, drawn.query, strict=True):
            for own, row in enumerate(query.tolist()):
                for i in row:
                    scores = [similarity(values[i], values[clips]) for clips in support]
                    right, asked = right + (int(np.argmax(scores)) == own), asked + 1
    return 100 * right / asked


SIMILARITIES = {
    "squared": lambda q, s: -float((q - s.mean(0)).square().sum()),
    "euclidean": lambda q, s: -float((q - s.mean(0)).norm()),
    "cosine": lambda q, s: float(F.cosine_similarity(q, s.mean(0), dim=0)),
}


def test_every_classifier_answers_as_one_by_one(evaluate, untrained, clips, tmp_path):
    model = untrained("ast", {"relation": True}, n_frames=120)  # its front end makes one segment of every clip
    network, metadata = load_checkpoint(model)
    values, labels = embeddings(clips, network, metadata)
    learnt = embeddings(clips, network, metadata, ("7", "300", "cow, hen"))[0].mean(0)
    centred = F.normalize(values - learnt, dim=-1)
    relation = network.head.relation.double()

    def related(q, s):
        return float(relation(q[None], s.mean(0)[None]))

    wanted = {name: accuracy_one_by_one(values, labels, own) for name, own in SIMILARITIES.items()}
    wanted["simpleshot"] = accuracy_one_by_one(centred, labels, SIMILARITIES["squared"])
    with torch.no_grad():
        wanted["relation"] = accuracy_one_by_one(values, labels, related)
    wanted["own"] = wanted["relation"]
    found = {}
    for name in wanted:
        code, _, err = evaluate(model, "--classifier", name, out=tmp_path / name)
        assert code == 0, err
        found[name] = results(tmp_path / name)["rows"][0]["accuracy"]
    assert found == pytest.approx(wanted)
    assert len(set(found.values())) > 2 and results(tmp_path / "own")["options"]["classifier"] == "relation"


def test_what_is_written_fits_together(evaluate, untrained, tmp_path):
    code, text, _ = evaluate(untrained(), "--n_tasks", 300)
    assert code == 0 and "300 tasks, 2-way 2-shot 2-query, 3 classes with 18 clips" in " ".join(text.split())
    found, out = results(tmp_path / "scores"), tmp_path / "scores"
    (row,) = found["rows"]
    assert row["r"] == "unpatched" and row["n_tasks"] == 300 and row["n_clips"] == 18
    assert 0 < row["interval"] < 100 * 1.96 * 0.5 / 300**0.5
    assert found["environment"]["commit"] and found["options"]["classes"] == list(TEST)
    confusion = pd.read_csv(out / "confusion.csv", dtype={"class": str, "taken_for": str})
    assert set(confusion["class"]) == set(TEST) and confusion["count"].sum() == 300 * 4
    right = confusion[confusion["class"] == confusion["taken_for"]]["count"].sum()
    assert 100 * right / 1200 == pytest.approx(row["accuracy"])
    assert pd.read_csv(out / "evaluate.csv")["accuracy"][0] == pytest.approx(row["accuracy"], abs=1e-4)


def test_all_r_answer_the_same_tasks_and_r_0_answers_as_the_unpatched_model(evaluate, untrained, tmp_path):
    model = untrained("ast")
    assert evaluate(model, out=tmp_path / "plain")[0] == 0
    code, text, err = evaluate(model, "--r", "0,4,2x,[6,3]", "--metric", "hidden", out=tmp_path / "merged")
    assert code == 0 and "speed-up of an episode" in " ".join(text.split()), err
    (plain,), merged = results(tmp_path / "plain")["rows"], results(tmp_path / "merged")["rows"]
    assert [row["r"] for row in merged] == ["0", "4", "2x", "[6,3]"]
    assert merged[0]["accuracy"] == plain["accuracy"] and merged[0]["interval"] == plain["interval"]
    assert merged[0]["macs_cut"] == 1.0 and merged[2]["macs_cut"] == pytest.approx(2, rel=0.15)
    assert all(row["speedup_low"] <= row["speedup"] <= row["speedup_high"] for row in merged)
    asked = pd.read_csv(tmp_path / "merged" / "confusion.csv").groupby(["r", "class"])["count"].sum().unstack()
    assert (asked.nunique() == 1).all()  # each class is asked as often whatever r is
    assert evaluate(model, "--seed", 1, out=tmp_path / "other")[0] == 0
    other = pd.read_csv(tmp_path / "other" / "confusion.csv").groupby("class")["count"].sum()
    assert list(other) != list(asked.iloc[0])


@pytest.fixture
def n_embedded(monkeypatch):
    """Numbers of segments that went through the small CNN, call by call."""
    found, forward = [], ConvEncoder.forward
    monkeypatch.setattr(ConvEncoder, "forward", lambda self, x: (found.append(len(x)), forward(self, x))[1])
    return found


def test_embeddings_that_are_kept_are_not_computed_again(evaluate, untrained, n_embedded, tmp_path):
    model, cache = untrained(), ("--cache", tmp_path / "cache")
    assert evaluate(model, *cache, "--batch_size", 7)[0] == 0
    once = 3 * (4 + 2 * 3)  # segments
    assert sum(n_embedded) == once and max(n_embedded) == 7
    first = results(tmp_path / "scores")["rows"]
    assert evaluate(model, *cache, out=tmp_path / "again")[0] == 0
    assert sum(n_embedded) == once and results(tmp_path / "again")["rows"] == first
    assert evaluate(model, *cache, "--classifier", "simpleshot", "--seed", 5)[0] == 0
    assert sum(n_embedded) == 2 * once  # those to train on, for their mean
    other = untrained("cnn", {"relation": True})  # the same encoder
    assert evaluate(other, *cache)[0] == 0 and sum(n_embedded) == 2 * once
    code, _, err = evaluate(model, *cache, "--split", "valid")
    assert code == 0 and sum(n_embedded) == 2 * once + 2 * (4 + 2 * 3), err


def test_the_three_rules_for_ties_are_taken(evaluate, untrained, tmp_path, monkeypatch):
    from tome_audio.evaluation import few_shot

    asked, vote = [], few_shot.majority_vote

    def recorded(labels, scores, clip, n_clips, ties):
        asked.append((ties, int(torch.bincount(clip).max())))
        return vote(labels, scores, clip, n_clips, ties)

    monkeypatch.setattr(few_shot, "majority_vote", recorded)
    model = untrained()
    for rule in ("first", "min_label", "max_posterior"):
        assert evaluate(model, "--ties", rule)[0] == 0 and results(tmp_path / "scores")["options"]["ties"] == rule
    assert asked == [("first", 3), ("min_label", 3), ("max_posterior", 3)]
    code, _, err = evaluate(model, "--ties", "last")
    assert code == 2 and "ties" in err


def spectrogram_views(**given):
    return {"views": {"kind": "spec", "mask_param": 12, "warp": 4, "num_mask": 3, **given}}


def test_clips_to_learn_from_have_the_views_of_training(evaluate, untrained, tmp_path, n_embedded):
    cache = ("--cache", tmp_path / "cache")
    plain, enriched = untrained(), untrained(**spectrogram_views())
    assert evaluate(plain, *cache, out=tmp_path / "plain")[0] == 0
    once = sum(n_embedded)
    assert evaluate(enriched, *cache, out=tmp_path / "views")[0] == 0
    assert sum(n_embedded) == once + 4 * once  # each segment with its three views
    assert evaluate(enriched, *cache, "--seed", 3)[0] == 0
    assert sum(n_embedded) == once + 8 * once  # another seed draws other masks
    accuracy = [results(tmp_path / name)["rows"][0]["accuracy"] for name in ("plain", "views")]
    assert accuracy[0] != accuracy[1]
    without = untrained(**spectrogram_views(test_support=False))
    assert evaluate(without, *cache, out=tmp_path / "plain")[0] == 0
    assert results(tmp_path / "plain")["rows"][0]["accuracy"] == accuracy[0]


def test_augmented_waveforms_go_by_the_spectrum_that_training_measured(train, evaluate, tmp_path, monkeypatch):
    pytest.importorskip("audiomentations")
    from tome_audio.audio.waveform_augment import WaveformViews

    seen, make = [], WaveformViews.__call__

    def recorded(self, waveform, generator):
        seen.append((self.augmentation.facts, float(waveform.square().sum())))
        return make(self, waveform, generator)

    monkeypatch.setattr(WaveformViews, "__call__", recorded)
    words = ("--views.kind", "waveform", "--views.aug_num", "1", "--episodes.per_epoch", "2", "--episodes.valid", "2")
    assert train(*words, "--trainer.epochs", "1")[0] == 0
    learnt = {facts for facts, _ in seen}
    seen.clear()
    code, _, err = evaluate(tmp_path / "out" / "model.safetensors", "--classifier", "simpleshot", "--n_tasks", 2)
    assert code == 0, err
    assert {facts for facts, _ in seen} == learnt and len(learnt) == 1
    n_segments = 4 + 2 * 3  # of a class
    assert len(seen) == len(set(seen)) == 6 * n_segments  # of clips to train on, for their mean, and to test on


@pytest.mark.parametrize(("support", "query"), [(True, False), (False, True), (False, False)])
def test_fused_clips_are_asked_as_in_validation(evaluate, untrained, clips, tmp_path, support, query):
    """Accuracy against the head called by hand: what has no views stands for all of them."""
    extra = spectrogram_views(test_support=support, test_query=query, warp=20)
    model = untrained("ast", {"fusion": True, "n_views": 4}, n_frames=120, **extra)
    network, metadata = load_checkpoint(model)
    found = read_manifest_csv(clips / "manifest.csv", label_csv=clips / "labels.csv")
    chosen = [i for i, entry in enumerate(found.entries) if entry.labels[0] in TEST]
    segments, values = SegmentedClips(found, FrontEnd(**metadata.extra["front_end"])), {True: [], False: []}
    from tome_audio.audio.views import SpecViews

    made = SpecViews(mask_param=12, p=0.3, num_mask=3, W=20)
    with torch.no_grad():
        for place, number in enumerate(chosen):
            features = segments.features(number)
            views = made(features, torch.Generator().manual_seed(place))
            for has_views, shown in ((True, views), (False, features[:, None])):
                values[has_views].append(network.head.embed(network.encode(shown))[0, 0].double())
    learnt, asked = torch.stack(values[support]), torch.stack(values[query])
    both = torch.cat([asked, learnt], 1)  # a query looks at its first half, a clip to learn from at its second
    half = asked.shape[1]
    wanted = accuracy_one_by_one(
        both, [found.entries[i].labels[0] for i in chosen],
        lambda q, s: -float((q[:half] - s[:, half:].mean(0)).square().sum()),
    )  # fmt: skip
    code, _, err = evaluate(model)
    assert code == 0, err
    assert results(tmp_path / "scores")["rows"][0]["accuracy"] == pytest.approx(wanted)


def huggingface(folder, n_classes=4):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.ASTConfig(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=3, intermediate_size=96, max_length=48,
        num_mel_bins=32, frequency_stride=8, time_stride=8, num_labels=n_classes,
    )  # fmt: skip
    model = transformers.ASTForAudioClassification(config)
    model.save_pretrained(folder)
    transformers.ASTFeatureExtractor(num_mel_bins=32, max_length=48).save_pretrained(folder)
    return model


def test_a_hugging_face_ast_is_scored_and_started_from(evaluate, train, tmp_path):
    model = huggingface(tmp_path / "hf")
    code, _, err = evaluate(tmp_path / "hf", "--r", "0,2x")
    assert code == 0 and results(tmp_path / "scores")["rows"][1]["macs_cut"] > 1.4, err
    words = (
        "--encoder.start",
        tmp_path / "hf",
        "--trainer.lr",
        "1e-12",
        "--trainer.epochs",
        "1",
        "--encoder.tokens",
        "prefix",
    )
    code, _, err = train(*words, "--episodes.per_epoch", "2")
    assert code == 0, err
    network, _ = load_checkpoint(tmp_path / "out" / "model.safetensors")
    features = torch.randn(2, 48, 32)
    with torch.no_grad():
        wanted = model.eval()(features).logits
        ours = F.linear(network.encoder(features), model.classifier.dense.weight, model.classifier.dense.bias)
    torch.testing.assert_close(ours, wanted, atol=1e-4, rtol=0)
    # Of another size only where positions can be cut out of those of AudioSet.
    code, _, err = train("--encoder.start", tmp_path / "hf", "--audio.n_frames", "90", out=tmp_path / "longer")
    assert code == 2 and "takes 48 frames of 32 mel bins and cannot be fitted to 90 of 32" in err
    code, _, err = train("--encoder.start", tmp_path / "nothing", out=tmp_path / "nowhere")
    assert code == 2 and "nothing" in err


def classifier(kind, path):
    torch.manual_seed(0)
    sizes = {"n_classes": 4, "n_mels": 64, "n_frames": 48}
    made = {
        "ast": lambda: AST(None, width=16, depth=2, n_heads=2, fstride=16, tstride=8, **sizes),
        "cnn": lambda: SpectrogramCNN("mobilenetv3_small_050", **sizes),
        "two-layer-cnn": lambda: TwoLayerCNN(**sizes),
    }[kind]()
    save_checkpoint(path, made, labels=["a", "b", "d", "owl"], features={"mean": -4.0, "std": 4.0, "n_frames": 48})
    return made.eval()


@pytest.mark.parametrize("kind", ["ast", "cnn"])
def test_a_model_of_train_is_scored_without_its_last_layer(evaluate, tmp_path, kind):
    from tome_audio.cli.fewshot.embedders import load_embedder

    path = tmp_path / "model.safetensors"
    model = classifier(kind, path)
    code, _, err = evaluate(path)
    assert code == 0 and "1 of 3 classes of split test are known to the model, such as owl" in err
    loaded, features = load_embedder(str(path)), torch.randn(2, 48, 64)
    last = model.mlp_head[1] if kind == "ast" else model.net.get_classifier()
    with torch.no_grad():
        torch.testing.assert_close(last(loaded.model(features)), model(features), atol=1e-5, rtol=1e-5)
    code, _, err = evaluate(path, "--r", "0,2x")
    assert code == (0 if kind == "ast" else 2)
    assert kind == "ast" or "to score it as it is, use --r unpatched" in err


def test_a_keyword_transformer_is_scored(evaluate, real_data, tmp_path):
    path = real_data / "weights" / "kwt1_speechcommands_v2_12" / "kwt1.npz"
    code, _, err = evaluate(path, "--r", "0,20")
    rows = results(tmp_path / "scores")["rows"]
    assert code == 0 and rows[1]["macs_cut"] > 1.5 and rows[0]["accuracy"] > 60, err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--n_way", "4"), "needs 4 classes, but the split test has 3"),
        (("--k_shot", "5"), "needs 7 clips of every class, but 3 of 3 classes of the split test have fewer"),
        (("--n_query", "0"), "n_query of an episode must be at least 1"),
        (("--n_tasks", "0"), "--n_tasks must be at least 1"),
        (("--classifier", "relation"), "has no relation head"),
        (("--r", "4"), "to score it as it is, use --r unpatched"),
        (("--r", "x"), "--r 'x' is not understood"),
        (("--classes.split", "no-such.json"), "there is no class split no-such.json"),
        (("--data", "nowhere"), "nowhere"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(evaluate, untrained, n_embedded, tmp_path, words, said):
    code, _, err = evaluate(untrained(), *words)
    assert code == 2 and said in err, err
    assert not n_embedded and not (tmp_path / "scores" / "evaluate.json").exists()


def test_a_model_that_cannot_embed_is_one_sentence(evaluate, tmp_path):
    two = tmp_path / "two.safetensors"
    classifier("two-layer-cnn", two)
    (tmp_path / "text.safetensors").write_text("this is no checkpoint")
    bare = tmp_path / "bare.safetensors"
    save_checkpoint(bare, FewShotNetwork("cnn", {"n_mels": 16, "n_frames": 16, "pool": [2, 2]}))
    for model, said in (
        (two, "a TwoLayerCNN cannot embed clips here"),
        (tmp_path / "text.safetensors", "text.safetensors"),
        (tmp_path / "none.safetensors", "none.safetensors"),
        (bare, "does not say what its input is"),
        ("ast-tiny224", "ast-tiny224 has no trained weights"),
    ):
        code, _, err = evaluate(model)
        assert code == 2 and said in err, err


def test_simpleshot_needs_clips_to_train_on(run, clips, untrained, tmp_path):
    words = ("--model", untrained(), "--data", clips, "--split", "train", "--out", tmp_path / "scores", "--n_tasks", 3)
    assert run("fewshot", "evaluate", *words, "--classifier", "simpleshot")[0] == 0
    found = read_manifest_csv(clips / "manifest.csv", label_csv=clips / "labels.csv")
    entries = tuple(type(entry)(entry.id, entry.path, entry.labels, "test") for entry in found.entries)
    only_test = write_manifest(type(found)(entries, found.labels), tmp_path / "test")
    words = ("--model", untrained(), "--data", only_test, "--out", tmp_path / "scores", "--n_tasks", 3)
    code, _, err = run("fewshot", "evaluate", *words, "--classifier", "simpleshot")
    assert code == 2 and "simpleshot needs the mean embedding of training clips" in err
