"""`tome-audio sampleid train`: songs with their stems in, an encoder that `tome-audio sampleid index` takes out."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from tome_audio.audio.vqt import VqtFrontEnd
from tome_audio.cli.counts import use_threads
from tome_audio.cli.output import console, progress, warn
from tome_audio.cli.rates import parse_rate
from tome_audio.cli.sampleid.build import build_encoder
from tome_audio.cli.sampleid.config import MaterialConfig, SongEncoderConfig
from tome_audio.cli.train_build import train_rate
from tome_audio.cli.train_config import MergingConfig
from tome_audio.cli.train_data import is_main_process
from tome_audio.cli.training_run import best_weights, recipe_facts, run_trainer, write_record
from tome_audio.data.clips import DataError
from tome_audio.data.feature_cache import FeatureCache
from tome_audio.data.song_mixes import EverySong, FlipSettings, SongMixes
from tome_audio.data.song_stems import all_amplitudes, find_stems
from tome_audio.installation import import_extra
from tome_audio.models import SongEncoder, save_checkpoint
from tome_audio.patch import apply_patch
from tome_audio.tasks import MergedTask, MixRetrieval
from tome_audio.training.batches import TrainingData
from tome_audio.training.records import TrainingResult
from tome_audio.training.run_folder import read_weights
from tome_audio.training.schedules import LearningRate
from tome_audio.training.settings import TrainerSettings

WINDOWS = "windows"
"""What a checkpoint calls its front end, window and hop."""

_MATERIAL, _FLIPS, _FRONT_END, _ENCODER = MaterialConfig(), FlipSettings(), VqtFrontEnd(), SongEncoderConfig()
_MERGE = MergingConfig()
_TRAINER = TrainerSettings(epochs=40, batch_size=64, lr=1e-3, learning_rate=LearningRate(curve="cosine"))
_NAMED = 50
_PLACES = {("material", "cache"), ("material", "keep")}  # what a resumed run may say otherwise


def train(
    data: str,
    out: str = "runs/sampleid",
    resume: bool = False,
    threads: int | None = None,
    tensorboard: bool = False,
    material: MaterialConfig = _MATERIAL,
    flips: FlipSettings = _FLIPS,
    front_end: VqtFrontEnd = _FRONT_END,
    encoder: SongEncoderConfig = _ENCODER,
    merge: MergingConfig = _MERGE,
    trainer: TrainerSettings = _TRAINER,
) -> int:
    """Train an encoder to find the songs that an artificial mix is made of.

    Writes the weights that validated best as model.safetensors, the history as epochs.csv and steps.csv, and all
    options with commit, versions and machine as train.json into --out.

    Args:
        data: Folder with stems/train/SONG/STEM.flac, and stems/valid to validate on, as `tome-audio sampleid generate`
            writes it; a song that nobody took apart is one file.
        out: Folder for checkpoints and results; made if need be.
        resume: Go on from the newest checkpoint in --out, if there is one.
        threads: CPU threads; none leaves PyTorch's choice.
        tensorboard: Write curves for TensorBoard too.
        material: The songs that mixes are made of.
        flips: What may happen to a sample.
        front_end: Spectrograms on a scale of semitones.
        encoder: What embeds a window.
        merge: Merging in the encoder while training.
        trainer: Optimiser, schedule, precision and the like.
    """
    use_threads(threads)
    import_extra("accelerate", "training", "recipes")  # said before an hour of reading songs
    flips = replace(flips, offset=material.hop / 2)
    options: dict[str, Any] = {
        "material": material, "flips": flips, "front_end": front_end, "encoder": encoder, "merge": merge,
    }  # fmt: skip
    recipe = {name: asdict(option) for name, option in options.items()}
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    n_frames = round(material.window * front_end.frames_per_second)
    learnt, n_skipped = _mixes(data, "train", n_frames, material, flips, front_end, trainer.seed)
    checked, also_skipped = None, 0
    if any((Path(data) / "stems" / "valid").glob("*")):
        checked, also_skipped = _mixes(data, "valid", n_frames, material, flips, front_end, trainer.seed)
    torch.manual_seed(trainer.seed)
    network = build_encoder(encoder, n_mels=front_end.n_bins, n_frames=n_frames)
    task: Any = MixRetrieval(material.temperature)
    if merge.is_on:
        apply_patch(network, metric=merge.metric, matching=merge.matching, rounds=merge.rounds)
        task = MergedTask(task, train_rate(merge), evaluate=parse_rate(merge.evaluate), seed=trainer.seed)
    if is_main_process():
        n_weights = sum(weights.numel() for weights in network.parameters() if weights.requires_grad)
        n_valid = 0 if checked is None else len(checked)
        console().print(f"training AST ({n_weights:,} parameters) on {len(learnt)} songs, {n_valid} to validate on")
    sets = TrainingData(learnt, checked, EverySong(len(learnt), material.rounds, trainer.seed))
    facts = {**recipe_facts(recipe, _PLACES), **{f"mixes.{name}": str(value) for name, value in learnt.facts().items()}}
    result = run_trainer(task, network, sets, trainer, folder, facts, resume, tensorboard)
    if is_main_process():
        _finish(folder, network, task, result, {"data": data, **recipe, "trainer": asdict(trainer)}, n_skipped)
    return 1 if n_skipped + also_skipped else 0


def _mixes(
    data: str,
    part: str,
    n_frames: int,
    material: MaterialConfig,
    flips: FlipSettings,
    front_end: VqtFrontEnd,
    seed: int,
) -> tuple[SongMixes, int]:
    """Return the songs of a part as mixes, and how many songs were left out.

    Raises:
        DataError: There are too few, or some cannot be used and are not to be skipped.
    """
    songs = find_stems(data, part)
    cache = None if material.cache is None else FeatureCache(material.cache, front_end.facts())
    with progress() as bars:
        bar = bars.add_task(f"spectrograms of {part}", total=len(songs))
        kept, problems = all_amplitudes(
            songs, front_end, n_frames=n_frames, cache=cache, on_song=lambda done: bars.update(bar, completed=done)
        )
    if problems and is_main_process():
        for line in problems[:_NAMED]:
            warn(line)
        if len(problems) > _NAMED:
            warn(f"and {len(problems) - _NAMED} more")
    if problems and not material.skip_unusable:
        raise DataError(
            f"{len(problems)} of {len(songs)} songs of {part} cannot be used: repair them, or go on without them with "
            "--material.skip_unusable true"
        )
    sizes = {"n_frames": n_frames, "bins_per_octave": front_end.bins_per_octave}
    made = SongMixes(kept, frames_per_second=front_end.frames_per_second, settings=flips, seed=seed, **sizes)
    return made, len(problems)


def _finish(
    folder: Path,
    network: SongEncoder,
    task: Any,
    result: TrainingResult,
    facts: dict[str, Any],
    n_skipped: int,
) -> None:
    """Write the checkpoint of the weights that validated best, and what they came from."""
    which, path, figures = best_weights(task, result)
    if facts["material"]["keep"] == "last":
        which, path, figures = "last epoch", result.last_weights, result.records[-1].metrics if result.records else {}
    network.load_state_dict(read_weights(path))
    windows = {**{name: facts["material"][name] for name in ("window", "hop")}, "front_end": facts["front_end"]}
    extra = {WINDOWS: windows, "weights": which, "valid": figures, "skipped": n_skipped}
    saved = save_checkpoint(folder / "model.safetensors", network, extra=extra)
    write_record(folder, saved, facts, {"skipped": n_skipped}, which, figures, result)
