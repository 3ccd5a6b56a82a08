"""`tome-audio fewshot tune`: settings found by Optuna on validation classes; those of the test are never read."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, is_dataclass, replace
from pathlib import Path
from typing import Any, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser

from tome_audio.cli.corpora import CorpusConfig
from tome_audio.cli.fewshot.config import (
    AudioConfig,
    ClassesConfig,
    ContrastiveConfig,
    EncoderConfig,
    EpisodesConfig,
    HeadConfig,
    ViewsConfig,
)
from tome_audio.cli.fewshot.train import META_AUDIO, PLACES, train
from tome_audio.cli.output import console, warn, write_whole
from tome_audio.cli.train_config import MergingConfig
from tome_audio.cli.training_run import recipe_facts
from tome_audio.installation import import_extra
from tome_audio.training.errors import TrainingError
from tome_audio.training.settings import TrainerSettings

_CORPUS, _CLASSES, _EPISODES, _AUDIO = CorpusConfig(), ClassesConfig(), EpisodesConfig(), AudioConfig()
_ENCODER, _HEAD, _CONTRASTIVE, _VIEWS = EncoderConfig(), HeadConfig(), ContrastiveConfig(), ViewsConfig()
_MERGE = MergingConfig()
_RANGE = re.compile(r"(?P<low>[^.:]+(?:\.\d+)?(?:e[+-]?\d+)?)\.\.(?P<high>[^:]+?)(?P<log>:log)?")


def tune(
    data: str,
    space: list[str],
    out: str = "runs/fewshot-tune",
    n_trials: int = 20,
    threads: int | None = None,
    corpus: CorpusConfig = _CORPUS,
    classes: ClassesConfig = _CLASSES,
    episodes: EpisodesConfig = _EPISODES,
    audio: AudioConfig = _AUDIO,
    encoder: EncoderConfig = _ENCODER,
    head: HeadConfig = _HEAD,
    contrastive: ContrastiveConfig = _CONTRASTIVE,
    views: ViewsConfig = _VIEWS,
    merge: MergingConfig = _MERGE,
    trainer: TrainerSettings = META_AUDIO,
) -> int:
    """Search settings by the accuracy on validation episodes, with Optuna's TPE sampler.

    Every trial trains as `tome-audio fewshot train` does, in a folder of its own below --out. What is done is kept in
    --out/study.log, and a search that was stopped goes on from there, in the middle of a trial too. A trial whose
    training diverges counts as one without a result. Writes the best settings as best.yaml, which --config of train
    takes after the recipe's own, and all trials as trials.csv.

    Args:
        data: As for `tome-audio fewshot train`.
        space: What to search, such as [trainer.lr=1e-4..1e-2:log, views.mask_param=4..20, contrastive.kind=cpl|apl].
            Two numbers are a range, on a logarithmic scale with :log; values with | between them are a choice.
        out: Folder for trials and results; made if need be.
        n_trials: Trials in all, those of earlier calls counted.
        threads: CPU threads; none leaves PyTorch's choice.
        corpus: Which clips the folder of a corpus gives.
        classes: Which classes are trained on and validated on.
        episodes: Their shape and number.
        audio: How clips are read, and the encoder's input.
        encoder: What embeds a clip.
        head: What is on top of it.
        contrastive: A second loss.
        views: Augmented views of clips.
        merge: Merging in the encoder while training.
        trainer: Optimiser, schedule, precision and the like.
    """
    optuna: Any = import_extra("optuna", "tuning", "fewshot")
    groups: dict[str, Any] = {
        "corpus": corpus, "classes": classes, "episodes": episodes, "audio": audio, "encoder": encoder, "head": head,
        "contrastive": contrastive, "views": views, "merge": merge, "trainer": trainer,
    }  # fmt: skip
    if episodes.valid < 1:
        raise ValueError("tuning needs validation episodes: set episodes.valid")
    if n_trials < 1:
        raise ValueError(f"--n_trials must be at least 1, got {n_trials}")
    searched = parse_space(space, groups)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    recipe = {name: asdict(options) for name, options in groups.items() if name != "trainer"}
    check_same_search(
        folder / "search.json",
        {"data": data, "space": space, **recipe_facts(recipe, PLACES), "trainer": trainer.facts()},
    )

    def objective(trial: Any) -> float:
        drawn = {name: _suggest(trial, name, values) for name, values in searched.items()}
        own = folder / f"trial-{trial.user_attrs.get('begun_as', trial.number)}"
        options = with_settings(groups, drawn)
        try:
            train(data, str(own), resume=True, threads=threads, **options)
        except TrainingError as error:
            warn(f"trial {trial.number} has no result: {error}")
            raise optuna.TrialPruned from error
        except KeyboardInterrupt:
            trial.set_user_attr("interrupted", True)
            raise
        found = json.loads((own / "train.json").read_text(encoding="utf-8"))["valid"]
        if "accuracy" not in found:
            raise ValueError(f"{data} has no validation classes: give classes.split or classes.n_valid")
        return float(found["accuracy"])

    study = _study(optuna, folder / "study.log", trainer.seed)
    done = [trial for trial in study.trials if trial.state.name in ("COMPLETE", "PRUNED")]
    if len(done) < n_trials:
        study.optimize(objective, n_trials=n_trials - len(done))
    if not any(trial.state.name == "COMPLETE" for trial in study.trials):
        raise ValueError(f"the training of every trial diverged, see {folder}/study.log: search smaller learning rates")
    _finish(study, folder)
    return 0


def parse_space(space: list[str], groups: dict[str, Any]) -> dict[str, Any]:
    """Return what to search by the name of the option: (low, high, log) of a range, or the list of a choice.

    Raises:
        ValueError: Something that cannot be read, or is no option, or a value that the option does not take.
    """
    if not space:
        raise ValueError("there is nothing to search: give --space '[trainer.lr=1e-4..1e-2:log]'")
    found: dict[str, Any] = {}
    for text in space:
        name, _, values = (part.strip() for part in text.partition("="))
        kind = _kind(groups, name.split("."))
        if kind is None or not values:
            raise ValueError(f"--space {text!r} names no option: write for example trainer.lr=1e-4..1e-2:log")
        matched = _RANGE.fullmatch(values)
        if matched is None:
            found[name] = [_value(kind, value, text) for value in values.split("|")]
            continue
        low, high = (_value(kind, matched[end], text) for end in ("low", "high"))
        if not all(type(end) in (int, float) for end in (low, high)) or not low < high:
            raise ValueError(f"--space {text!r} is no range from a smaller to a larger number")
        if matched["log"] and not low > 0:
            raise ValueError(f"--space {text!r} cannot be on a logarithmic scale: it must begin above 0")
        found[name] = (low, high, bool(matched["log"]))
    for name, tried in found.items():
        for value in tried if isinstance(tried, list) else tried[:2]:
            with_settings(groups, {name: value})  # said before the first trial
    return found


def with_settings(groups: dict[str, Any], drawn: dict[str, Any]) -> dict[str, Any]:
    """Return the groups of options with these settings in them.

    Raises:
        ValueError: A setting that its group refuses.
    """
    changed = dict(groups)
    for name, value in drawn.items():
        group, *inner = name.split(".")
        changed[group] = _replaced(changed[group], inner, value)
    return changed


def _replaced(options: Any, path: list[str], value: Any) -> Any:
    first, *rest = path
    return replace(options, **{first: _replaced(getattr(options, first), rest, value) if rest else value})


def _kind(groups: dict[str, Any], path: list[str]) -> Any:
    # The type of an option, and None where there is no option, or a group of them.
    group, *inner = path
    found = groups.get(group)
    for name in inner[:-1]:
        found = getattr(found, name, None)
    if not inner or not is_dataclass(found) or is_dataclass(getattr(found, inner[-1], None)):
        return None
    return get_type_hints(type(found)).get(inner[-1])


def take_up_again(study: Any) -> None:
    """Queue the trials that a kill or Ctrl-C has cut short: the same settings, in the folder that they began in."""
    latest = {trial.user_attrs.get("begun_as", trial.number): trial for trial in study.trials}
    for begun_as, trial in latest.items():
        if trial.state.name == "RUNNING":
            study.tell(trial.number, state=type(trial.state).FAIL)
        elif not trial.user_attrs.get("interrupted"):
            continue
        study.enqueue_trial(trial.params, user_attrs={"begun_as": begun_as})


def _study(optuna: Any, path: Path, seed: int) -> Any:
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # it would print a traceback beside our sentence
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    study = optuna.create_study(storage=storage, study_name="fewshot", direction="maximize", load_if_exists=True)
    # Not the seed alone: a search that goes on would draw again what it began with.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
    take_up_again(study)
    return study


def check_same_search(path: Path, wanted: dict[str, Any]) -> None:
    """Keep what is searched beside the study, and refuse to go on with another search.

    Raises:
        ValueError: The folder holds another search.
    """
    text = json.dumps(wanted, indent=2) + "\n"
    if not path.is_file():
        write_whole(path, text)
    elif path.read_text(encoding="utf-8") != text:
        raise ValueError(f"{path.parent} holds another search ({path.name}): choose another --out")


def _finish(study: Any, folder: Path) -> None:
    """Write best.yaml and trials.csv, and print the best settings."""
    write_whole(folder / "trials.csv", study.trials_dataframe().to_csv(index=False))
    write_whole(folder / "best.yaml", _yaml(study.best_params))
    console().print(f"best of {len(study.trials)} trials: {100 * study.best_value:.2f} % of validation queries with")
    for name, value in study.best_params.items():
        console().print(f"  {name}: {value}")
    console().print(f"written: {folder}/best.yaml, trials.csv")


def _suggest(trial: Any, name: str, values: Any) -> Any:
    if isinstance(values, list):
        return trial.suggest_categorical(name, values)
    low, high, log = values
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high, log=log)
    return trial.suggest_float(name, float(low), float(high), log=log)


def _value(kind: Any, word: str, text: str) -> Any:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=kind)
    try:
        found = parser.parse_args([f"--value={word.strip()}"]).value
    except ArgumentError as error:
        raise ValueError(f"--space {text!r}: {word.strip()!r} is no value of this option") from error
    if not isinstance(found, bool | int | float | str | None):
        raise ValueError(f"--space {text!r}: only numbers and words can be searched")
    return found


def _yaml(settings: dict[str, Any]) -> str:
    # JSON is YAML, and holds what a setting can be.
    nested: dict[str, Any] = {}
    for name, value in settings.items():
        *groups, option = name.split(".")
        place = nested
        for group in groups:
            place = place.setdefault(group, {})
        place[option] = value
    return json.dumps(nested, indent=2) + "\n"
