"""The page of a run, `report.html`, from the files in its folder.

Every job ends by writing it; it shows what the folder contains. A section that
cannot be drawn is logged as a warning and never fails a run.
"""

from collections.abc import Callable, Iterator
import dataclasses
import datetime
import functools
import logging
import re
from typing import Any

from etils import epath
import jax

from vit_jax import config as config_lib
from vit_jax.config.keys import KEYS
from vit_jax.page import (
  attention_page,
  charts,
  content,
  examples,
  metric_parts,
  pictures,
  studies,
  weights,
)
from vit_jax.workdir import console, files, finished_run

_log = logging.getLogger(__name__)

# Captions of pictures by the prefix of the file name, each with the prefix of
# the metrics that have the same content in numbers; None if there are none.
_CAPTIONS = {
  'attention_distance': (
    'Mean attention distance in px of every head, by layer',
    'attention_distance/layer',
  ),
  'attention_maps_': (
    'Attention weights of single heads, one row per layer',
    'attention_distance/layer',
  ),
  'filters': (
    'Principal components of the filters of the first layer',
    'filters/',
  ),
  'pairs': ('Training images beside similar test images', None),
  'patches_': (
    'Images in rows: original, with corrupted patches, as predicted',
    '{first_split}/',
  ),
  'position_similarity': (
    'Cosine similarity of position embeddings, one map per patch',
    'positions/',
  ),
  'study': (
    'Accuracy of the points, by family, with standard deviations over seeds',
    None,
  ),
  'rollout': ('Images beside their attention rollouts', 'rollout/'),
}
_MAX_NUMBERS = 12  # In the text alternative of a picture.
# Charts that the sections of their jobs draw in the style of the page.
_REDRAWN = (files.VTAB_CHART, files.INFERENCE_CHART)


def finish(workdir: epath.Path) -> None:
  """Writes the page of a run that has just ended, unless it is up to date.

  A run that was stopped has no results, and gets no page yet.
  """
  if jax.distributed.is_initialized() and jax.process_index():
    return
  results, page = workdir / files.RESULTS, workdir / files.PAGE
  if not results.exists():
    return
  if page.exists() and page.stat().mtime >= results.stat().mtime:
    return
  try:
    write(finished_run.read(workdir))
  except Exception as error:
    _log.warning('%s cannot be written: %r', page, error)


def write(run: finished_run.FinishedRun) -> None:
  """Writes the page of a run, and those of the runs in its subfolders."""
  _write(run, run.workdir.name)
  for child in run.children:
    folder = child.workdir.relative_to(run.workdir)
    _write(child, f'{run.workdir.name}/{folder}')


def _write(run: finished_run.FinishedRun, title: str) -> None:
  path = run.workdir / files.PAGE
  with console.phase(f'writing {path}'):
    files.write_text(path, content.html(build(run, title)))


def build(run: finished_run.FinishedRun, title: str) -> content.Page:
  """Returns the page of a run."""
  sections, failures = [], []
  for heading, draw in _sections(run):
    try:
      parts = draw()
    except Exception as error:  # Any error: the run itself has succeeded.
      failures.append(f'{heading} ({error!r})')
      parts = [content.Text(f'This could not be drawn: {error}')]
    if parts:
      sections.append(content.Section(heading, parts))
  if failures:
    _log.warning('%s lacks %s', run.workdir / files.PAGE, ', '.join(failures))
  return content.Page(
    title=title,
    summary=_summary(run),
    headlines=metric_parts.headlines(studies.headlines(run)),
    sections=sections,
    footer=f'Written by vit_jax, {datetime.date.today().isoformat()}.',
  )


def _sections(
  run: finished_run.FinishedRun,
) -> Iterator[tuple[str, Callable[[], list[content.Part]]]]:
  """Yields headings, and functions that draw the parts below them."""
  section = functools.partial
  job = JOB_PAGES.get(run.job, JobPage())
  yield 'What ran', section(_what_ran, run)
  yield 'Curves', lambda: metric_parts.curves(run.events)
  if job.draw:
    yield job.heading, section(job.draw, run)
  if run.numbers:
    yield 'Results', lambda: [metric_parts.table(run.numbers)]
  yield 'Pictures', section(_pictures, run)
  yield 'Classes', section(examples.classes, run)
  yield 'Most confident mistakes', section(examples.mistakes, run)
  path = run.workdir / files.FINAL_WEIGHTS
  if not path.exists():
    path = run.config.init_from if job.shows_init_from else ''
  if path:
    load = functools.cache(lambda: weights.load(run, str(path)))
    yield (
      'Attention',
      lambda: weights.attention(load(), run, has_data=job.has_data),
    )
    yield 'Positions and filters', lambda: weights.positions_and_filters(load())


@dataclasses.dataclass(frozen=True)
class JobPage:
  """The parts of a page that depend on the job.

  Attributes:
    heading: heading of the job's own section.
    draw: returns the parts of that section; None for no section.
    has_data: whether the job trains or evaluates a model on `data.name`.
    shows_init_from: whether to show the weights of `init_from` if the run has
      no final weights.
  """

  heading: str = ''
  draw: Callable[[finished_run.FinishedRun], list[content.Part]] | None = None
  has_data: bool = False
  shows_init_from: bool = False


JOB_PAGES = {
  'pretrain': JobPage(has_data=True),
  'finetune': JobPage(has_data=True),
  'masked_patch': JobPage(has_data=True),
  'evaluate': JobPage(has_data=True, shows_init_from=True),
  'few_shot': JobPage(
    'Few-shot accuracy', studies.few_shot, shows_init_from=True
  ),
  'features': JobPage(
    'Most similar images',
    examples.similar_images,
    has_data=True,
    shows_init_from=True,
  ),
  'predict': JobPage(
    'Photos', examples.photo_predictions, shows_init_from=True
  ),
  'sweep': JobPage('Settings and runs', studies.sweep, has_data=True),
  'study': JobPage('Points and runs', studies.study, has_data=True),
  'data_study': JobPage('Points and runs', studies.study, has_data=True),
  'vtab': JobPage('Tasks', studies.vtab),
  'plan': JobPage('Plan', lambda run: [content.Code(run.text(files.PLAN))]),
  'inference': JobPage('Inference', studies.inference),
  'inspect_model': JobPage('Attention by patch', attention_page.links),
}


def _summary(run: finished_run.FinishedRun) -> str:
  c = run.config
  text = run.job
  if JOB_PAGES.get(run.job, JobPage()).has_data:
    text = ' '.join(filter(None, [text, c.model.name, 'on', c.data.name]))
  if 'step' in run.results:
    text += f', {run.results["step"]:,} steps'
  if 'seconds' in run.results:
    text += f', {console.duration(run.results["seconds"])}'
  if run.devices:
    text += f' on {run.devices}'
  return f'{text}.'


def _what_ran(run: finished_run.FinishedRun) -> list[content.Part]:
  """Returns the command, the machine and the config, changed keys first."""
  parts, versions = [], []
  if environment := run.environment:
    if 'command' in environment:
      parts.append(content.Code(environment['command']))
    versions = [*environment['versions'].items()]
    versions.append(('platform', environment['platform']))
  if facts := list(_facts(run)):
    parts.append(content.Facts(facts))
  changed, rows = [], []
  for name, value in run.flat.items():
    if name not in KEYS:
      term = content.Term(name, 'No longer a key.')
      rows.append((term, _text(name, value), ''))
      continue
    default = KEYS[name].default
    if value != default:
      note = f'(default {_text(name, default) or "empty"})'
      changed.append((name, _text(name, value) or 'empty', note))
    term = content.Term(name, KEYS[name].meaning)
    rows.append((term, _text(name, value), _text(name, default)))
  return [
    *parts,
    content.Text('Config keys that differ from their defaults:'),
    content.Facts(changed),
    content.Table(
      ('package', 'version'),
      versions,
      shown=0,
      folded='versions',
      numbers=False,
    ),
    content.Table(
      ('key', 'value', 'default'),
      rows,
      shown=0,
      folded='keys with their meanings',
      numbers=False,
    ),
  ]


def _facts(run) -> Iterator[tuple[str, str, str]]:
  if run.devices:
    yield 'devices', run.devices, ''
  if 'parameters' in run.results:
    yield 'parameters', f'{run.results["parameters"]:,}', ''
  if 'core_days' in run.results:
    yield 'core-days', f'{run.results["core_days"]:.3g}', ''


def _text(name: str, value: Any) -> str:
  if isinstance(value, float):
    return f'{value:g}'
  return config_lib.as_text(value, name)


def _pictures(run: finished_run.FinishedRun) -> list[content.Part]:
  """Returns the PNG files of a run; for a series over steps, only the last."""
  drawn = [_picture(run, path) for path in _picture_files(run)]
  return [content.Charts(drawn)] if drawn else []


def _picture_files(run) -> list[epath.Path]:
  if 'figures' in run.results:
    return [run.workdir / name for name in run.results['figures']]
  latest = {
    re.sub(r'_\d{7}$', '', path.stem): path
    for path in sorted(run.workdir.glob('*.png'))
  }
  return [path for path in latest.values() if path.name not in _REDRAWN]


def _picture(run, path) -> content.Picture:
  prefix = next((p for p in _CAPTIONS if path.name.startswith(p)), None)
  caption, metrics = _CAPTIONS.get(prefix, (f'Picture {path.stem}', None))
  numbers = []
  if metrics:
    splits = config_lib.eval_splits(run.config)
    metrics = metrics.format(first_split=next(iter(splits), ''))
    numbers = [
      f'{name} {charts.number(value)}'
      for name, value in run.numbers.items()
      if name.startswith(metrics)
    ]
  alt = f'{caption}. {", ".join(numbers[:_MAX_NUMBERS])}'.strip()
  return pictures.file(path, alt, f'{caption} ({path.name})')
