"""Matches the classes of a dataset with those of a model, by name.

Two datasets may order the same classes differently, or one may have only some
of them, so a class may have different labels in the two.
"""

import collections
from collections.abc import Iterable, Sequence
import dataclasses
import re

from vit_jax.data import shortened

# Ways to match classes.
CHOICES = ('name', 'index')

_MAX_LISTED = 10
_WORDNET_ID = re.compile(r'n\d{8}')
_WORDS_OF_ID = re.compile(r'(n\d{8}) .+')


@dataclasses.dataclass(frozen=True)
class Match:
  """The model's label for every class of a dataset.

  Attributes:
    labels: the model's label for each label of the dataset.
    class_names: (k,) names of the model's classes; those of the dataset if the
      model has no names.
    by: 'name', 'number' (the dataset's names are the model's labels) or
      'index' (label k of the dataset is label k of the model).
    note: message for the log.
  """

  labels: tuple[int, ...]
  class_names: tuple[str, ...]
  by: str
  note: str

  @property
  def is_identity(self) -> bool:
    """Whether the data has all classes of the model, with the same labels."""
    return self.labels == tuple(range(len(self.class_names)))


def match(
  model_names: Sequence[str] | None,
  num_classes: int,
  data_names: Sequence[str],
  *,
  by: str = 'name',
  model: str = 'the checkpoint',
  data: str = 'the data',
) -> Match:
  """Finds the classes of a dataset among those of a model.

  They are matched by name, `n01440764 tench` by its WordNet ID. Names that the
  model lacks are taken as its labels if they are the numbers 0 to
  num_classes - 1 in an order such as 0, 1, 10, 2, the order of class folders.
  If either side has no names, classes are matched by index, which requires as
  many classes on both sides. ImageNet's classes are also matched by index if
  the dataset has WordNet IDs and the model has other names: ImageNet's labels
  always follow the order of these IDs.

  Args:
    model_names: names in the order of the model's labels; None, or '0', '1' and
      so on, if it has none.
    num_classes: number of classes of the model.
    data_names: names in the order of the dataset's labels; '0', '1' and so on
      if it has none.
    by: one of CHOICES; 'index' ignores the names.
    model: the checkpoint, for messages.
    data: the dataset, for messages.

  Raises:
    ValueError: if the model lacks classes of the dataset, a name is ambiguous,
      or the numbers of classes differ and classes are matched by index.
  """
  data_names = tuple(data_names)
  model_names = tuple(model_names or ())
  if by == 'index':
    reason = 'data.match_classes=index'
  elif model_names and {*_without_words(data_names)} <= {
    *_without_words(model_names)
  }:
    found = _by_name(
      _without_words(model_names), _without_words(data_names), model, data
    )
    return dataclasses.replace(found, class_names=model_names)
  elif _are_shuffled_labels(data_names, num_classes) and not _are_numbers(
    model_names
  ):
    labels = tuple(map(int, data_names))
    names = model_names or tuple(sorted(data_names, key=int))
    note = f'the class names of {data} are numbers, taken as labels of {model}'
    return Match(labels, names, 'number', note)
  else:
    reason = _reason_for_index(model_names, data_names, model, data)
    if not reason:
      raise ValueError(_describe_unknown(model_names, data_names, model, data))
  if len(data_names) != num_classes:
    raise ValueError(
      f'{model} has {num_classes} classes, but {data} has {len(data_names)},'
      f' and they can only be matched by index ({reason}); use data with the'
      ' classes that the model was trained on, or fine-tune it on this data.'
    )
  return Match(
    tuple(range(num_classes)),
    data_names if _is_unnamed(model_names) else model_names,
    'index',
    f'the classes of {data} and {model} are matched by index ({reason})',
  )


def may_be_imagenet(names: Sequence[str]) -> bool:
  """Returns whether these can be the names of ImageNet's classes, in order.

  WordNet IDs must be sorted, and numbers must be 0, 1, 2 and so on. Other names
  must not be sorted alphabetically, as those of class folders are.
  """
  names = list(_without_words(names))
  if all(map(_WORDNET_ID.fullmatch, names)):
    return names == sorted(names)
  if _are_numbers(names):
    return list(map(int, names)) == list(range(len(names)))
  return names != sorted(names)


def _by_name(model_names, data_names, model, data) -> Match:
  label = {name: k for k, name in enumerate(model_names)}
  labels = tuple(range(len(model_names)))
  if data_names != model_names:
    repeated = _repeated(model_names) & set(data_names) | _repeated(data_names)
    if repeated:
      raise ValueError(
        f'{data} and {model} cannot be matched by class name, because some'
        f' names occur more than once: {_listed(sorted(repeated))}; rename'
        ' these classes, or set data.match_classes=index if both list their'
        ' classes in the same order.'
      )
    labels = tuple(label[name] for name in data_names)
  if len(data_names) < len(model_names):
    note = (
      f'{data} has {len(data_names)} of the {len(model_names)} classes of'
      f' {model}, matched by name'
    )
  else:
    moved = sum(k != label for k, label in enumerate(labels))
    note = (
      f'the classes of {data} and {model} are matched by name;'
      f' labels differ for {moved} of {len(labels)} classes'
    )
  return Match(labels, model_names, 'name', note)


def _describe_unknown(model_names, data_names, model, data) -> str:
  known = set(model_names)
  unknown = [name for name in data_names if name not in known]
  others = [name for name in model_names if name not in set(data_names)]
  message = (
    f'{model} lacks {len(unknown)} of the {len(data_names)} classes of {data}:'
    f' {_listed(unknown)}; its own unmatched classes:'
    f' {_listed(others) or "none"}. Name the classes as in the checkpoint'
  )
  if len(data_names) == len(model_names):
    message += ', or, if only the names differ, set data.match_classes=index'
  return f'{message}.'


def _reason_for_index(model_names, data_names, model, data) -> str:
  """Returns why names cannot be compared; '' if they can, but differ."""
  if not model_names:
    return f'{model} has no class names'
  if _are_numbers(model_names) and _are_numbers(data_names):
    return ''  # Such as folders 1 to 10 and labels 0 to 9.
  if _is_unnamed(model_names):
    return f'{model} has no class names'
  if _is_unnamed(data_names):
    return f'{data} has no class names'
  if _is_imagenet(data_names) and not any(map(_WORDNET_ID.match, model_names)):
    return f'{data} has WordNet IDs, and {model} has other names'
  return ''


def _are_shuffled_labels(names, num_classes):
  """Returns whether the names are 0 to num_classes - 1, but out of order."""
  return (
    not _is_unnamed(names)
    and len(names) == num_classes
    and _are_numbers(names)
    and set(map(int, names)) == set(range(num_classes))
  )


def _are_numbers(names):
  return bool(names) and all(n.isascii() and n.isdecimal() for n in names)


def _is_unnamed(names):
  return not names or names == tuple(map(str, range(len(names))))


def _is_imagenet(names):
  names = _without_words(names)
  return (
    len(names) == 1000
    and all(map(_WORDNET_ID.fullmatch, names))
    and list(names) == sorted(names)
  )


def _without_words(names: Iterable[str]) -> tuple[str, ...]:
  """Returns only the ID of names such as `n01440764 tench`."""
  return tuple(_WORDS_OF_ID.sub(r'\1', name) for name in names)


def _repeated(names):
  return {name for name, n in collections.Counter(names).items() if n > 1}


def _listed(names):
  return shortened.join(list(map(repr, names)), _MAX_LISTED)
