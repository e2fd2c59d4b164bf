"""Lists of examples to exclude from a training stream.

The de-duplication job writes such a list as JSON: the dataset (`data`) and the
`split` that were searched, and the stable ids (`Source.stable_id`) of the
`examples` to exclude. The list applies to every part of that split.
"""

from collections.abc import Sequence
import dataclasses
import json
import logging
from typing import Any

from jaxtyping import Int64
import numpy as np

from vit_jax.checkpoints import location, regular_file
from vit_jax.data import splits

_log = logging.getLogger(__name__)


def content(data: str, split: str, examples: Sequence[str]) -> dict[str, Any]:
  """Returns the JSON content of a list of these examples."""
  return {'data': data, 'split': split, 'examples': list(examples)}


@dataclasses.dataclass(frozen=True)
class Exclusions:
  """A list of excluded examples, read for a split.

  Attributes:
    path: path of the file.
    ids: stable ids of the examples to exclude.
    same_split: whether the list was made for exactly this split, which must
      then contain all of these examples.
  """

  path: str
  ids: frozenset[str]
  same_split: bool

  def remaining(
    self, excluded: Int64[np.ndarray, ' excluded'], num_examples: int
  ) -> Int64[np.ndarray, ' remaining']:
    """Returns the positions of the remaining examples, in increasing order.

    Args:
      excluded: positions of the examples whose ids are in the list.
      num_examples: size of the split.

    Raises:
      ValueError: if no example remains, or the split that the list was made for
        lacks some of its ids.
    """
    if self.same_split and len(excluded) != len(self.ids):
      raise ValueError(
        f'{self.path} lists examples that are no longer in this split'
        f' ({len(self.ids) - len(excluded)} of {len(self.ids)}). The data has'
        ' changed; make a new list with configs/dedup.py.'
      )
    remaining = np.setdiff1d(np.arange(num_examples), excluded)
    if not len(remaining):
      raise ValueError(
        f'{self.path} excludes all {num_examples} examples of this split; set'
        ' data.exclude to a list that leaves some for training.'
      )
    _log.info(
      'excluded %d of %d examples, as listed in %s',
      len(excluded), num_examples, self.path,
    )  # fmt: skip
    return remaining


def read(path: str, data: str, split: str) -> Exclusions:
  """Reads a list for a split of a dataset.

  Raises:
    ValueError: if the file is missing or not such a list, or was made for
      another dataset or for a split that does not cover this one.
  """
  file = location.expand(path)
  if not file.is_file():
    raise ValueError(
      f'data.exclude: file {path!r} does not exist; configs/dedup.py writes'
      ' such a list.'
    )
  try:
    fields = json.loads(regular_file.read_text(file))
    listed_data, listed_split = str(fields['data']), str(fields['split'])
    ids = frozenset(map(str, fields['examples']))
  except (ValueError, KeyError, TypeError, RecursionError) as error:
    raise ValueError(
      f'data.exclude: {path} is not a list written by configs/dedup.py;'
      ' expected JSON with `data`, `split` and `examples`'
      f' ({type(error).__name__}: {error}).'
    ) from error
  if listed_data != data:
    raise ValueError(
      f'data.exclude: {path} was made for {listed_data!r}, not for {data!r};'
      ' make a new list with configs/dedup.py, or, if only the location of the'
      ' data has changed, edit `data` in the file.'
    )
  searched = set(map(str.strip, listed_split.split('+')))
  terms = set(map(str.strip, split.split('+')))
  missing = {
    term for term in terms if not {term, splits.plain_name(term)} & searched
  }
  if missing:
    raise ValueError(
      f'data.exclude: {path} was made for split {listed_split!r}, which does'
      f' not cover {", ".join(sorted(missing))} of {split!r}; make a list for a'
      ' split that does, with configs/dedup.py.'
    )
  return Exclusions(path=path, ids=ids, same_split=terms == searched)
