"""Tokens before the patches: the class token and registers."""

from collections.abc import Callable
import dataclasses

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float


@dataclasses.dataclass(frozen=True)
class Prefix:
  """The tokens before the patches; its length is their number.

  Attributes:
    class_token: whether the first token is a class token.
    registers: number of registers, which come next: learned tokens that can
      store global information, which models would otherwise store in tokens of
      patches (Darcet et al. (2023), arXiv 2309.16588). They have no positions,
      and no pooling uses their outputs.
  """

  class_token: bool = False
  registers: int = 0

  def __len__(self) -> int:
    """Returns the number of tokens."""
    return self.class_token + self.registers

  def prepend(
    self, patches: Float[Array, 'b n d'], param: Callable[..., Array]
  ) -> Float[Array, 'b m+n d']:
    """Returns the sequence of tokens that begins with the prefix.

    Args:
      patches: embeddings of patches.
      param: `param` of the module that the parameters `cls`, initially zero,
        and `registers` belong to.
    """
    width = patches.shape[-1]
    parts = []
    if self.class_token:
      parts.append(param('cls', nn.initializers.zeros, (1, 1, width)))
    if self.registers:  # Random, since equal ones would stay equal.
      init = nn.initializers.normal(1e-6)  # As in the authors' code.
      parts.append(param('registers', init, (1, self.registers, width)))
    parts = [
      jnp.broadcast_to(
        part.astype(patches.dtype), (patches.shape[0], *part.shape[1:])
      )
      for part in parts
    ]
    return jnp.concatenate([*parts, patches], axis=1) if parts else patches
