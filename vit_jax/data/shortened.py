"""Shortens long lists in messages."""

from collections.abc import Sequence

from vit_jax import printing


def join(texts: Sequence[str], limit: int) -> str:
  """Joins texts with commas; only counts those after the first `limit`."""
  more = len(texts) - limit
  shown = ', '.join(map(printing.printable, texts[:limit]))
  return f'{shown} and {more} more' if more > 0 else shown
