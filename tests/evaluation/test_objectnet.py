"""ObjectNet: mapping of classes and predictions by hand."""

import json

import jax
import numpy as np
import pytest

from vit_jax.evaluation import classification, objectnet

FILES = {
  'folder_to_objectnet_label.json': {
    'alarm_clock': 'Alarm clock',
    'air_freshener': 'Air freshener',
    'plunger': 'Plunger',
  },
  'objectnet_to_imagenet_1k.json': {
    'Plunger': "plunger, plumber's helper",
    'Alarm clock': 'analog clock; digital clock',
  },
  'pytorch_to_imagenet_2012_id.json': {'0': 3, '409': 0, '530': 2, '731': 1},
}
NAMES = [
  'analog clock',
  "plunger, plumber's helper",
  'digital clock',
  'tench, Tinca tinca',
]
CLASSES = [(409, 530), (731,)]


@pytest.fixture
def folder(tmp_path):
  for name, content in FILES.items():
    (tmp_path / name).write_text(json.dumps(content))
  (tmp_path / 'imagenet_to_label_2012_v2').write_text('\n'.join(NAMES) + '\n')
  return tmp_path


def test_mapping_combines_four_files(folder):
  mapping = objectnet.read_mapping(folder)
  assert mapping == {'alarm_clock': (409, 530), 'plunger': (731,)}
  assert list(mapping) == ['alarm_clock', 'plunger']


def test_missing_files_are_refused(folder):
  (folder / 'pytorch_to_imagenet_2012_id.json').unlink()
  with pytest.raises(ValueError, match='no such file .*pytorch_to_.*mappings'):
    objectnet.read_mapping(folder)


@pytest.mark.parametrize(
  ('name', 'content', 'message'),
  [
    (
      'objectnet_to_imagenet_1k.json',
      '{"Plunger": "a"}',
      "inconsistent: one refers to 'a'",
    ),
    ('imagenet_to_label_2012_v2', 'tench', r'one refers to \d, which another'),
    ('objectnet_to_imagenet_1k.json', '{}', 'map no folder to a class'),
    ('folder_to_objectnet_label.json', '{', 'is not JSON'),
  ],
)
def test_invalid_files_are_refused(folder, name, content, message):
  (folder / name).write_text(content)
  with pytest.raises(ValueError, match=message):
    objectnet.read_mapping(folder)


def test_mapped_top_five_predictions():
  top = [
    [530, 1, 2, 3, 4],  # Both clocks are alarm clocks.
    [1, 731, 2, 409, 4],  # Only the fourth is correct.
    [409, 530, 1, 2, 3],  # Two predictions for one class, which is wrong.
    [1, 2, 3, 4, 5],  # Not in ObjectNet.
    [731, 0, 0, 0, 0],
  ]
  predictions = classification.Predictions(
    index=np.arange(5),
    top_classes=np.array(top),
    top_probabilities=np.full((5, 5), 0.2),
    label=np.array([0, 0, 1, 1, 1]),
    loss=np.zeros(5),
  )
  mapped = objectnet.map_predictions(predictions, CLASSES)
  np.testing.assert_array_equal(mapped.predicted, [0, -1, 0, -1, 1])
  np.testing.assert_array_equal(mapped.top_classes[1], [-1, 1, -1, 0, -1])
  # For 113 classes, since top-5 accuracy is not defined for two.
  assert mapped.metrics(113) == {'accuracy': 2 / 5, 'top5_accuracy': 3 / 5}
  assert mapped.class_accuracy(2) == [1 / 2, 1 / 3]


def test_prediction_of_two_classes_is_correct_for_both():
  predictions = classification.Predictions(
    index=np.arange(2),
    top_classes=np.array([[409], [409]]),
    top_probabilities=np.ones((2, 1)),
    label=np.array([0, 1]),
  )
  mapped = objectnet.map_predictions(predictions, [(409,), (409, 731)])
  np.testing.assert_array_equal(mapped.predicted, [0, 1])


def test_restricted_logits_are_the_largest_of_each_class():
  logits = np.zeros((2, 1000), np.float32)
  logits[:, [409, 530, 731]] = [[1, 3, 2], [-3, -4, -2]]
  logits[:, 7] = 99  # Not in ObjectNet.
  restricted = jax.jit(lambda x: objectnet.restrict(x, CLASSES))(logits)
  np.testing.assert_array_equal(restricted, [[3, 2], [-3, -2]])
