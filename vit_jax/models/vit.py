"""The Vision Transformer, in the order of the paper (arXiv 2010.11929).

Equations 1 and 4 are in `VisionTransformer`, 2 and 3 in `EncoderBlock`, 5 to 8
in `SelfAttention`, Table 1 in `variants`. Parameters have official names.
"""

from collections.abc import Callable, Collection
import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from vit_jax.models import kernels, layers, pooling, stacking
from vit_jax.models import positions as positions_lib
from vit_jax.models import prefix as prefix_lib

Tokens = Float[Array, 'b n d']  # d is the width.
Heads = Float[Array, 'b h n s']  # h heads of size s = d / h.
Weights = Float[Array, 'b h n n']  # Queries by keys.
Bias = Weights | None  # Added to the logits before the softmax.


class Options(nn.Module, kw_only=True):
  """Base class of the modules below, with the options that they share.

  Attributes:
    heads: attention heads per block.
    mlp_dim: hidden size of the MLPs.
    dropout: rate in [0, 1) (Appendix B.1); the head has none.
    dtype: type of activations; `create` takes its name. Parameters, softmax,
      norms and everything from the final norm to the logits are always float32.
    gelu: 'tanh', an approximation, or 'erf', the exact form.
    norm_eps: added to the variance by every LayerNorm.
    platform: result of `kernels.platform_of`; '' for that of the first local
      device. It affects only rounding, speed and memory.
    constrain: sets the sharding of logits and of the tokens between blocks.
  """

  heads: int
  mlp_dim: int
  dropout: float = 0.0
  dtype: DTypeLike = jnp.float32
  gelu: str = layers.one_of(layers.GELUS, 'tanh')
  norm_eps: float = 1e-6
  platform: str = ''
  constrain: layers.Constrain = layers.unconstrained

  @nn.nowrap
  def options(self) -> dict[str, Any]:
    """Returns the options that all modules share, to pass them on."""
    names = Options.__annotations__.keys() - {'name', 'parent'}
    return {name: getattr(self, name) for name in names}


class VisionTransformer(Options, kw_only=True):
  """Maps images to logits and named features; `create` builds it by name.

  Attributes:
    num_classes: size of the logits; 0 omits the head.
    depth: number of encoder blocks.
    width: size of a token.
    patch_size: height and width of a patch, in pixels or positions of a map.
    channels: channels of images, C in section 3.1.
    stem: in hybrids (section 3.1), maps images to feature maps, which are cut
      into patches instead; its parameters are stored beside this module's.
    pool: how the representation is computed, a key of `pooling.POOLS`.
    class_token: whether there is a class token even if `pool` does not use it.
    registers: number of registers; see `prefix.Prefix`.
    positions: kind of position embeddings, one of `positions.KINDS`.
    positions_at: where they are added, one of `positions.PLACES`.
    representation_size: size of a hidden tanh layer in the head; None for none.
    head_bias: initial bias of the head; -10 for ImageNet-21k.
    scan: whether blocks run as a scan, which compiles faster and needs less
      memory. Its parameters are stacked: initialize without, then `stack`.
    remat: what the backward pass reuses, a key of `stacking.REMAT_POLICIES`.
    stochastic_depth: rate in [0, 1) of dropped residual branches in the last
      block; see `layers.branch_factors`.
  """

  num_classes: int
  depth: int
  width: int
  patch_size: tuple[int, int]
  channels: int = 3
  stem: nn.Module | None = None
  pool: str = layers.one_of(pooling.POOLS, 'token')
  class_token: bool = False
  registers: int = 0
  positions: str = layers.one_of(positions_lib.KINDS, '1d')
  positions_at: str = layers.one_of(positions_lib.PLACES, 'stem')
  representation_size: int | None = None
  head_bias: float = 0.0
  scan: bool = False
  remat: str = layers.one_of(stacking.REMAT_POLICIES, 'none')
  stochastic_depth: float = 0.0
  branches = 2  # Residual branches of a block.

  def setup(self):
    """Stores the stem's parameters at the top level, as in official files."""
    if self.stem is not None:
      nn.share_scope(self, self.stem)

  @nn.compact
  def __call__(
    self,
    images: Float[Array, 'b h w c'],
    *,
    train: bool = False,
    change_patches: Callable[[Tokens], Tokens] = lambda patches: patches,
    blocks: Collection[int] = (),
    tokens: bool = True,
  ) -> tuple[Float[Array, 'b k'] | None, dict[str, Float[Array, 'b ...']]]:
    """Computes logits and features.

    Args:
      images: in [-1, 1], a whole number of patches high and wide.
      train: whether to apply dropout and stochastic depth, both with the RNG
        stream 'dropout'.
      change_patches: applied to patch embeddings, for masked patch prediction.
      blocks: indices of the blocks whose outputs to return; static.
      tokens: whether to return 'encoded'; static. If not, and without chosen
        blocks, dropout and a scan, the last block computes only the tokens that
        pooling uses.

    Returns:
      Logits, None without classes, and features: 'patches' (b, n, d), before
      `change_patches`; 'encoded' (b, n, d), all tokens after the encoder;
      'pooled' (b, d); 'pre_logits', the input of the head's linear layer; and
      'blocks', if any are chosen: see `stacking.choose`.
    """
    layers.check_images(images, self.channels)
    grid = self.grid_shape(images.shape[1:3])
    x = images if self.stem is None else self.stem(images)
    # Equation 1: x_p E, the product of flattened patches with a matrix.
    size, batch = self.patch_size, images.shape[0]
    embed = nn.Conv(
      self.width, size, size, 'VALID', dtype=self.dtype, name='embedding'
    )
    patches = embed(x).reshape(batch, math.prod(grid), self.width)
    # [x_class; x_p E], with a class token.
    x = self.prefix.prepend(change_patches(patches), self.param)
    encode = Encoder(  # + E_pos, then equations 2 and 3 in every block.
      block=self.encoder_block(grid),
      depth=self.depth,
      positions=positions_lib.added(self.positions, grid, self.prefix),
      positions_at=self.positions_at,
      final_norm=pooling.POOLS[self.pool].encoder_norm,
      scan=self.scan,
      remat=self.remat,
      stochastic_depth=self.stochastic_depth,
      branches=self.branches,
      name='Transformer',
      **self.options(),
    )
    # Dropout masks depend on the number of tokens.
    all_used = tokens or blocks or (train and self.dropout)
    num_outputs = None if all_used else pooling.POOLS[self.pool].num_tokens
    encoded, chosen = encode(
      x, train=train, blocks=blocks, num_outputs=num_outputs
    )
    # Equation 4: the class token, encoded[:, 0]; with 'gap', the patches' mean.
    pooled = pre_logits = pooling.pool(encoded, self, MlpBlock)
    if self.representation_size is not None:
      dense = nn.Dense(self.representation_size, name='pre_logits')
      pre_logits = nn.tanh(dense(pooled))
    logits = layers.head(
      pre_logits, self.num_classes, self.head_bias, self.constrain
    )
    features = {'patches': patches, 'pooled': pooled, 'pre_logits': pre_logits}
    if tokens:
      features['encoded'] = encoded
    return logits, features | chosen

  @nn.nowrap
  def encoder_block(self, grid: tuple[int, int]) -> Callable[..., nn.Module]:
    """Returns a function from `name` to a block for a grid of patches."""
    embeddings = positions_lib.added(self.positions, grid, self.prefix)
    platform = self.platform or kernels.platform_of(jax.local_devices()[0])
    return functools.partial(
      EncoderBlock,
      query_bias=positions_lib.query_bias(self.positions, len(self.prefix)),
      positions=embeddings if self.positions_at == 'every_layer' else None,
      **self.options() | {'platform': platform},
    )

  @property
  def prefix(self) -> prefix_lib.Prefix:
    """Tokens before those of the patches."""
    class_token = self.class_token or pooling.POOLS[self.pool].class_token
    return prefix_lib.Prefix(class_token, self.registers)

  @property
  def _stride(self):
    return 1 if self.stem is None else self.stem.total_stride

  @property
  def token_size(self) -> tuple[int, int]:
    """Height and width in px of the part of an image that a token covers."""
    return tuple(side * self._stride for side in self.patch_size)

  @nn.nowrap
  def grid_shape(self, image_size: int | tuple[int, int]) -> tuple[int, int]:
    """Returns the rows and columns of patches, given the image size in px."""
    return positions_lib.grid_shape(image_size, self.patch_size, self._stride)


class Encoder(Options, kw_only=True):
  """Position embeddings, encoder blocks and, usually, a final norm.

  `block` and `positions` are functions from a `name` to a module.
  """

  block: Callable[..., nn.Module]
  depth: int
  positions: Callable[..., nn.Module] | None = positions_lib.LearnedPositions
  positions_at: str = 'stem'
  final_norm: bool = True
  scan: bool = False
  remat: str = 'none'
  stochastic_depth: float = 0.0
  branches: int = 2

  @nn.compact
  def __call__(
    self,
    x: Tokens,
    *,
    train: bool,
    blocks: Collection[int] = (),
    num_outputs: int | None = None,
  ) -> tuple[Tokens, dict[str, Any]]:
    """Returns encoded tokens and the chosen outputs of blocks, in float32.

    Without a scan, the last block computes only the first `num_outputs` tokens;
    None for all.
    """
    keys = position_key = factors = shared = None
    if train and self.dropout:
      key = self.make_rng('dropout')
      keys, position_key = layers.dropout_keys(key, self.depth)
    if train and self.stochastic_depth:
      shape, key = (self.depth, self.branches, len(x)), self.make_rng('dropout')
      factors = layers.branch_factors(key, self.stochastic_depth, shape)
    if self.positions_at == 'every_layer_shared':
      shared = self.positions(name='posembed_shared')(x)
      self.sow('intermediates', 'shared_positions', shared)
    elif self.positions_at == 'stem' and self.positions is not None:
      x = x + self.positions(name='posembed_input')(x)  # Equation 1: + E_pos.
    x = layers.dropout(x, self.dropout, position_key)
    self.sow('intermediates', 'tokens', x)
    x = self.constrain(x)
    # One block after the other.
    x, chosen = stacking.run(
      self.block,
      self.depth,
      x,
      (keys, factors),
      shared,
      blocks,
      num_outputs,
      scan=self.scan,
      remat=self.remat,
    )
    norm = nn.LayerNorm(self.norm_eps, dtype=jnp.float32, name='encoder_norm')
    return norm(x) if self.final_norm else x.astype(jnp.float32), chosen


class EncoderBlock(Options, kw_only=True):
  """Self-attention and an MLP, each with a pre-norm and a residual connection.

  `positions` is a function from a `name` to this block's position embeddings.
  Only the first `num_outputs` tokens are computed; None for all.
  """

  query_bias: Callable[[Heads], Weights] | None = None
  positions: Callable[..., nn.Module] | None = None
  num_outputs: int | None = None

  @nn.compact
  def __call__(
    self,
    x: Tokens,
    key: layers.DropoutKey,
    factors: layers.BranchFactors = None,
    shared: Array | None = None,
  ) -> Tokens:
    """Transforms the tokens, after adding position embeddings, if any."""
    attention_key, mlp_key = layers.split_key(key)
    x = self.constrain(x if shared is None else x + shared)
    if self.positions is not None:
      x = x + self.positions(name='posembed')(x)
    options = self.options()
    attend = SelfAttention(
      query_bias=self.query_bias,
      num_outputs=self.num_outputs,
      name='MultiHeadDotProductAttention_0',
      **options,
    )
    mlp = MlpBlock(name='MlpBlock_0', **options)
    norm = functools.partial(kernels.LayerNorm, self.norm_eps, self.dtype)
    y = attend(norm(name='LayerNorm_0')(x))
    y = layers.dropout(y, self.dropout, attention_key)
    x = x[:, : self.num_outputs]
    x = x + layers.scale_branch(y, factors, 0)  # Equation 2.
    y = mlp(norm(name='LayerNorm_1')(x), mlp_key)
    x = x + layers.scale_branch(y, factors, 1)  # Equation 3.
    return self.constrain(x)


class SelfAttention(Options, kw_only=True):
  """Multi-head self-attention (Appendix A); sows its weights, in float32.

  `query_bias` computes the bias of relative positions from scaled queries.
  Only the first `num_outputs` tokens are computed; None for all.
  """

  query_bias: Callable[[Heads], Weights] | None = None
  num_outputs: int | None = None

  @nn.compact
  def __call__(self, x: Tokens) -> Tokens:
    """Attends from each token to all tokens of its image."""
    width = x.shape[-1]
    q, k, v = kernels.dense_to_heads(  # Equation 5.
      x.astype(self.dtype), ('query', 'key', 'value'), self.heads, self.platform
    )
    q = q / layers.head_size(width, self.heads) ** 0.5
    bias = None if self.query_bias is None else self.query_bias(q)
    q, bias = jax.tree.map(lambda y: y[..., : self.num_outputs, :], (q, bias))
    if self.is_mutable_collection('intermediates'):
      exact = q.astype(jnp.float32), k.astype(jnp.float32)
      self.sow('intermediates', 'weights', attention_weights(*exact, bias))
    attend = kernels.attention(self.platform, q, k, bias) or attention
    y = jnp.swapaxes(attend(q, k, v, bias), 1, 2)
    return nn.DenseGeneral(  # Equation 8.
      width,
      (-2, -1),
      dtype=self.dtype,
      kernel_init=nn.initializers.xavier_uniform(),
      dot_general=kernels.dot_general(self.platform),
      name='out',
    )(y)


def attention(q: Heads, k: Heads, v: Heads, bias: Bias = None) -> Heads:
  """Returns softmax(q k^T + bias) v per head, for scaled q (equation 7)."""
  return jnp.einsum('bhqk,bhks->bhqs', attention_weights(q, k, bias), v)


@kernels.keep_rounded
def attention_weights(q: Heads, k: Heads, bias: Bias = None) -> Weights:
  """Returns softmax(q k^T + bias), computed in float32 (equation 6)."""
  logits = jnp.einsum('bhqs,bhks->bhqk', q, k, preferred_element_type='float32')
  logits = logits if bias is None else logits + bias
  return jax.nn.softmax(logits).astype(q.dtype)


class MlpBlock(Options, kw_only=True):
  """Two dense layers with a GELU between them (section 3.1)."""

  @nn.compact
  def __call__(self, x: Tokens, key: layers.DropoutKey) -> Tokens:
    """Transforms each token independently."""
    hidden_key, out_key = layers.split_key(key)
    dense = functools.partial(
      nn.Dense,
      dtype=self.dtype,
      kernel_init=nn.initializers.xavier_uniform(),
      bias_init=nn.initializers.normal(1e-6),
      dot_general=kernels.dot_general(self.platform),
    )
    gelu = kernels.keep_input(layers.GELUS[self.gelu], self.platform)
    hidden = gelu(dense(self.mlp_dim, name='Dense_0')(x))
    hidden = layers.dropout(hidden, self.dropout, hidden_key)
    out = dense(x.shape[-1], name='Dense_1')(hidden)
    return layers.dropout(out, self.dropout, out_key)
