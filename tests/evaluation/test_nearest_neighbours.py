"""Nearest neighbours: chunks, ties, and votes."""

import numpy as np
import pytest
from sklearn import neighbors

from vit_jax.evaluation import nearest_neighbours


def chunks(vectors, size):
  return np.split(vectors, range(size, len(vectors), size))


@pytest.mark.parametrize('size', [1, 7, 50])
def test_as_scikit_learn_whatever_the_chunks(size):
  rng = np.random.default_rng(0)
  references = rng.normal(size=(40, 5)).astype(np.float32)
  queries = rng.normal(size=(23, 5)).astype(np.float32)
  labels, of_queries = rng.integers(0, 3, 40), rng.integers(0, 3, 23)
  found = nearest_neighbours.find(
    chunks(queries, size), lambda: chunks(references, size), count=4
  )
  classifier = neighbors.KNeighborsClassifier(4, metric='cosine')
  classifier.fit(references.astype(float), labels)
  distances, rows = classifier.kneighbors(queries.astype(float))
  np.testing.assert_array_equal(found.rows, rows)
  np.testing.assert_allclose(found.similarity, 1 - distances, atol=1e-6)
  np.testing.assert_array_equal(
    nearest_neighbours.correct(found, labels, of_queries),
    classifier.predict(queries) == of_queries,
  )


@pytest.mark.parametrize('size', [1, 2, 6])
def test_ties_go_to_the_lowest_position_and_label(size):
  references = np.array(
    [[0, 1], [2, 0], [1, 0], [0, 3], [0, 0], [1, 0]], np.float32
  )
  queries = np.array([[5, 0], [0, 1], [1, 1]], np.float32)
  find = nearest_neighbours.find
  found = find([queries], lambda: chunks(references, size), count=2)
  assert found.rows.tolist() == [[1, 2], [0, 3], [0, 1]]
  labels = np.array([2, 1, 0, 0, 0, 0])
  right = nearest_neighbours.correct(found, labels, np.array([0, 0, 1]))
  assert right.tolist() == [True, True, True]
  # Without the examples themselves; the third query is no reference.
  own = np.array([1, 0, -1])
  found = find([queries], lambda: chunks(references, size), count=2, own=own)
  assert found.rows.tolist() == [[2, 5], [3, 1], [0, 1]]
  # Fewer references than neighbours.
  found = find([queries[:1]], lambda: [references[1:2]], count=3, own=own[:1])
  assert found.rows.tolist() == [[0, -1, -1]]
