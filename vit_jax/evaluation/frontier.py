"""The cost-accuracy frontier of a set of models (section 4.4)."""

from collections.abc import Sequence


def on_frontier(costs: Sequence[float], scores: Sequence[float]) -> list[bool]:
  """Returns whether each model is Pareto-optimal.

  That is, no other model is at least as cheap and has at least as high a score,
  unless it is equal in both.
  """
  models = list(zip(costs, scores, strict=True))
  return [
    not any(
      c <= cost and s >= score and (c, s) != (cost, score) for c, s in models
    )
    for cost, score in models
  ]
