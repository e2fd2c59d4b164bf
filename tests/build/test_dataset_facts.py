"""Facts about ImageNet-21k, which users prepare themselves."""

import numpy as np
import tensorflow_datasets as tfds

import runs
from vit_jax.build import dataset_facts, summary
from vit_jax.jobs.measure import plan


def test_prepared_imagenet21k_replaces_the_published_numbers(tmp_path):
  config = runs.load_config('vit_l16')
  config.data.dir = str(tmp_path)
  facts = dataset_facts.look_up(config)
  # 99 % of 12.4 million images.
  assert (facts.num_examples, facts.num_classes) == (12_276_000, 21_843)
  assert plan.total_steps(config) == 269_737  # 90 * 12,276,000 / 4,096.
  (tmp_path / 'imagenet21k' / '1.0.0.incomplete').mkdir(parents=True)
  assert dataset_facts.look_up(config) == facts
  features = {
    'image': tfds.features.Image(shape=(None, None, 3)),
    'label': tfds.features.ClassLabel(names=['n01440764', 'n01443537']),
  }
  image = np.zeros((4, 4, 3), np.uint8)
  tfds.dataset_builders.store_as_tfds_dataset(
    name='imagenet21k',
    version='1.0.0',
    features=tfds.features.FeaturesDict(features),
    split_datasets={
      'train': [(i, {'image': image, 'label': i % 2}) for i in range(100)]
    },
    data_dir=tmp_path,
  )
  facts = dataset_facts.look_up(config)
  assert (facts.num_examples, facts.num_classes) == (99, 2)
  assert not facts.multi_label
  lines = summary.describe(config, 'runs/x', has_model=False)
  assert 'training split: train[1%:] of imagenet21k, 99 examples' in lines
