"""AxialResNet: a ResNet whose 3x3 convolutions are attention (Appendix D.6).

Each is replaced by attention along rows of the map, then along columns, with
relative positions, as in Axial-DeepLab, Wang et al. (2020), arXiv 2003.07853,
which the paper cites. These parts come from there: positions that interact with
queries, keys and values (equation 4); 8 heads, whose queries and keys are half
as large as their values; embeddings of offsets that all heads share; no
projection after the heads; and the mean of 2x2 positions after attention, where
the convolution has a stride of 2.

Everything else is the same as in the baseline, `resnet`: root, stages,
shortcuts, head, and group norms before ReLU instead of batch norms, with one
more between rows and columns. Axial-DeepLab's norms of queries, keys, values
and logits are omitted; logits are divided by sqrt(head size) instead.

Embedding tables depend on the map size; `checkpoints.adapt` interpolates them.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vit_jax.models import axial, positions, resnet

HEADS = 8


class PositionSensitiveAttention(nn.Module):
  """Attention in which queries, keys and values interact with offsets.

  Per head, with embeddings r^q, r^k and r^v of the offset p_q - p_k: the sum
  over k of softmax((q k + q r^q + k r^k) / sqrt(size of q)) (v + r^v). The
  softmax is computed in float32; its weights are sown as in `vit`.

  Attributes:
    heads: number of heads; must divide the number of channels.
    dtype: type of the products; parameters stay float32.
  """

  heads: int
  dtype: DTypeLike

  @nn.compact
  def __call__(self, x: Float[Array, 'b n c']) -> Float[Array, 'b n c']:
    """Attends from each position to all positions of its sequence."""
    _, length, channels = x.shape
    size = channels // self.heads

    def project(name, features):
      """Returns projections (b, heads, n, s) and embeddings of offsets."""
      dense = nn.DenseGeneral(
        (self.heads, features), use_bias=False, dtype=self.dtype, name=name
      )
      embed = positions.OffsetPositions(features, name=f'posembed_{name}')
      return jnp.swapaxes(dense(x), 1, 2), embed(length).astype(self.dtype)

    query, of_query = project('query', size // 2)
    key, of_key = project('key', size // 2)
    value, of_value = project('value', size)

    def product(equation, *arrays):
      return jnp.einsum(equation, *arrays, preferred_element_type=jnp.float32)

    logits = (
      product('bhqs,bhks->bhqk', query, key)
      + product('bhqs,qks->bhqk', query, of_query)
      + product('bhks,qks->bhqk', key, of_key)
    )
    weights = jax.nn.softmax(logits / (size // 2) ** 0.5)
    self.sow('intermediates', 'weights', weights)
    weights = weights.astype(self.dtype)
    out = jnp.einsum('bhqk,bhks->bhqs', weights, value)
    out += jnp.einsum('bhqk,qks->bhqs', weights, of_value)
    return jnp.swapaxes(out, 1, 2).reshape(x.shape)


class Unit(resnet.Unit):
  """A bottleneck of the baseline with attention instead of the 3x3 convolution.

  `rows`, `gn_columns` and `columns` replace `conv2`.
  """

  def mix(self, x: Float[Array, 'b h w c']) -> Float[Array, 'b h2 w2 c']:
    """Attends from each position of a map to its row, then to its column."""

    def attend(name):
      return PositionSensitiveAttention(HEADS, self.dtype, name=name)

    y = axial.within_rows(attend('rows'), x)
    y = resnet.group_norm(self.dtype)(name='gn_columns')(y)
    y = axial.within_columns(attend('columns'), y)
    if self.stride > 1:
      window = (self.stride,) * 2
      # A side of h becomes ceil(h / stride), as in the shortcut.
      y = nn.avg_pool(y, window, window, 'SAME', count_include_pad=False)
    return self.constrain(y)
