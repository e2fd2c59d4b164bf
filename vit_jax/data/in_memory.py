"""A source with its undecoded records in memory.

A few examples of a large file are read once, not anew in every epoch: of
dSprites 590,000 records stand before the 200 that one may choose by.
"""

from __future__ import annotations

import dataclasses

from vit_jax.data.lazy_tensorflow import tf
from vit_jax.data.source import IndexedSource, Source


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class InMemorySource(IndexedSource):
  """The source `stored`, and its records, each field stacked (n, ...)."""

  stored: Source
  records: dict[str, tf.Tensor]

  def load(self, record):  # noqa: D102
    index = record['index']
    return self.stored.load(
      {name: tf.gather(values, index) for name, values in self.records.items()}
    )

  def describe(self, example_id: int) -> str:  # noqa: D102
    return self.stored.describe(example_id)

  def locate(self, example_id: int) -> str:  # noqa: D102
    return self.stored.locate(example_id)

  def stable_id(self, index: int) -> str:  # noqa: D102
    return self.stored.stable_id(index)

  def file_names(self) -> list[str]:  # noqa: D102
    return self.stored.file_names()


def hold(source: Source) -> InMemorySource:
  """Reads all records of a source, which should be few."""
  records = source.ordered().batch(source.num_examples).get_single_element()
  return InMemorySource(
    name=source.name,
    split=source.split,
    num_examples=source.num_examples,
    class_names=source.class_names,
    multi_label=source.multi_label,
    stored=source,
    records=records,
  )
