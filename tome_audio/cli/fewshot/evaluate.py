"""`tome-audio fewshot evaluate`: thousands of tasks on unseen classes, over several r."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from rich.table import Table
from torch import Tensor

from tome_audio.cli.corpora import CorpusConfig
from tome_audio.cli.counts import check_counts, use_threads
from tome_audio.cli.evaluate import UNPATCHED
from tome_audio.cli.fewshot.config import ClassesConfig, ReadingConfig
from tome_audio.cli.fewshot.data import class_members, find_clips, make_views
from tome_audio.cli.fewshot.embedders import Embedder, load_embedder
from tome_audio.cli.output import console, progress, warn, write_whole
from tome_audio.cli.rates import parse_rates, rate_name
from tome_audio.data.embeddings import Embedded, SeenAs, embed_clips
from tome_audio.data.episodes import EpisodeShape
from tome_audio.data.manifest import Manifest
from tome_audio.data.segmented_clips import SegmentedClips
from tome_audio.evaluation.few_shot import FIRST_VIEW, Compare, EmbeddedClips, TaskScores, evaluate_tasks
from tome_audio.losses import cl2n, prototypical_logits
from tome_audio.merge import Rate
from tome_audio.metrics.few_shot import Ties
from tome_audio.patch import apply_patch, describe, set_r, trace
from tome_audio.patch.config import Metric
from tome_audio.patch.registry import UnsupportedModelError
from tome_audio.profiling import environment, interleaved, ratio

_CORPUS, _CLASSES, _AUDIO = CorpusConfig(), ClassesConfig(), ReadingConfig()
_TURNS = 7
_KEPT_IN_MEMORY = 5000  # clips whose features wait for the next r
Classifier = Literal["own", "squared", "euclidean", "cosine", "simpleshot", "relation"]


def evaluate(
    model: str,
    data: str,
    r: str = UNPATCHED,
    split: Literal["train", "valid", "test"] = "test",
    n_way: int = 5,
    k_shot: int = 1,
    n_query: int = 1,
    n_tasks: int = 10000,
    seed: int = 0,
    classifier: Classifier = "own",
    ties: Ties = "first",
    metric: Metric = "key",
    batch_size: int = 64,
    threads: int | None = None,
    out: str = "runs/fewshot/evaluate",
    cache: str | None = None,
    corpus: CorpusConfig = _CORPUS,
    classes: ClassesConfig = _CLASSES,
    audio: ReadingConfig = _AUDIO,
) -> int:
    """Score a model on few-shot tasks: accuracy with its 95 % interval over tasks, MACs and speed-up of an episode.

    Every clip is embedded once for each r, and all r answer the same tasks. Speed-up is that of embedding the clips of
    one episode, against the unpatched model in turn. Writes evaluate.csv, confusion.csv and evaluate.json.

    Args:
        model: A checkpoint of `tome-audio fewshot train`; or of `tome-audio train`, kwt1.npz, an official AST (.pth) or
            a Hugging Face AST, whose last layer is left out.
        data: Folder of labelled clips, one folder per class, or what `tome-audio manifest` has written.
        r: Settings to compare, such as 0,8,2x; unpatched scores any model as it is, CNNs too.
        split: Whose classes and clips the tasks are made of.
        n_way: Classes of a task.
        k_shot: Clips of a class to learn from.
        n_query: Clips of a class to be asked.
        n_tasks: Tasks.
        seed: Of the tasks.
        classifier: own is what the model was trained with; squared, euclidean and cosine compare with prototypes,
            simpleshot does so after CL2N (Wang et al., 2019), relation asks the model's relation head.
        ties: Who wins where segments of a clip vote for several classes alike: first, min_label or max_posterior.
        metric: What similarity is measured on.
        batch_size: Segments per forward pass.
        threads: CPU threads; none leaves PyTorch's choice.
        out: Folder for the results; made if need be.
        cache: Folder for embeddings; none computes them anew.
        corpus: Which clips the folder of a corpus gives; a manifest says so itself.
        classes: Which classes belong to which part.
        audio: Whether clips are checked; how they become features, the model says itself.
    """
    rates = [] if r == UNPATCHED else parse_rates(r)
    check_counts(batch_size=batch_size, n_tasks=n_tasks)
    use_threads(threads)
    shape = EpisodeShape(n_way, k_shot, n_query)
    embedder = load_embedder(model)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    parts = (split, "train") if classifier == "simpleshot" and split != "train" else (split,)
    found = find_clips(data, corpus, classes, audio, folder / "problems.csv", parts)
    tested = found.part(split)
    assert tested is not None  # find_clips has seen to it
    class_members(tested).check(shape, f"split {split}")
    if known := sorted(set(tested.labels) & set(embedder.labels)):
        warn(
            f"{len(known)} of {len(tested.labels)} classes of split {split} are known to the model, such as {known[0]}"
        )
    scorer = _Scorer(embedder, tested, found.part("train"), shape, n_tasks, seed, classifier, ties, batch_size, cache)
    try:
        rows, scores = _score_all(scorer, rates, metric)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"{error}; to score it as it is, use --r {UNPATCHED}") from error
    options = {
        "model": model, "data": data, "r": r, "split": split, "episodes": str(shape), "n_tasks": n_tasks, "seed": seed,
        "classifier": scorer.classifier, "ties": ties, "metric": metric, "classes": list(tested.labels),
        "threads": torch.get_num_threads(),
    }  # fmt: skip
    _write(folder, rows, scores, options)
    console().print(_table(rows, f"{n_tasks} tasks, {shape}, {len(tested.labels)} classes with {len(tested)} clips"))
    console().print(f"written: {folder}/evaluate.csv, confusion.csv, evaluate.json")
    return 1 if found.n_skipped else 0


def _score_all(scorer: _Scorer, rates: Sequence[Rate], metric: Metric) -> tuple[list[dict[str, Any]], list[TaskScores]]:
    """Score every setting of r, or the model as it is where there are none."""
    rows, scores = [], []
    n_clips = len(scorer.tested)
    with progress() as bars:
        for rate in (*rates,) or (None,):
            label = UNPATCHED if rate is None else rate_name(rate)
            task = bars.add_task(f"r = {label}", total=n_clips + scorer.n_tasks)
            network = copy.deepcopy(scorer.embedder.model)
            row: dict[str, Any] = {"r": label}
            if rate is not None:
                set_r(apply_patch(network, metric=metric), rate)
                row |= _cost(scorer.embedder, network, scorer.episode)
            score = scorer.score(network, {"r": label, "metric": metric}, partial(_advance, bars, task))
            summary = score.summary
            row |= {"accuracy": 100 * summary.mean, "interval": 100 * summary.half_width}
            rows.append({**row, "n_tasks": scorer.n_tasks, "n_clips": n_clips})
            scores.append(score)
    return rows, scores


class _Scorer:
    """What stays the same over all r: the clips, the tasks and the classifier."""

    def __init__(
        self,
        embedder: Embedder,
        tested: Manifest,
        base: Manifest | None,
        shape: EpisodeShape,
        n_tasks: int,
        seed: int,
        classifier: Classifier,
        ties: Ties,
        batch_size: int,
        cache: str | None,
    ) -> None:
        self.embedder, self.tested, self.shape, self.n_tasks = embedder, tested, shape, n_tasks
        self.seed, self.ties, self.batch_size, self.cache = seed, ties, batch_size, cache
        head = embedder.head
        if classifier == "own":
            classifier = "relation" if head is not None and head.relation is not None else embedder.distance
        if classifier == "relation" and (head is None or head.relation is None):
            raise ValueError(f"{embedder.name} has no relation head: choose another --classifier")
        self.classifier: Classifier = classifier
        self.clips = SegmentedClips(tested, embedder.front_end, in_memory=len(tested) <= _KEPT_IN_MEMORY)
        self.base: SegmentedClips | None = None
        if classifier == "simpleshot":
            if base is None:
                raise ValueError("simpleshot needs the mean embedding of training clips: the data has no split train")
            self.base = SegmentedClips(base, embedder.front_end)
        self.views = make_views(embedder.views, embedder.spectrum, testing=True)
        self.has_views = self.views.support or (self.views.query and self._is_fused)
        seen = asdict(embedder.views), embedder.spectrum and asdict(embedder.spectrum), seed
        self.view_facts = list(seen) if self.has_views else None

    @property
    def _is_fused(self) -> bool:
        return self.embedder.head is not None and self.embedder.head.fusion is not None

    @property
    def episode(self) -> Tensor:
        """The features of as many clips as an episode has."""
        n_clips = self.shape.n_way * (self.shape.k_shot + self.shape.n_query)
        return torch.stack([self.clips.features(i % len(self.tested))[0] for i in range(n_clips)])

    def score(self, network: Any, facts: dict[str, Any], on_done: Callable[[int], None]) -> TaskScores:
        """Embed all clips with this network, and answer the tasks."""
        own = {**self.embedder.facts(), **facts, "views": self.view_facts, "asked_and_learnt": self._is_fused}
        embedded = self._embedded(self.clips, network, own, on_done)
        labels = tuple(entry.labels[0] for entry in self.tested.entries)
        mean = None if self.base is None else _mean_of_clips(self._embedded(self.base, network, own))
        return evaluate_tasks(
            EmbeddedClips(embedded.values, embedded.clip, labels), self.shape, self._compare(mean),
            n_tasks=self.n_tasks, seed=self.seed, support_views=self._learnt_from, ties=self.ties,
            on_tasks=lambda done: on_done(len(self.tested) + done),
        )  # fmt: skip

    def _embedded(
        self, clips: SegmentedClips, network: Any, facts: dict[str, Any], on_done: Callable[[int], None] | None = None
    ) -> Embedded:
        head, seen_as = self.embedder.head, self._seen_as(clips) if self.has_views else None

        def embed(batch: Tensor) -> Tensor:
            flat = network(batch.flatten(0, 1)).unflatten(0, batch.shape[:2])
            if head is None or not self._is_fused:
                return flat
            fused: dict[bool, Tensor] = {True: head.embed(flat), False: head.embed(flat[:, :1])}
            # One that stands for a clip that is asked, and one for a clip to learn from.
            return torch.cat([fused[self.views.query], fused[self.views.support]], 1)

        return embed_clips(
            clips, embed, facts, folder=self.cache, seen_as=seen_as, batch_size=self.batch_size, on_clips=on_done
        )

    @property
    def _learnt_from(self) -> slice:
        if self._is_fused:
            return slice(1, 2)
        return slice(None) if self.views.support else FIRST_VIEW

    def _seen_as(self, clips: SegmentedClips) -> SeenAs:
        views = self.views

        def seen(number: int, features: Tensor) -> Tensor:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
            if views.of_features is not None:
                return views.of_features(features, generator)
            assert views.of_waveforms is not None
            made = torch.stack([views.of_waveforms(segment, generator) for segment in clips.waveforms(number)])
            return clips.front_end.features(made.flatten(0, 1)).unflatten(0, made.shape[:2])

        return seen

    def _compare(self, mean: Tensor | None) -> Compare:
        if self.classifier == "relation":
            relation = self.embedder.head.relation
            return lambda support, query: relation(query, support.mean(2))
        if mean is not None:
            return lambda support, query: prototypical_logits(cl2n(query, mean), cl2n(support, mean).mean(2), "squared")
        distance: Any = self.classifier
        return lambda support, query: prototypical_logits(query, support.mean(2), distance)


def _mean_of_clips(embedded: Embedded) -> Tensor:
    """Return the mean over clips (D,), whatever number of segments each has."""
    counts = torch.bincount(embedded.clip)
    weights = 1 / counts[embedded.clip].to(embedded.values)
    return (embedded.values[:, 0] * weights[:, None]).sum(0) / len(counts)


def _advance(bars: Any, task: Any, done: int) -> None:
    bars.update(task, completed=done)


@torch.inference_mode()
def _cost(embedder: Embedder, network: Any, episode: Tensor) -> dict[str, float]:
    """Return how many times fewer MACs, and how much faster the clips of an episode are embedded."""
    with trace(network) as traces:
        network(episode[:1])
    calls = {"unpatched": partial(embedder.model, episode), "merged": partial(network, episode)}
    seconds = interleaved(calls, turns=_TURNS, warmup=1)
    speedup, low, high = ratio(seconds["unpatched"], seconds["merged"])
    cut = describe(network, traces[0].n_tokens).macs_cut
    return {"macs_cut": cut, "speedup": speedup, "speedup_low": low, "speedup_high": high}


def _table(rows: list[dict[str, Any]], caption: str) -> Table:
    table = Table(caption=caption)
    timed = "speedup" in rows[0]
    for title in ("r", *(["MACs cut", "speed-up of an episode"] if timed else []), "accuracy %"):
        table.add_column(title, justify="right")
    for row in rows:
        cells = [row["r"]]
        if timed:
            cells += [f"{row['macs_cut']:.2f}x", f"{row['speedup']:.2f}x"]
        table.add_row(*cells, f"{row['accuracy']:.2f} ± {row['interval']:.2f}")
    return table


def _write(folder: Path, rows: list[dict[str, Any]], scores: list[TaskScores], options: dict[str, Any]) -> None:
    """Write evaluate.csv, confusion.csv and evaluate.json into `folder`, each whole or not at all."""
    confusion = [
        {"r": row["r"], "class": str(name), "taken_for": str(other), "count": int(score.confusion[i, j])}
        for row, score in zip(rows, scores, strict=True)
        for i, name in enumerate(score.names)
        for j, other in enumerate(score.names)
        if score.confusion[i, j]
    ]
    tables = {"rows": pd.DataFrame(rows), "confusion": pd.DataFrame(confusion)}
    write_whole(folder / "evaluate.csv", tables["rows"].to_csv(index=False, float_format="%.4f"))
    write_whole(folder / "confusion.csv", tables["confusion"].to_csv(index=False))
    facts = {name: json.loads(frame.to_json(orient="records")) for name, frame in tables.items()}
    text = json.dumps({"options": options, "environment": environment(), **facts}, indent=2)
    write_whole(folder / "evaluate.json", text + "\n")
