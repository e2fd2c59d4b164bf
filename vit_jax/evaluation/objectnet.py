"""ObjectNet: 113 of its 313 classes are, together, 125 classes of ImageNet.

Barbu et al. (2019), "ObjectNet: A large-scale bias-controlled dataset for
pushing the limits of object recognition models"; set up as by Kolesnikov et
al. (2020), arXiv 1912.11370, section 3.6: a model chooses among all 1,000
classes of ImageNet, and each of its choices counts as the class of ObjectNet
that it belongs to, or as none. The restricted variant chooses among the
classes of ObjectNet alone. Images of the other 200 classes are left out.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import json
import os

from etils import epath
import jax.numpy as jnp
from jaxtyping import Array, Float
import numpy as np

from vit_jax.evaluation import classification

NUM_IMAGENET_CLASSES = 1000
# The files of the release, in its folder `mappings`.
FOLDERS = 'folder_to_objectnet_label.json'
OBJECTNET_TO_IMAGENET = 'objectnet_to_imagenet_1k.json'
CLASS_TO_LINE = 'pytorch_to_imagenet_2012_id.json'
IMAGENET_NAMES = 'imagenet_to_label_2012_v2'


def read_mapping(path: str | os.PathLike[str]) -> dict[str, tuple[int, ...]]:
  """ImageNet's classes for each folder of images that has some.

  Four files of the release lead there: a folder's label in ObjectNet; the names
  in ImageNet of such a label, separated by '; '; the line of a name, counted
  from 0; and the line of each class number, by which models know the class.

  Args:
    path: the folder of the files.

  Returns:
    `{folder: (class, ...)}`, sorted by folder.

  Raises:
    ValueError: if a file is missing, or they do not fit each other.
  """
  path = epath.Path(path)
  labels = _read_json(path / FOLDERS)
  imagenet_names = _read_json(path / OBJECTNET_TO_IMAGENET)
  lines = _read_json(path / CLASS_TO_LINE)
  names = _read_text(path / IMAGENET_NAMES).splitlines()
  try:
    number = {names[line].strip(): int(k) for k, line in lines.items()}
    mapping = {
      folder: tuple(number[n.strip()] for n in imagenet_names[label].split(';'))
      for folder, label in sorted(labels.items())
      if label in imagenet_names
    }
  except (IndexError, KeyError) as error:
    raise ValueError(
      f'the mapping files in {path} do not fit each other: {error} of one is'
      ' not in the next; expected those of one release of ObjectNet.'
    ) from error
  if not mapping:
    raise ValueError(
      f'the mapping files in {path} give no folder a class of ImageNet;'
      ' expected those of a release of ObjectNet.'
    )
  return mapping


def map_predictions(
  predictions: classification.Predictions,
  classes: Sequence[Sequence[int]],
) -> classification.Predictions:
  """Counts choices among ImageNet's classes as choices of ObjectNet's.

  Two of the choices may become the same class. A choice that belongs to
  several counts as the image's own if that is one of them.

  Args:
    predictions: top classes of ImageNet's, and labels in ObjectNet's classes.
    classes: ImageNet's classes for each of ObjectNet's.

  Returns:
    The same with top classes of ObjectNet's, or -1 for none of them, and
    without a loss.
  """
  members = np.zeros((len(classes), NUM_IMAGENET_CLASSES), bool)
  for row, group in zip(members, classes, strict=True):
    row[list(group)] = True
  first = np.where(members.any(axis=0), members.argmax(axis=0), -1)
  label, chosen = predictions.label[:, None], predictions.top_classes
  mapped = np.where(members[label, chosen], label, first[chosen])
  return dataclasses.replace(predictions, top_classes=mapped, loss=None)


def restrict(
  logits: Float[Array, 'b j'], classes: Sequence[Sequence[int]]
) -> Float[Array, 'b k']:
  """Logits of ObjectNet's classes: the largest of ImageNet's for each.

  Args:
    logits: of ImageNet's classes.
    classes: ImageNet's classes for each of ObjectNet's.
  """
  return jnp.stack(
    [logits[:, jnp.array(group)].max(axis=-1) for group in classes], axis=-1
  )


def _read_text(path: epath.Path) -> str:
  if not path.exists():
    raise ValueError(
      f'there is no file {os.fspath(path)!r}; expected the folder `mappings` of'
      f' ObjectNet, with {FOLDERS}, {OBJECTNET_TO_IMAGENET}, {CLASS_TO_LINE}'
      f' and {IMAGENET_NAMES}.'
    )
  return path.read_text()


def _read_json(path: epath.Path) -> Mapping:
  try:
    return json.loads(_read_text(path))
  except json.JSONDecodeError as error:
    raise ValueError(f'{path} is not JSON: {error}.') from error
