"""Matchings of one's own: registered by how they score pairs, used by name like those of the package."""

import copy

import pytest
import torch
import torch.nn.functional as F
from fakes import CASES, logits

from tome_audio.merge import MATCHINGS, ComputeTarget, Schedule, register_matching, unregister_matching
from tome_audio.patch import MergeConfig, apply_patch, remove_patch, token_mask, trace

MODELS = ["vit_layerscale_qknorm", "ast", "kwt"]
pytestmark = pytest.mark.filterwarnings("ignore::tome_audio.patch.MergeClampWarning")


def by_cosine(even, odd, even_size, odd_size):
    return F.normalize(even, dim=-1) @ F.normalize(odd, dim=-1).mT


def smallest_first(even, odd, even_size, odd_size):
    return -(even_size[:, :, None] + odd_size[:, None]) + 1e-3 * by_cosine(even, odd, even_size, odd_size)


@pytest.fixture
def own():
    """Register matchings for one test: own(name, score)."""
    names = []

    def add(name, score):
        register_matching(name, score)
        names.append(name)

    yield add
    for name in names:
        unregister_matching(name)


def build(name):
    case = CASES[name]
    x = torch.randn(3, *case.input_shape, generator=torch.Generator().manual_seed(1))
    return case, case.build().eval(), x


@torch.no_grad()
def run(model, x):
    return logits(model(x))


@pytest.mark.parametrize("rate", [2, [3, 1, 1], Schedule((6, 1), (1,)), ComputeTarget(1.4)], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_the_cosine_as_ones_own_is_bipartite(own, name, rate):
    own("my cosine", by_cosine)
    _, model, x = build(name)
    apply_patch(model, rate)
    wanted = run(model, x)
    apply_patch(model, rate, matching="my cosine")
    assert torch.equal(run(model, x), wanted)


@pytest.mark.parametrize("name", MODELS)
def test_it_sees_the_sizes_also_in_repeated_matching(own, name):
    seen = []

    def watching(even, odd, even_size, odd_size):
        seen.append((torch.cat((even_size, odd_size), 1).sum(1), even.shape[1] + odd.shape[1]))
        return smallest_first(even, odd, even_size, odd_size)

    own("watching", watching)
    case, model, x = build(name)
    n_patches = case.n_tokens - case.n_prefix
    apply_patch(model, [n_patches - 2, 0, 0], matching="watching")
    model.r = Schedule((n_patches - 2,), ())
    with trace(model):
        run(model, x)
    assert len(seen) > 1 and [count for _, count in seen] == sorted({count for _, count in seen}, reverse=True)
    assert all(torch.equal(total, torch.full((3,), float(n_patches))) for total, _ in seen)


@pytest.mark.parametrize("name", MODELS)
def test_a_padded_batch_gives_each_clip_what_it_gets_alone(own, name):
    own("smallest first", smallest_first)
    case, model, x = build(name)
    valid = torch.ones(3, case.n_tokens, dtype=torch.bool)
    for clip, gone in enumerate((0, 3, 5)):
        valid[clip, case.n_tokens - gone :] = False
    apply_patch(model, Schedule((2, 2), (2,)), matching="smallest first")
    with token_mask(valid):
        together = run(model, x)
    for clip in range(3):
        with token_mask(valid[clip : clip + 1]):
            alone = run(model, x[clip : clip + 1])
        assert torch.allclose(together[clip], alone[0], atol=1e-5), clip


def test_names_are_checked(own):
    own("mine", by_cosine)
    with pytest.raises(ValueError, match="a matching is called 'mine' already"):
        register_matching("mine", by_cosine)
    with pytest.raises(ValueError, match="a matching is called 'bipartite' already"):
        register_matching("bipartite", by_cosine)
    with pytest.raises(ValueError, match="must be a string, got None"):
        register_matching(None, by_cosine)
    with pytest.raises(ValueError, match="no registered matching is called 'ward'; registered are: mine"):
        unregister_matching("ward")
    assert MergeConfig.from_dict(MergeConfig(matching="mine").to_dict()).matching == "mine"


def test_what_is_unknown_or_scores_wrongly_is_refused(own):
    _, model, x = build("kwt")
    with pytest.raises(ValueError, match=f"matching='mine' is unknown; choose one of {', '.join(MATCHINGS)}"):
        apply_patch(model, 2, matching="mine")
    own("one number", lambda even, odd, even_size, odd_size: even_size)
    apply_patch(model, 2, matching="one number")
    with pytest.raises(ValueError, match=r"must score pairs as \(3, \d+, \d+\) \(B, \|A\|, \|B\|\), got"):
        run(model, x)


def test_a_model_can_be_patched_anew_after_its_matching_is_gone():
    _, model, x = build("kwt")
    register_matching("gone", by_cosine)
    apply_patch(model, 2, matching="gone")
    unregister_matching("gone")
    assert model.r == 2
    again = apply_patch(copy.deepcopy(model), 2)
    assert torch.equal(run(again, x), run(apply_patch(remove_patch(model), 2), x))
