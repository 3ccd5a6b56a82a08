"""The families of models that can be patched, and how to add one.

A family is an `Adapter`: it says which class holds the block list, how many prefix tokens there are, and how one
block runs its attention part and its feed-forward part with the model's own modules. To add a family::

    class MyAdapter(Adapter):
        name = "my family"
        encoder_class = "my_package.my_module.MyEncoder"   # compared by name: nothing is imported
        block_class = "my_package.my_module.MyBlock"
        blocks = "layers"                                   # attribute of MyEncoder that holds the blocks

        def n_prefix(self, encoder): return 1
        def attend(self, block, x, bias): return x + block.attention(block.norm1(x), mask=bias)
        def feed_forward(self, block, x): return x + block.mlp(block.norm2(x))
        def projection(self, block, metric): return block.attention.k if metric == "key" else block.attention.v
        def parts(self, block): return block.attention, block.mlp

    register_adapter(MyAdapter())

`apply_patch` checks on random tokens that `feed_forward(attend(x))` equals the block itself before it changes
anything, so a wiring that drifts from its model is an error and not a wrong result.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from importlib import import_module
from typing import Any, ClassVar

from torch import Tensor, nn

from tome_audio.merge import BlockCost
from tome_audio.patch.classes import Swapped


class UnsupportedModelError(ValueError):
    """The model, or a block of it, cannot be patched exactly."""


class Adapter(ABC):
    """How one family of models runs its blocks. Stateless: one instance serves every model of the family."""

    name: ClassVar[str]
    encoder_class: ClassVar[str]
    block_class: ClassVar[str]
    blocks: ClassVar[str] = "blocks"
    encoder_mixin: ClassVar[type[Swapped] | None] = None
    """Put in front of the encoder's class while it is patched; None adds the attribute `r` and nothing else."""
    classifiers: ClassVar[dict[str, type[Swapped]]] = {}
    """Class names of models around the encoder whose `forward` reads its prefix tokens alone, and what is put in front
    of their classes: a `PatchedModel` whose `forward` calls theirs through `read_prefix` (tome_audio.patch.prefix)."""

    @abstractmethod
    def n_prefix(self, encoder: nn.Module) -> int:
        """Return P, how many tokens at the front (class, distillation, registers) must keep their place."""

    @abstractmethod
    def attend(self, block: Any, x: Tensor, bias: Tensor | None, *args: Any, **kwargs: Any) -> Tensor:
        """Run the block up to and including its attention residual: (B, N, C) -> (B, N, C).

        `bias` (B, 1, 1, N) is to be added to the attention scores; `args` and `kwargs` are what the model passed to
        the block beside its tokens. An argument that cannot be honoured with merged tokens must raise.
        """

    @abstractmethod
    def feed_forward(self, block: Any, x: Tensor) -> Tensor:
        """Run the rest of the block: (B, M, C) -> (B, M, C)."""

    @abstractmethod
    def projection(self, block: Any, metric: str) -> nn.Linear:
        """Return the linear layer inside attention whose output holds the keys or the values."""

    @abstractmethod
    def parts(self, block: Any) -> tuple[nn.Module, nn.Module]:
        """Return the attention module and the feed-forward module, whose linear layers are counted as cost."""

    def read_metric(self, block: Any, metric: str, projected: Tensor) -> Tensor:
        """Return keys or values (B, N, C') from the output of `projection`; heads may be averaged."""
        return projected

    def attention_width(self, block: Any) -> int:
        """Return heads x head size."""
        return self.projection(block, "key").out_features

    def pools_patches(self, encoder: nn.Module) -> bool:
        """Return whether the head reads patch tokens, so that the last block must give every token back."""
        return False

    def grid_rows(self, encoder: nn.Module) -> int:
        """Return in how many rows the patches lie; 1 where one token follows the other, or where nobody knows."""
        return 1

    def reads_prefix(self, encoder: nn.Module) -> bool:
        """Return whether the encoder's own `forward` reads the prefix tokens alone (and says so by `read_prefix`)."""
        return False

    def is_masked(self, *args: Any, **kwargs: Any) -> bool:
        """Return whether what the model passed to a block beside its tokens says which tokens may attend to which."""
        return any(isinstance(value, Tensor) or value is True for value in (*args, *kwargs.values()))

    def can_attend_prefix(self, block: Any) -> bool:
        """Return whether `attend_prefix` gives what this block would: nothing replaced, hooked or switched off."""
        return False

    def attend_prefix(self, block: Any, x: Tensor, bias: Tensor | None, n_prefix: int) -> Tensor:
        """Run the block up to its attention residual for the first P tokens alone: (B, N, C) -> (B, P, C)."""
        raise NotImplementedError(f"{self.name} has no attend_prefix")

    def cost(self, block: Any) -> BlockCost:
        """Return the MACs of one block, from the weights of its linear layers."""
        attention, feed_forward = self.parts(block)
        width = self.attention_width(block)
        key_value = 2 * width * self.projection(block, "key").in_features
        return BlockCost(_linear_macs(attention), _linear_macs(feed_forward), width, key_value)


_ADAPTERS: dict[str, Adapter] = {}
_BUILT_IN = ("timm_vit", "huggingface_ast", "kwt")


def register_adapter(adapter: Adapter) -> None:
    """Add a family of models to what `apply_patch` can serve.

    Raises:
        ValueError: if the adapter lacks a name or a class name, or its name or encoder class is already taken.
    """
    for attribute in ("name", "encoder_class", "block_class"):
        if not isinstance(getattr(adapter, attribute, None), str):
            raise ValueError(f"{type(adapter).__name__}.{attribute} must be a string")
    _load_built_in()
    for other in _ADAPTERS.values():
        if adapter.name == other.name or adapter.encoder_class == other.encoder_class:
            raise ValueError(
                f"adapter {adapter.name!r} for {adapter.encoder_class} clashes with the registered {other.name!r} "
                f"for {other.encoder_class}; choose another name, or call unregister_adapter({other.name!r}) first"
            )
    _ADAPTERS[adapter.name] = adapter


def unregister_adapter(name: str) -> None:
    """Take a family out of the registry; models that are already patched keep working.

    Raises:
        ValueError: if no family has this name.
    """
    if _ADAPTERS.pop(name, None) is None:
        raise ValueError(f"no adapter is called {name!r}; registered are {', '.join(registered_adapters())}")


def registered_adapters() -> dict[str, Adapter]:
    """Return the registered families by name."""
    _load_built_in()
    return dict(_ADAPTERS)


def find_encoders(model: nn.Module) -> Iterator[tuple[nn.Module, Adapter]]:
    """Yield every module of the model that holds a block list, with the adapter that serves it."""
    adapters = list(registered_adapters().values())
    for module in model.modules():
        serving = [a for name in class_names(type(module)) for a in adapters if a.encoder_class == name]
        if serving:
            yield module, serving[0]  # the most derived class: a family may refine another


def class_names(cls: type) -> list[str]:
    """Return the full names of a class and its bases, as adapters spell them."""
    return [f"{base.__module__}.{base.__qualname__}" for base in cls.__mro__]


def _load_built_in() -> None:
    for name in _BUILT_IN:
        adapter = import_module(f"tome_audio.patch.adapters.{name}").ADAPTER
        _ADAPTERS.setdefault(adapter.name, adapter)


def _linear_macs(module: nn.Module) -> int:
    return sum(part.in_features * part.out_features for part in module.modules() if isinstance(part, nn.Linear))
