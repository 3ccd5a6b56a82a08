"""Runs a model with any rule between its own modules, on tokens that are made once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from merging.scores import cosine, within
from merging.steps import Step, pairs, repeated
from merging.view import View, merge
from tome_audio.merge import Amounts, Rate, macs_cut, resolve_rate, size_bias
from tome_audio.models import AST, KWT
from tome_audio.patch.registry import find_encoders

IN_BLOCKS: Step = pairs(cosine("key"))
BEFORE: Step = pairs(within(cosine("hidden"), 1))


@dataclass(frozen=True)
class Rule:
    """A way to merge: what happens in blocks, in rounds before the first, and how tokens become one.

    Attributes:
        name: of the rule.
        group: what is varied.
        blocks: the step between attention and feed-forward; the default is that of `apply_patch`.
        before: the step before block 0; the default is that of a `Schedule`.
        combine: mean (by size), plain (a mean that ignores sizes), norm (a mean with the mean norm of its parts), keep
            (the token that stays, unchanged) or felt (a mean weighted by the attention of prefix tokens).
        size_power: log(size) times this enters attention.
    """

    name: str
    group: str
    blocks: Step = IN_BLOCKS
    before: Step = BEFORE
    combine: str = "mean"
    size_power: float = 1.0


class Lab:
    """A model whose blocks are run here, block by block, for one set of clips.

    Args:
        model: KWT or AST, unpatched, in eval mode.
        inputs: what it eats, (n, ...).
        batch_size: clips per pass.
    """

    def __init__(self, model: nn.Module, inputs: Tensor, batch_size: int = 128) -> None:
        if not isinstance(model, KWT | AST):
            raise ValueError(f"the comparison runs KWT and AST, not {type(model).__name__}")
        (self.encoder, self.adapter), *_ = find_encoders(model)
        self.model: Any = model
        self.blocks: list[Any] = list(getattr(self.encoder, self.adapter.blocks))
        self.n_prefix = self.adapter.n_prefix(self.encoder)
        self.costs = tuple(self.adapter.cost(block) for block in self.blocks)
        self.tokens: list[Tensor] = []
        hook = self.blocks[0].register_forward_pre_hook(lambda block, args: self.tokens.append(args[0]))
        with torch.inference_mode():
            self.base = torch.cat([model(part) for part in inputs.split(batch_size)])
        hook.remove()
        self.n_tokens = self.tokens[0].shape[1]
        self.place = self._places()

    def amounts(self, rate: Rate) -> Amounts:
        """Return what merges where; a `ComputeTarget` that names no shape is front-loaded, on grids too."""
        return resolve_rate(rate, self.n_tokens, self.n_prefix, self.costs, last_queries=self.n_prefix)

    def macs_cut(self, rate: Rate) -> float:
        """Return how many times fewer MACs the blocks take."""
        return macs_cut(self.amounts(rate), self.n_tokens, self.costs, last_queries=self.n_prefix)

    @torch.inference_mode()
    def answers(self, rate: Rate, rule: Rule) -> Tensor:
        """Return the logits (n, K) of all clips with tokens merged by the rule."""
        amounts = self.amounts(rate)
        return torch.cat([self._answer(x, amounts, rule) for x in self.tokens])

    def _answer(self, x: Tensor, amounts: Amounts, rule: Rule) -> Tensor:
        size, place = torch.ones(x.shape[:2]), self.place.expand(len(x), -1, -1)
        for r in amounts.before:
            x, size, place = self._merge(rule, rule.before, r, self._view(self.blocks[0], x, x, size, place, rule))
        for block, r in zip(self.blocks, amounts.blocks, strict=True):
            bias = size_bias(size**rule.size_power, x.dtype)
            attended = self.adapter.attend(block, x, bias)
            if r > 0:
                view = self._view(block, x, attended, size, place, rule)
                attended, size, place = self._merge(rule, rule.blocks, r, view)
            x = self.adapter.feed_forward(block, attended)
        return self._head(x)

    def _merge(self, rule: Rule, step: Step, r: int, view: View) -> tuple[Tensor, Tensor, Tensor]:
        shares, x = repeated(step)(view, r), view["hidden"]
        after = view.merged(shares)
        mean = after["hidden"]
        if rule.combine == "plain":
            mean = merge(shares, x, torch.ones_like(view.size))
        elif rule.combine == "norm":
            norms = merge(shares, x.norm(dim=-1, keepdim=True), view.size)
            mean = mean * norms / mean.norm(dim=-1, keepdim=True).clamp(min=1e-6)
        elif rule.combine == "felt":
            mean = merge(shares, x, view["received"] + 1e-6)
        elif rule.combine == "keep":
            # The member that is nearest to the mean stands for the group.
            distance = torch.cdist(mean, x).masked_fill(shares == 0, torch.inf)
            mean = x.gather(1, distance.argmin(-1)[..., None].expand_as(mean))
        return mean, after.size, after.place

    def _view(self, block: Any, x: Tensor, hidden: Tensor, size: Tensor, place: Tensor, rule: Rule) -> View:
        def read(name: str) -> Tensor:
            if name == "hidden":
                return hidden
            if name == "received":
                heads = dict(zip(("query", "key"), self._heads(block, x)[:2], strict=True))
                q, k = heads["query"][:, : self.n_prefix], heads["key"]
                scores = torch.einsum("bphd,bnhd->bhpn", q, k) * block.attn.scale
                bias = size_bias(size**rule.size_power, x.dtype)
                return (scores + bias).softmax(-1).mean((1, 2))
            return self._heads(block, x)[("query", "key", "value").index(name)]

        return View(size, place, self.n_prefix, read)

    def _heads(self, block: Any, x: Tensor) -> Sequence[Tensor]:
        """Return queries, keys and values (B, N, H, D)."""
        attention = block.attn
        if isinstance(self.model, KWT):
            projected = [layer(x) for layer in (attention.q, attention.k, attention.v)]
        else:
            projected = F.linear(block.norm1(x), attention.qkv.weight, attention.qkv.bias).chunk(3, dim=-1)
        return [part.unflatten(-1, (attention.num_heads, -1)) for part in projected]

    def _head(self, x: Tensor) -> Tensor:
        if isinstance(self.model, KWT):
            return self.model.head(x[:, 0])
        return self.model.forward_head(self.model.v.norm(x))

    def _places(self) -> Tensor:
        """Return (band, frame) of each token, (N, 2); prefix tokens have none and are put at 0."""
        bands, frames = self.model.grid if isinstance(self.model, AST) else (1, self.n_tokens - self.n_prefix)
        grid = torch.cartesian_prod(torch.arange(bands), torch.arange(frames)).float()
        return torch.cat((torch.zeros(self.n_prefix, 2), grid))
