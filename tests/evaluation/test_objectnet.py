"""ObjectNet's mapping and scores, by hand."""

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


def test_four_files_lead_from_folders_to_classes(folder):
  mapping = objectnet.read_mapping(folder)
  assert mapping == {'alarm_clock': (409, 530), 'plunger': (731,)}
  assert list(mapping) == ['alarm_clock', 'plunger']


def test_missing_files_are_named(folder):
  (folder / 'pytorch_to_imagenet_2012_id.json').unlink()
  with pytest.raises(ValueError, match='no file .*pytorch_to_.*mappings'):
    objectnet.read_mapping(folder)


@pytest.mark.parametrize(
  ('name', 'content', 'message'),
  [
    (
      'objectnet_to_imagenet_1k.json',
      '{"Plunger": "a"}',
      "fit each other: 'a'",
    ),
    ('imagenet_to_label_2012_v2', 'tench', 'do not fit each other'),
    ('objectnet_to_imagenet_1k.json', '{}', 'give no folder a class'),
    ('folder_to_objectnet_label.json', '{', 'is not JSON'),
  ],
)
def test_files_that_do_not_fit_are_refused(folder, name, content, message):
  (folder / name).write_text(content)
  with pytest.raises(ValueError, match=message):
    objectnet.read_mapping(folder)


def test_five_choices_among_all_classes_of_imagenet():
  top = [
    [530, 1, 2, 3, 4],  # Either clock is an alarm clock.
    [1, 731, 2, 409, 4],  # Right by the fourth.
    [409, 530, 1, 2, 3],  # Two choices, one class, and the wrong one.
    [1, 2, 3, 4, 5],  # No class of ObjectNet.
    [731, 0, 0, 0, 0],
  ]
  given = classification.Predictions(
    index=np.arange(5),
    top_classes=np.array(top),
    top_probabilities=np.full((5, 5), 0.2),
    label=np.array([0, 0, 1, 1, 1]),
    loss=np.zeros(5),
  )
  mapped = objectnet.map_predictions(given, CLASSES)
  np.testing.assert_array_equal(mapped.predicted, [0, -1, 0, -1, 1])
  np.testing.assert_array_equal(mapped.top_classes[1], [-1, 1, -1, 0, -1])
  # Of 113 classes; among the two here, five choices would say nothing.
  assert mapped.metrics(113) == {'accuracy': 2 / 5, 'top5_accuracy': 3 / 5}
  assert mapped.class_accuracy(2) == [1 / 2, 1 / 3]


def test_a_class_of_two_is_right_for_either():
  given = classification.Predictions(
    index=np.arange(2),
    top_classes=np.array([[409], [409]]),
    top_probabilities=np.ones((2, 1)),
    label=np.array([0, 1]),
  )
  mapped = objectnet.map_predictions(given, [(409,), (409, 731)])
  np.testing.assert_array_equal(mapped.predicted, [0, 1])


def test_restricted_to_the_largest_logit_of_each_class():
  logits = np.zeros((2, 1000), np.float32)
  logits[:, [409, 530, 731]] = [[1, 3, 2], [-3, -4, -2]]
  logits[:, 7] = 99  # No class of ObjectNet.
  restricted = jax.jit(lambda x: objectnet.restrict(x, CLASSES))(logits)
  np.testing.assert_array_equal(restricted, [[3, 2], [-3, -2]])
