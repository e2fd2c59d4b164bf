import pytest

from vit_jax.evaluation import frontier


def test_by_hand():
  costs = [1, 2, 4, 4, 8, 2, 4]
  scores = [0.3, 0.5, 0.4, 0.6, 0.6, 0.5, 0.55]
  # The third is dearer and worse than the second; the fifth dearer than the
  # fourth and no better; the sixth is the second again; the last as dear as the
  # fourth, and worse.
  assert frontier.best(costs, scores) == [
    True, True, False, True, False, True, False
  ]  # fmt: skip


def test_one_is_its_own_frontier():
  assert frontier.best([3], [0.1]) == [True]
  assert frontier.best([], []) == []


def test_every_cost_needs_its_score():
  with pytest.raises(ValueError, match='shorter'):
    frontier.best([1, 2], [0.1])
