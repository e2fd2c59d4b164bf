"""Similarity of position embeddings (Figure 7 centre, Figure 10)."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float
import numpy as np

from vit_jax.models import positions


def embeddings(params: Mapping[str, Any]) -> Float[np.ndarray, 'n d']:
  """The position embeddings of a model's patches, without the class token's.

  Those of rows and of columns are put together; where every layer has its own,
  they are the first one's.

  Raises:
    ValueError: if the model has none that are added to tokens.
  """
  encoder = params.get('Transformer', {})
  places = (
    encoder.get('posembed_input'),
    encoder.get('posembed_shared'),
    encoder.get('encoderblock_0', {}).get('posembed'),
  )
  tables = next(filter(None, places), None)
  if tables is None:
    raise ValueError('the model adds no position embeddings to its tokens.')
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
  """Cosine between the position embeddings of any two patches.

  Args:
    embeddings: of the patches, row after row.
    grid: rows and columns of patches.

  Returns:
    [i, j] is the map of similarities to the patch in row i and column j.

  Raises:
    ValueError: if there are not as many embeddings as patches.
  """
  if len(embeddings) != grid[0] * grid[1]:
    raise ValueError(
      f'{len(embeddings)} position embeddings do not fill a grid of'
      f' {grid[0]}x{grid[1]} patches; leave the class token out, and give the'
      ' rows and columns as they are in the image.'
    )
  x = np.asarray(embeddings, np.float64)
  norms = np.linalg.norm(x, axis=1, keepdims=True)
  x = x / np.maximum(norms, np.finfo(np.float64).tiny)
  return (x @ x.T).reshape(*grid, *grid)


def contrast(
  similarity: Float[np.ndarray, 'rows columns rows columns'],
) -> dict[str, float]:
  """Mean cosines of pairs of different patches, by how they lie.

  Returns:
    `same_row`; `same_column`; `others`, neither of the two; and `adjacent`,
    beside or below each other. A kind that the grid has no pair of is left out.
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
