"""Similarity of position embeddings (Figure 7, center; Figure 10)."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
import numpy as np

from vit_jax.models import positions


def embeddings(params: Mapping[str, Any]) -> Float[np.ndarray, 'n d']:
  """Returns the position embeddings of patches, without the class token.

  Combines the embeddings of rows and columns. If every layer has its own
  embeddings, returns those of the first layer.

  Raises:
    ValueError: if the model adds no learned embeddings to its tokens.
  """
  encoder = params.get('Transformer', {})
  candidates = (
    encoder.get('posembed_input'),
    encoder.get('posembed_shared'),
    encoder.get('encoderblock_0', {}).get('posembed'),
  )
  tables = next(filter(None, candidates), None)
  if tables is None:
    raise ValueError('the model adds no learned position embeddings.')
  if 'pos_embedding' not in tables:
    return np.asarray(
      positions.concatenate_tables(
        tables['pos_embedding_rows'], tables['pos_embedding_columns']
      )
    )
  (table,) = tables['pos_embedding']
  return np.asarray(table[1:] if 'cls' in params else table)


def similarity(
  embeddings: Float[np.ndarray, 'n d'], grid: tuple[int, int]
) -> Float[np.ndarray, 'rows columns rows columns']:
  """Returns the cosine similarity of the position embeddings of all patches.

  Embeddings are in raster order. Entry [i, j] of the result is the map of
  similarities to the patch in row i and column j.

  Raises:
    ValueError: if the numbers of embeddings and patches differ.
  """
  if len(embeddings) != grid[0] * grid[1]:
    raise ValueError(
      f'got {len(embeddings)} position embeddings for a grid of'
      f' {grid[0]}x{grid[1]} patches; drop the class token, and give the rows'
      ' and columns of patches in the image.'
    )
  x = np.asarray(embeddings, np.float64)
  norms = np.linalg.norm(x, axis=1, keepdims=True)
  x = x / np.maximum(norms, np.finfo(np.float64).tiny)
  return (x @ x.T).reshape(*grid, *grid)


def contrast(
  similarity: Float[np.ndarray, 'rows columns rows columns'],
) -> dict[str, float]:
  """Returns the mean similarity of pairs of patches by relative position.

  Pairs are in the `same_row`, the `same_column` or neither (`others`), or
  horizontally or vertically `adjacent`. Kinds without pairs are omitted.
  """
  rows, columns = similarity.shape[:2]
  row, column = np.indices((rows, columns)).reshape(2, -1)
  down = np.abs(row[:, None] - row)
  across = np.abs(column[:, None] - column)
  pairs = {
    'same_row': (down == 0) & (across > 0),
    'same_column': (across == 0) & (down > 0),
    'others': (down > 0) & (across > 0),
    'adjacent': down + across == 1,
  }
  flat = similarity.reshape(rows * columns, -1)
  return {
    name: float(flat[chosen].mean())
    for name, chosen in pairs.items()
    if chosen.any()
  }
