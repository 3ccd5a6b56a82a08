"""Scores of answers: accuracy, precision, recall and F1 for one label per clip; mAP, AUC and d' for several."""

from tome_audio.metrics.multi_label import MultiLabelScores, d_prime, multi_label_scores
from tome_audio.metrics.single_label import SingleLabelScores, per_class_rows, single_label_scores

__all__ = [
    "MultiLabelScores",
    "SingleLabelScores",
    "d_prime",
    "multi_label_scores",
    "per_class_rows",
    "single_label_scores",
]
