"""Split arithmetic: `train[:98%]`, `train[100:200]`, `train+validation`."""

from collections.abc import Iterable, Mapping
import hashlib
import re

from jaxtyping import UInt64
import numpy as np

_TERM = re.compile(r'(\w+)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?')
SYNTAX = 'write NAME, NAME[FROM:TO] in examples or percent, or a sum of these'


def select(
  split: str, parts: Mapping[str, np.ndarray], source: str
) -> np.ndarray:
  """Returns the items selected by a split expression.

  A boundary in percent lies at percent * N // 100; a negative one counts from
  the end.

  Args:
    split: such as `train`, `train[:98%]`, `train[100:200]`, `train+val`.
    parts: the items of each whole split, in their fixed order.
    source: name of the dataset, for messages.

  Raises:
    ValueError: if the expression cannot be parsed, names an unknown split,
      exceeds a split, or selects nothing.
  """
  known = ', '.join(f'{name} ({len(items)})' for name, items in parts.items())
  chosen = []
  for term in split.split('+'):
    match = _TERM.fullmatch(term.strip())
    if not match:
      raise ValueError(
        f'{source}: cannot read split {split!r}; {SYNTAX}. Splits: {known}.'
      )
    name, start, stop = match.groups()
    if name not in parts:
      raise ValueError(f'{source} has no split {name!r}; splits: {known}.')
    items = parts[name]
    begin = _boundary(start, len(items), 0)
    end = _boundary(stop, len(items), len(items))
    if not 0 <= begin <= len(items) or not 0 <= end <= len(items):
      raise ValueError(
        f'{source}: {term.strip()!r} exceeds the split {name!r} of size'
        f' {len(items)}; choose boundaries within it.'
      )
    chosen.append(items[begin:end])
  selected = np.concatenate(chosen)
  if not len(selected):
    raise ValueError(
      f'{source}: split {split!r} contains no examples; splits: {known}.'
    )
  return selected


def _boundary(text: str | None, size: int, default: int) -> int:
  if text is None:
    return default
  if text.endswith('%'):
    percent = int(text[:-1])
    return percent * size // 100 + (size if percent < 0 else 0)
  return int(text) + (size if text.startswith('-') else 0)


def plain_name(term: str) -> str:
  """Returns the split that a term such as `train[:98%]` is a part of."""
  return term.partition('[')[0].strip()


def order_key(purpose: str, name: str) -> bytes:
  """Returns a sort key that shuffles names, the same on every machine.

  The key of a name does not depend on the other names. Different purposes give
  unrelated orders.
  """
  # File names may contain bytes that are not UTF-8.
  text = f'{purpose}/{name}'.encode(errors='surrogateescape')
  return hashlib.blake2b(text, digest_size=8).digest()


def order_keys(
  purpose: str, names: Iterable[bytes]
) -> UInt64[np.ndarray, ' names']:
  """Returns `order_key` of many names, as numbers that sort the same way."""
  purpose, keys = f'{purpose}/'.encode(), bytearray()
  for name in names:
    keys += hashlib.blake2b(purpose + name, digest_size=8).digest()
  return np.frombuffer(keys, '>u8')


def random_subset(
  count: int, num_examples: int, seed: int, source: str
) -> np.ndarray:
  """Draws positions of `count` examples without replacement, sorted.

  The result depends only on the numbers given; with the same seed, a larger
  subset contains the smaller one.

  Raises:
    ValueError: if `count` exceeds the number of examples.
  """
  if not 0 < count <= num_examples:
    raise ValueError(
      f'{source} has {num_examples} examples, so the size of a random subset'
      f' must be in [1, {num_examples}]; got {count}.'
    )
  # NumPy guarantees a stable stream for RandomState, not for Generator.
  order = np.random.RandomState(seed % 2**32).permutation(num_examples)
  return np.sort(order[:count])
