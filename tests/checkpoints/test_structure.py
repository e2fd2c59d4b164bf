"""Files whose parameters do not make up a model, refused by their headers."""

from flax import traverse_util
import numpy as np
import pytest

from vit_jax import checkpoints
from vit_jax.checkpoints import structure
from vit_jax.checkpoints.formats import official
import weights

ARRAYS = official.flatten(weights.random_params(weights.tiny()))
BLOCK = 'Transformer/encoderblock_1/'
ATTENTION = f'{BLOCK}MultiHeadDotProductAttention_0/'


def load(tmp_path, changes, *removed):
  arrays = {k: v for k, v in (ARRAYS | changes).items() if k not in removed}
  np.savez(tmp_path / 'params.npz', **arrays)
  return checkpoints.load(tmp_path / 'params.npz')


@pytest.mark.parametrize(
  ('name', 'shape', 'problem'),
  [
    ('Transformer/encoder_norm/scale', (), r'shape \(\); expected 1 axis'),
    ('cls', (12,), 'expected 3 axes'),
    ('embedding/kernel', (192, 12), 'expected 4 axes'),
    (f'{BLOCK}LayerNorm_0/bias', (13,), 'length 12 instead of 13'),
    (f'{ATTENTION}query/kernel', (12, 3, 5), 'length 4 instead of 5'),
    (f'{BLOCK}MlpBlock_0/Dense_1/kernel', (21, 12), 'length 20 instead of 21'),
    ('head/bias', (5,), r"length 4 instead of 5, as in 'head/kernel' of shape"),
    ('cls/more', (12,), "'cls' is an array, and 'cls/more' is below it"),
  ],
)
def test_unsuitable_shapes_are_refused(tmp_path, name, shape, problem):
  changes = {name: np.zeros(shape, 'f4')}
  with pytest.raises(ValueError, match=problem) as caught:
    load(tmp_path, changes)
  assert name in str(caught.value)


@pytest.mark.parametrize(
  'name',
  [
    'Transformer/encoder_norm/scale',
    'embedding/kernel',
    'head/bias',
    f'{ATTENTION}key/bias',
  ],
)
def test_missing_parameters_are_refused(tmp_path, name):
  with pytest.raises(ValueError, match=f"'{name}' is missing"):
    load(tmp_path, {}, name)


def test_other_content_is_refused_before_data_are_read(tmp_path):
  with pytest.raises(ValueError, match="'cls' has the shape"):
    # Not finite, which only reading finds.
    load(tmp_path, {'cls': np.full(3, np.nan)})
  with pytest.raises(ValueError, match='there are no model parameters'):
    load(tmp_path, {}, *ARRAYS)


def test_units_of_a_resnet_have_no_gaps():
  names = ('conv_root/kernel', 'block1/unit1/x', 'block2/unit900/x')
  flat = dict.fromkeys(names, np.zeros((1, 1, 3, 4)))
  with pytest.raises(ValueError, match="'block2/unit1'"):
    structure.check(traverse_util.unflatten_dict(flat, sep='/'))
