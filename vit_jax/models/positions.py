"""The grid of patches and the position embeddings added to them."""

import flax.linen as nn
from jaxtyping import Array, Float


def as_pair(size: int | tuple[int, int]) -> tuple[int, int]:
  """Returns (height, width) of a size that may be one number for both.

  Raises:
    ValueError: if the size is neither, or not positive.
  """
  pair = (size, size) if isinstance(size, int) else tuple(size)
  if len(pair) != 2 or min(pair) < 1:
    raise ValueError(
      'a size in pixels is one positive number or a pair (height, width), got'
      f' {size}.'
    )
  return pair


def grid_shape(
  image_size: int | tuple[int, int],
  patch_size: int | tuple[int, int],
  stride: int = 1,
) -> tuple[int, int]:
  """Returns the rows and columns of patches in an image.

  Args:
    image_size: in pixels.
    patch_size: in positions of what patches are cut from: pixels, or a map.
    stride: pixels from one such position to the next; the last may stand for
      fewer.

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
      f' patch side; use an image of {nearest}, or another patch size.'
    )
  return cut[0] // patch[0], cut[1] // patch[1]


class LearnedPositions(nn.Module):
  """Adds a learned vector to each token, by its place in the sequence.

  E_pos of equation 1; "1-D" in Appendix D.4: rows and columns of the grid are
  not told apart.
  """

  @nn.compact
  def __call__(self, tokens: Float[Array, 'b n d']) -> Float[Array, 'b n d']:
    """Returns the tokens with their position embeddings added."""
    embedding = self.param(
      'pos_embedding', nn.initializers.normal(0.02), (1, *tokens.shape[1:])
    )
    return tokens + embedding.astype(tokens.dtype)
