"""Computed labels, compared with cases worked out by hand."""

import pytest
import tensorflow as tf

from vit_jax.data import label_rules


def label(rule, **features):
  return int(tf.function(rule.compute)(features))


def scene(*distances):
  """Returns objects at these distances; other coordinates are smaller."""
  return {'pixel_coords': tf.constant([[1.0, 2.0, d] for d in distances])}


@pytest.mark.parametrize('count', [3, 4, 10])
def test_clevr_count_starts_at_three(count):
  rule = label_rules.CLEVR_COUNT
  assert label(rule, objects=scene(*[9.0] * count)) == count - 3
  assert rule.class_names[count - 3] == f'{count} objects'
  assert rule.num_classes == 8


@pytest.mark.parametrize(
  ('distances', 'expected'),
  [
    ((0.5, 20.0, 30.0), 0),
    ((8.0, 9.0, 11.0), 0),  # A bound belongs to the lower bin.
    ((11.0, 8.001, 9.0), 1),
    ((8.5, 8.5, 9.5), 1),
    ((9.0, 9.5, 10.0), 2),
    ((9.25, 9.5, 10.0), 3),
    ((9.5, 12.0, 10.0), 3),
    ((10.0, 12.0, 10.5), 4),
    ((10.5, 12.0, 99.0), 5),
  ],
)
def test_clevr_distance_of_the_closest_object(distances, expected):
  assert label(label_rules.CLEVR_DISTANCE, objects=scene(*distances)) == (
    expected
  )
  assert label_rules.CLEVR_DISTANCE.num_classes == 6


CAR, VAN, TRUCK, PEDESTRIAN, TRAM = 0, 1, 2, 3, 6


@pytest.mark.parametrize(
  ('objects', 'expected'),
  [
    ([(CAR, 8.0)], 0),
    ([(CAR, -3.0), (VAN, 50.0)], 0),  # Beside the camera.
    ([(CAR, 30.0), (VAN, 8.5), (PEDESTRIAN, 2.0)], 1),
    ([(TRUCK, 20.0)], 1),
    ([(TRUCK, 20.5), (TRAM, 5.0)], 2),
    ([(PEDESTRIAN, 2.0), (TRAM, 5.0)], 3),
    ([], 3),
  ],
)
def test_kitti_distance_of_the_closest_vehicle(objects, expected):
  found = label(
    label_rules.KITTI_DISTANCE,
    objects={
      'type': tf.constant([kind for kind, _ in objects], tf.int64),
      'location': tf.reshape(
        tf.constant([[1.0, 2.0, z] for _, z in objects], tf.float32), (-1, 3)
      ),
    },
  )
  assert found == expected
  assert label_rules.KITTI_DISTANCE.num_classes == 4


def test_dsprites_orientation_has_bins_of_three_and_two():
  rule = label_rules.binned('o', 40, 16)
  labels = [label(rule, o=tf.constant(o, tf.int64)) for o in range(40)]
  assert labels[:10] == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]
  assert [labels.count(k) for k in range(16)] == [3, 2] * 8
  # Same as floor(o / 2.5) in the public code.
  assert labels == [int(o / 2.5) for o in range(40)]


def test_dsprites_location_has_bins_of_two():
  rule = label_rules.binned('x', 32, 16)
  labels = [label(rule, x=tf.constant(x, tf.int64)) for x in range(32)]
  assert labels == [x // 2 for x in range(32)]
