import jax
import numpy as np
import pytest

from vit_jax import build, models
from vit_jax.models import patch_predictor
from vit_jax.training import lr_factors, path_patterns

TINY = {'depth': 3, 'width': 8, 'mlp_dim': 8, 'heads': 2}
PARTS = {  # Layers of the parts of a model with 3 blocks.
  'ViT-B/8': (
    {'registers': 2, 'representation_size': 4},
    {'cls': 0, 'registers': 0, 'embedding': 0, 'posembed_input': 0,
     'encoder_norm': 4, 'pre_logits': 4, 'head': 4},
  ),
  'R50+ViT-B/32': (
    {'stage_depths': (1,), 'width_factor': 0.5, 'pool': 'map',
     'positions_at': 'every_layer'},
    {'conv_root': 0, 'gn_root': 0, 'block1': 0, 'embedding': 0,
     'encoder_norm': 4, 'MAPHead_0': 4, 'head': 4},
  ),
  'Axial-ViT-B/8': (
    {'pool': 'gap_norm', 'positions_at': 'every_layer_shared'},
    {'embedding': 0, 'posembed_shared': 0, 'fc_norm': 4, 'head': 4},
  ),
  'masked patches': (
    {},
    {'mask_token': 0, 'cls': 0, 'embedding': 0, 'posembed_input': 0,
     'encoder_norm': 4, 'patch_head': 4},
  ),
}  # fmt: skip


@pytest.mark.parametrize('name', PARTS)
def test_every_weight_belongs_to_a_layer(name):
  options, parts = PARTS[name]
  if name == 'masked patches':
    encoder = models.create('ViT-B/8', num_classes=0, **TINY)
    model = patch_predictor.MaskedPatchPredictor(encoder, outputs=2)
  else:
    model = models.create(name, num_classes=2, **TINY, **options)
  params = jax.eval_shape(lambda: build.initial_params(model, (16, 16), 0))
  names = path_patterns.names(params)
  factors = lr_factors.of_layers(names, 0.5)
  found = {}
  for path, factor in zip(names, factors, strict=True):
    part = path.removeprefix('Transformer/').split('/')[0]
    assert found.setdefault(part, factor) == factor, path
  blocks = {f'encoderblock_{i}': i + 1 for i in range(3)}
  assert found == {part: 0.5 ** (4 - i) for part, i in (parts | blocks).items()}


NAMES = ['cls', 'head/bias', 'head/kernel', 'Transformer/encoderblock_0/x']


def test_the_first_pattern_that_matches_the_whole_path_applies():
  def factors(*pairs):
    return lr_factors.of_paths(NAMES, pairs)

  assert factors() == [1, 1, 1, 1]
  assert factors(('head/kernel', 0.0), ('head/.*', 3.0)) == [1, 3, 0, 1]
  assert factors(('c.*', 2.0), ('.*s', 3.0), ('(?!c).*', 5.0)) == [2, 3, 5, 5]


@pytest.mark.parametrize(
  ('patterns', 'message'),
  [
    (['head'], "'head' matches no weight; write a regular expression"),
    (['.*', 'cls'], "'cls' has no effect, because patterns before it"),
    (['head/bias', 'head/kernel', 'head/.*'], "'head/.*' has no effect"),
  ],
)
def test_patterns_without_effect_are_refused(patterns, message):
  with pytest.raises(ValueError, match=message):
    lr_factors.of_paths(NAMES, [(pattern, 2.0) for pattern in patterns])


def test_both_factors_multiply_and_broadcast_to_the_weights():
  params = {
    'head': {'kernel': np.zeros((4, 5)), 'bias': np.zeros(5)},
    'Transformer': {'encoderblock_0': {'scale': np.zeros(3)}},
  }
  factors = lr_factors.create(
    params, layer_decay=0.5, by_path=[('.*(bias|scale)', 3.0)]
  )
  assert factors['head']['kernel'].shape == (1, 1)
  assert factors['head']['kernel'].dtype == np.float32
  assert factors['head']['kernel'] == 1
  assert factors['head']['bias'] == 3
  assert factors['Transformer']['encoderblock_0']['scale'] == [1.5]
