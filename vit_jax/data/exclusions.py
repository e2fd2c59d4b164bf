"""Lists of examples that a training stream leaves out.

The de-duplication job writes such a list, JSON with `data` and `split`, the
dataset and the split that were searched, and `examples`, the stable ids of what
is to be left out (`Source.stable_id`). They hold for every part of that split.
"""

from collections.abc import Sequence
import dataclasses
import json
import logging
from typing import Any

from etils import epath
from jaxtyping import Int64
import numpy as np

from vit_jax.data import splits

_log = logging.getLogger(__name__)


def content(data: str, split: str, examples: Sequence[str]) -> dict[str, Any]:
  """What a list of these examples holds, for JSON."""
  return {'data': data, 'split': split, 'examples': list(examples)}


@dataclasses.dataclass(frozen=True)
class Exclusions:
  """A list that was read for a split.

  Attributes:
    path: of the file.
    ids: stable ids of the examples to leave out.
    whole: whether it was made of this very split, which then holds all of them.
  """

  path: str
  ids: frozenset[str]
  whole: bool

  def kept(
    self, left_out: Int64[np.ndarray, ' excluded'], num_examples: int
  ) -> Int64[np.ndarray, ' kept']:
    """Rising positions of what remains of a split.

    Args:
      left_out: positions of the examples whose ids are on the list.
      num_examples: size of the split.

    Raises:
      ValueError: if nothing remains, or ids of the list are missing in the
        split that it was made of.
    """
    if self.whole and len(left_out) != len(self.ids):
      raise ValueError(
        f'{self.path} names {len(self.ids)} examples of this split, which now'
        f' holds {len(left_out)} of them; the data has changed, so make the'
        ' list anew with configs/dedup.py.'
      )
    kept = np.setdiff1d(np.arange(num_examples), left_out)
    if not len(kept):
      raise ValueError(
        f'{self.path} leaves nothing of {num_examples} examples to train on.'
      )
    _log.info(
      'left out %d of %d examples, as %s says',
      len(left_out), num_examples, self.path,
    )  # fmt: skip
    return kept


def read(path: str, data: str, split: str) -> Exclusions:
  """Reads a list for a split of a dataset.

  Raises:
    ValueError: if the file is missing or no such list, is of another dataset,
      or was made of a part that does not cover the split.
  """
  file = epath.Path(path).expanduser()
  if not file.is_file():
    raise ValueError(
      f'data.exclude: there is no file {path!r}; configs/dedup.py writes one.'
    )
  try:
    listed = json.loads(file.read_text())
    of_data, of_split = str(listed['data']), str(listed['split'])
    ids = frozenset(map(str, listed['examples']))
  except (ValueError, KeyError, TypeError) as error:
    raise ValueError(
      f'data.exclude: {path} is no list of the de-duplication job, which is'
      ' JSON with `data`, `split` and `examples`'
      f' ({type(error).__name__}: {error}).'
    ) from error
  if of_data != data:
    raise ValueError(
      f'data.exclude: {path} was made for {of_data!r}, not for {data!r}; make'
      ' one with configs/dedup.py, or, if only the place of the data has'
      ' changed, write the new one into its `data`.'
    )
  searched = set(map(str.strip, of_split.split('+')))
  terms = set(map(str.strip, split.split('+')))
  missing = {
    term for term in terms if not {term, splits.plain_name(term)} & searched
  }
  if missing:
    raise ValueError(
      f'data.exclude: {path} was made of the split {of_split!r}, which does not'
      f' cover {", ".join(sorted(missing))} of {split!r}; make one of a split'
      ' that does, with configs/dedup.py.'
    )
  return Exclusions(path=path, ids=ids, whole=terms == searched)
