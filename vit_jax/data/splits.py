"""Split arithmetic: `train[:98%]`, `train[100:200]`, `train+validation`."""

from collections.abc import Mapping
import hashlib
import re

import numpy as np

_TERM = re.compile(r'(\w+)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?')
SYNTAX = 'write NAME, NAME[FROM:TO] in examples or per cent, or sums of them'


def select(
  split: str, parts: Mapping[str, np.ndarray], source: str
) -> np.ndarray:
  """The items that a split expression names.

  A boundary in per cent lies at percent * N // 100; a negative one counts from
  the end.

  Args:
    split: such as `train`, `train[:98%]`, `train[100:200]`, `train+val`.
    parts: the items of each plain split, in their fixed order.
    source: what the splits belong to, for messages.

  Raises:
    ValueError: if the expression does not parse, names an unknown split,
      reaches beyond a split's end, or selects nothing.
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
        f'{source}: {term.strip()!r} reaches beyond the {len(items)} examples'
        f' of {name!r}.'
      )
    chosen.append(items[begin:end])
  selected = np.concatenate(chosen)
  if not len(selected):
    raise ValueError(
      f'{source}: split {split!r} holds no example; splits: {known}.'
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
  """The split that a term such as `train[:98%]` is a part of."""
  return term.partition('[')[0].strip()


def order_key(purpose: str, name: str) -> bytes:
  """A sort key that shuffles names in the same way on every machine.

  A name keeps its key when others come and go.

  Args:
    purpose: what the order is for; different purposes, unrelated orders.
    name: what tells an item from all others.
  """
  return hashlib.blake2b(f'{purpose}/{name}'.encode(), digest_size=8).digest()


def random_subset(
  count: int, num_examples: int, seed: int, source: str
) -> np.ndarray:
  """Rising positions of `count` examples, drawn without replacement.

  A function of (count, num_examples, seed); a larger count with the same seed
  holds the smaller one.

  Raises:
    ValueError: if there are fewer examples than asked for.
  """
  if not 0 < count <= num_examples:
    raise ValueError(
      f'{source} has {num_examples} examples, so a random subset has 1 to'
      f' {num_examples}; asked for {count}.'
    )
  # NumPy promises the numbers of its old generator for ever, not the new one's.
  order = np.random.RandomState(seed % 2**32).permutation(num_examples)
  return np.sort(order[:count])
