"""Scores of answers: one label per clip, several labels per clip, and few-shot tasks."""

from tome_audio.metrics.few_shot import MeanInterval, Ties, confusion_counts, majority_vote, mean_and_interval
from tome_audio.metrics.multi_label import MultiLabelScores, d_prime, multi_label_scores
from tome_audio.metrics.single_label import SingleLabelScores, per_class_rows, single_label_scores

__all__ = [
    "MeanInterval",
    "MultiLabelScores",
    "SingleLabelScores",
    "Ties",
    "confusion_counts",
    "d_prime",
    "majority_vote",
    "mean_and_interval",
    "multi_label_scores",
    "per_class_rows",
    "single_label_scores",
]
