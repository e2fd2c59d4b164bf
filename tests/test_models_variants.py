"""The table of sizes and the names that pick from it."""

import pytest

from vit_jax.models import variants


def test_table_1():
  base, large, huge = (variants.SIZES[name] for name in 'BLH')
  assert base == variants.Size(12, 768, 3072, 12)
  assert large == variants.Size(24, 1024, 4096, 16)
  assert huge == variants.Size(32, 1280, 5120, 16)


def test_halved_b_has_heads_of_half_the_size():
  assert variants.SIZES['b'] == variants.Size(12, 384, 1536, 12)


@pytest.mark.parametrize(
  'name, size, patch_size',
  [('ViT-B/16', 'B', 16), ('ViT-b/4', 'b', 4), ('ViT-Ti/10', 'Ti', 10)],
)
def test_parse(name, size, patch_size):
  assert variants.parse(name) == (variants.SIZES[size], patch_size)


@pytest.mark.parametrize(
  'name', ['ViT-B', 'ViT-B/', 'ViT-B/0', 'ViT-B/16x16', 'vit-B/16', 'ViT-G/14']
)
def test_unknown_names_are_told_the_known_ones(name):
  with pytest.raises(ValueError, match=r'ViT-B/16.*ViT-Ti.*ViT-H') as error:
    variants.parse(name)
  assert repr(name) in str(error.value)
