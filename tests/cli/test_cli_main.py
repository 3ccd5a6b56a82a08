import subprocess
import sys

import pytest

from tome_audio.cli.rates import parse_rate, parse_rates, rate_name
from tome_audio.merge import ComputeTarget, Schedule

COMMANDS = (
    "demo", "classify", "inspect", "visualize", "serve", "sweep", "fit", "bench-report", "evaluate", "teacher-logits",
    "download", "manifest", "overlay", "train", "results", "fewshot",
)  # fmt: skip
FEW_SHOT = ("train", "evaluate", "tune")
SAMPLE_ID = ("train", "index", "add", "remove", "calibrate", "query")


def test_help_of_a_group_lists_its_commands_and_the_exit_codes(run):
    for group, names in (("fewshot", FEW_SHOT), ("sampleid", SAMPLE_ID)):
        code, out, _ = run(group, "--help")
        assert code == 0 and all(name in out for name in (*names, "exit codes"))


def test_help_lists_every_command_and_the_exit_codes(run):
    code, out, _ = run("--help")
    assert code == 0 and all(name in out for name in (*COMMANDS, "exit codes"))


@pytest.mark.parametrize(
    "command",
    [*COMMANDS[:-1], *(f"fewshot {name}" for name in FEW_SHOT), *(f"sampleid {name}" for name in SAMPLE_ID)],
)
def test_help_of_every_command_has_an_example_and_says_what_each_option_does(run, command):
    code, out, _ = run(*command.split(), "--help")
    assert code == 0 and "Example: tome-audio" in " ".join(out.split())
    words = out.split("options:")[1].splitlines()
    for i, line in enumerate(words):
        if line.startswith("  --"):
            assert len(line.split()) > 2 or words[i + 1].startswith("      "), f"no help for {line}"


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["nonsense"],
        ["sweep"],
        ["classify"],
        ["fewshot"],
        ["fewshot", "nonsense"],
        ["fewshot", "train"],
        ["inspect", "--model", "x", "--wrong", "1"],
    ],
)
def test_wrong_command_lines_exit_with_two(run, words):
    code, out, err = run(*words)
    assert code == 2 and out == "" and err


def test_dashes_and_underscores_are_the_same(tmp_path, checkpoint, run):
    for spelling in ("--top-k", "--top_k"):
        code, _, err = run("classify", tmp_path / "none.wav", "--model", checkpoint, spelling, 0)
        assert code == 2 and "--top_k must be at least 1" in err


def test_an_interruption_exits_with_130(monkeypatch, checkpoint, run):
    import tome_audio.cli.inspect as command

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "load_model", interrupt)
    assert run("inspect", "--model", checkpoint) == (130, "", "tome-audio: interrupted\n")


def test_an_installation_that_does_not_fit_together_is_one_sentence(tmp_path):
    """A torchvision that breaks on import, as beside another torch build."""
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms is missing')")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from tome_audio.cli.main import main; raise SystemExit(main(['inspect', '--model', 'x']))",
        ],
        env={"PYTHONPATH": f"{tmp_path}:{':'.join(sys.path)}", "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "install torch, torchvision and torchaudio of one release and one build" in done.stderr


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("8", [8]),
        ("0,4", [0, 4]),
        ("0,[45,20],(8,-1)", [0, [45, 20], (8, -1.0)]),
        (" 8 , 2 ", [8, 2]),
        ("3x,2.5x:constant", [ComputeTarget(3), ComputeTarget(2.5, "constant")]),
        (
            "[49,24|6,4],[|3],[bipartite:2|]",
            [Schedule((6, 4), (49, 24)), Schedule((3,)), Schedule((), (2,), "bipartite")],
        ),
        (
            "[49|6a,0,4v],[|3bh]",
            [
                Schedule((6, 0, 4), (49,), matchings=("adjacent",), metrics=("", "", "value")),
                Schedule((3,), matchings=("bipartite",), metrics=("hidden",)),
            ],
        ),
    ],
)
def test_rates(text, rates):
    assert parse_rates(text) == rates
    assert [parse_rates(rate_name(rate))[0] for rate in rates] == rates


def test_one_rate():
    assert parse_rate("8") == 8 and parse_rate("45,20") == [45, 20] and parse_rate("(8,-1)") == (8, -1.0)


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "x",
        "1.5",
        "-1",
        "[",
        "8;9",
        "__import__('os')",
        "(1,2,3)",
        "[[1]]",
        "0x",
        "3x:round",
        "[1|2|3]",
        "[1|2z]",
        "[1|2va]",
        "[1|a]",
        "[1|-2]",
        "[a|2]",
        "x:[1|2]",
    ],
)
def test_bad_rates(bad):
    with pytest.raises(ValueError, match="r"):
        parse_rates(bad)
