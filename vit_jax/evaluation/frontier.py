"""Which of several models give the most for what they cost (section 4.4)."""

from collections.abc import Sequence


def best(costs: Sequence[float], scores: Sequence[float]) -> list[bool]:
  """For each, whether none of the others is as cheap and as good, or better.

  Of equals in both, all are on the frontier.

  Args:
    costs: such as exaFLOPs.
    scores: such as accuracies, in the same order.
  """
  points = list(zip(costs, scores, strict=True))
  return [
    not any(
      c <= cost and s >= score and (c, s) != (cost, score) for c, s in points
    )
    for cost, score in points
  ]
