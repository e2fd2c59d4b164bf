"""Opening datasets by name."""

from PIL import Image
import pytest

from vit_jax.data import catalog, registry


def test_digits():
  source = registry.open_source('digits', 'train[:98%]', subset=100, seed=3)
  assert source.name == 'digits'
  assert source.split == 'train[:98%]'
  assert source.num_examples == 100
  assert source.num_classes == 10
  assert not source.multi_label


def test_folder(tmp_path):
  for label in 'ab':
    (tmp_path / label).mkdir()
    for i in range(5):
      Image.new('L', (4, 4), i).save(tmp_path / label / f'{i}.png')
  source = registry.open_source(f'folder:{tmp_path}', 'train', subset=7)
  assert source.name == f'folder:{tmp_path}'
  assert source.num_examples == 7
  assert source.class_names == ('a', 'b')


@pytest.mark.parametrize(
  ('name', 'message'),
  [
    ('cifar11', f'unknown dataset .cifar11.*{", ".join(catalog.DATASETS)}'),
    ('', "unknown dataset ''; use digits, folder:PATH, table:FILE, tfds"),
    ('folders:/x', 'unknown dataset'),
    ('folder:', 'has no path'),
    ('digits:8', "takes no argument, got 'digits:8'"),
  ],
)
def test_unknown_names_are_explained(name, message):
  with pytest.raises(ValueError, match=message):
    registry.open_source(name, 'train')
