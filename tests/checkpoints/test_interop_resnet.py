"""The baseline ResNet against the one in Hugging Face's transformers."""

import re

from flax import traverse_util
import jax
import numpy as np
import pytest

from vit_jax import models

torch = pytest.importorskip('torch')
transformers = pytest.importorskip('transformers')


def linen_name(name):
  """Converts names like `encoder.stages.0.layers.0.downsample.conv.weight`."""
  name = re.sub(
    r'encoder\.stages\.(\d+)\.layers\.(\d+)',
    lambda match: f'block{int(match[1]) + 1}.unit{int(match[2]) + 1}',
    name,
  )
  for theirs, ours in {
    'embedder.convolution': 'conv_root',
    'downsample.conv': 'conv_proj',
  }.items():
    name = name.replace(theirs, ours)
  name = re.sub(r'^norm', 'gn_final', name)
  name = re.sub(r'norm(\d)', r'gn\1', name)
  name = re.sub(r'(conv\w+)\.weight', r'\1.kernel', name)
  return name.replace('weight', 'scale').replace('.', '/')


def linen_params(state_dict):
  return traverse_util.unflatten_dict(
    {
      linen_name(name): x.numpy().transpose(2, 3, 1, 0)
      if x.ndim == 4
      else x.numpy()
      for name, x in state_dict.items()
    },
    sep='/',
  )


@pytest.mark.parametrize('size', [(64, 64), (75, 50)])
def test_agrees_with_bit_model(size):
  depths = (2, 1, 1, 2)
  # Paddings are the defaults, given since the test depends on them: equal on
  # all sides of convolutions, one zero around the max-pool.
  config = transformers.BitConfig(
    depths=depths,
    embedding_size=32,
    hidden_sizes=[128, 256, 512, 1024],
    layer_type='preactivation',
    global_padding=None,
    embedding_dynamic_padding=False,
  )
  torch.manual_seed(0)
  theirs = transformers.BitModel(config).eval()
  with torch.no_grad():
    for norm in theirs.modules():
      if isinstance(norm, torch.nn.GroupNorm):
        norm.weight.normal_(1, 0.5)
        norm.bias.normal_(0, 0.5)
  images = np.random.default_rng(0).uniform(-1, 1, (2, *size, 3)).astype('f4')
  with torch.no_grad():
    expected = theirs(torch.from_numpy(images.transpose(0, 3, 1, 2)))

  model = models.create(
    'R50x1', num_classes=0, stage_depths=depths, width_factor=0.5
  )
  _, features = jax.jit(model.apply)(
    {'params': linen_params(theirs.state_dict())}, images
  )
  encoded = expected.last_hidden_state.flatten(2).transpose(1, 2).numpy()
  assert encoded.shape[1] == np.prod(model.grid_shape(size))
  np.testing.assert_allclose(features['encoded'], encoded, atol=1e-4)
  np.testing.assert_allclose(
    features['pooled'], expected.pooler_output.flatten(1).numpy(), atol=1e-4
  )
  assert encoded.std() > 0.1
