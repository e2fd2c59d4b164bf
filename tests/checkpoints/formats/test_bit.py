"""Files of BiT."""

import numpy as np
import pytest

from vit_jax import checkpoints, models
from vit_jax.checkpoints.formats import official
import weights


def bit_arrays(params):
  """Returns the arrays of a published file."""
  arrays = {}
  for name, value in official.flatten(params).items():
    *path, leaf = name.split('/')
    layer = path[-1]
    if layer == 'head':
      old, leaf = 'head/conv2d', leaf
      value = value.reshape(1, 1, *value.shape) if leaf == 'kernel' else value
    elif layer == 'conv_root':
      old = 'root_block/standardized_conv2d'
    elif layer == 'gn_final':
      old = 'group_norm'
    else:
      block, unit = path[0], int(path[1].removeprefix('unit'))
      old = {
        'conv_proj': 'a/proj/standardized_conv2d',
        'conv1': 'a/standardized_conv2d',
        'conv2': 'b/standardized_conv2d',
        'conv3': 'c/standardized_conv2d',
        'gn1': 'a/group_norm',
        'gn2': 'b/group_norm',
        'gn3': 'c/group_norm',
      }[layer]
      old = f'{block}/unit{unit:02}/{old}'
    if 'group_norm' in old:
      leaf = {'scale': 'gamma', 'bias': 'beta'}[leaf]
    arrays[f'resnet/{old}/{leaf}'] = value
  return arrays


@pytest.fixture(scope='module')
def params():
  model = models.create(
    'R50x1', num_classes=3, stage_depths=(1, 11), width_factor=0.5
  )
  return weights.random_params(model)


@pytest.mark.parametrize('number', ['', '_7'])
def test_names_are_converted(tmp_path, params, number):
  arrays = {
    name.replace('standardized_conv2d', f'standardized_conv2d{number}'): value
    for name, value in bit_arrays(params).items()
  }
  assert f'resnet/block2/unit11/a/standardized_conv2d{number}/kernel' in arrays
  np.savez(tmp_path / 'bit.npz', **arrays)
  loaded, description = checkpoints.load_with_description(tmp_path / 'bit.npz')
  weights.assert_same(loaded, params)
  assert description.format == 'bit'
  assert description.num_classes == 3
  assert description.sizes == {'stage_depths': (1, 11), 'width_factor': 0.5}


def test_unknown_name_is_refused(tmp_path, params):
  arrays = bit_arrays(params) | {'resnet/block1/unit01/d/kernel': np.ones(3)}
  np.savez(tmp_path / 'bit.npz', **arrays)
  with pytest.raises(ValueError, match=r"bit\.npz: .*'resnet/block1/unit01/d/"):
    checkpoints.load(tmp_path / 'bit.npz')
