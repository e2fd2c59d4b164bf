"""Config keys of the model."""

from vit_jax.config.key import Adjustable, Key
from vit_jax.models import factory, layers, pooling, positions, stacking

MAX_SIDE_PX = 2**14
_MAX_DEPTH = 1000  # Blocks or units; each is traced.

# Except for the name, each is an attribute of the model.
MODEL_KEYS = {
  'model.name': Key(
    'ViT-B/16',
    "Model and patch size, such as ViT-B/16; empty: the checkpoint's, unless"
    ' the job trains.',
  ),
  'model.depth': Key(
    0,
    'Encoder blocks; 0: those of model.name.',
    low=0,
    high=_MAX_DEPTH,
    unset=0,
  ),
  'model.width': Key(
    0, 'Embedding dimension; 0: that of model.name.', low=0, unset=0
  ),
  'model.mlp_dim': Key(
    0, 'Hidden size of the MLPs; 0: that of model.name.', low=0, unset=0
  ),
  'model.heads': Key(
    0, 'Attention heads; 0: those of model.name.', low=0, unset=0
  ),
  'model.patch_size': Key(
    0,
    'Patch side in px; 0: that of model.name.',
    low=0,
    high=MAX_SIDE_PX,
    unset=0,
  ),
  'model.stage_depths': Key(
    (),
    "Units of a ResNet's stages, such as 3,4,6,3; empty: those of model.name.",
    items=int,
    low=1,
    high=_MAX_DEPTH,
    unset=(),
  ),
  'model.width_factor': Key(
    0.0,
    'Width factor of a ResNet, a multiple of 0.5; 0: that of model.name.',
    low=0,
    high=1000,
    unset=0,
  ),
  'model.pool': Key(
    'token',
    'Image representation: token, the class token; gap, the mean of patches;'
    ' gap_norm, a LayerNorm of this mean instead of the final norm (MAE, BEiT);'
    ' map, attention (arXiv 2106.04560).',
    choices=pooling.POOLS,
  ),
  'model.class_token': Key(
    False,
    'Whether there is a class token even if model.pool does not use it.',
  ),
  'model.registers': Key(
    0,
    'Learned tokens besides those of patches (arXiv 2309.16588); 0: none.',
    low=0,
  ),
  'model.positions': Key(
    '1d',
    'Position embeddings of patches (Appendix D.4): none; 1d, by their order;'
    ' 2d, by row and column; relative, by the offsets between them; sincos2d,'
    ' fixed sines and cosines of row and column.',
    choices=positions.KINDS,
  ),
  'model.positions_at': Key(
    'stem',
    'Where 1d and 2d embeddings are added: stem, to the tokens; every_layer, to'
    ' each block, with its own; every_layer_shared, to each, with the same.',
    choices=positions.PLACES,
  ),
  'model.representation_size': Key(
    0,
    "Width of the head's hidden tanh layer; 0: none; -1: the model's width.",
    low=-1,
    unset=0,
  ),
  'model.dropout': Key(0.0, 'Dropout rate (Appendix B.1).', low=0, high=0.999),
  'model.stochastic_depth': Key(
    0.0,
    'Rate at which the last block drops its residual branches per image; it'
    ' rises linearly from 0 in the first block (arXiv 1603.09382).',
    low=0,
    high=0.999,
  ),
  'model.dtype': Key(
    'float32',
    'Compute type; parameters, softmax and norms stay float32.',
    choices=factory.DTYPES,
  ),
  'model.gelu': Key(
    '',
    "Form of GELU, tanh or erf; empty: the checkpoint's, else tanh.",
    choices=('', *layers.GELUS),
    unset='',
    derived=True,
  ),
  'model.norm_eps': Key(
    0.0,
    "Epsilon of LayerNorms; 0: the checkpoint's, else 1e-6.",
    low=0,
    high=1,
    unset=0,
    derived=True,
  ),
  'model.head_bias': Key(
    0.0, 'Initial bias of the head; -10 suits a sigmoid over many classes.'
  ),
  'model.scan': Adjustable(
    False,
    'Whether training scans over the blocks: less memory, faster compilation.',
  ),
  'model.remat': Adjustable(
    'none',
    'What training recomputes to save memory: none; full, all of a block; dots,'
    ' all but the outputs of dense layers.',
    choices=stacking.REMAT_POLICIES,
  ),
}
