"""Evaluation of ImageNet classifiers on ObjectNet.

Barbu et al. (2019), "ObjectNet: A large-scale bias-controlled dataset for
pushing the limits of object recognition models". Of the 313 classes, 113
correspond to 125 classes of ImageNet; images of the other 200 are not used. As
in Kolesnikov et al. (2020), arXiv 1912.11370, section 3.6, models predict the
1,000 classes of ImageNet, and each prediction is mapped to a class of ObjectNet
or to none. With `evaluate.objectnet_restricted`, the model chooses only among
the classes of ObjectNet.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import json
import os

from etils import epath
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from vit_jax.checkpoints import location, regular_file
from vit_jax.evaluation import classification

NUM_IMAGENET_CLASSES = 1000
# Files in the folder `mappings` of the release.
FOLDERS = 'folder_to_objectnet_label.json'
OBJECTNET_TO_IMAGENET = 'objectnet_to_imagenet_1k.json'
CLASS_TO_LINE = 'pytorch_to_imagenet_2012_id.json'
IMAGENET_NAMES = 'imagenet_to_label_2012_v2'


def read_mapping(path: str | os.PathLike[str]) -> dict[str, tuple[int, ...]]:
  """Returns the ImageNet classes for each folder of images that has any.

  Combines four files of the release: the ObjectNet label of each folder; the
  ImageNet names of each label, separated by '; '; the list of ImageNet names;
  and the line in that list, from 0, of each class number that models predict.
  `path` is the folder of these files. The result is sorted by folder.

  Raises:
    ValueError: if a file is missing, or the files are inconsistent.
  """
  path = location.expand(path)
  labels = _read_json(path / FOLDERS)
  imagenet_names = _read_json(path / OBJECTNET_TO_IMAGENET)
  lines = _read_json(path / CLASS_TO_LINE)
  names = dict(enumerate(_read_text(path / IMAGENET_NAMES).splitlines()))
  try:
    number = {names[line].strip(): int(k) for k, line in lines.items()}
    mapping = {
      folder: tuple(number[n.strip()] for n in imagenet_names[label].split(';'))
      for folder, label in sorted(labels.items())
      if label in imagenet_names
    }
  except KeyError as error:
    raise ValueError(
      f'the mapping files in {path} are inconsistent: one refers to {error},'
      ' which another lacks; expected the files of one ObjectNet release.'
    ) from error
  if not mapping:
    raise ValueError(
      f'the mapping files in {path} map no folder to a class of ImageNet;'
      ' expected the files of an ObjectNet release.'
    )
  return mapping


def map_predictions(
  predictions: classification.Predictions,
  classes: Sequence[Sequence[int]],
) -> classification.Predictions:
  """Maps predicted ImageNet classes to ObjectNet classes, or -1 for none.

  Several predictions may map to the same class. A prediction that belongs to
  several ObjectNet classes is mapped to the label if it is one of them. The
  result has no loss.

  Args:
    predictions: top classes in ImageNet, and labels in ObjectNet.
    classes: ImageNet classes of each ObjectNet class.
  """
  members = np.zeros((len(classes), NUM_IMAGENET_CLASSES), bool)
  for row, group in zip(members, classes, strict=True):
    row[list(group)] = True
  first = np.where(members.any(axis=0), members.argmax(axis=0), -1)
  label, top = predictions.label[:, None], predictions.top_classes
  mapped = np.where(members[label, top], label, first[top])
  return dataclasses.replace(predictions, top_classes=mapped, loss=None)


def restrict(
  logits: Float[Array, 'b j'], classes: Sequence[Sequence[int]]
) -> Float[Array, 'b k']:
  """Returns, per ObjectNet class, the largest logit of its ImageNet classes."""
  return jnp.stack(
    [logits[:, jnp.array(group)].max(axis=-1) for group in classes], axis=-1
  )


def _read_text(path: epath.Path) -> str:
  if not path.exists():
    raise ValueError(
      f'no such file {os.fspath(path)!r}; expected the folder'
      f' `mappings` of ObjectNet, with {FOLDERS}, {OBJECTNET_TO_IMAGENET},'
      f' {CLASS_TO_LINE} and {IMAGENET_NAMES}.'
    )
  return regular_file.read_text(path)


def _read_json(path: epath.Path) -> Mapping:
  try:
    return json.loads(_read_text(path))
  except (json.JSONDecodeError, RecursionError) as error:
    raise ValueError(f'{path} is not JSON: {error}.') from error
