"""Token merging as pure tensor functions: matching, plans, reduction, schedules, cost. No modules, no state."""

from tome_audio.merge.macs import BlockCost, encoder_macs
from tome_audio.merge.matching import MATCHINGS, adjacent_match, bipartite_match, random_match
from tome_audio.merge.plan import MergePlan, compose, identity_plan, plan_from_pairs, source_matrix
from tome_audio.merge.reduce import merge_tokens, size_bias, take_tokens, unmerge_tokens
from tome_audio.merge.schedule import (
    Rate,
    check_rate,
    clamp_r,
    clamp_schedule,
    expand_schedule,
    max_r,
    tokens_per_layer,
)

__all__ = [
    "MATCHINGS",
    "BlockCost",
    "MergePlan",
    "Rate",
    "adjacent_match",
    "bipartite_match",
    "check_rate",
    "clamp_r",
    "clamp_schedule",
    "compose",
    "encoder_macs",
    "expand_schedule",
    "identity_plan",
    "max_r",
    "merge_tokens",
    "plan_from_pairs",
    "random_match",
    "size_bias",
    "source_matrix",
    "take_tokens",
    "tokens_per_layer",
    "unmerge_tokens",
]
