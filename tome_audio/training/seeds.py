"""One seed for everything that is drawn, from what it is drawn for: nothing random has to be saved to be resumed."""

from __future__ import annotations

import hashlib

import torch


def derive_seed(*parts: int | str) -> int:
    """Return a seed in [0, 2^63) that depends on all parts and their order, the same on every machine.

    Write `derive_seed(seed, "order", epoch)`.
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def derive_generator(*parts: int | str) -> torch.Generator:
    """Return a generator on the CPU, seeded with `derive_seed`."""
    return torch.Generator().manual_seed(derive_seed(*parts))
