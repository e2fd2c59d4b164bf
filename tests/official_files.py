"""Names and shapes of the arrays in files of the official code."""

from flax import traverse_util
import numpy as np

from vit_jax.checkpoints.formats import official


def augreg_shapes(
  num_classes, *, patches, depth, width, mlp_dim, heads, patch_size
):
  """Returns the shapes in a released AugReg file, by their names as read.

  There is no hidden layer: `pre_logits` is missing.
  """
  size = width // heads
  shapes = {
    'cls': (1, 1, width),
    'embedding/kernel': (patch_size, patch_size, 3, width),
    'embedding/bias': (width,),
    'Transformer/posembed_input/pos_embedding': (1, patches + 1, width),
    'Transformer/encoder_norm/scale': (width,),
    'Transformer/encoder_norm/bias': (width,),
    'head/kernel': (width, num_classes),
    'head/bias': (num_classes,),
  }
  block = {
    'MultiHeadDotProductAttention_1/out/kernel': (heads, size, width),
    'MultiHeadDotProductAttention_1/out/bias': (width,),
    'MlpBlock_3/Dense_0/kernel': (width, mlp_dim),
    'MlpBlock_3/Dense_0/bias': (mlp_dim,),
    'MlpBlock_3/Dense_1/kernel': (mlp_dim, width),
    'MlpBlock_3/Dense_1/bias': (width,),
  }
  for norm in ('LayerNorm_0', 'LayerNorm_2'):
    block[f'{norm}/scale'] = block[f'{norm}/bias'] = (width,)
  for name in ('query', 'key', 'value'):
    dense = f'MultiHeadDotProductAttention_1/{name}'
    block[f'{dense}/kernel'] = (width, heads, size)
    block[f'{dense}/bias'] = (heads, size)
  for i in range(depth):
    for name, shape in block.items():
      shapes[f'Transformer/encoderblock_{i}/{name}'] = shape
  arrays = {name: np.broadcast_to(0, x) for name, x in shapes.items()}
  return shapes_of(official.read(arrays))


def shapes_of(params):
  """Returns the shapes of a tree by names as in official files."""
  flat = traverse_util.flatten_dict(params, sep='/')
  return {name: x.shape for name, x in flat.items()}
