"""Nearest neighbours by cosine similarity, without training anything.

Similarities are computed in float64 on the host and rounded to float32, so that
equal vectors have equal similarities wherever they are in a matrix product.
"""

from collections.abc import Callable, Iterable
import dataclasses

from jaxtyping import Bool, Float, Int
import numpy as np

# A matrix of similarities in float64 then takes 64 MiB.
QUERIES_PER_CHUNK = 1024
REFERENCES_PER_CHUNK = 8192

_Chunks = Iterable[Float[np.ndarray, '_ d']]


@dataclasses.dataclass(frozen=True)
class Neighbours:
  """The most similar references of each query, the most similar one first.

  Attributes:
    rows: (n, k) positions among the references; -1 if there are fewer than k.
    similarity: (n, k) cosines; -inf if there are fewer than k references.
  """

  rows: np.ndarray
  similarity: np.ndarray


def find(
  queries: _Chunks,
  references: Callable[[], _Chunks],
  *,
  count: int,
  own: Int[np.ndarray, ' n'] | None = None,
) -> Neighbours:
  """Finds the most similar references of each query.

  Of equally similar ones, those with the lowest positions are found. Only one
  chunk of the queries and one of the references are in memory at a time.

  Args:
    queries: vectors, in chunks.
    references: returns the vectors to search, in chunks.
    count: number of neighbours.
    own: for each query, the position of the same example among the references,
      which is left out; -1 if it is not one of them. None: no query is.
  """
  parts, begin = [], 0
  for chunk in queries:
    end = begin + len(chunk)
    own_rows = np.full(len(chunk), -1) if own is None else own[begin:end]
    parts.append(_search(_unit(chunk), references(), count, own_rows))
    begin = end
  rows, similarity = (np.concatenate(x) for x in zip(*parts, strict=True))
  return Neighbours(rows, similarity)


def _search(queries, references, count, own):
  shape = len(queries), count
  rows, best = np.full(shape, -1), np.full(shape, -np.inf, np.float32)
  start = 0
  for chunk in references:
    found = (queries @ _unit(chunk).T).astype(np.float32)
    itself = np.flatnonzero((start <= own) & (own < start + len(chunk)))
    found[itself, own[itself] - start] = -np.inf
    positions = np.broadcast_to(start + np.arange(len(chunk)), found.shape)
    # Earlier references come first, so they precede equally similar ones.
    rows = np.concatenate([rows, positions], axis=1)
    best = np.concatenate([best, found], axis=1)
    rows, best = _largest(rows, best, count)
    start += len(chunk)
  return rows, best


def _largest(rows, values, count):
  """Returns rows and values of the `count` largest values of each query."""
  query = np.arange(len(values))
  chosen = []
  for _ in range(count):
    at = np.argmax(values, axis=1)  # The first of equal ones.
    value = values[query, at]
    chosen.append((np.where(np.isneginf(value), -1, rows[query, at]), value))
    values[query, at] = -np.inf
  return tuple(np.stack(x, axis=1) for x in zip(*chosen, strict=True))


def _unit(vectors):
  vectors = vectors.astype(np.float64)
  lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
  return vectors / np.where(lengths > 0, lengths, 1)


def correct(
  neighbours: Neighbours,
  reference_labels: Int[np.ndarray, ' m'],
  labels: Int[np.ndarray, ' n'],
) -> Bool[np.ndarray, ' n']:
  """Returns whether most neighbours of each query have its label.

  Of labels with equally many votes, the lowest is predicted.
  """
  votes = [reference_labels[row[row >= 0]] for row in neighbours.rows]
  predicted = [
    np.bincount(vote).argmax() if len(vote) else -1 for vote in votes
  ]
  return np.array(predicted) == labels
