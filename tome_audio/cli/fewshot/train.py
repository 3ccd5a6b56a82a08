"""`tome-audio fewshot train`: episodes in, a checkpoint that `tome-audio fewshot evaluate` takes out."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tome_audio.audio.front_end import FrontEnd
from tome_audio.audio.spectrum_facts import SpectrumFacts
from tome_audio.cli.corpora import CorpusConfig
from tome_audio.cli.counts import use_threads
from tome_audio.cli.fewshot.build import build_network, build_task, with_statistics_of
from tome_audio.cli.fewshot.config import (
    AudioConfig,
    ClassesConfig,
    ContrastiveConfig,
    EncoderConfig,
    EpisodesConfig,
    HeadConfig,
    ViewsConfig,
)
from tome_audio.cli.fewshot.data import (
    UsableClips,
    check_episodes,
    find_clips,
    find_front_end,
    find_spectrum,
    make_episodes,
    make_views,
    segmented,
    shapes,
)
from tome_audio.cli.output import console
from tome_audio.cli.train_config import MergingConfig
from tome_audio.cli.train_data import is_main_process
from tome_audio.cli.training_run import best_weights, recipe_facts, run_trainer, write_record
from tome_audio.data.embeddings import embed_clips
from tome_audio.data.manifest import Manifest
from tome_audio.data.segmented_clips import EmbeddedSegments, SegmentedClips
from tome_audio.installation import import_extra
from tome_audio.models import FewShotNetwork, save_checkpoint
from tome_audio.training.batches import TrainingData
from tome_audio.training.records import TrainingResult
from tome_audio.training.run_folder import read_weights
from tome_audio.training.schedules import LearningRate
from tome_audio.training.settings import TrainerSettings

_CORPUS, _CLASSES, _EPISODES, _AUDIO = CorpusConfig(), ClassesConfig(), EpisodesConfig(), AudioConfig()
_ENCODER, _HEAD, _CONTRASTIVE, _VIEWS = EncoderConfig(), HeadConfig(), ContrastiveConfig(), ViewsConfig()
_MERGE = MergingConfig()
PLACES = {("audio", "cache"), ("audio", "in_memory"), ("audio", "check"), ("corpus", "audio"), ("classes", "split")}
"""Options that say where things lie; a resumed run may have others."""
# MetaAudio's: Adam without decay, three falls of the learning rate, the epoch that validates best.
META_AUDIO = TrainerSettings(
    epochs=200, batch_size=1, lr=5e-4, optimizer="adam", betas=(0.9, 0.999), weight_decay=0.0, clip_norm=None,
    learning_rate=LearningRate(curve="multistep", start=20, every=20), patience=70,
)  # fmt: skip


def train(
    data: str,
    out: str = "runs/fewshot",
    resume: bool = False,
    threads: int | None = None,
    tensorboard: bool = False,
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
    """Train an encoder on episodes of classes that are not those it is tested on.

    Writes the weights that validated best as model.safetensors, the history as epochs.csv and steps.csv, and all
    options with commit, versions and machine as train.json into --out. A step takes trainer.batch_size episodes.

    Args:
        data: Folder of labelled clips, one folder per class, or what `tome-audio manifest` has written.
        out: Folder for checkpoints and results; made if need be.
        resume: Go on from the newest checkpoint in --out, if there is one.
        threads: CPU threads; none leaves PyTorch's choice.
        tensorboard: Write curves for TensorBoard too.
        corpus: Which clips the folder of a corpus gives; a manifest says so itself.
        classes: Which classes are trained on, validated on and tested on.
        episodes: Their shape and number.
        audio: How clips are read, and the encoder's input.
        encoder: What embeds a clip.
        head: What is on top of it.
        contrastive: A second loss.
        views: Augmented views of clips.
        merge: Merging in the encoder while training.
        trainer: Optimiser, schedule, precision and the like.
    """
    use_threads(threads)
    import_extra("accelerate", "training", "recipes")  # said before an hour of reading clips
    options: dict[str, Any] = {
        "corpus": corpus, "classes": classes, "episodes": episodes, "audio": audio, "encoder": encoder, "head": head,
        "contrastive": contrastive, "views": views, "merge": merge,
    }  # fmt: skip
    recipe = {name: asdict(option) for name, option in options.items()}
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    found = find_clips(data, corpus, classes, audio, folder / "problems.csv", ("train", "valid"))
    learnt = found.part("train")
    assert learnt is not None  # find_clips has seen to it
    check_episodes(found, episodes)
    audio = with_statistics_of(encoder.start, audio)
    front_end = find_front_end(audio, learnt, trainer.seed)
    torch.manual_seed(trainer.seed)
    if contrastive.kind == "none":  # what nothing reads would not be trained
        head = replace(head, projection=None)
    network = build_network(encoder, head, audio, views.n_views, learnt.labels)
    task = build_task(head, contrastive, merge, network, trainer.seed)
    trained: nn.Module = network
    if encoder.freeze:
        _check_frozen(encoder, network, views, merge)
        trained = network.head
    spectrum, frozen = find_spectrum(views, learnt, trainer.seed), network if encoder.freeze else None
    sets = _data(found, front_end, episodes, audio, views, spectrum, frozen, trainer.seed)
    if is_main_process():
        _say_what_is_trained(encoder.kind, trained, found, sets)
    facts = {**recipe_facts(recipe, PLACES), **_clip_facts(found.manifest)}
    result = run_trainer(task, trained, sets, trainer, folder, facts, resume, tensorboard)
    if is_main_process():
        facts = {"data": data, **recipe, "trainer": asdict(trainer)}
        extra = {"spectrum": spectrum and asdict(spectrum), "skipped": found.n_skipped}
        _finish(folder, network, trained, task, result, front_end, facts, extra)
    return 1 if found.n_skipped else 0


def _say_what_is_trained(kind: str, trained: nn.Module, found: UsableClips, sets: TrainingData) -> None:
    learnt, checked = found.part("train"), found.part("valid")
    assert learnt is not None  # the caller has seen it
    n_weights = sum(weights.numel() for weights in trained.parameters())
    n_valid = 0 if sets.valid is None or checked is None else len(checked.labels)
    console().print(
        f"training {kind} ({n_weights:,} parameters) on {len(learnt.labels)} classes with {len(learnt)} clips, "
        f"{n_valid} classes to validate on"
    )


def _check_frozen(encoder: EncoderConfig, network: FewShotNetwork, views: ViewsConfig, merge: MergingConfig) -> None:
    if network.head.is_empty:
        raise ValueError(
            "nothing is left to train: encoder.freeze needs head.projection with a contrastive loss, or head.relation; "
            "to score an encoder as it is, use `tome-audio fewshot evaluate`"
        )
    if views.kind != "none":
        raise ValueError("a frozen encoder embeds each clip once: set views.kind to none, or encoder.freeze to false")
    if merge.is_on:
        raise ValueError("a frozen encoder is not trained merged: leave merge out, and give --r to evaluate")
    if encoder.start is None:
        raise ValueError("encoder.freeze keeps an encoder that was trained before: say which with encoder.start")


def _data(
    found: UsableClips,
    front_end: FrontEnd,
    episodes: EpisodesConfig,
    audio: AudioConfig,
    views: ViewsConfig,
    spectrum: SpectrumFacts | None,
    frozen: FewShotNetwork | None,
    seed: int,
) -> TrainingData:
    """Return episodes to train on and to validate on."""
    shape, valid_shape = shapes(episodes)

    def prepared(manifest: Manifest) -> SegmentedClips | EmbeddedSegments:
        clips = segmented(manifest, front_end, audio)
        if frozen is None:
            return clips
        network = frozen.eval()
        facts = {"weights": [float(w.double().sum()) for w in network.encoder.state_dict().values()]}
        embedded = embed_clips(clips, network.encode, facts | front_end.facts(), folder=audio.cache)
        return EmbeddedSegments(embedded.values[:, 0], embedded.clip)

    learnt, checked = found.part("train"), found.part("valid")
    assert learnt is not None  # the caller has seen it
    own = make_views(views, spectrum, testing=False)
    train_set = make_episodes(prepared(learnt), learnt, shape, episodes.per_epoch, seed, own)
    if checked is None or episodes.valid == 0:
        return TrainingData(train_set, None)
    seen = make_views(views, spectrum, testing=True)
    valid_set = make_episodes(prepared(checked), checked, valid_shape, episodes.valid, seed, seen)
    return TrainingData(train_set, valid_set)


def _clip_facts(manifest: Manifest) -> dict[str, Any]:
    """Return which clips and classes are whose: a class that moved to another part is another run."""
    parts = {part: manifest.select(part) for part in sorted({str(entry.split) for entry in manifest.entries})}
    listed = json.dumps([[part, entry.id, entry.labels] for part, own in parts.items() for entry in own.entries])
    classes = {f"classes to {part}": sorted({e.labels[0] for e in own.entries}) for part, own in parts.items()}
    return {"clips": len(manifest), "clip list": hashlib.sha256(listed.encode()).hexdigest()[:16], **classes}


def _finish(
    folder: Path,
    network: FewShotNetwork,
    trained: nn.Module,
    task: Any,
    result: TrainingResult,
    front_end: FrontEnd,
    facts: dict[str, Any],
    extra: dict[str, Any],
) -> None:
    """Write the checkpoint of the weights that validated best, and what they came from."""
    which, path, figures = best_weights(task, result)
    trained.load_state_dict(read_weights(path))
    learnt_with = {name: facts["head"][name] for name in ("distance", "temperature")}
    learnt_with |= {"front_end": front_end.facts(), "views": facts["views"], "weights": which, "valid": figures}
    saved = save_checkpoint(folder / "model.safetensors", network, extra={**learnt_with, **extra})
    write_record(folder, saved, facts, extra, which, figures, result)
