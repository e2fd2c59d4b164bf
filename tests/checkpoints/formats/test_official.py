"""Official files: old and new names, group norms, missing blocks."""

import numpy as np
import pytest

from vit_jax import checkpoints
from vit_jax.checkpoints.formats import official
import weights

OLD_BLOCK = (
  'LayerNorm_0/scale',
  'MultiHeadDotProductAttention_1/query/kernel',
  'LayerNorm_2/scale',
  'MlpBlock_3/Dense_0/kernel',
  'MlpBlock_3/Dense_1/kernel',
)
LINEN_BLOCK = (
  'LayerNorm_0/scale',
  'MultiHeadDotProductAttention_0/query/kernel',
  'LayerNorm_1/scale',
  'MlpBlock_0/Dense_0/kernel',
  'MlpBlock_0/Dense_1/kernel',
)


def arrays_of(names):
  return {name: np.full(2, i, 'f4') for i, name in enumerate(names)}


def blocks(names, numbers):
  return [
    f'Transformer/encoderblock_{i}/{name}' for i in numbers for name in names
  ]


def test_published_names_are_converted_to_linen_names():
  # Eleven blocks: 10 comes before 2 in alphabetical order.
  linen = arrays_of(blocks(LINEN_BLOCK, range(11)))
  old = arrays_of(blocks(OLD_BLOCK, range(11)))
  expected = official.unflatten(linen)
  weights.assert_same(official.read(old), expected)
  weights.assert_same(official.read(linen), expected)


def test_two_names_for_one_parameter_are_refused():
  both = blocks(['LayerNorm_1/scale', 'LayerNorm_2/scale'], [0])
  with pytest.raises(ValueError, match='LayerNorm_1/scale.*twice.*LayerNorm_2'):
    official.read(arrays_of(both))


def test_group_norms_lose_their_image_axes():
  scale = np.arange(3, dtype='f4')
  for name in ('gn_root', 'block1/unit2/gn3', 'block1/unit1/gn_proj'):
    tree = official.read({f'{name}/scale': scale.reshape(1, 1, 1, 3)})
    weights.assert_same(tree, official.unflatten({f'{name}/scale': scale}))
  kernel = {'conv_root/kernel': np.ones((1, 1, 1, 3))}
  assert official.read(kernel)['conv_root']['kernel'].shape == (1, 1, 1, 3)


@pytest.mark.parametrize(
  'missing, named',
  [
    ('encoderblock_1/', 'Transformer/encoderblock_1/LayerNorm_0/scale'),
    ('encoderblock_2/MlpBlock_0/Dense_1/kernel',) * 2,
    ('encoderblock_0/', 'Transformer/encoderblock_0/LayerNorm_0/scale'),
  ],
)
def test_missing_block_is_refused(tmp_path, missing, named):
  arrays = arrays_of(blocks(LINEN_BLOCK, range(4)))
  arrays = {name: x for name, x in arrays.items() if missing not in name}
  np.savez(tmp_path / 'cut.npz', **arrays)
  with pytest.raises(ValueError, match=rf"cut\.npz: parameter '.*{named}' is"):
    checkpoints.load(tmp_path / 'cut.npz')
