"""The models of the benchmarks by name: how to build one, what it eats, and which r are worth measuring."""

from __future__ import annotations

import runpy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
import timm
import torch
from torch import Tensor, nn

from tome_audio.audio import AstFeatures
from tome_audio.cli.inspect import count_tokens
from tome_audio.cli.loading import load_model
from tome_audio.merge import BlockCost, Rate, encoder_macs, expand_schedule, max_r, tokens_per_layer
from tome_audio.models import AST, load_kwt
from tome_audio.models.kwt_frontend import KWTFrontend
from tome_audio.patch.registry import find_encoders

DATA: Path = runpy.run_path(str(Path(__file__).parent.parent / "tests" / "real_audio.py"))["DATA"]
KWT_WEIGHTS = Path("weights", "kwt1_speechcommands_v2_12", "kwt1.npz")


@dataclass(frozen=True)
class Case:
    """A model: how to build it, one clip of its input, N tokens entering block 0 of which P are prefix tokens.

    `audio` says how waveforms become its input (None: it does not hear); `coarse` names the same model with patch
    stride 16. A hidden case runs only where it is asked for by name. `source` is what a checkpoint was loaded from.
    """

    name: str
    build: Callable[[], nn.Module]
    input_shape: tuple[int, ...]
    n_tokens: int
    depth: int = 12
    width: int = 768
    n_prefix: int = 2
    rates: tuple[Rate, ...] = ()
    audio: Literal["ast", "kwt"] | None = "ast"
    coarse: str | None = None
    hidden: bool = False
    source: str = ""

    def inputs(self, batch: int, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Return random inputs (B, ...), the same ones each time."""
        return torch.randn(batch, *self.input_shape, generator=torch.Generator().manual_seed(1)).to(device, dtype)

    def waveforms(self, batch: int) -> Tensor:
        """Return noise (B, T samples at 16 kHz) that fills the input of the model."""
        n_samples = 400 + 160 * (self.input_shape[0] - 1) if self.audio == "ast" else 16000
        return 0.1 * torch.randn(batch, n_samples, generator=torch.Generator().manual_seed(1))

    def features(self, device: torch.device) -> Callable[[Tensor], Tensor]:
        """Return what turns waveforms (B, T) into the input of the model, on the device of the waveforms."""
        if self.audio == "kwt":
            return KWTFrontend(n_frames=self.input_shape[0], n_coefficients=self.input_shape[1]).to(device)
        ast = AstFeatures(n_frames=self.input_shape[0], n_mels=self.input_shape[1])
        return lambda waveforms: ast(waveforms).values

    def macs_cut(self, rate: Rate, n_tokens: int | None = None) -> float:
        """Return how many times fewer MACs the blocks take with this r if all of them compute every token.

        Whether the last block computes fewer depends on the method and on how it is called, and no r should.
        """
        start = self.n_tokens if n_tokens is None else n_tokens
        square = self.width**2
        costs = [BlockCost(4 * square, 8 * square, self.width, 2 * square)] * self.depth
        merged = tokens_per_layer(expand_schedule(rate, self.depth), start, self.n_prefix)
        return encoder_macs(costs, [start] * (self.depth + 1)) / encoder_macs(costs, merged)

    def half(self, n_tokens: int | None = None) -> int:
        """Return the smallest constant r that halves the MACs, for N = `n_tokens` or the case's own."""
        start = self.n_tokens if n_tokens is None else n_tokens
        return next(r for r in range(start) if self.macs_cut(r, start) >= 2 or r == max_r(start, self.n_prefix))

    def front(self, cut: float = 4.0, layers: int = 4) -> list[int]:
        """Return the mildest schedule that cuts the MACs `cut` times by merging in the first blocks only.

        Each of the first `layers` blocks merges the same share of its patches, at most half, so r decreases; where the
        share would be more than half, blocks are added.
        """
        for depth in range(min(layers, self.depth), self.depth + 1):
            for share in range(1, 501):
                schedule = self._geometric(share / 1000, depth)
                if self.macs_cut(schedule) >= cut:
                    return schedule
        return schedule

    def _geometric(self, share: float, layers: int) -> list[int]:
        schedule, patches = [], self.n_tokens - self.n_prefix
        for _ in range(layers):
            schedule.append(min(patches // 2, round(share * patches)))
            patches -= schedule[-1]
        return schedule


def real_data() -> Path:
    """Return the folder of real audio; skips the benchmark where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"no real audio at {DATA}: set TOME_AUDIO_DATA")
    return DATA


def from_checkpoint(path: str) -> Case:
    """Return the case of a trained model, by a name or path that the command line of the package knows.

    Raises:
        ValueError: if it cannot be loaded, or cannot name what it hears.
        ImportError: if an optional package is missing.
    """
    loaded = load_model(path)
    loaded.need_labels()
    encoder, adapter = next(find_encoders(loaded.model))
    blocks: Any = getattr(encoder, adapter.blocks)
    return _with_rates(
        Case(
            Path(path).stem, lambda: load_model(path).model, loaded.input_shape, count_tokens(loaded), len(blocks),
            adapter.attention_width(blocks[0]), adapter.n_prefix(encoder), source=path,
        )
    )  # fmt: skip


def _ast(name: str, variant: str, n_frames: int, stride: int) -> Case:
    suffix = "" if stride == 10 else f"-s{stride}"
    n_tokens = 2 + ((128 - 16) // stride + 1) * ((n_frames - 16) // stride + 1)
    return Case(
        f"{name}-{n_frames}{suffix}", partial(AST, variant, n_frames=n_frames, fstride=stride, tstride=stride),
        (n_frames, 128), n_tokens, width=768 if "base" in variant else 384,
        rates=(32, 64, 80, 94) if n_tokens == 1214 else (),
        coarse=f"{name}-{n_frames}-s16" if stride == 10 else None,
    )  # fmt: skip


def _huggingface(n_frames: int) -> Case:
    def build() -> nn.Module:
        from transformers import ASTConfig, ASTForAudioClassification

        return ASTForAudioClassification(ASTConfig(max_length=n_frames, num_labels=527))

    own = _ast("hf_ast", "base384", n_frames, 10)
    return Case(own.name, build, own.input_shape, own.n_tokens, rates=own.rates)


def _kwt() -> Case:
    return Case(
        "kwt1", lambda: load_kwt(real_data() / KWT_WEIGHTS), (98, 40), 99, width=64, n_prefix=1, rates=(4, 8),
        audio="kwt",
    )  # fmt: skip


def _tiny(stride: int) -> Case:
    build = partial(
        AST, None, width=48, depth=3, n_heads=3, n_classes=5, n_mels=32, n_frames=128, fstride=stride, tstride=stride
    )
    name, n_tokens = ("ast_tiny-test", 26) if stride == 10 else ("ast_tiny-test-s16", 18)
    coarse = "ast_tiny-test-s16" if stride == 10 else None
    return Case(name, build, (128, 32), n_tokens, 3, 48, rates=(4,), coarse=coarse, hidden=True)


def _with_rates(case: Case) -> Case:
    """Give a case without r of its own three of them, the largest halving the MACs."""
    half = case.half()
    rates = case.rates or tuple(sorted({max(1, round(half * part / 3)) for part in (1, 2, 3)}))
    return Case(**{**vars(case), "rates": rates})


def _all() -> Iterable[Case]:
    for name, variant in (("ast_base", "base384"), ("ast_small", "small224")):
        for n_frames in (128, 512, 1024):
            yield from (_ast(name, variant, n_frames, stride) for stride in (10, 16))
    yield from (_huggingface(n_frames) for n_frames in (128, 1024))
    yield Case(
        "vit_base-224", partial(timm.create_model, "vit_base_patch16_224"), (3, 224, 224), 197, n_prefix=1, audio=None
    )
    yield _kwt()
    yield from (_tiny(stride) for stride in (10, 16))


CASES: dict[str, Case] = {case.name: _with_rates(case) for case in _all()}
