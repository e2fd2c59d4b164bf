"""What a run has left in its folder."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import functools
import json
from typing import Any

from etils import epath
import ml_collections

from vit_jax import config as config_lib
from vit_jax.config.keys import KEYS
from vit_jax.workdir import files
from vit_jax.workdir import predictions as predictions_lib

PREDICTIONS = 'predictions_'
TRAINING = ('pretrain', 'finetune', 'masked_patch')
# Jobs whose data is that of `data.name`.
OF_DATA = (*TRAINING, 'evaluate')
OF_RUNS = ('sweep', 'vtab', 'study', 'data_study')
USING_WEIGHTS = ('evaluate', 'few_shot', 'predict')


@dataclasses.dataclass(frozen=True)
class FinishedRun:
  """A finished run.

  Attributes:
    workdir: its folder.
    flat: its config as it was written, by dotted names.
    results: of `results.json`.
  """

  workdir: epath.Path
  flat: Mapping[str, Any]
  results: Mapping[str, Any]

  @property
  def job(self) -> str:
    """The job that ran."""
    return self.flat['job']

  @property
  def metrics(self) -> Mapping[str, float]:
    """Final ones; empty for jobs without."""
    return self.results.get('metrics', {})

  @property
  def numbers(self) -> Mapping[str, float]:
    """Final metrics, and what was counted."""
    counts = {
      name: value
      for name, value in self.results.items()
      if name.startswith('num_') and isinstance(value, int)
    }
    return {**counts, **self.metrics}

  @property
  def devices(self) -> str:
    """Such as `8 x TPU v3`; '' if that was not noted."""
    for results in (self.results, *(run.results for run in self.below)):
      if 'device_kind' in results:
        return f'{results["device_count"]} x {results["device_kind"]}'
    return ''

  @functools.cached_property
  def below(self) -> Sequence['FinishedRun']:
    """The runs of a sweep, by their folders; none of other jobs."""
    return list(_runs_in(self.workdir)) if self.job in OF_RUNS else []

  @functools.cached_property
  def config(self) -> ml_collections.ConfigDict:
    """Its config, with the defaults of keys that have come since."""
    config = config_lib.base()
    known = {k: v for k, v in self.flat.items() if k in KEYS}
    config.update_from_flattened_dict(known)
    return config

  @functools.cached_property
  def environment(self) -> Mapping[str, Any]:
    """As of `environment.describe`; empty where it was not noted."""
    path = self.workdir / files.ENVIRONMENT
    return json.loads(path.read_text()) if path.exists() else {}

  @functools.cached_property
  def events(self) -> Sequence[Mapping[str, float]]:
    """Lines of `metrics.jsonl`; none for jobs without."""
    path = self.workdir / 'metrics.jsonl'
    if not path.exists():
      return []
    return [json.loads(line) for line in path.read_text().splitlines()]

  @functools.cached_property
  def predictions(self) -> Mapping[str, Sequence[predictions_lib.Line]]:
    """What was said of the examples of each split."""
    paths = sorted(self.workdir.glob(f'{PREDICTIONS}*.jsonl'))
    return {
      path.stem.removeprefix(PREDICTIONS): predictions_lib.read(path)
      for path in paths
    }

  @property
  def weights(self) -> str:
    """Path of the weights that it has trained or looked at; '' if none."""
    own = self.workdir / files.FINAL_WEIGHTS
    if own.exists():
      return str(own)
    return self.config.init_from if self.job in USING_WEIGHTS else ''


def read(workdir: epath.Path) -> FinishedRun:
  """Reads a run.

  Raises:
    ValueError: if there is none, or it is not finished.
  """
  missing = [
    name
    for name in (files.CONFIG, files.RESULTS)
    if not (workdir / name).exists()
  ]
  if missing:
    raise ValueError(
      f'{workdir} holds no finished run: it has no {" and no ".join(missing)};'
      ' give the workdir of a run that has ended.'
    )
  flat = config_lib.from_json(json.loads((workdir / files.CONFIG).read_text()))
  results = json.loads((workdir / files.RESULTS).read_text())
  return FinishedRun(workdir, flat, results)


def find(folder: epath.Path, job: str) -> list[FinishedRun]:
  """The finished runs of a job in a folder: that of one, or those below.

  Those that a study or a sweep has made count, too.

  Raises:
    ValueError: if there is none.
  """
  found = list(_of_job(folder, job))
  if not found:
    raise ValueError(
      f'{folder} holds no finished run of the job {job!r}; give the workdir of'
      ' one, or a folder of such.'
    )
  return found


def _of_job(folder: epath.Path, job: str) -> Iterator[FinishedRun]:
  if (folder / files.RESULTS).exists():
    run = read(folder)
    if run.job == job:
      yield run
      return
  for below in sorted(folder.iterdir()):
    if below.is_dir():
      yield from _of_job(below, job)


def _runs_in(workdir: epath.Path) -> Iterator[FinishedRun]:
  """The finished ones in folders below, by their names."""
  for folder in sorted(workdir.iterdir()):
    if not folder.is_dir():
      continue
    if (folder / files.RESULTS).exists():
      yield read(folder)
    else:
      yield from _runs_in(folder)
