"""Pooling: the representation of an image, given its encoded tokens.

Pooling is computed in float32. The paper uses 'token' and 'gap'.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

Tokens = Float[Array, 'b n d']
Pooled = Float[Array, 'b d']


@dataclasses.dataclass(frozen=True)
class Pooling:
  """A kind of pooling.

  Attributes:
    function: implements `pool` for this kind.
    class_token: whether it needs a class token.
    num_tokens: number of leading tokens that it uses; None for all.
    encoder_norm: whether the encoder ends with a norm.
    part: name of the part of the model that holds its parameters, if any.
  """

  function: Callable[..., Pooled]
  class_token: bool = False
  num_tokens: int | None = None
  encoder_norm: bool = True
  part: str | None = None


def pool(encoded: Tokens, model: Any, mlp: type[nn.Module]) -> Pooled:
  """Returns the representation y (equation 4).

  Args:
    encoded: tokens after the encoder, at least those that the pooling uses.
    model: the `vit.VisionTransformer`, in whose scope the parameters are.
    mlp: class of the model's MLP blocks.
  """
  return POOLS[model.pool].function(encoded, model, mlp)


def _class_token(encoded, model, mlp):
  del model, mlp
  return encoded[:, 0]


def _mean(encoded, model, mlp):
  del mlp
  return jnp.mean(encoded[:, len(model.prefix) :], axis=1)


def _normalized_mean(encoded, model, mlp):
  norm = nn.LayerNorm(model.norm_eps, name=POOLS['gap_norm'].part)
  return norm(_mean(encoded, model, mlp))


def _attention(encoded, model, mlp):
  options = model.options() | {'dtype': jnp.float32, 'dropout': 0.0}
  mlp = functools.partial(mlp, **options)
  part = POOLS['map'].part
  attend = AttentionPooling(model.heads, mlp, model.norm_eps, name=part)
  return attend(encoded[:, len(model.prefix) :])


class AttentionPooling(nn.Module):
  """Attention from a learned probe to all patches, and then an MLP.

  Zhai et al. (2021), arXiv 2106.04560, section 3.3. Names are those of
  big_vision. The MLP has a residual connection, the attention has none.

  Attributes:
    heads: attention heads.
    mlp: a function from a `name` to an MLP block.
    norm_eps: added to the variance by the LayerNorm.
  """

  heads: int
  mlp: Callable[..., nn.Module]
  norm_eps: float

  @nn.compact
  def __call__(self, encoded: Tokens) -> Pooled:
    """Pools the tokens; sows the attention weights, (b, heads, 1, n)."""
    init = nn.initializers.xavier_uniform()
    probe = self.param('probe', init, (1, 1, encoded.shape[-1]))
    probe = jnp.broadcast_to(probe, (encoded.shape[0], *probe.shape[1:]))
    attend = nn.MultiHeadDotProductAttention(
      self.heads, kernel_init=init, name='MultiHeadDotProductAttention_0'
    )
    x = attend(probe, encoded, sow_weights=True)
    y = nn.LayerNorm(self.norm_eps, name='LayerNorm_0')(x)
    x = x + self.mlp(name='MlpBlock_0')(y, None)
    return x[:, 0]


POOLS = {
  'token': Pooling(_class_token, class_token=True, num_tokens=1),  # Equation 4.
  # The mean of the patches (Appendix D.3), after the encoder's final norm.
  'gap': Pooling(_mean),
  # The mean, then a norm instead of the encoder's: fine-tuned BEiT (Bao et al.
  # (2021), arXiv 2106.08254) and MAE (He et al. (2021), arXiv 2111.06377).
  'gap_norm': Pooling(_normalized_mean, encoder_norm=False, part='fc_norm'),
  'map': Pooling(_attention, part='MAPHead_0'),
}
# Parts of models that belong to pooling.
PARTS = tuple(kind.part for kind in POOLS.values() if kind.part)
