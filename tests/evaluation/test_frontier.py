"""The cost-accuracy frontier by hand."""

import pytest

from vit_jax.evaluation import frontier


def test_by_hand():
  costs = [1, 2, 4, 4, 8, 2, 4]
  scores = [0.3, 0.5, 0.4, 0.6, 0.6, 0.5, 0.55]
  # The third costs more and is worse than the second; the fifth costs more than
  # the fourth and is no better; the sixth equals the second; the last costs as
  # much as the fourth and is worse.
  assert frontier.on_frontier(costs, scores) == [
    True, True, False, True, False, True, False
  ]  # fmt: skip


def test_single_model_is_on_the_frontier():
  assert frontier.on_frontier([3], [0.1]) == [True]
  assert frontier.on_frontier([], []) == []


def test_number_of_costs_and_scores_must_match():
  with pytest.raises(ValueError, match='shorter'):
    frontier.on_frontier([1, 2], [0.1])
