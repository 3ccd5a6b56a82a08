"""What merging is measured against, each written from its paper's description: `METHODS[name](model, r)`.

Every method takes an unpatched model in eval mode, leaves it as it is, and returns a model of its own that takes the
same input and gives logits of the same shape.
"""

from rivals.cost import tokens_and_macs
from rivals.methods import METHODS

__all__ = ["METHODS", "tokens_and_macs"]
