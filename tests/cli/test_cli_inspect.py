import pytest

from tome_audio.cli.inspect import _verdict, count_tokens
from tome_audio.cli.loading import load_model
from tome_audio.profiling import Ratio


@pytest.mark.parametrize(("name", "tokens"), [("ast-tiny224", 1214), ("vit_tiny_patch16_224", 197)])
def test_tokens_are_counted_without_computing(name, tokens):
    assert count_tokens(load_model(name)) == tokens


def test_the_table_adds_up(checkpoint, run):
    code, out, err = run("inspect", "--model", checkpoint, "--r", "4,2")
    assert (code, err) == (0, "")
    rows = [[cell.strip(" │┃") for cell in line.split("│")] for line in out.splitlines() if line.startswith("│")]
    assert [row[2:5] for row in rows[:3]] == [["34", "4", "30"], ["30", "2", "28"], ["28", "0", "28"]]
    assert float(rows[-1][5]) == pytest.approx(sum(float(row[5]) for row in rows[:3]), abs=0.2)
    assert "times fewer multiply-accumulates" in out


def test_a_target_shows_its_rounds_before_the_first_block(checkpoint, run):
    code, out, _ = run("inspect", "--model", checkpoint, "--r", "1.5x", "--time", "false")
    rows = [[cell.strip(" │┃") for cell in line.split("│")] for line in out.splitlines() if line.startswith("│")]
    before = [row for row in rows if row[1] == "before"]
    assert code == 0 and before and before[0][2] == "34"
    assert int(before[-1][4]) == int(rows[len(before)][2])
    assert float(out.split(" times fewer")[0].split()[-1]) >= 1.5


def test_one_clip_is_timed_unless_nothing_merges_or_nobody_asks(checkpoint, run):
    for options, timed in ((("--r", "4"), True), (("--r", "0"), False), (("--r", "4", "--time", "false"), False)):
        code, out, err = run("inspect", "--model", checkpoint, *options)
        assert (code, err) == (0, "") and ("One clip at a time" in out) is timed


def test_a_model_too_small_to_gain_is_called_so():
    assert "too small to gain" in _verdict(Ratio(0.8, 0.7, 0.9))
    assert "too small" not in _verdict(Ratio(1.2, 1.1, 1.3)) and "1.20 times as fast" in _verdict(Ratio(1.2, 1.1, 1.3))


def test_clamping_is_marked(checkpoint, run):
    code, out, _ = run("inspect", "--model", checkpoint, "--r", 30)
    assert code == 0 and "16*" in out and "more than 34 tokens allow" in out


def test_timm_models_that_cannot_be_served_say_so(run):
    code, _, err = run("inspect", "--model", "resnet18")
    assert code == 2 and "holds no encoder of a known family" in err


def test_a_huggingface_folder(tmp_path, run):
    from fakes import CASES
    from transformers import ASTFeatureExtractor

    CASES["huggingface_sdpa"].build().save_pretrained(tmp_path)
    ASTFeatureExtractor(num_mel_bins=32, max_length=48).save_pretrained(tmp_path)
    code, out, _ = run("inspect", "--model", tmp_path, "--r", 2)
    assert code == 0 and "10" in out
    code, _, err = run("inspect", "--model", "no-such-org/no-such-model")
    assert code == 2 and "could not be loaded as a Hugging Face audio classifier" in err
