"""What can be learnt: each task says its loss, its outputs, its figures and what counts as better."""

from tome_audio.tasks.classification import Classification
from tome_audio.tasks.few_shot import FewShot
from tome_audio.tasks.merging import Between, MergedTask, OneOf, TargetBetween, draw_rate
from tome_audio.tasks.retrieval import MixRetrieval
from tome_audio.tasks.teachers import ModelTeacher, UnmergedSelf

__all__ = [
    "Between",
    "Classification",
    "FewShot",
    "MergedTask",
    "MixRetrieval",
    "ModelTeacher",
    "OneOf",
    "TargetBetween",
    "UnmergedSelf",
    "draw_rate",
]
