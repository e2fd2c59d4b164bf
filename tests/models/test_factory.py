"""Models by their names."""

import jax
import jax.numpy as jnp
import pytest

from vit_jax import models

ENCODERS = {  # Layers, width, hidden size of the MLPs.
  'Ti': (12, 192, 768),
  'S': (12, 384, 1536),
  'B': (12, 768, 3072),
  'L': (24, 1024, 4096),
}


def resnet_count(depths, factor, pre_activation):
  """Kernels, and two parameters a channel and norm."""
  channels = 64 * factor
  count = 7 * 7 * 3 * channels + (0 if pre_activation else 2 * channels)
  for stage, depth in enumerate(depths):
    width = 64 * factor * 2**stage
    for unit in range(depth):
      count += channels * width + 9 * width**2 + width * 4 * width
      normed = [channels, width, width]
      if not pre_activation:
        normed = [width, width, 4 * width]
      if unit == 0:  # The shortcut.
        count += channels * 4 * width
        normed += [] if pre_activation else [4 * width]
      count += 2 * sum(normed)
      channels = 4 * width
  return count, channels


def vit_count(encoder, patch_weights, tokens):
  """A ViT with a class token and 1000 classes."""
  layers, width, hidden = ENCODERS[encoder]
  attention = 4 * (width**2 + width)
  mlp = 2 * width * hidden + hidden + width
  return (
    (patch_weights + 1) * width
    + (tokens + 1) * width  # Positions.
    + width  # Class token.
    + layers * (attention + mlp + 4 * width)
    + 2 * width
    + (width + 1) * 1000
  )


def count(name, size):
  model = models.create(name, num_classes=1000)
  images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
  shapes = jax.eval_shape(model.init, jax.random.key(0), images)
  return sum(x.size for x in jax.tree.leaves(shapes['params']))


# In millions, from timm's results (model_benchmark_amp_nchw_rtx3090.csv).
@pytest.mark.parametrize(
  'name, depths, factor, published',
  [
    ('R26x1', (2, 2, 2, 2), 1, None),
    ('R50x1', (3, 4, 6, 3), 1, 25.549352),  # To the unit.
    ('R50x2', (3, 4, 6, 3), 2, None),
    ('R50x3', (3, 4, 6, 3), 3, 217.32),
    ('R101x1', (3, 4, 23, 3), 1, 44.54),
    ('R101x3', (3, 4, 23, 3), 3, 387.93),
    ('R152x1', (3, 8, 36, 3), 1, None),
    ('R152x2', (3, 8, 36, 3), 2, 236.34),
    ('R152x4', (3, 8, 36, 3), 4, 936.53),
    ('R200x3', (3, 24, 36, 3), 3, None),
  ],
)
def test_parameter_counts_of_resnets(name, depths, factor, published):
  units, channels = resnet_count(depths, factor, pre_activation=True)
  expected = units + 2 * channels + (channels + 1) * 1000
  assert count(name, 224) == expected
  if published:
    assert round(expected / 1e6, 6 if name == 'R50x1' else 2) == published


@pytest.mark.parametrize(
  'name, size, depths, patch, tokens, published',
  [
    ('R+ViT-Ti/16', 224, (), 8, 7 * 7, 6.34),
    ('R+ViT-Ti/16', 384, (), 8, 12 * 12, 6.36),
    ('R26+ViT-S/32', 224, (2, 2, 2, 2), 1, 7 * 7, 36.43),
    ('R26+ViT-S/32', 384, (2, 2, 2, 2), 1, 12 * 12, 36.47),
    ('R50+ViT-B/32', 224, (3, 4, 6, 3), 1, 7 * 7, None),
    ('R50+ViT-B/16', 224, (3, 4, 9), 1, 14 * 14, None),
    ('R50+ViT-B/16', 384, (3, 4, 9), 1, 24 * 24, 98.95),
    ('R50+ViT-L/32', 224, (3, 4, 6, 3), 1, 7 * 7, 328.99),
    ('R50+ViT-L/16', 224, (3, 4, 9), 1, 14 * 14, None),
  ],
)
def test_parameter_counts_of_hybrids(
  name, size, depths, patch, tokens, published
):
  stem, channels = resnet_count(depths, 1, pre_activation=False)
  encoder = name.partition('ViT-')[2].partition('/')[0]
  expected = stem + vit_count(encoder, patch**2 * channels, tokens)
  assert count(name, size) == expected
  if published:
    assert round(expected / 1e6, 2) == published


@pytest.mark.parametrize(
  'name, size, grid',
  [
    ('ViT-B/16', (224, 384), (14, 24)),
    ('R50x1', (224, 225), (7, 8)),
    ('R50+ViT-B/16', (224, 225), (14, 15)),
    ('R50+ViT-B/32', 384, (12, 12)),
    ('R+ViT-Ti/16', (224, 125), (7, 4)),
  ],
)
def test_every_model_returns_its_grid_without_a_trace(name, size, grid):
  assert models.create(name, num_classes=2).grid_shape(size) == grid


@pytest.mark.parametrize(
  'name, size, message',
  [
    ('ViT-B/16', (224, 225), 'image of 224x225 pixels cannot .* of 224x224'),
    (
      'R+ViT-Ti/16',
      (100, 64),
      r'100x64 pixels \(a map of 25x16\) cannot .* 8x8: .* image of 96x64',
    ),
    ('R50x1', 0, 'positive number'),
  ],
)
def test_sizes_that_do_not_fit_are_refused(name, size, message):
  with pytest.raises(ValueError, match=message):
    models.create(name, num_classes=2).grid_shape(size)


@pytest.mark.parametrize(
  'name, overrides, message',
  [
    ('R50x1', {'depth': 2, 'heads': 3}, 'R50x1 has no .* depth=2, heads=3'),
    ('R50x1', {'patch_size': 16}, 'no transformer, .* patch_size=16'),
    ('R50x1', {'representation_size': 'width'}, "representation_size='width'"),
    ('R50x1', {'dropout': 0.1}, 'dropout=0.1: leave it out'),
    ('R50x1', {'stochastic_depth': 0.1}, 'no transformer, .*_depth=0.1: leave'),
    ('ViT-B/16', {'width_factor': 2}, 'B/16 has no ResNet.* width_factor=2'),
    ('ViT-B/16', {'stage_depths': ()}, r'stage_depths=\(\)'),
    ('R50x1', {'width_factor': 0.75}, '0.5 or a multiple of it, got 0.75'),
    ('R50x1', {'width_factor': 0}, 'got 0'),
    ('R50x1', {'stage_depths': [1, 0]}, r'at least 1, got \(1, 0\)'),
    ('R50x1', {'dtype': 'float16'}, "'float16'; known: float32, bfloat16"),
  ],
)
def test_overrides_that_do_not_fit_are_refused(name, overrides, message):
  with pytest.raises(ValueError, match=message):
    models.create(name, num_classes=2, **overrides)


def test_creating_a_model_starts_no_device(monkeypatch):
  """A CPU can be set up until its first use."""

  def used():
    raise AssertionError('a device was asked for')

  monkeypatch.setattr(jax, 'local_devices', used)
  model = models.create('ViT-Ti/16', num_classes=2)
  with pytest.raises(AssertionError, match='a device was asked for'):
    model.encoder_block((2, 2))


@pytest.mark.parametrize(
  'overrides, message',
  [
    ({'layer_scale': 0.1}, "option 'layer_scale' .* known: heads, .*width_fac"),
    ({'stem': None, 'num_heads': 3}, "option 'num_heads' of a model; known"),
    ({'norm_eps': '1e-6'}, "norm_eps .* type float, got '1e-6'"),
    ({'depth': True}, 'depth .* type int, got True'),
    ({'depth': 2.5}, 'depth .* type int, got 2.5'),
    ({'scan': 'yes'}, "scan .* type bool, got 'yes'"),
  ],
)
def test_unknown_options_and_types_are_refused(overrides, message):
  with pytest.raises(ValueError, match=message):
    models.create('ViT-B/16', num_classes=2, **overrides)


def test_none_stands_for_the_default():
  options = dict.fromkeys(('depth', 'pool', 'dtype', 'dropout', 'patch_size'))
  assert models.create('ViT-B/16', num_classes=2, **options) == models.create(
    'ViT-B/16', num_classes=2
  )
