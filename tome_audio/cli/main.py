"""The entry point of `tome-audio`: parse, run, and turn errors into one sentence and an exit code."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from tome_audio.patch import MergeClampWarning, NotPatchedError
from tome_audio.training.loop import TrainingError

_EPILOG = """\
exit codes: 0 done; 1 done, but some files could not be used (each is named on stderr); 2 not done: wrong command line
or unusable input, one sentence on stderr says which; 130 interrupted. Options may be written with - or _. With
TOME_AUDIO_TRACEBACK=1 in the environment an error shows where it arose."""

_EXAMPLES = {
    "demo": "tome-audio demo --data recordings/",
    "classify": "tome-audio classify door.wav horn.mp3 --model runs/demo/model.safetensors --r 8 --top-k 3",
    "inspect": "tome-audio inspect --model ast-base384 --r 80",
    "visualize": "tome-audio visualize door.wav --model runs/demo/model.safetensors --r 8 --layer all --out door.png",
    "serve": "tome-audio serve --model runs/demo/model.safetensors",
    "sweep": "tome-audio sweep --model kwt1.npz --data speech_commands/ --r 0,4,8,[45,20,12,6]",
    "fit": "tome-audio fit --model kwt1.npz --data recordings/ --target 3.0 --out schedule.json",
    "evaluate": "tome-audio evaluate --model runs/model.safetensors --data recordings/ --split test --r 0,8,2x",
    "teacher-logits": "tome-audio teacher-logits --model teacher.safetensors --data recordings/ --out runs/teacher",
    "download": "tome-audio download --corpus esc50 --data downloads",
    "manifest": "tome-audio manifest --data downloads/ESC-50 --corpus.name esc50 --out runs/esc50/data",
    "overlay": "tome-audio overlay --data runs/esc50/data --out runs/overlays --n_train 2000",
    "train": "tome-audio train --config egs/fsdd/conf/small.yaml --data runs/fsdd/data --out runs/fsdd/train --resume",
    "fewshot train": "tome-audio fewshot train --config plain.yaml --data clips/ --classes.split split.json",
    "fewshot evaluate": "tome-audio fewshot evaluate --model runs/fewshot/model.safetensors --data clips/ --r 0,2x",
    "fewshot tune": "tome-audio fewshot tune --config plain.yaml --data clips/ --space '[trainer.lr=1e-4..1e-2:log]'",
    "sampleid train": "tome-audio sampleid train --config egs/sample_id/conf/small.yaml --data runs/sample_id/world",
    "sampleid evaluate": "tome-audio sampleid evaluate --model runs/song_encoder.safetensors --data world/ --r 0,2x",
    "sampleid closed-set": "tome-audio sampleid closed-set --data sample100/ --audio songs/ --out runs/closed-set",
    "sampleid generate": "tome-audio sampleid generate runs/world --seed 1 --processes 2",
    "sampleid index": "tome-audio sampleid index originals/ --model runs/sampleid/model.safetensors --out runs/index",
    "sampleid add": "tome-audio sampleid add funky.flac --index runs/index",
    "sampleid remove": "tome-audio sampleid remove funky --index runs/index",
    "sampleid calibrate": "tome-audio sampleid calibrate --index runs/index --without songs/plain",
    "sampleid query": "tome-audio sampleid query song.mp3 --index runs/index --figure song.png",
    "results": "tome-audio results runs/fsdd/evaluate --append egs/fsdd/RESULTS.md --title 'small AST'",
    "bench-report": "tome-audio bench-report runs/bench.json --out benchmarks/results --readme README.md",
}


_GROUPS = {
    "fewshot": "Few-shot classification: train on episodes, score on thousands of tasks, tune.",
    "sampleid": "Sample identification: which record does a song sample, and where.",
}

_FLAG = {"action": "store_true"}
_RESUME = {**_FLAG, "help": "Go on from the newest checkpoint in --out, if there is one."}
# What the signatures of the functions cannot say: positions, flags without a value, options given several times.
_OWN_ARGUMENTS: dict[str, dict[str, dict[str, Any]]] = {
    "classify": {
        "files": {"nargs": "+", "metavar": "FILE", "help": "Audio files: wav, flac, ogg or mp3."},
        "--json": {**_FLAG, "help": "Print one JSON object per file, not a table."},
    },
    "visualize": {"file": {"metavar": "FILE", "help": "Audio file: wav, flac, ogg or mp3."}},
    "teacher-logits": {
        "--model": {"action": "append", "required": True, "help": "A trained model; several --model are averaged."}
    },
    "train": {"--resume": _RESUME},
    "fewshot train": {"--resume": _RESUME},
    "sampleid train": {"--resume": _RESUME},
    "sampleid closed-set": {"--resume": _RESUME},
    "sampleid generate": {"out": {"metavar": "OUT", "help": "Folder for audio and tables; made if need be."}},
    "sampleid index": {
        "data": {"metavar": "DIR", "help": "Folder of originals: wav, flac, ogg or mp3, of any length."}
    },
    "sampleid add": {"files": {"nargs": "+", "metavar": "FILE", "help": "Audio files of originals."}},
    "sampleid remove": {"ids": {"nargs": "+", "metavar": "ID", "help": "Ids of tracks, as query shows them."}},
    "sampleid query": {
        "files": {"nargs": "+", "metavar": "FILE", "help": "Audio files of songs: wav, flac, ogg or mp3."},
        "--json": {**_FLAG, "help": "Print one JSON object per song, not a table."},
    },
    "download": {"--imitation": {**_FLAG, "help": "Fetch nothing: write a few generated clips laid out alike."}},
    "results": {"runs": {"nargs": "+", "metavar": "RUN", "help": "Folders that evaluate has written."}},
    "bench-report": {
        "runs": {"nargs": "*", "default": [], "metavar": "RUN.json", "help": "Files of pytest --benchmark-json."},
        "--json": {**_FLAG, "help": "Print one JSON object, not a table."},
    },
}
_PLACES = {
    "demo": "demo:demo",
    "classify": "classify:classify",
    "inspect": "inspect:inspect",
    "visualize": "visualize:visualize",
    "serve": "serve:serve",
    "sweep": "sweep:sweep",
    "evaluate": "evaluate:evaluate",
    "fit": "fit:fit",
    "teacher-logits": "teacher_logits:teacher_logits",
    "download": "corpora:download",
    "manifest": "corpora:manifest",
    "overlay": "overlay:overlay",
    "train": "train:train",
    "fewshot train": "fewshot.train:train",
    "fewshot evaluate": "fewshot.evaluate:evaluate",
    "fewshot tune": "fewshot.tune:tune",
    "sampleid train": "sampleid.train:train",
    "sampleid evaluate": "sampleid.evaluate:evaluate",
    "sampleid closed-set": "sampleid.closed_set:closed_set",
    "sampleid generate": "sampleid.generate:generate",
    "sampleid index": "sampleid.index:index",
    "sampleid add": "sampleid.index:add",
    "sampleid remove": "sampleid.index:remove",
    "sampleid calibrate": "sampleid.calibrate:calibrate",
    "sampleid query": "sampleid.query:query",
    "results": "results:results",
    "bench-report": "bench_report:bench_report",
}
"""Module below `tome_audio.cli` and function of each command."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        commands = _commands(given)
        parser = _parser(commands)
        parsed = instantiated(parser, parser.parse_args([_with_underscores(word) for word in given]))
        name, chosen = parsed.subcommand, parsed[parsed.subcommand]
        if name in _GROUPS:
            name, chosen = f"{name} {chosen.subcommand}", chosen[chosen.subcommand]
        options: dict[str, Any] = {key: value for key, value in chosen.items() if key != "config"}
        with warnings.catch_warnings():
            warnings.showwarning = _warn_in_one_line  # type: ignore[assignment]
            warnings.simplefilter("once", MergeClampWarning)
            return commands[name](**options)
    except KeyboardInterrupt as error:
        sys.stderr.write(f"tome-audio: {str(error) or 'interrupted'}\n")
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): nothing is wrong, and nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ValueError, OSError, ImportError, NotPatchedError, TrainingError) as error:
        if os.environ.get("TOME_AUDIO_TRACEBACK"):
            raise
        sys.stderr.write(f"tome-audio: error: {error}\n")
        return 2


def instantiated(parser: ArgumentParser, parsed: Namespace) -> Namespace:
    """Return parsed options with their groups as dataclasses, by the name that this release of jsonargparse has."""
    make: Callable[[Namespace], Namespace] = getattr(parser, "instantiate", None) or parser.instantiate_classes
    return make(parsed)


def _commands(given: Sequence[str] = ()) -> dict[str, Callable[..., int]]:
    """Import the command that is asked for, or all of them where none of them is."""
    # Imported here, so that an installation that does not fit together is one sentence and no traceback.
    wanted = [name for name in (given[0], " ".join(given[:2])) if name in _PLACES] if given else []
    found = {}
    for name in wanted or _PLACES:
        module, function = _PLACES[name].split(":")
        found[name] = getattr(importlib.import_module(f"tome_audio.cli.{module}"), function)
    return found


def _parser(functions: dict[str, Callable[..., int]]) -> ArgumentParser:
    parser = ArgumentParser(
        prog="tome-audio",
        description="Make audio transformers cheaper to run by merging tokens, and see what it costs.",
        epilog=_EPILOG,
    )
    commands = {"": parser.add_subcommands(metavar="COMMAND")}
    for group, summary in _GROUPS.items():
        within = ArgumentParser(description=summary, epilog=_EPILOG)
        commands[""].add_subcommand(group, within, help=summary)
        commands[group] = within.add_subcommands(metavar="COMMAND")
    for full_name, function in functions.items():
        group, _, name = full_name.rpartition(" ")
        summary = (function.__doc__ or "").splitlines()[0]
        command = ArgumentParser(description=f"{summary} Example: {_EXAMPLES[full_name]}", epilog=_EPILOG)
        command.add_argument("--config", action="config", help="Read options from a YAML or JSON file.")
        own = _OWN_ARGUMENTS.get(full_name, {})
        for flag, given in own.items():
            command.add_argument(flag, **given)
        skipped: set[str | int] = {flag.removeprefix("--") for flag in own}
        command.add_function_arguments(function, skip=skipped, as_group=False)
        commands[group].add_subcommand(name, command, help=summary)
    return parser


def _warn_in_one_line(message: Warning | str, *_args: Any, **_kwargs: Any) -> None:
    sys.stderr.write(f"tome-audio: warning: {message}\n")


def _with_underscores(word: str) -> str:
    """Spell `--top-k=3` as the parser does: `--top_k=3`."""
    name, equals, value = word.partition("=")
    return name[:2] + name[2:].replace("-", "_") + equals + value if name.startswith("--") else word


if __name__ == "__main__":
    sys.exit(main())
