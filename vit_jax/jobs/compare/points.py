"""Points of a study: what it trains, and the runs that do.

A point is a setting with a name and a family, run once for each seed. Every run
has a folder of its own, `POINT/seed-N/train` below the study's, and what it is
scored by has folders beside that; so what was interrupted goes on where it was.
"""

from collections.abc import Sequence
import dataclasses
import logging
import re

from etils import epath
import ml_collections

from vit_jax import config as config_lib
from vit_jax.jobs.compare import settings, transfer
from vit_jax.training import loop
from vit_jax.workdir import finished_run

_log = logging.getLogger(__name__)

_ITEM = re.compile(
  r'((?P<name>[^=:()]+)(\((?P<family>[^=()]+)\))?:(\s|$))?(?P<pairs>.*)',
  re.DOTALL,
)
# Groups of keys that say what a study does with its runs.
_OF_STUDY = ('study', 'data_study', 'sweep')


@dataclasses.dataclass(frozen=True)
class Point:
  """What is trained.

  Attributes:
    name: of its own.
    family: of the points that a line is drawn through.
    config: of its runs, but for the seed.
    found: finished runs, where it has not to be run.
  """

  name: str
  family: str
  config: ml_collections.ConfigDict
  found: Sequence[finished_run.FinishedRun] = ()

  @property
  def folder(self) -> str:
    """The name, as a file may be called."""
    return re.sub(r'[^A-Za-z0-9.,=+_-]+', '-', self.name)


@dataclasses.dataclass(frozen=True)
class Run:
  """A finished run of a point, with all that it was scored by.

  Attributes:
    run: of the training.
    metrics: of it, and of what its weights were transferred to.
  """

  run: finished_run.FinishedRun
  metrics: dict[str, float]


def list_points(config: ml_collections.ConfigDict) -> list[Point]:
  """The points of `study.points`, or of a grid, and those that are collected.

  Raises:
    ValueError: if they cannot be read, two have one name, or a config cannot
      be.
  """
  if config.job == 'study' and config.study.points and config.sweep.grid:
    raise ValueError(
      f'study.points and sweep.grid={config.sweep.grid!r} both list what to'
      ' study; set one of them.'
    )
  transfer.check(config)
  found = [_point(config, *item) for item in _items(config)]
  found += _collected(config)
  if not found:
    raise ValueError(
      'there is nothing to study: set study.points, sweep.grid or'
      ' study.collect.'
    )
  folders = [point.folder for point in found]
  for point in found:
    if folders.count(point.folder) > 1:
      raise ValueError(
        f'two points are called {point.name!r}; give each a name of its own, as'
        ' in NAME: KEY=VALUE; NAME: KEY=VALUE.'
      )
    config_lib.check(point.config)
  return found


def _items(config):
  """Names, families and settings."""
  text = config.study.points
  if not text.strip():
    if config.sweep.grid or config.sweep.also or not config.study.collect:
      for setting in settings.settings(config):
        yield settings.setting_name(setting), '', setting
    return
  for item in filter(None, map(str.strip, text.split(';'))):
    match = _ITEM.fullmatch(item)
    setting = settings.pairs('study.points', match['pairs'])
    name = (match['name'] or settings.setting_name(setting)).strip()
    yield name, match['family'] or '', setting


def _point(config, name, family, setting):
  own = settings.run_config(config, setting)
  lengths = {'total_steps', 'total_epochs'}
  given = lengths & {key for key, _ in setting}
  if len(given) == 1:  # In place of the other.
    own[(lengths - given).pop()] = 0 if 'total_epochs' in given else 0.0
  default = config_lib.base()
  for group in _OF_STUDY:
    own[group] = default[group]
  if not own.few_shot.every:
    own.few_shot = default.few_shot
  if not family:
    of_data = config.job == 'data_study'
    family = own.model.name if of_data else family_of(own.model.name)
  return Point(name, family, own)


def family_of(model: str) -> str:
  """Of a model's name: ViT, ResNet, hybrid, or these with Axial- before it."""
  axial = 'Axial-' if model.startswith('Axial') else ''
  model = model.removeprefix('Axial').removeprefix('-')
  if 'ViT' not in model:
    return f'{axial}ResNet'
  return f'{axial}ViT' if model.startswith('ViT') else f'{axial}hybrid'


def _collected(config):
  """Points of finished runs, those of one config together."""
  together = {}
  for folder in filter(None, map(str.strip, config.study.collect.split(','))):
    for run in finished_run.find(epath.Path(folder), config.sweep.job):
      flat = dict(sorted(run.flat.items()))
      together.setdefault(repr(flat | {'seed': 0}), []).append(run)
  by_name = {}
  for runs in together.values():
    by_name.setdefault(_short_name(runs[0].config), []).append(runs)
  for name, groups in by_name.items():
    flats = [runs[0].flat for runs in groups]
    told_by = [
      key
      for key in flats[0]
      if key != 'seed' and any(f.get(key) != flats[0][key] for f in flats)
    ]
    for runs, flat in zip(groups, flats, strict=True):
      own = runs[0].config
      changes = [f'{key}={flat.get(key)}' for key in told_by]
      yield Point(
        ', '.join([name, *changes]),
        family_of(own.model.name),
        own,
        found=runs,
      )


def _short_name(config):
  length = f'{config.total_epochs:g} epochs'
  if config.total_steps:
    length = f'{config.total_steps} steps'
  return f'{config.model.name}, {length}'


def train(
  point: Point, workdir: epath.Path, seed: int
) -> finished_run.FinishedRun | None:
  """A run of a point, old or new; None if it diverged.

  Args:
    point: of a study.
    workdir: of the study.
    seed: of the run.

  Raises:
    grid.Stopped: if it was asked to stop.
  """
  own = point.config.copy_and_resolve_references()
  own.seed = seed
  folder = workdir / point.folder / f'seed-{seed}' / 'train'
  _log.info('%s with seed %d', point.name, seed)
  try:
    settings.run_or_read(own, folder)
  except loop.NonFiniteError as error:
    _log.warning('%s diverged: %s', folder, error)
    return None
  return finished_run.read(folder)


def runs(
  config: ml_collections.ConfigDict, point: Point, workdir: epath.Path
) -> list[Run | None]:
  """All runs of a point, with all that the study scores them by.

  Args:
    config: of the study.
    point: of it.
    workdir: of it.

  Returns:
    Those that were found, or one for each of `sweep.seeds`, None for those that
    diverged.

  Raises:
    grid.Stopped: if one was asked to stop.
  """
  seeds = range(config.seed, config.seed + config.sweep.seeds)
  trained = point.found or [train(point, workdir, seed) for seed in seeds]
  return [
    run and _scored(config, run, workdir / point.folder) for run in trained
  ]


def _scored(config, run, folder) -> Run | None:
  folder = folder / f'seed-{run.config.seed}'
  try:
    scores = transfer.scores(config, run, folder)
  except loop.NonFiniteError as error:
    _log.warning('%s diverged: %s', folder, error)
    return None
  return Run(run, scores | _own_metrics(run) | scores)


def _own_metrics(run):
  """Of the weights that count: the best ones, where those are kept."""
  metrics = dict(run.metrics)
  if run.config.best_metric:
    for event in run.events:
      if event['step'] == metrics['best/step']:
        metrics |= {name: event[name] for name in metrics if name in event}
  return {
    name: value
    for name, value in metrics.items()
    if name.endswith(('/accuracy', 'shot'))
  }
