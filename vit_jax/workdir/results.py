"""The final numbers of a run: `results.json`."""

import collections
from collections.abc import Mapping, Sequence
import logging
from typing import Any

from etils import epath
import jax
from jaxtyping import PyTree

from vit_jax.checkpoints import backlog
from vit_jax.evaluation import classification
from vit_jax.workdir import files

_log = logging.getLogger(__name__)


def write(
  workdir: epath.Path,
  job: str,
  *,
  metrics: Mapping[str, float] | None = None,
  seconds: float | None = None,
  on_devices: bool = True,
  params: PyTree | None = None,
  **details: Any,
) -> None:
  """Writes `results.json`, which marks the run as finished.

  Every process calls this; only process 0 writes.

  Args:
    workdir: folder of the run.
    job: name of the job.
    metrics: final metrics by their flat names, such as 'test/accuracy'.
    seconds: duration of the job, including earlier starts if it records them.
    on_devices: whether the devices of this run were in use for all of
      `seconds`; their kind, their number and the core-days are then recorded.
    params: parameters of the model, to be counted.
    **details: further fields.

  Raises:
    backlog.WriteError: if this or another file of the run cannot be written.
  """
  results = {'job': job}
  if seconds is not None:
    results['seconds'] = seconds
    if on_devices:
      count = jax.device_count()
      results['device_kind'] = jax.devices()[0].device_kind
      results['device_count'] = count
      results['core_days'] = seconds * count / 86400
  if params is not None:
    results['parameters'] = sum(x.size for x in jax.tree.leaves(params))
  if metrics is not None:
    results['metrics'] = metrics
  path = workdir / files.RESULTS
  backlog.flush()  # All other files of a finished run are complete.
  files.write_json(path, results | details)
  backlog.flush()
  _log.info('finished; results in %s', path)


def by_class(
  predictions: Mapping[str, classification.Predictions],
  class_names: Sequence[str],
) -> dict[str, dict[str, dict[str, float | None]]]:
  """Returns metrics of single classes, by split and name of the class.

  The keys are those of `Predictions.by_class`, as in `class_accuracy`.
  """
  details = collections.defaultdict(dict, class_accuracy={})
  for split, predicted in predictions.items():
    for metric, values in predicted.by_class(len(class_names)).items():
      details[f'class_{metric}'][split] = dict(
        zip(class_names, values, strict=True)
      )
  return details
