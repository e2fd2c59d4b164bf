"""Names of the files of a work directory, and their writers.

Every process of a run calls the writers; only process 0 writes.
"""

import json
from typing import Any

from etils import epath

from vit_jax.checkpoints import atomic
from vit_jax.distributed import processes

CONFIG = 'config.json'
ENVIRONMENT = 'environment.json'
RESULTS = 'results.json'
FINAL_WEIGHTS = 'final.npz'
BEST_WEIGHTS = 'best.npz'
METRICS = 'metrics.jsonl'
PAGE = 'report.html'
TABLE = 'table.txt'
PLAN = 'plan.txt'
PHOTO_PREDICTIONS = 'predictions.jsonl'
SPLIT_PREDICTIONS = 'predictions_{}.jsonl'
STUDY_CHART = 'study.png'
VTAB_CHART = 'vtab.png'
INFERENCE_CHART = 'inference.png'


def write_text(path: epath.Path, text: str) -> None:
  """Writes a text file atomically: it appears whole or not at all."""
  if processes.is_first():
    atomic.write_bytes(path, text.encode())


def write_json(path: epath.Path, content: Any) -> None:
  """Writes a JSON file atomically."""
  write_text(path, json.dumps(content, indent=2) + '\n')


def read_json(path: epath.Path) -> Any:
  """Returns what a JSON file holds, or None if it does not exist.

  Process 0 reads it for all processes.
  """
  return processes.from_first(
    lambda: json.loads(path.read_text()) if path.exists() else None
  )
