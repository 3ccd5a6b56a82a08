"""Options of the benchmarks, and one `run` per measurement for each suite."""

from __future__ import annotations

import pytest
from cases import CASES, from_checkpoint
from plan import ALL_METHODS, DTYPES, Settings, choose, read_device, read_names, read_rates

_SETTINGS = pytest.StashKey[Settings]()
_VISIBLE = [name for name, case in CASES.items() if not case.hidden]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("tome_audio benchmarks")
    group.addoption("--r", action="append", metavar="R", help="settings of r: 32,64,[94,60],(8,-1),half,front")
    group.addoption("--models", metavar="NAMES", help=f"names or patterns, of {', '.join(_VISIBLE)}")
    group.addoption("--methods", metavar="NAMES", help=f"of {', '.join(ALL_METHODS)}")
    group.addoption("--batch", metavar="SIZES", help="batch sizes: 1,8,32")
    group.addoption("--device", default="cpu", help="cpu or cuda")
    group.addoption("--dtype", metavar="NAMES", help=f"of {', '.join(DTYPES)}")
    group.addoption("--compile", action="store_true", help="torch.compile the baseline and the candidate")
    group.addoption("--full", action="store_true", help="the whole grid, with more turns: hours on a CPU")
    group.addoption(
        "--prefix-only", choices=("auto", "on", "off"), default="auto", help="option of apply_patch, for merged"
    )
    group.addoption("--turns", type=int, help="turns of each timing; by default as many as there is time for")
    group.addoption("--checkpoint", metavar="MODEL", help="accuracy of this model, named as on the command line")
    group.addoption("--data", metavar="FOLDER", help="labelled clips for --checkpoint")


def pytest_configure(config: pytest.Config) -> None:
    # Every r is measured as it is asked for; the tokens in the record show where it was clamped.
    config.addinivalue_line("filterwarnings", "ignore::tome_audio.patch.MergeClampWarning")
    try:
        config.stash[_SETTINGS] = _read_settings(config)
    except (ValueError, ImportError, OSError) as error:
        raise pytest.UsageError(str(error)) from error


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "run" in metafunc.fixturenames:
        runs = choose(metafunc.module.PLAN, metafunc.config.stash[_SETTINGS])
        metafunc.parametrize("run", runs, ids=str)


def pytest_benchmark_update_machine_info(config: pytest.Config, machine_info: dict[str, object]) -> None:
    machine_info.pop("node", None)  # reports are published, and the name of the host is nobody's business


@pytest.fixture(scope="session")
def settings(pytestconfig: pytest.Config) -> Settings:
    return pytestconfig.stash[_SETTINGS]


def _read_settings(config: pytest.Config) -> Settings:
    option = config.getoption
    if (option("--checkpoint") is None) != (option("--data") is None):
        raise ValueError("--checkpoint and --data go together: a model, and the folder of clips to score it on")
    if option("--turns") is not None and option("--turns") < 1:
        raise ValueError(f"--turns must be at least 1, got {option('--turns')}")
    return Settings(
        rates=read_rates(option("--r")),
        models=read_names(option("--models"), tuple(CASES), "model"),
        methods=read_names(option("--methods"), ALL_METHODS, "method"),
        batches=_read_batches(option("--batch")),
        dtypes=read_names(option("--dtype"), tuple(DTYPES), "dtype"),
        device=read_device(option("--device")),
        compiled=option("--compile"),
        prefix_only={"auto": None, "on": True, "off": False}[option("--prefix-only")],
        full=option("--full"),
        turns=option("--turns"),
        checkpoint=None if option("--checkpoint") is None else from_checkpoint(option("--checkpoint")),
        data=option("--data"),
        command=_command(config),
    )


def _command(config: pytest.Config) -> str:
    """Return what was typed, for the record, without folders outside the checkout."""
    words = [str(word) for word in config.invocation_params.args]
    kept = [word.rpartition("/")[2] if word.startswith("/") else word for word in words]
    return " ".join(["pytest", *(word for word in kept if not word.startswith("--benchmark-json"))])


def _read_batches(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    sizes = [word.strip() for word in text.split(",")]
    if not all(size.isdecimal() and int(size) > 0 for size in sizes):
        raise ValueError(f"--batch {text!r} is not understood: write for example 1,8,32")
    return tuple(int(size) for size in sizes)
