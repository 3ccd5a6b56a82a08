"""Token merging as pure tensor functions: matching, plans, reduction, schedules, cost. No modules, no state."""

from tome_audio.merge.macs import BlockCost, encoder_macs
from tome_audio.merge.matching import (
    MATCHINGS,
    adjacent_match,
    bipartite_match,
    match_each,
    random_match,
    register_matching,
    takes_size,
    unregister_matching,
    ward_match,
)
from tome_audio.merge.plan import MergePlan, compose, identity_plan, plan_from_pairs, source_matrix
from tome_audio.merge.reduce import merge_tokens, size_bias, take_tokens, unmerge_tokens
from tome_audio.merge.rounds import match_each_in_rounds, match_repeatedly, pack_plan
from tome_audio.merge.schedule import (
    AUTO,
    SHAPES,
    Amounts,
    ComputeTarget,
    Rate,
    Schedule,
    check_rate,
    clamp_amounts,
    clamp_r,
    clamp_schedule,
    expand_schedule,
    max_r,
    tokens_per_layer,
)
from tome_audio.merge.scores import PairScore
from tome_audio.merge.shapes import before_matching, macs_cut, reachable_cut, resolve_rate
from tome_audio.merge.similar import count_similar
from tome_audio.merge.threshold import SimilarityThreshold, common_amount

__all__ = [
    "AUTO",
    "MATCHINGS",
    "SHAPES",
    "Amounts",
    "BlockCost",
    "ComputeTarget",
    "MergePlan",
    "PairScore",
    "Rate",
    "Schedule",
    "SimilarityThreshold",
    "adjacent_match",
    "before_matching",
    "bipartite_match",
    "check_rate",
    "clamp_amounts",
    "clamp_r",
    "clamp_schedule",
    "common_amount",
    "compose",
    "count_similar",
    "encoder_macs",
    "expand_schedule",
    "identity_plan",
    "macs_cut",
    "match_each",
    "match_each_in_rounds",
    "match_repeatedly",
    "max_r",
    "merge_tokens",
    "pack_plan",
    "plan_from_pairs",
    "random_match",
    "reachable_cut",
    "register_matching",
    "resolve_rate",
    "size_bias",
    "source_matrix",
    "take_tokens",
    "takes_size",
    "tokens_per_layer",
    "unmerge_tokens",
    "unregister_matching",
    "ward_match",
]
