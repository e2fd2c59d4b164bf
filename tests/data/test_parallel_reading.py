"""Reading on all cores without autotuning."""

import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from vit_jax.data import pipeline, preprocess, registry
from vit_jax.data.parallel_reading import numpy_iterator, parallel_map


def test_order_is_kept():
  records = parallel_map(tf.data.Dataset.range(100), lambda x: x * x)
  assert list(numpy_iterator(records)) == [x * x for x in range(100)]


@pytest.fixture
def named_images(tmp_path):
  """A TFDS dataset of two images with file names."""
  names = ['a.png', 'b.png']
  features = {
    'image': tfds.features.Image(shape=(None, None, 3)),
    'label': tfds.features.ClassLabel(num_classes=2),
    'file_name': tfds.features.Text(),
  }
  image = tf.zeros((4, 4, 3), tf.uint8).numpy()
  tfds.dataset_builders.store_as_tfds_dataset(
    name='named',
    version='1.0.0',
    features=tfds.features.FeaturesDict(features),
    split_datasets={
      'train': [
        (i, {'image': image, 'label': i, 'file_name': name})
        for i, name in enumerate(names)
      ]
    },
    data_dir=tmp_path,
    disable_shuffling=True,
  )
  source = registry.open_source('tfds:named', 'train', data_dir=str(tmp_path))
  return source, names


def test_nothing_that_is_read_is_autotuned(named_images, monkeypatch):
  source, names = named_images
  autotuned = []
  iterator = tf.data.Dataset.as_numpy_iterator

  def recorded(dataset):
    autotuned.append(dataset.options().autotune.enabled)
    return iterator(dataset)

  monkeypatch.setattr(tf.data.Dataset, 'as_numpy_iterator', recorded)
  resize = preprocess.eval_transform(image_size=(4, 4), crop='resize')
  next(
    pipeline.train_batches(
      source, lambda raw, _: resize(raw), batch_size=2, seed=0
    )
  )
  list(pipeline.eval_batches(source, resize, batch_size=1))
  pipeline.read_images(source, [1], resize)
  assert list(pipeline.label_counts(source)) == [1, 1]
  assert list(pipeline.labels(source)) == [0, 1]
  assert source.file_names() == names
  assert autotuned == [False] * 6
