"""Labels that are computed from other features instead of stored.

The rules are those of VTAB (Zhai et al. 2019, arXiv 1910.04867), as in its
public code, google-research/task_adaptation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
import dataclasses

from vit_jax.data.lazy_tensorflow import tf


@dataclasses.dataclass(frozen=True)
class LabelRule:
  """A rule that computes the label of an example.

  Attributes:
    features: the features of the builder that the rule reads.
    class_names: class names in the order of the labels.
    compute: function from these features to the label, a scalar integer.
  """

  features: tuple[str, ...]
  class_names: tuple[str, ...]
  compute: Callable[[Mapping[str, tf.Tensor]], tf.Tensor]

  @property
  def num_classes(self) -> int:
    """Size of the label set."""
    return len(self.class_names)


# CLEVR scenes have 3 to 10 objects.
CLEVR_COUNT = LabelRule(
  ('objects',),
  tuple(f'{count} objects' for count in range(3, 11)),
  lambda example: tf.shape(example['objects']['pixel_coords'])[0] - 3,
)

_CLEVR_BOUNDS = (0.0, 8.0, 8.5, 9.0, 9.5, 10.0, 100.0)


def _clevr_distance(example: Mapping[str, tf.Tensor]) -> tf.Tensor:
  """Returns the bin of the smallest distance, the third pixel coordinate."""
  distances = example['objects']['pixel_coords'][:, 2]
  return _last_below(_CLEVR_BOUNDS, tf.reduce_min(distances))


CLEVR_DISTANCE = LabelRule(
  ('objects',),
  tuple(
    f'({low:g}, {high:g}]'
    for low, high in zip(_CLEVR_BOUNDS, _CLEVR_BOUNDS[1:], strict=False)
  ),
  _clevr_distance,
)

_KITTI_VEHICLES = 3  # The first object types: car, van, truck.
_KITTI_BOUNDS = (-100.0, 8.0, 20.0, 999.0)  # Meters.
_KITTI_NO_VEHICLE = 1000.0  # The distance in meters, if there is none.


def _kitti_distance(example: Mapping[str, tf.Tensor]) -> tf.Tensor:
  """Returns the bin of the distance ahead of the closest vehicle."""
  objects = example['objects']
  ahead = tf.boolean_mask(
    objects['location'][:, 2], objects['type'] < _KITTI_VEHICLES
  )
  closest = tf.reduce_min(tf.concat([ahead, [_KITTI_NO_VEHICLE]], 0))
  return _last_below(_KITTI_BOUNDS, closest)


KITTI_DISTANCE = LabelRule(
  ('objects',),
  ('up to 8 m', '8 to 20 m', 'over 20 m', 'no vehicle'),
  _kitti_distance,
)


def binned(feature: str, num_values: int, num_classes: int) -> LabelRule:
  """Returns the rule floor(value / (num_values / num_classes)).

  `value` is an integer feature. Bins differ in size if num_values is not
  divisible by num_classes: 16 bins of 40 values hold 3 and 2 of them in turn.
  """
  return LabelRule(
    (feature,),
    tuple(map(str, range(num_classes))),
    lambda example: example[feature] * num_classes // num_values,
  )


def _last_below(bounds: Sequence[float], value: tf.Tensor) -> tf.Tensor:
  """Returns the index of the last bound strictly below the value, or -1."""
  return tf.math.count_nonzero(tf.constant(bounds) < value) - 1
