"""Table 1 and names of models."""

import pytest

from vit_jax.models import variants


def test_table_1():
  base, large, huge = (variants.SIZES[name] for name in 'BLH')
  assert base == variants.TransformerSize(12, 768, 3072, 12)
  assert large == variants.TransformerSize(24, 1024, 4096, 16)
  assert huge == variants.TransformerSize(32, 1280, 5120, 16)


def test_halved_b_has_heads_of_half_the_size():
  assert variants.SIZES['b'] == variants.TransformerSize(12, 384, 1536, 12)


@pytest.mark.parametrize(
  'name, size, patch_size',
  [('ViT-B/16', 'B', 16), ('ViT-b/4', 'b', 4), ('ViT-Ti/10', 'Ti', 10)],
)
def test_vision_transformers(name, size, patch_size):
  assert variants.parse(name) == variants.Variant(
    None, variants.SIZES[size], patch_size
  )


def test_resnets():
  resnet = variants.ResNetSize((3, 8, 36, 3), 2)
  assert variants.parse('R152x2') == variants.Variant(resnet, None, None)
  assert resnet.width == 128


@pytest.mark.parametrize('layers', [26, 50, 101, 152, 200])
def test_resnets_have_three_layers_per_unit_and_two(layers):
  assert 3 * sum(variants.STAGE_DEPTHS[f'R{layers}']) + 2 == layers


@pytest.mark.parametrize(
  'name, stage_depths, size, patch_size',
  [
    ('R50+ViT-B/32', (3, 4, 6, 3), 'B', 1),
    ('R50+ViT-L/16', (3, 4, 9), 'L', 1),
    ('R26+ViT-S/32', (2, 2, 2, 2), 'S', 1),
    ('R+ViT-Ti/16', (), 'Ti', 8),
  ],
)
def test_hybrids(name, stage_depths, size, patch_size):
  assert variants.parse(name) == variants.Variant(
    variants.ResNetSize(stage_depths), variants.SIZES[size], patch_size
  )


@pytest.mark.parametrize(
  'name',
  [
    'ViT-B',
    'ViT-B/',
    'ViT-B/0',
    'ViT-B/16x16',
    'vit-B/16',
    'ViT-G/14',
    'R50',
    'R50x0',
    'R50x5',
    'R34x1',
    'R50x1+ViT-B/16',
    'R50+ViT-B/8',
    'R34+ViT-B/16',
    'R+ViT-Ti/32',
    '+ViT-B/16',
  ],
)
def test_errors_for_unknown_names_list_the_known_ones(name):
  with pytest.raises(
    ValueError, match=r'ViT-B/16.* Ti, .* H; .*R26.*R200.*R\+ViT'
  ) as error:
    variants.parse(name)
  assert repr(name) in str(error.value)
