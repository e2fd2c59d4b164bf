"""Similarity of position embeddings by hand."""

import numpy as np
import pytest

from vit_jax.inspection import position_similarity
import weights


def test_similarity_on_a_6x4_grid():
  table = np.random.default_rng(0).normal(size=(24, 5))
  found = position_similarity.similarity(table, (6, 4))
  assert found.shape == (6, 4, 6, 4)
  for i in range(6):
    for j in range(4):
      assert found[i, j, i, j] == pytest.approx(1, abs=1e-12)
  a, b = table[4 * 2 + 1], table[4 * 5 + 3]
  cosine = a @ b / np.sqrt(a @ a * (b @ b))
  assert found[2, 1, 5, 3] == pytest.approx(cosine, abs=1e-12)
  assert found[5, 3, 2, 1] == pytest.approx(cosine, abs=1e-12)


def test_similarity_to_an_embedding_of_zeros_is_zero():
  table = np.array([[0.0, 0.0], [1.0, 0.0]])
  found = position_similarity.similarity(table, (1, 2)).reshape(2, 2)
  np.testing.assert_array_equal(found, [[0, 0], [0, 1]])


def test_mismatched_grid_is_refused():
  with pytest.raises(ValueError, match='got 25 .* grid of 6x4 patches'):
    position_similarity.similarity(np.ones((25, 3)), (6, 4))


def test_contrast():
  # Embeddings consist of a part for the row and one for the column, with a
  # cosine of 0.36 within a row and 0.64 within a column.
  row, column = np.indices((3, 4)).reshape(2, -1)
  table = np.concatenate([0.6 * np.eye(3)[row], 0.8 * np.eye(4)[column]], 1)
  found = position_similarity.contrast(
    position_similarity.similarity(table, (3, 4))
  )
  # There are 3 * 3 horizontal and 2 * 4 vertical pairs.
  adjacent = (9 * 0.36 + 8 * 0.64) / 17
  expected = {'same_row': 0.36, 'same_column': 0.64, 'others': 0.0}
  assert found == pytest.approx(expected | {'adjacent': adjacent}, abs=1e-12)


def test_contrast_of_a_single_row_has_no_columns():
  found = position_similarity.contrast(
    position_similarity.similarity(np.eye(3), (1, 3))
  )
  assert set(found) == {'same_row', 'adjacent'}


@pytest.mark.parametrize('pool', ['token', 'gap'])
def test_class_token_is_dropped(pool):
  params = weights.random_params(weights.tiny(pool=pool))
  table = params['Transformer']['posembed_input']['pos_embedding']
  found = position_similarity.embeddings(params)
  np.testing.assert_array_equal(found, table[0, -6:])  # 2x3 patches.


@pytest.mark.parametrize('place', ['stem', 'every_layer_shared', 'every_layer'])
def test_rows_and_columns_are_combined(place):
  model = weights.tiny(positions='2d', positions_at=place)
  encoder = (params := weights.random_params(model))['Transformer']
  tables = {
    'stem': encoder.get('posembed_input'),
    'every_layer_shared': encoder.get('posembed_shared'),
    'every_layer': encoder['encoderblock_0'].get('posembed'),
  }[place]
  found = position_similarity.embeddings(params)
  assert found.shape == (6, 12)
  np.testing.assert_array_equal(
    found[4],
    [*tables['pos_embedding_rows'][1], *tables['pos_embedding_columns'][1]],
  )


@pytest.mark.parametrize('kind', ['none', 'relative'])
def test_models_without_added_positions_are_refused(kind):
  params = weights.random_params(weights.tiny(positions=kind))
  with pytest.raises(ValueError, match='no learned position embeddings'):
    position_similarity.embeddings(params)


def test_resnets_are_refused():
  with pytest.raises(ValueError, match='no learned position embeddings'):
    position_similarity.embeddings({'conv_root': {}})
