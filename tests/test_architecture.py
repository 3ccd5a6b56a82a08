"""The layers of the package, the size of its files, and what importing it may load."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "tome_audio"
FILES = sorted(PACKAGE.rglob("*.py"))

# What each folder may import beside itself. `installation` is for everyone: it imports nothing of ours.
MAY_IMPORT = {
    "merge": set(),
    "metrics": set(),
    "losses": set(),
    "profiling": set(),
    "audio": set(),
    "patch": {"merge"},
    "models": {"audio"},
    "data": {"audio"},
    "songs": {"audio", "data"},
    "training": set(),
    "tasks": {"merge", "patch", "losses", "metrics", "audio"},
    "retrieval": {"audio", "data", "metrics"},
    "evaluation": {"merge", "patch", "profiling", "metrics", "data", "retrieval"},
    "search": {"merge", "patch", "profiling"},
    "viz": set(),
    "cli": {
        "merge",
        "patch",
        "models",
        "data",
        "audio",
        "training",
        "tasks",
        "losses",
        "evaluation",
        "metrics",
        "search",
        "songs",
        "retrieval",
        "profiling",
        "viz",
    },
    "__init__.py": {"merge", "patch"},
    "installation.py": set(),
}


def room(path):
    return path.relative_to(PACKAGE).parts[0]


def imported_rooms(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("tome_audio."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (name.name.split(".")[1] for name in node.names if name.name.startswith("tome_audio."))


def test_there_are_files():
    assert len(FILES) > 40


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path):
    own = room(path)
    assert own in MAY_IMPORT, f"{own} has no place in the layers"
    wrong = set(imported_rooms(path)) - MAY_IMPORT[own] - {own, "installation"}
    assert not wrong, f"{own} may not import {wrong}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_and_functions_stay_small(path):
    source = path.read_text()
    assert len(source.splitlines()) <= 350
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            docstring = len((ast.get_docstring(node) or "").splitlines())
            assert node.end_lineno - node.lineno - docstring <= 60, f"{node.name} is longer than 60 lines"


def test_no_junk_drawers():
    names = {part for path in FILES for part in path.relative_to(PACKAGE).with_suffix("").parts}
    assert not names & {"utils", "helpers", "common", "misc"}


def test_every_file_has_a_docstring():
    bare = [path for path in FILES if not ast.get_docstring(ast.parse(path.read_text()))]
    assert not bare


def test_importing_the_package_loads_torch_and_nothing_heavier():
    code = (
        "import sys, tome_audio; print('torch._dynamo' in sys.modules, *{name.split('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    compiler, *loaded = done.stdout.split()
    assert compiler == "False"  # a second
    heavy = {"timm", "torchvision", "torchaudio", "transformers", "pandas", "matplotlib", "jsonargparse", "rich"}
    assert "torch" in loaded and not set(loaded) & (heavy | {"soundfile", "safetensors", "scipy"})


def test_patching_works_without_torchaudio_and_torchvision():
    """A model of somebody's own family needs neither."""
    code = """
import sys
sys.modules["torchaudio"] = sys.modules["torchvision"] = sys.modules["timm"] = None
import torch
from tome_audio import apply_patch
from tome_audio.patch import registered_adapters
try:
    apply_patch(torch.nn.Linear(2, 2))
except ValueError as error:
    assert "known family" in str(error)
print(len(registered_adapters()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) >= 3
