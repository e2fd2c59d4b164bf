"""Axial attention: first within the rows of patches, then within the columns.

Appendix D.6: a block of an Axial-ViT is self-attention along rows and an MLP,
then self-attention along columns and an MLP, and so has about twice the
parameters of a ViT's. There is no class token, which has no row (our choice).
"""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from vit_jax.models import layers


class AxialBlock(nn.Module):
  """An encoder block within each row, then one within each column.

  Their parameters are `rows` and `columns`.

  Attributes:
    block: makes an encoder block of a sequence from its `name`.
    grid: rows and columns of patches.
    positions: makes embeddings of the block's own, from their `name`, which
      are added to what it reads; None for none.
  """

  block: Callable[..., nn.Module]
  grid: tuple[int, int]
  positions: Callable[..., nn.Module] | None = None

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b n d'], dropout_key: Key[Array, ''] | None
  ) -> Float[Array, 'b n d']:
    """Transforms the tokens of a grid; without a key there is no dropout."""
    row_key, column_key = layers.split_key(dropout_key, 2)
    if self.positions is not None:
      x = x + self.positions(name='posembed')(x)
    grid = x.reshape(-1, *self.grid, x.shape[-1])
    grid = within_rows(self.block(name='rows'), grid, row_key)
    grid = within_columns(self.block(name='columns'), grid, column_key)
    return grid.reshape(x.shape)


def within_rows(
  transform: Callable[..., Array], x: Float[Array, 'b h w c'], *arguments
) -> Float[Array, 'b h w d']:
  """Transforms every row as a sequence of its own.

  Args:
    transform: of sequences (b, n, c), with further arguments.
    x: a grid of tokens.
    *arguments: those.
  """
  batch, height, width, channels = x.shape
  out = transform(x.reshape(batch * height, width, channels), *arguments)
  return out.reshape(batch, height, width, -1)


def within_columns(
  transform: Callable[..., Array], x: Float[Array, 'b h w c'], *arguments
) -> Float[Array, 'b h w d']:
  """Transforms every column as a sequence of its own; as `within_rows`."""
  turned = within_rows(transform, jnp.swapaxes(x, 1, 2), *arguments)
  return jnp.swapaxes(turned, 1, 2)
