"""A finished run, read from its folder."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import functools
from typing import Any

from etils import epath
import ml_collections

from vit_jax import config as config_lib
from vit_jax.checkpoints import run_folder
from vit_jax.config.keys import KEYS
from vit_jax.workdir import files
from vit_jax.workdir import predictions as predictions_lib


@dataclasses.dataclass(frozen=True)
class FinishedRun:
  """A finished run.

  Attributes:
    workdir: its folder.
    flat: its config keys as recorded, by their dotted names.
    results: content of `results.json`.
  """

  workdir: epath.Path
  flat: Mapping[str, Any]
  results: Mapping[str, Any]

  @property
  def job(self) -> str:
    """Name of the job."""
    return self.results['job']

  @property
  def metrics(self) -> Mapping[str, float]:
    """Final metrics; empty for jobs without metrics."""
    return self.results.get('metrics', {})

  @property
  def numbers(self) -> Mapping[str, float]:
    """Counts such as `num_train_examples`, and final metrics."""
    counts = {
      name: value
      for name, value in self.results.items()
      if name.startswith('num_') and isinstance(value, int)
    }
    return {**counts, **self.metrics}

  @property
  def devices(self) -> str:
    """Devices of the run, such as `8 x TPU v3`; '' if not recorded."""
    for results in (self.results, *(run.results for run in self.children)):
      if 'device_kind' in results:
        return f'{results["device_count"]} x {results["device_kind"]}'
    return ''

  @functools.cached_property
  def children(self) -> Sequence['FinishedRun']:
    """Finished runs in subfolders, such as those of a sweep."""
    folders = _folders(self.workdir)
    return [run for folder in folders for run in _runs(folder)]

  @functools.cached_property
  def config(self) -> ml_collections.ConfigDict:
    """Config of the run; keys added since then have their defaults."""
    config = config_lib.base()
    known = {k: v for k, v in self.flat.items() if k in KEYS}
    config.update_from_flattened_dict(known)
    return config

  @functools.cached_property
  def environment(self) -> Mapping[str, Any]:
    """Result of `environment.describe`; empty if not recorded."""
    return run_folder.read_json(self.workdir / files.ENVIRONMENT) or {}

  @functools.cached_property
  def events(self) -> Sequence[Mapping[str, float]]:
    """Lines of `metrics.jsonl`; empty for jobs without steps."""
    return files.read_events(self.workdir / files.METRICS)

  @functools.cached_property
  def predictions(self) -> Mapping[str, Sequence[predictions_lib.Line]]:
    """Predictions for the examples of each evaluated split."""
    prefix, suffix = files.SPLIT_PREDICTIONS.split('{}')
    paths = sorted(self.workdir.glob(f'{prefix}*{suffix}'))
    names = [p.name.removeprefix(prefix).removesuffix(suffix) for p in paths]
    return dict(zip(names, map(files.read_json_lines, paths), strict=True))

  @functools.cached_property
  def photo_predictions(self) -> Sequence[Mapping[str, Any]]:
    """Predictions for image files, by the job `predict`."""
    return files.read_json_lines(self.workdir / files.PHOTO_PREDICTIONS)

  def text(self, name: str) -> str:
    """Returns the text of a file in the folder, such as 'table.txt'."""
    return (self.workdir / name).read_text()


def read(workdir: epath.Path) -> FinishedRun:
  """Reads a finished run.

  Raises:
    ValueError: if there is no run, or it is not finished.
  """
  names = (files.CONFIG, files.RESULTS)
  flat, results = (run_folder.read_json(workdir / name) for name in names)
  if flat is None or results is None:
    missing = [name for name in names if not (workdir / name).exists()]
    raise ValueError(
      f'{workdir} holds no finished run: it has no {" and no ".join(missing)};'
      ' give the workdir of a run that has finished.'
    )
  flat = config_lib.from_json(flat, workdir / files.CONFIG)
  return FinishedRun(workdir, flat, results)


def find(folder: epath.Path, job: str) -> list[FinishedRun]:
  """Returns the finished runs of a job in a folder and its subfolders.

  Runs that a study or a sweep has started are included.

  Raises:
    ValueError: if there are none.
  """
  runs = list(_runs(folder, job))
  if not runs:
    raise ValueError(
      f'{folder} contains no finished run of the job {job!r}; give the workdir'
      ' of such a run, or a folder that contains several.'
    )
  return runs


def _runs(folder: epath.Path, job: str = '') -> Iterator[FinishedRun]:
  """Yields the topmost finished runs of a job, or of any job if it is ''."""
  if (folder / files.RESULTS).exists():
    run = read(folder)
    if job in ('', run.job):
      yield run
      return
  for below in _folders(folder):
    yield from _runs(below, job)


def _folders(workdir: epath.Path) -> Iterator[epath.Path]:
  """Yields the folders that may hold runs, sorted by name."""
  for path in sorted(workdir.iterdir()):
    if path.name != files.CHECKPOINTS and path.is_dir():
      yield path
