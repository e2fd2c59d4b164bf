"""Examples with several labels and random scores, measured by a classifier.

`python tests/scored.py HOST:PORT INDEX FOLDER` does so as one of two processes,
and writes the result to FOLDER.
"""

import functools
import json
import pathlib
import sys

import jax
import numpy as np

from vit_jax.distributed import mesh as mesh_lib
from vit_jax.distributed import processes
from vit_jax.evaluation import classification

EXAMPLES, CLASSES, THRESHOLD = 61, 200, 0.6


def scores_and_labels():
  """Returns logits with many ties, and labels; some classes have none."""
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(EXAMPLES, CLASSES)).round(1).astype(np.float32)
  labels = rng.random((EXAMPLES, CLASSES)) < rng.uniform(0, 0.4, CLASSES)
  labels[:, [3, 150]] = False
  logits[:, 150] = -9  # Neither positive nor predicted.
  labels[5] = False  # An example without labels.
  return logits, labels


class Identity:
  """A model whose logits are its input."""

  @staticmethod
  def apply(variables, images, *, train=False, tokens):
    return images[:, 0, 0], {}


def batches(size, process_index=0, process_count=1):
  """Yields the rows of one process; padding has other labels and scores."""
  logits, labels = scores_and_labels()
  own = size // process_count
  for start in range(0, EXAMPLES, size):
    rows = start + process_index * own + np.arange(own)
    real = rows < EXAMPLES
    images = np.where(real[:, None], logits[rows % EXAMPLES], 5)
    yield {
      'image': images[:, None, None],
      'label': (labels[rows % EXAMPLES] | ~real[:, None]).astype(np.float32),
      'mask': real.astype(np.float32),
      'index': np.where(real, rows, -1),
    }


def measure(batches, put=lambda batch: batch):
  step = jax.jit(
    classification.make_eval_step(Identity(), loss='sigmoid', with_logits=True)
  )
  result = classification.predict(step, {}, batches, put, threshold=THRESHOLD)
  by_class = result.by_class(CLASSES)
  return {**result.metrics(CLASSES), 'by_class': by_class['average_precision']}


def main(coordinator, index, folder):
  """Measures as one of two processes; writes the result to the folder."""
  processes.start(
    coordinator=coordinator, num_processes=2, process_index=int(index)
  )
  mesh = mesh_lib.create()
  own = batches(14, **mesh_lib.input_share(mesh))
  result = measure(own, functools.partial(mesh_lib.put_batch, mesh=mesh))
  (pathlib.Path(folder) / f'{index}.json').write_text(json.dumps(result))


if __name__ == '__main__':
  main(*sys.argv[1:])
