"""The grid of patches and position embeddings (Appendix D.4)."""

from collections.abc import Callable
import functools

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from vit_jax.models.prefix import Prefix

# Except for 'none', implemented by `LearnedPositions`, `GridPositions`,
# `offset_bias` and `SinCosPositions`, in this order.
KINDS = ('none', '1d', '2d', 'relative', 'sincos2d')
# Where 1d and 2d embeddings are added: once, before the first block; or to the
# input of every block, either with its own embeddings or with shared ones.
# Relative positions, which act in every block, and fixed ones ('sincos2d') only
# support 'stem'.
PLACES = ('stem', 'every_layer', 'every_layer_shared')

_initial = nn.initializers.normal(0.02)


def check(kind: str, place: str, width: int) -> None:
  """Checks that kind, place and width can be combined (Table 8).

  Args:
    kind: one of `KINDS`.
    place: one of `PLACES`.
    width: size of a token.

  Raises:
    ValueError: if 'none', 'relative' or 'sincos2d' is combined with a place
      other than 'stem', or if the width cannot be divided as '2d' or 'sincos2d'
      require.
  """
  if kind == 'sincos2d' and place != 'stem':
    raise ValueError(
      "positions='sincos2d' are added once, so positions_at cannot be"
      f" {place!r}; leave positions_at at 'stem', or choose positions='1d' or"
      " '2d'."
    )
  if kind == 'sincos2d' and (width % 4 or width < 8):
    raise ValueError(
      "positions='sincos2d' uses a quarter of a token for each of two sines and"
      f' two cosines, but the width is {width}; choose a multiple of 4 that is'
      ' at least 8.'
    )
  if kind in ('none', 'relative') and place != 'stem':
    raise ValueError(
      f'positions={kind!r} are not added to tokens, so positions_at cannot be'
      f" {place!r}; leave positions_at at 'stem' (relative positions act in"
      " every layer), or choose positions='1d' or '2d'."
    )
  if kind == '2d' and width % 2:
    raise ValueError(
      "positions='2d' use half of a token for rows and half for columns, but a"
      f' width of {width} is odd; choose an even width.'
    )


def as_pair(size: int | tuple[int, int]) -> tuple[int, int]:
  """Returns (height, width), given a pair or one number for both.

  Raises:
    ValueError: if the size is neither, or not positive.
  """
  pair = (size, size) if isinstance(size, int) else tuple(size)
  if len(pair) != 2 or min(pair) < 1:
    raise ValueError(
      'a size in pixels must be one positive number or a pair (height, width),'
      f' got {size}.'
    )
  return pair


def grid_shape(
  image_size: int | tuple[int, int],
  patch_size: int | tuple[int, int],
  stride: int = 1,
) -> tuple[int, int]:
  """Returns the numbers of rows and columns of patches in an image.

  Args:
    image_size: size in pixels.
    patch_size: size in pixels, or in positions of a feature map.
    stride: distance in pixels between these positions; the last one may cover
      fewer pixels.

  Raises:
    ValueError: if the image is not a whole number of patches high and wide.
  """
  image, patch = as_pair(image_size), as_pair(patch_size)
  cut = tuple(-(-side // stride) for side in image)
  if any(c < p or c % p for c, p in zip(cut, patch, strict=True)):
    nearest = 'x'.join(
      str(max(round(c / p), 1) * p * stride)
      for c, p in zip(cut, patch, strict=True)
    )
    map_of_it = '' if stride == 1 else f' (a map of {cut[0]}x{cut[1]})'
    raise ValueError(
      f'an image of {image[0]}x{image[1]} pixels{map_of_it} cannot be cut into'
      f' patches of {patch[0]}x{patch[1]}: each side must be a multiple of the'
      f' patch size; use an image of {nearest}, or another patch size.'
    )
  return cut[0] // patch[0], cut[1] // patch[1]


class LearnedPositions(nn.Module):
  """A learned vector per position in the sequence: E_pos of equation 1.

  "1-D" in Appendix D.4, which does not distinguish rows and columns of the
  grid. A class token has the first position; registers have none.

  Attributes:
    prefix: tokens before the patches.
  """

  prefix: Prefix = Prefix()

  @nn.compact
  def __call__(self, tokens: Float[Array, 'b n d']) -> Float[Array, '1 n d']:
    """Returns the embeddings to add to the tokens."""
    _, length, width = tokens.shape
    registers = self.prefix.registers
    shape = 1, length - registers, width
    embedding = self.param('pos_embedding', _initial, shape)
    if registers:
      head, patches = jnp.split(
        embedding, [int(self.prefix.class_token)], axis=1
      )
      zeros = jnp.zeros((1, registers, width))
      embedding = jnp.concatenate([head, zeros, patches], axis=1)
    return embedding.astype(tokens.dtype)


class GridPositions(nn.Module):
  """A learned vector of half the width per row and per column of the grid.

  "2-D" in Appendix D.4. A class token is not in the grid and gets zeros (our
  choice), like registers.

  Attributes:
    grid: rows and columns of patches.
    prefix: tokens before the patches.
  """

  grid: tuple[int, int]
  prefix: Prefix

  @nn.compact
  def __call__(self, tokens: Float[Array, 'b n d']) -> Float[Array, '1 n d']:
    """Returns the embeddings to add to the tokens."""
    half = tokens.shape[-1] // 2
    tables = [
      self.param(f'pos_embedding_{axis}', _initial, (length, half))
      for axis, length in zip(('rows', 'columns'), self.grid, strict=True)
    ]
    embedding = concatenate_tables(*tables)
    if self.prefix:
      embedding = jnp.pad(embedding, ((len(self.prefix), 0), (0, 0)))
    return embedding[None].astype(tokens.dtype)


class SinCosPositions(nn.Module):
  """Sines and cosines of the column and the row: fixed, without parameters.

  As in Beyer et al. (2022), arXiv 2205.01580. In MoCo v3 (Chen et al. (2021),
  arXiv 2104.02057), the frequencies are spaced slightly differently. A class
  token and registers get zeros.

  Attributes:
    grid: rows and columns of patches.
    prefix: tokens before the patches.
  """

  grid: tuple[int, int]
  prefix: Prefix

  @nn.compact
  def __call__(self, tokens: Float[Array, 'b n d']) -> Float[Array, '1 n d']:
    """Returns the embeddings to add to the tokens."""
    embedding = sincos_table(self.grid, tokens.shape[-1])
    embedding = np.pad(embedding, ((len(self.prefix), 0), (0, 0)))
    return jnp.asarray(embedding[None], tokens.dtype)


def sincos_table(grid: tuple[int, int], width: int) -> Float[np.ndarray, 'n d']:
  """Returns fixed embeddings of all patches in raster order.

  Quarters are sin(x w), cos(x w), sin(y w) and cos(y w), where x is the column
  and y the row. The d / 4 frequencies w fall from 1 to 1 / 10,000.
  """
  frequencies = 10_000.0 ** -np.linspace(0, 1, width // 4)
  rows, columns = np.indices(grid).reshape(2, -1, 1)
  angles = columns * frequencies, rows * frequencies
  quarters = [f(angle) for angle in angles for f in (np.sin, np.cos)]
  return np.concatenate(quarters, axis=1).astype(np.float32)


def concatenate_tables(
  rows: Float[Array, 'rows s'], columns: Float[Array, 'columns s']
) -> Float[Array, 'n d']:
  """Returns the vectors of all patches in raster order, each (row, column).

  Their size is d = 2s, their number n = rows * columns.
  """
  shape = len(rows), len(columns), rows.shape[1]
  halves = (
    jnp.broadcast_to(rows[:, None], shape),
    jnp.broadcast_to(columns[None], shape),
  )
  return jnp.concatenate(halves, axis=-1).reshape(-1, 2 * shape[-1])


class OffsetPositions(nn.Module):
  """A learned vector per offset between two positions in a sequence.

  All heads share them, as in Shaw et al. (2018), arXiv 1803.02155.

  Attributes:
    size: size of a vector.
  """

  size: int

  @nn.compact
  def __call__(self, length: int) -> Float[Array, 'n n s']:
    """Returns the vector of each offset q - k, indexed by (q, k)."""
    table = self.param(
      'pos_embedding_offsets', _initial, (2 * length - 1, self.size)
    )
    place = np.arange(length)
    return table[place[:, None] - place + length - 1]


def offset_bias(
  query: Float[Array, 'b h n s'], num_prefix: int
) -> Float[Array, 'b h n n']:
  """Returns the products of queries with embeddings of relative offsets.

  "Relative" in Appendix D.4, with offsets p_q - p_k, where p is the index of a
  patch in raster order. A class token has no index, so its bias is zero as a
  query and as a key (our choice), like that of registers. The embeddings are
  `posembed` in the caller's scope; the result is float32, to be added to the
  attention logits.

  Args:
    query: queries, divided by sqrt(s).
    num_prefix: number of tokens before the patches.
  """
  patches = query[:, :, num_prefix:]
  _, _, length, size = patches.shape
  keys = OffsetPositions(size, name='posembed')(length)
  logits = jnp.einsum(
    'bhqs,qks->bhqk',
    patches,
    keys.astype(query.dtype),
    preferred_element_type=jnp.float32,
  )
  prefix = num_prefix, 0
  return jnp.pad(logits, ((0, 0), (0, 0), prefix, prefix))


# Cached, so that modules with equal options compare equal.


@functools.cache
def query_bias(kind: str, num_prefix: int) -> Callable[[Array], Array] | None:
  """Returns a function from queries to a bias; None except for 'relative'."""
  if kind == 'relative':
    return functools.partial(offset_bias, num_prefix=num_prefix)
  return None


@functools.cache
def added(
  kind: str, grid: tuple[int, int], prefix: Prefix
) -> Callable[..., nn.Module] | None:
  """Returns a function from `name` to a module that embeds positions.

  Returns None for kinds that add nothing to tokens.
  """
  if kind == '1d':
    return functools.partial(LearnedPositions, prefix=prefix)
  if kind == '2d':
    return functools.partial(GridPositions, grid=grid, prefix=prefix)
  if kind == 'sincos2d':
    return functools.partial(SinCosPositions, grid=grid, prefix=prefix)
  return None
