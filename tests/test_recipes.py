"""Every recipe: its shell is sound, its options are known, its papers are there; the smoke recipe runs end to end."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from tome_audio.cli.main import _commands, _parser

ROOT = Path(__file__).parent.parent
RECIPES = sorted(path.parent for path in (ROOT / "egs").glob("*/run.sh"))
CONFIGS = sorted((ROOT / "egs").rglob("conf/*.yaml"))


def test_there_are_recipes():
    assert RECIPES and CONFIGS


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda p: p.name)
def test_a_recipe_is_complete_and_thin(recipe):
    for name in ("README.md", "RESULTS.md"):
        assert (recipe / name).stat().st_size > 0
    script = (recipe / "run.sh").read_text()
    assert len(script.splitlines()) <= 80 and "set -euo pipefail" in script and os.access(recipe / "run.sh", os.X_OK)
    assert not list(recipe.glob("*.py"))
    subprocess.run(["bash", "-n", recipe / "run.sh"], check=True)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda p: f"{p.parent.parent.name}/{p.name}")
def test_a_config_is_read_by_its_command(config):
    command = next(line for line in (config.parent.parent / "run.sh").read_text().splitlines() if config.name in line)
    words = command.split()
    name = words[words.index("tome-audio") + 1]
    parsed = _parser(_commands()).parse_args([name, "--config", str(config)])
    for key, value in yaml.safe_load(config.read_text()).items():
        assert parsed[name][key] == value


@pytest.mark.recipe
def test_the_smoke_recipe_runs_end_to_end(tmp_path):
    tool = tmp_path / "bin" / "tome-audio"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tome_audio.cli.main "$@"\n')
    tool.chmod(0o755)
    env = {**os.environ, "PATH": f"{tool.parent}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = ["bash", str(ROOT / "egs" / "smoke" / "run.sh"), "--out", str(tmp_path / "out")]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\nstage ") + done.stdout.startswith("stage ") == 4
    table = pd.read_csv(tmp_path / "out" / "sweep" / "sweep.csv")
    assert (table["n_clips"] == 20).all() and table["macs_cut"].is_monotonic_increasing
    assert (tmp_path / "out" / "merged.png").stat().st_size > 10_000
