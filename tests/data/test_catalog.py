"""Named datasets, compared with their builders."""

import pytest
import tensorflow_datasets as tfds

from vit_jax.data import catalog


@pytest.mark.parametrize(
  'name', [name for name, row in catalog.DATASETS.items() if row.in_tfds]
)
def test_tfds_builder_has_the_classes(name, tmp_path):
  row = catalog.DATASETS[name]
  builder = tfds.builder(row.builder, data_dir=tmp_path)
  assert builder.info.full_name == row.builder.replace(':', '/')
  labels = builder.info.features[row.label]
  assert isinstance(labels, tfds.features.Sequence) == row.multi_label
  classes = labels.feature if row.multi_label else labels
  assert classes.num_classes == row.num_classes


def test_datasets_of_the_paper():
  examples = {k: v.num_examples for k, v in catalog.DATASETS.items()}
  assert examples['imagenet21k'] == {'train': 12_400_000}
  assert examples['jft300m'] == {'train': 303_000_000}
  assert sum(examples['oxford_iiit_pet'].values()) == 7_349
  assert sum(examples['oxford_flowers102'].values()) == 8_189
  others = {k for k, v in catalog.DATASETS.items() if not v.in_tfds}
  assert others == {'imagenet21k', 'jft300m'}
