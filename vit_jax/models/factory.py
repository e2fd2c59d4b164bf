"""Building a model by its name."""

from collections.abc import Sequence
import dataclasses
from typing import Any

import jax.numpy as jnp

from vit_jax.models import (
  attention,
  axial_resnet,
  hybrid_stem,
  layers,
  resnet,
  variants,
  vit,
)
from vit_jax.models import positions as positions_lib

DTYPES = {'float32': jnp.float32, 'bfloat16': jnp.bfloat16}


def create(
  name: str,
  *,
  num_classes: int,
  depth: int | None = None,
  width: int | None = None,
  mlp_dim: int | None = None,
  heads: int | None = None,
  patch_size: int | tuple[int, int] | None = None,
  stage_depths: Sequence[int] | None = None,
  width_factor: float | None = None,
  pool: str = 'token',
  positions: str = '1d',
  positions_at: str = 'stem',
  representation_size: int | str | None = None,
  dropout: float = 0.0,
  dtype: str = 'float32',
  gelu: str = 'tanh',
  norm_eps: float = 1e-6,
  head_bias: float = 0.0,
  scan: bool = False,
  remat: str = 'none',
  platform: str = '',
  constrain: layers.Constrain = layers.unconstrained,
) -> vit.VisionTransformer | resnet.ResNet:
  """Builds a model by its name, such as 'ViT-B/16', 'R50x1', 'R50+ViT-B/32'.

  Every model has a method `grid_shape(image_size)`, which gives the rows and
  columns of its tokens, and refuses a size that the model cannot look at.

  Args:
    name: see `variants`.
    num_classes: size of the logits; 0 leaves the head out.
    depth: encoder blocks. Here and in the next six, None keeps the named
      size's own value.
    width: size of a token.
    mlp_dim: hidden size of the MLP blocks.
    heads: attention heads of a block.
    patch_size: patch side, or (height, width): in pixels, or for hybrids in
      positions of the ResNet's map.
    stage_depths: residual units of each stage of the ResNet.
    width_factor: of the ResNet; a multiple of 0.5.
    pool: 'token' classifies from a class token, 'gap' from the mean of tokens.
      ResNets and Axial-ViTs always take the mean; ResNets have no use for
      `gelu` and `norm_eps` either.
    positions: how the transformer knows where patches are (Appendix D.4):
      'none'; '1d', a learned embedding for each place in the sequence; '2d',
      half of one for each row and half for each column; 'relative', logits of
      attention by the offset in the raster, in an Axial-ViT by that in the row
      or column.
    positions_at: where embeddings are added: 'stem', once; 'every_layer', to
      the input of every block, each with its own; 'every_layer_shared', with
      the same ones. Relative positions act in every layer, under 'stem'.
    representation_size: size of a hidden tanh layer in the head (3.1:
      pre-training has one); 'width' for the width, None for no such layer.
    dropout: rate in [0, 1), in the transformer.
    dtype: 'float32' or 'bfloat16', of the activations.
    gelu: 'tanh' (approximate, the official code's) or 'erf' (exact, PyTorch's).
    norm_eps: added to the variance by every LayerNorm.
    head_bias: initial bias of the head; ImageNet-21k starts from -10.
    scan: whether the encoder runs as a scan over its blocks, whose parameters
      are then stacked (see `stacking`).
    remat: what is kept for the backward pass, a key of `vit.REMAT_POLICIES`.
    platform: what the transformer is written for, of `platforms.of`; '' for the
      first device where it runs. It changes rounding and speed alone.
    constrain: applied to activations at the borders of blocks and to logits, to
      say where devices keep them.

  Raises:
    ValueError: if the name is unknown, or an override is out of its range or of
      a part that the model does not have.
  """
  variant = variants.parse(name)
  dtype = DTYPES[_known('dtype', dtype, DTYPES)]
  resnet_size = _resized(
    variant.resnet,
    f'{name} has no ResNet',
    stage_depths=None if stage_depths is None else tuple(stage_depths),
    width_factor=width_factor,
  )
  no_transformer = f'{name} has no transformer'
  encoder_size = _resized(
    variant.encoder,
    no_transformer,
    depth=depth,
    width=width,
    mlp_dim=mlp_dim,
    heads=heads,
  )
  if encoder_size is None:
    _refuse(
      no_transformer,
      patch_size=patch_size,
      positions=None if positions == '1d' else positions,
      positions_at=None if positions_at == 'stem' else positions_at,
      representation_size=representation_size,
      dropout=dropout or None,
      scan=scan or None,
      remat=None if remat == 'none' else remat,
    )
    return resnet.ResNet(
      num_classes=num_classes,
      stage_depths=resnet_size.stage_depths,
      width=resnet_size.width,
      dtype=dtype,
      head_bias=head_bias,
      constrain=constrain,
      unit=axial_resnet.Unit if variant.axial else resnet.Unit,
    )
  # Refused before any trace.
  attention.head_size(encoder_size.width, encoder_size.heads)
  positions_lib.check(
    _known('positions', positions, positions_lib.KINDS),
    _known('positions_at', positions_at, positions_lib.PLACES),
    encoder_size.width,
  )
  if representation_size == 'width':
    representation_size = encoder_size.width
  if not (
    representation_size is None
    or (isinstance(representation_size, int) and representation_size > 0)
  ):
    raise ValueError(
      "representation_size must be a positive number, 'width' or None, got"
      f' {representation_size!r}.'
    )
  if not 0 <= dropout < 1:
    raise ValueError(f'dropout must be a rate in [0, 1), got {dropout}.')
  stem = None
  if resnet_size is not None:
    stem = hybrid_stem.HybridStem(
      stage_depths=resnet_size.stage_depths,
      width=resnet_size.width,
      dtype=dtype,
      constrain=constrain,
    )
  return vit.VisionTransformer(
    num_classes=num_classes,
    stem=stem,
    patch_size=positions_lib.as_pair(
      variant.patch_size if patch_size is None else patch_size
    ),
    **dataclasses.asdict(encoder_size),
    pool='gap' if variant.axial else _known('pool', pool, vit.POOLS),
    positions=positions,
    positions_at=positions_at,
    axial=variant.axial,
    representation_size=representation_size,
    dropout=dropout,
    dtype=dtype,
    gelu=_known('gelu', gelu, layers.GELUS),
    norm_eps=norm_eps,
    head_bias=head_bias,
    scan=scan,
    remat=_known('remat', remat, vit.REMAT_POLICIES),
    platform=platform,
    constrain=constrain,
  )


def _resized(size: Any, absent: str, **overrides: Any) -> Any:
  """Overrides what is not None; without a size, nothing may be overridden."""
  if size is None:
    _refuse(absent, **overrides)
    return None
  given = {k: v for k, v in overrides.items() if v is not None}
  return dataclasses.replace(size, **given)


def _refuse(absent: str, **options: Any) -> None:
  given = [f'{k}={v!r}' for k, v in options.items() if v is not None]
  if given:
    raise ValueError(
      f'{absent}, and so no use for {", ".join(given)}: leave it out, or choose'
      ' another model.'
    )


def _known(option, value, alternatives):
  if value not in alternatives:
    raise ValueError(
      f'unknown {option} {value!r}; known: {", ".join(alternatives)}.'
    )
  return value
