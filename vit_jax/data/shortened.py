"""Shortens long lists in messages."""

from collections.abc import Sequence


def join(texts: Sequence[str], limit: int) -> str:
  """Joins texts with commas; only counts those after the first `limit`."""
  more = len(texts) - limit
  shown = ', '.join(texts[:limit])
  return f'{shown} and {more} more' if more > 0 else shown
