"""Axial attention: first within the rows of patches, then within the columns.

Appendix D.6: a block of an Axial-ViT is self-attention along rows and an MLP,
then self-attention along columns and an MLP, and has about twice the parameters
of a ViT block. There is no class token, as it would have no row (our choice).
"""

from collections.abc import Callable
import functools

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from vit_jax.models import layers, vit


class AxialVisionTransformer(vit.VisionTransformer):
  """A Vision Transformer with axial blocks."""

  branches = 4

  @nn.nowrap
  def encoder_block(self, grid: tuple[int, int]) -> Callable[..., nn.Module]:
    """Returns a function from `name` to a block for a grid of patches."""
    block = super().encoder_block(grid)
    positions = block.keywords['positions']
    block = functools.partial(
      block, positions=None, constrain=layers.unconstrained
    )
    return functools.partial(
      AxialBlock,
      block=block,
      grid=grid,
      positions=positions,
      constrain=self.constrain,
    )


class AxialBlock(nn.Module):
  """An encoder block within each row, then one within each column.

  Their parameters are `rows` and `columns`.

  Attributes:
    block: a function from a `name` to an encoder block for a sequence.
    grid: rows and columns of patches.
    positions: a function from a `name` to the position embeddings of this
      block; None for none.
    constrain: applied to the tokens before and after the block.
  """

  block: Callable[..., nn.Module]
  grid: tuple[int, int]
  positions: Callable[..., nn.Module] | None = None
  constrain: layers.Constrain = layers.unconstrained

  @nn.compact
  def __call__(
    self,
    x: Float[Array, 'b n d'],
    key: layers.DropoutKey,
    factors: layers.BranchFactors = None,
    shared: Float[Array, '1 n d'] | None = None,
  ) -> Float[Array, 'b n d']:
    """Transforms the tokens of a grid; see `vit.EncoderBlock`."""
    row_key, column_key = layers.split_key(key)
    row_factors = column_factors = None
    if factors is not None:  # All sequences of an image have its factors.
      row_factors = jnp.repeat(factors[:2], self.grid[0], axis=1)
      column_factors = jnp.repeat(factors[2:], self.grid[1], axis=1)
    if shared is not None:
      x = x + shared
    x = self.constrain(x)
    if self.positions is not None:
      x = x + self.positions(name='posembed')(x)
    grid = x.reshape(-1, *self.grid, x.shape[-1])
    grid = within_rows(self.block(name='rows'), grid, row_key, row_factors)
    grid = within_columns(
      self.block(name='columns'), grid, column_key, column_factors
    )
    return self.constrain(grid.reshape(x.shape))


def within_rows(
  transform: Callable[..., Array], x: Float[Array, 'b h w c'], *args
) -> Float[Array, 'b h w d']:
  """Transforms every row as a sequence.

  Args:
    transform: called with sequences (b, n, c) and `args`.
    x: a grid of tokens.
    *args: further arguments of `transform`.
  """
  batch, height, width, channels = x.shape
  out = transform(x.reshape(batch * height, width, channels), *args)
  return out.reshape(batch, height, width, -1)


def within_columns(
  transform: Callable[..., Array], x: Float[Array, 'b h w c'], *args
) -> Float[Array, 'b h w d']:
  """Transforms every column as a sequence; see `within_rows`."""
  turned = within_rows(transform, jnp.swapaxes(x, 1, 2), *args)
  return jnp.swapaxes(turned, 1, 2)
