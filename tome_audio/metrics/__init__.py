"""Scores of answers: one label per clip, several labels per clip, few-shot tasks, and rankings."""

from tome_audio.metrics.few_shot import MeanInterval, Ties, confusion_counts, majority_vote, mean_and_interval
from tome_audio.metrics.multi_label import MultiLabelScores, d_prime, multi_label_scores
from tome_audio.metrics.retrieval import (
    Interval,
    LocalisationScores,
    PresenceScores,
    RetrievalScores,
    localisation_scores,
    presence_scores,
    retrieval_scores,
    with_interval,
)
from tome_audio.metrics.single_label import SingleLabelScores, per_class_rows, single_label_scores

__all__ = [
    "Interval",
    "LocalisationScores",
    "MeanInterval",
    "MultiLabelScores",
    "PresenceScores",
    "RetrievalScores",
    "SingleLabelScores",
    "Ties",
    "confusion_counts",
    "d_prime",
    "localisation_scores",
    "majority_vote",
    "mean_and_interval",
    "multi_label_scores",
    "per_class_rows",
    "presence_scores",
    "retrieval_scores",
    "single_label_scores",
    "with_interval",
]
