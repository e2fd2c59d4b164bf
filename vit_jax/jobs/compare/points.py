"""Points of a study, and the runs of a point.

A point is a setting with a name and a family. It runs once for each seed, in
the folder `POINT/seed-N/train` of the study; transfer runs have folders beside
it. An interrupted study therefore resumes.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import logging
import re

from etils import epath
import ml_collections

from vit_jax import build
from vit_jax import config as config_lib
from vit_jax.build import few_shot_evaluator
from vit_jax.checkpoints import finite, location
from vit_jax.config.values import FAMILY
from vit_jax.evaluation import multi_label
from vit_jax.jobs.compare import settings, transfer
from vit_jax.workdir import finished_run

_log = logging.getLogger(__name__)

# Groups of keys for the study itself, which its runs do not have.
_STUDY_GROUPS = ('study', 'data_study', 'sweep')


@dataclasses.dataclass(frozen=True)
class Point:
  """A point of a study.

  Attributes:
    name: name of the point, unique within the study.
    family: name of its family, whose points are joined by a line.
    config: config of its runs, apart from the seed.
    finished_runs: its runs, if it was collected and need not run.
  """

  name: str
  family: str
  config: ml_collections.ConfigDict
  finished_runs: Sequence[finished_run.FinishedRun] = ()

  @property
  def folder(self) -> str:
    """The name, without characters that are unusual in file names."""
    return re.sub(r'[^A-Za-z0-9.,=+_-]+', '-', self.name)


@dataclasses.dataclass(frozen=True)
class Run:
  """A finished run of a point, with its accuracies and those of transfer."""

  run: finished_run.FinishedRun
  metrics: dict[str, float]


def list_points(config: ml_collections.ConfigDict) -> list[Point]:
  """Returns the points of study.points or sweep.grid, and of study.collect.

  Raises:
    ValueError: if there are none, both `study.points` and `sweep.grid` are set,
      two points have the same folder, or one makes an invalid config.
  """
  if config.job == 'study' and config.study.points and config.sweep.grid:
    raise ValueError(
      f'study.points and sweep.grid={config.sweep.grid!r} both list what to'
      ' study; set only one of them.'
    )
  points = [*_listed(config), *_collected(config)]
  if not points:
    raise ValueError(
      'there is nothing to study: set study.points, sweep.grid or'
      ' study.collect.'
    )
  folders = [point.folder for point in points]
  for point in points:
    if folders.count(point.folder) > 1:
      raise ValueError(
        f'two points have the folder {point.folder!r}; choose names that'
        ' differ in letters, digits or characters such as = and +, as in'
        ' NAME: KEY=VALUE; NAME: KEY=VALUE.'
      )
    settings.check_folder(point.folder)
    if not point.finished_runs:
      config_lib.check(point.config)
  return points


def check(
  config: ml_collections.ConfigDict,
  points: Sequence[Point],
  workdir: epath.Path,
) -> None:
  """Checks the runs of the points, their transfer and the chart in advance.

  Args:
    config: the study's config.
    points: points to run.
    workdir: the study's work directory.

  Raises:
    ValueError: if data is missing, a run is invalid, or no point can have a
      metric of `study.metrics`.
  """
  folders = [workdir / p.folder / f'seed-{config.seed}' for p in points]
  configs = [point.config for point in points]
  for point in points:
    if not point.finished_runs:
      settings.check(point.config)
  settings.check_data(
    (point.config, folder / 'train')
    for point, folder in zip(points, folders, strict=True)
    if not point.finished_runs
  )
  transfer.check(config, list(zip(configs, folders, strict=True)))
  measured = dict.fromkeys(transfer.metric_names(config))
  for point in points:
    measured |= dict.fromkeys(_own_metrics(point))
  for metric in filter(None, config.study.metrics):
    if metric not in measured:
      raise ValueError(
        f'study.metrics={config.study.metrics!r}: {metric!r} is not measured;'
        f' choose from {", ".join(measured)}.'
      )


def _own_metrics(point) -> list[str]:
  """Returns the names of the metrics in `_own_values` of a point's runs."""
  if point.finished_runs:
    return [name for run in point.finished_runs for name in _own_values(run)]
  config = point.config
  if config.loss == 'sigmoid':  # Otherwise, the data need not be opened.
    names = build.score_names(config, build.open_eval_data(config))
  else:
    names = [f'{split}/accuracy' for split in config_lib.eval_splits(config)]
  if config.best_metric:
    names.append(f'best/{config.best_metric}')
  if config.few_shot.every:
    names += few_shot_evaluator.metric_names(config)
  return names


def _listed(config) -> Iterator[Point]:
  """Yields the points of `study.points`, or else of `sweep.grid`."""
  if config.study.points:
    for name, point in config.study.points.items():
      setting = tuple(item for item in point.items() if item[0] != FAMILY)
      yield _point(config, name, point.get(FAMILY, ''), setting)
  elif config.sweep.grid or config.sweep.also or not config.study.collect:
    for setting in settings.settings(config):
      yield _point(config, settings.setting_name(setting), '', setting)


def _point(config, name, family, setting) -> Point:
  run_config = settings.run_config(config, setting)
  default = config_lib.base()
  for group in _STUDY_GROUPS:
    run_config[group] = default[group]
  if not run_config.few_shot.every:
    run_config.few_shot = default.few_shot
  if not family:
    model = run_config.model.name
    family = model if config.job == 'data_study' else family_of(model)
  return Point(name, family, run_config)


def family_of(model: str) -> str:
  """Returns ViT, ResNet or hybrid, with Axial- in front for axial models."""
  axial = 'Axial-' if model.startswith('Axial') else ''
  model = model.removeprefix('Axial').removeprefix('-')
  if 'ViT' not in model:
    return f'{axial}ResNet'
  return f'{axial}ViT' if model.startswith('ViT') else f'{axial}hybrid'


def _collected(config) -> Iterator[Point]:
  """Yields the points of `study.collect`.

  Runs that differ only in their seed form one point.
  """
  by_config = {}
  for folder in config.study.collect:
    folder = location.expand(folder)
    for run in finished_run.find(folder, config.sweep.job):
      keys = dict(sorted(run.flat.items())) | {'seed': 0}
      by_config.setdefault(repr(keys), []).append(run)
  by_name = {}
  for runs in by_config.values():
    c = runs[0].config
    steps, epochs = f'{c.total_steps} steps', f'{c.total_epochs:g} epochs'
    name = f'{c.model.name}, {steps if c.total_steps else epochs}'
    by_name.setdefault(name, []).append(runs)
  for name, groups in by_name.items():
    flats = [runs[0].flat for runs in groups]
    differing = [
      key
      for key in flats[0]
      if key != 'seed' and any(f.get(key) != flats[0][key] for f in flats)
    ]
    for runs in groups:
      first = runs[0]
      keys = [f'{key}={first.flat.get(key)}' for key in differing]
      family = family_of(first.config.model.name)
      yield Point(', '.join([name, *keys]), family, first.config, runs)


def train(
  point: Point, workdir: epath.Path, seed: int
) -> finished_run.FinishedRun | None:
  """Returns the run of a point with a seed, or None if it diverged.

  The run is started or resumed unless it has finished.

  Args:
    point: the point.
    workdir: folder of the study.
    seed: seed of the run.

  Raises:
    settings.Stopped: if it was preempted.
  """
  config = point.config.copy_and_resolve_references()
  config.seed = seed
  folder = workdir / point.folder / f'seed-{seed}' / 'train'
  _log.info('%s with seed %d', point.name, seed)
  try:
    settings.run_or_read(config, folder)
  except finite.NonFiniteError as error:
    _log.warning('%s diverged: %s', folder, error)
    return None
  return finished_run.read(folder)


def runs(
  config: ml_collections.ConfigDict, point: Point, workdir: epath.Path
) -> list[Run | None]:
  """Trains and scores a point with every seed, or scores its finished runs.

  Returns:
    One entry per run; None for runs that diverged.

  Raises:
    settings.Stopped: if a run was preempted.
  """
  seeds = range(config.seed, config.seed + config.sweep.seeds)
  finished_runs = point.finished_runs or [
    train(point, workdir, seed) for seed in seeds
  ]
  return [
    run and _score(config, run, workdir / point.folder) for run in finished_runs
  ]


def _score(config, run, folder) -> Run | None:
  folder = folder / f'seed-{run.config.seed}'
  try:
    scores = transfer.scores(config, run, folder)
  except finite.NonFiniteError as error:
    _log.warning('%s diverged: %s', folder, error)
    return None
  return Run(run, scores | _own_values(run) | scores)


def _own_values(run) -> dict[str, float]:
  """Returns the run's own accuracies, mean average precision and F1.

  They are those of its best weights if it kept them.
  """
  metrics = {
    name: value
    for name, value in run.metrics.items()
    if name.endswith(('/accuracy', 'shot', *multi_label.METRICS))
    and '/raw_' not in name
  }
  if run.config.best_metric:
    for event in run.events:
      if event['step'] == run.metrics['best/step']:
        metrics |= {name: event[name] for name in metrics if name in event}
  return metrics
