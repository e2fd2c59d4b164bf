"""The Vision Transformer (equations 1 to 4, Figure 1).

Parameters carry the names and shapes of the official checkpoints.
"""

from collections.abc import Callable
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key, PyTree

from vit_jax.models import (
  attention,
  axial,
  hybrid_stem,
  layers,
  platforms,
  positions,
  stacking,
)

POOLS = {
  'token': lambda encoded: encoded[:, 0],  # The class token, equation 4.
  'gap': lambda encoded: jnp.mean(encoded, axis=1),  # Appendix D.3.
}

# What of an encoder block is kept from the forward pass to the backward pass;
# the rest is computed again.
REMAT_POLICIES = {
  'none': jax.checkpoint_policies.everything_saveable,
  'full': jax.checkpoint_policies.nothing_saveable,
  # Outputs of dense layers, but no attention weights.
  'dots': jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


class EncoderBlock(nn.Module):
  """Self-attention and an MLP, each on normalised input and with a residual.

  Equations 2 and 3; dropout as in Appendix B.1.

  Attributes:
    query_logits: as of `attention.SelfAttention`.
    positions: makes embeddings of the block's own, from their `name`, which
      are added to what it reads; None for none. The others as of
      `VisionTransformer`.
  """

  mlp_dim: int
  heads: int
  dropout: float
  dtype: DTypeLike
  gelu: str
  norm_eps: float
  platform: str = ''
  query_logits: Callable[[Array], Array] | None = None
  positions: Callable[..., nn.Module] | None = None

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b n d'], dropout_key: Key[Array, ''] | None
  ) -> Float[Array, 'b n d']:
    """Transforms the tokens; without a key there is no dropout."""
    attention_key, mlp_key = layers.split_key(dropout_key, 2)
    if self.positions is not None:
      x = x + self.positions(name='posembed')(x)
    # LayerNorm computes in float32 whatever the type of its result, and in a
    # scan keeps its input alone for the backward pass; elsewhere XLA chooses.
    norm = functools.partial(
      nn.remat(nn.LayerNorm, prevent_cse=False),
      epsilon=self.norm_eps,
      dtype=self.dtype,
    )
    y = attention.SelfAttention(
      self.heads,
      self.dtype,
      self.query_logits,
      self.platform,
      name='MultiHeadDotProductAttention_0',
    )(norm(name='LayerNorm_0')(x))
    x = x + layers.dropout(y, self.dropout, attention_key)
    y = norm(name='LayerNorm_1')(x)
    return x + layers.MlpBlock(
      self.mlp_dim,
      self.dropout,
      self.gelu,
      self.dtype,
      self.platform,
      name='MlpBlock_0',
    )(y, mlp_key)


class Encoder(nn.Module):
  """Position embeddings, `depth` encoder blocks and a last norm.

  Dropout keys are functions of one key alone, so that a loop over the blocks
  and a scan draw the same: block i uses `fold_in(key, i)`, the position
  embeddings `fold_in(key, depth)`.

  What enters the first block, (b, n, d), is sown as `tokens` for callers that
  make the collection 'intermediates' mutable; and what is added to the input of
  every block alike, (1, n, d), if anything is, as `shared_positions`.

  Attributes:
    block: makes an encoder block from its `name`.
    depth: number of blocks. This and the others as of `VisionTransformer`.
    positions: makes the embeddings that are added at the stem, or to the input
      of all blocks, from their `name`; None for none.
    share_positions: whether it is to the input of all blocks. Their dropout is
      then at the stem alone, too.
  """

  block: Callable[..., nn.Module]
  depth: int
  dropout: float
  norm_eps: float
  positions: Callable[..., nn.Module] | None = positions.LearnedPositions
  share_positions: bool = False
  scan: bool = False
  remat: str = 'none'
  constrain: layers.Constrain = layers.unconstrained

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b n d'], *, train: bool
  ) -> Float[Array, 'b n d']:
    """Encodes a sequence of tokens; the result is float32."""
    keys = position_key = None
    if train and self.dropout:
      key = self.make_rng('dropout')
      fold_in = jax.vmap(jax.random.fold_in, in_axes=(None, 0))
      keys = fold_in(key, jnp.arange(self.depth))
      position_key = jax.random.fold_in(key, self.depth)
    shared = None
    if self.share_positions:
      shared = self.positions(name='posembed_shared')(x)
      self.sow('intermediates', 'shared_positions', shared)
    elif self.positions is not None:
      x = x + self.positions(name='posembed_input')(x)
    x = layers.dropout(x, self.dropout, position_key)
    self.sow('intermediates', 'tokens', x)
    x = self._apply_blocks(self.constrain(x), keys, shared)
    return nn.LayerNorm(
      epsilon=self.norm_eps, dtype=jnp.float32, name='encoder_norm'
    )(x)

  def _apply_blocks(self, x, keys, shared):
    def apply(block, x, key):
      if shared is not None:
        x = x + shared
      return self.constrain(block(self.constrain(x), key)), None

    if self.remat != 'none':
      apply = nn.remat(
        apply,
        policy=REMAT_POLICIES[self.remat],
        # A scan keeps the two computations apart by itself.
        prevent_cse=not self.scan,
      )
    if self.scan:
      scan = nn.scan(
        apply,
        variable_axes={'params': 0},
        split_rngs={'params': True},
        length=self.depth,
      )
      if not self.is_initializing():
        scan = nn.map_variables(
          scan, 'params', functools.partial(_kernels_as, x.dtype)
        )
      return scan(self.block(name=stacking.STACKED), x, keys)[0]
    for i in range(self.depth):
      block = self.block(name=f'{stacking.STACKED}_{i}')
      x, _ = apply(block, x, None if keys is None else keys[i])
    return x


def _kernels_as(dtype: DTypeLike, variables: PyTree) -> PyTree:
  """Kernels in the type of the products that they are for.

  Blocks do that by themselves. Done before a scan, the gradients of all layers
  are gathered in that type, in which they come, and not in float32.
  """
  return jax.tree_util.tree_map_with_path(
    lambda path, x: x.astype(dtype) if path[-1].key == 'kernel' else x,
    variables,
  )


class VisionTransformer(nn.Module):
  """Maps images to logits and named features; `create` builds it by name.

  Attributes:
    num_classes: size of the logits; 0 leaves the head out.
    stem: turns images into the map that patches are cut from (hybrids), and
      has its parameters beside those here; None to cut the images themselves.
    patch_size: height and width of a patch, in pixels or positions of the map.
    depth: number of encoder blocks.
    width: size of a token.
    mlp_dim: hidden size of the MLP blocks.
    heads: attention heads of a block.
    pool: a key of `POOLS`; only 'token' has a class token.
    positions: one of `positions.KINDS`.
    positions_at: one of `positions.PLACES`; relative ones are in every block
      whatever it says.
    axial: whether blocks attend along rows and then along columns, see `axial`;
      they have no class token.
    representation_size: size of the head's hidden tanh layer; None for none.
    dropout: rate in [0, 1) of every dropout (Appendix B.1); the head has none.
    dtype: type of the encoder's activations. Parameters, norms, softmax and all
      from the encoder's last norm to the logits are float32 always.
    gelu: a key of `layers.GELUS`.
    norm_eps: added to the variance by every LayerNorm.
    head_bias: initial bias of the head.
    scan: whether the encoder runs as a scan over its blocks, which compiles
      faster and keeps less in memory; its parameters are then stacked as in
      `stacking`. To have the same initial values, stack those without scan.
    remat: a key of `REMAT_POLICIES`.
    platform: of the devices, as of `platforms.of`; '' for the first one that is
      there when the model is traced.
    constrain: applied to the tokens at both sides of every encoder block and to
      logits, and its transpose to their gradients.
  """

  num_classes: int
  stem: hybrid_stem.HybridStem | None
  patch_size: tuple[int, int]
  depth: int
  width: int
  mlp_dim: int
  heads: int
  pool: str
  positions: str
  positions_at: str
  axial: bool
  representation_size: int | None
  dropout: float
  dtype: DTypeLike
  gelu: str
  norm_eps: float
  head_bias: float
  scan: bool = False
  remat: str = 'none'
  platform: str = ''
  constrain: layers.Constrain = layers.unconstrained

  def setup(self):
    """Puts the stem's parameters beside the others, as official files do."""
    if self.stem is not None:
      nn.share_scope(self, self.stem)

  @nn.nowrap
  def grid_shape(self, image_size: int | tuple[int, int]) -> tuple[int, int]:
    """Returns the rows and columns of patches in an image, size in pixels.

    Raises:
      ValueError: if the image is not a whole number of patches high and wide.
    """
    return positions.grid_shape(image_size, self.patch_size, self._stride)

  @property
  def token_size(self) -> tuple[int, int]:
    """Height and width in px of the part of an image that is one token."""
    return tuple(side * self._stride for side in self.patch_size)

  @property
  def _stride(self) -> int:
    return 1 if self.stem is None else self.stem.total_stride

  @property
  def _class_token(self) -> bool:
    return self.pool == 'token'

  @nn.nowrap
  def encoder_block(self, grid: tuple[int, int]) -> Callable[..., nn.Module]:
    """Returns what makes blocks as the encoder has them.

    Args:
      grid: rows and columns of patches.
    """
    own_positions = None
    if self.positions_at == 'every_layer':
      own_positions = self._added_positions(grid)
    block = functools.partial(
      EncoderBlock,
      mlp_dim=self.mlp_dim,
      heads=self.heads,
      dropout=self.dropout,
      dtype=self.dtype,
      gelu=self.gelu,
      norm_eps=self.norm_eps,
      platform=self.platform or platforms.of(jax.local_devices()[0]),
      query_logits=positions.query_logits(self.positions, self._class_token),
    )
    if self.axial:
      return functools.partial(
        axial.AxialBlock, block=block, grid=grid, positions=own_positions
      )
    return functools.partial(block, positions=own_positions)

  @nn.nowrap
  def _added_positions(self, grid):
    return positions.added(self.positions, grid, self._class_token)

  @nn.compact
  def __call__(
    self,
    images: Float[Array, 'b h w 3'],
    *,
    train: bool = False,
    change_patches: Callable[
      [Float[Array, 'b n d']], Float[Array, 'b n d']
    ] = lambda patches: patches,
  ) -> tuple[Float[Array, 'b k'] | None, dict[str, Float[Array, 'b ...']]]:
    """Computes logits and features.

    Args:
      images: RGB in [-1, 1], of any height and width that patches can tile;
        parameters made for one grid of patches serve that number of patches,
        or that grid alone, if they tell rows from columns.
      train: whether to apply dropout, with the key of the stream 'dropout'.
      change_patches: what happens to the patch embeddings before positions and
        class token are added, as in masked patch prediction.

    Returns:
      Logits, None without classes, and features: 'patches' (b, n, d), the patch
      embeddings before positions and class token, and before any change;
      'encoded' (b, n, d), all tokens after the last norm; 'pooled' (b, d);
      'pre_logits', what the linear head sees: the hidden tanh layer
      (b, representation_size), or 'pooled' again where there is none.

    Raises:
      ValueError: if images are not float (b, h, w, 3) or not a whole number of
        patches high and wide.
    """
    layers.check_images(images)
    batch, height, width, _ = images.shape
    grid = rows, columns = self.grid_shape((height, width))
    x = images if self.stem is None else self.stem(images)
    patches = nn.Conv(
      self.width,
      self.patch_size,
      strides=self.patch_size,
      padding='VALID',
      dtype=self.dtype,
      name='embedding',
    )(x).reshape(batch, rows * columns, self.width)
    tokens = change_patches(patches)
    if self._class_token:
      cls = self.param('cls', nn.initializers.zeros, (1, 1, self.width))
      cls = jnp.broadcast_to(cls.astype(tokens.dtype), (batch, 1, self.width))
      tokens = jnp.concatenate([cls, tokens], axis=1)
    encoded = Encoder(
      block=self.encoder_block(grid),
      depth=self.depth,
      dropout=self.dropout,
      norm_eps=self.norm_eps,
      scan=self.scan,
      remat=self.remat,
      constrain=self.constrain,
      positions=(
        None
        if self.positions_at == 'every_layer'
        else self._added_positions(grid)
      ),
      share_positions=self.positions_at == 'every_layer_shared',
      name='Transformer',
    )(tokens, train=train)
    pooled = pre_logits = POOLS[self.pool](encoded)
    if self.representation_size is not None:
      pre_logits = nn.tanh(
        nn.Dense(self.representation_size, name='pre_logits')(pooled)
      )
    logits = layers.head(
      pre_logits, self.num_classes, self.head_bias, self.constrain
    )
    return logits, {
      'patches': patches,
      'encoded': encoded,
      'pooled': pooled,
      'pre_logits': pre_logits,
    }
