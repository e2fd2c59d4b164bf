"""ReaL labels by hand, and the published ones."""

import dataclasses
import json

import numpy as np
import pytest

import runs
from vit_jax.evaluation import classification, real

TABLE = [[], [970, 795], [7], [], [2]]
NAMES = [f'ILSVRC2012_val_{i:08d}.JPEG' for i in (5, 1, 2, 3, 4)]
REAL_JSON = runs.SHARED / 'data' / 'real.json'


def predictions(top, labels):
  top = np.array(top)
  return classification.Predictions(
    index=np.arange(len(top)),
    top_classes=top,
    top_probabilities=np.full(top.shape, 0.1),
    label=labels,
  )


def test_labels_by_file_name():
  labels = real.labels(NAMES, TABLE)
  assert labels.shape == (5, 1000)
  found = [row.nonzero()[0].tolist() for row in labels]
  assert found == [[2], [], [795, 970], [7], []]


def test_images_without_labels_are_ignored():
  labels = real.labels(NAMES, TABLE)
  # Correct; without label; correct for the second label; wrong, but correct in
  # the top five; without label.
  top = [[2, 0, 1], [0, 1, 2], [970, 0, 1], [0, 1, 7], [7, 1, 2]]
  metrics = predictions(top, labels).metrics(1000)
  assert metrics == {'accuracy': 2 / 3, 'top5_accuracy': 1.0}


def test_renamed_files_are_identified_by_number():
  names = ['ILSVRC2012_val_00000003.jpg', 'ILSVRC2012_val_00000003_n01.png']
  assert real.labels(names, TABLE)[:, 7].all()


@pytest.mark.parametrize(
  'name', ['n01440764_1.JPEG', 'ILSVRC2012_val_00000000.JPEG',
           'ILSVRC2012_val_00000006.JPEG', 'ILSVRC2012_val_000000011.JPEG',
           'xILSVRC2012_val_00000001.JPEG']
)  # fmt: skip
def test_other_images_are_refused(name):
  with pytest.raises(ValueError, match=f'{name}.* is not an ImageNet v'):
    real.labels([name], TABLE)


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    (None, 'no such file'),
    ('[[1], [2', 'is not JSON'),
    ('{"0": [1]}', 'not a list of lists'),
    ('[[1], 2]', 'not a list of lists'),
    ('[[1], [1000]]', 'not a list of lists'),
    ('[["tench"]]', 'not a list of lists'),
  ],
)
def test_other_files_are_refused(tmp_path, content, message):
  path = tmp_path / 'real.json'
  if content is not None:
    path.write_text(content)
  with pytest.raises(ValueError, match=f'{message}.*reassessed-imagenet'):
    real.read(path)


@pytest.mark.skipif(not REAL_JSON.exists(), reason='needs real.json')
def test_published_labels():
  table = real.read(REAL_JSON)
  assert table == json.loads(REAL_JSON.read_text())
  names = [f'ILSVRC2012_val_{i + 1:08d}.JPEG' for i in range(50_000)]
  labels = real.labels(names, table)
  counts = np.bincount(labels.sum(axis=1))
  assert counts.tolist() == [3163, 39394, 5408, 1319, 411, 161, 88, 41, 13, 2]
  # Correct for images with a single label, and for others by chance.
  first = np.array([row[0] if len(row) == 1 else 0 for row in table])
  by_chance = sum(len(row) > 1 and 0 in row for row in table)
  result = predictions(first[:, None], labels)
  assert result.metrics(1000)['accuracy'] == (39394 + by_chance) / 46837
  # Only names count, not the order of images.
  order = np.random.default_rng(0).permutation(50_000)
  shuffled = dataclasses.replace(
    result,
    top_classes=result.top_classes[order],
    label=real.labels([names[i] for i in order], table),
  )
  assert shuffled.metrics(1000) == result.metrics(1000)
