"""The page of a run, `report.html`, from what stands in its folder.

Every job ends with it; it shows what there is. What cannot be drawn is one
warning, and never the end of a run.
"""

from collections.abc import Callable, Iterator
import datetime
import functools
import logging

from etils import epath
import jax
import ml_collections

from vit_jax import report
from vit_jax.checkpoints import atomic
from vit_jax.jobs import (
  page_examples,
  page_facts,
  page_files,
  page_studies,
  page_weights,
  past_run,
)
from vit_jax.report_page import content, metrics, render

_log = logging.getLogger(__name__)

PAGE = page_studies.PAGE

Draw = Callable[[], list[content.Part]]

# What comes of a job's own.
_OF_JOB = {
  'sweep': ('Settings and runs', page_studies.sweep),
  'vtab': ('Tasks', page_studies.vtab),
  'study': ('Points and runs', page_studies.study),
  'data_study': ('Points and runs', page_studies.study),
  'few_shot': ('Few-shot accuracy', page_studies.few_shot),
  'predict': ('Photos', page_examples.photo_predictions),
  'plan': ('Plan', page_files.plan),
  'inference': ('Inference', page_studies.inference),
}


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Writes the pages of the runs in `report.runs`, and of those below them.

  Raises:
    ValueError: if there is no finished run.
  """
  del workdir  # Every page stands in the folder of its own run.
  folders = [item.strip() for item in config.report.runs.split(',')]
  folders = [epath.Path(item) for item in folders if item]
  if not folders:
    raise ValueError(
      'report.runs is empty; give the workdirs of finished runs, separated by'
      ' commas.'
    )
  for past in [past_run.read(folder) for folder in folders]:
    write(past)


def finish(workdir: epath.Path) -> None:
  """Writes the page of a run that has just ended, unless it is there already.

  A run that was asked to stop has no results, and gets no page yet.
  """
  if jax.distributed.is_initialized() and jax.process_index():
    return
  results, page = workdir / report.RESULTS, workdir / PAGE
  if not results.exists():
    return
  if page.exists() and page.stat().mtime >= results.stat().mtime:
    return
  try:
    write(past_run.read(workdir))
  except Exception as error:
    _log.warning('%s cannot be written: %r', page, error)


def write(past: past_run.PastRun) -> None:
  """Writes the page of a run, and those of the runs below it."""
  _write(past, past.workdir.name)
  for other in past.below:
    folder = other.workdir.relative_to(past.workdir)
    _write(other, f'{past.workdir.name}/{folder}')


def _write(past: past_run.PastRun, title: str) -> None:
  with report.phase(f'writing {past.workdir / PAGE}'):
    html = render.render(build(past, title))
    atomic.write_bytes(past.workdir / PAGE, html.encode())


def build(past: past_run.PastRun, title: str) -> content.Page:
  """Draws what there is of a run, under a title."""
  sections, failures = [], []
  for heading, draw in _sections(past):
    try:
      parts = draw()
    except Exception as error:  # Of any kind: the run has done its work.
      failures.append(f'{heading} ({error!r})')
      parts = [content.Text(f'This could not be drawn: {error}')]
    if parts:
      sections.append(content.Section(heading, parts))
  if failures:
    _log.warning('%s lacks %s', past.workdir / PAGE, ', '.join(failures))
  return content.Page(
    title=title,
    summary=_summary(past),
    headlines=metrics.headlines(page_studies.headlines(past)),
    sections=sections,
    footer=f'Written by vit_jax, {datetime.date.today().isoformat()}.',
  )


def _sections(past: past_run.PastRun) -> Iterator[tuple[str, Draw]]:
  """Headings, and what draws what is below them."""
  of = functools.partial
  yield 'What ran', of(page_facts.what_ran, past)
  yield 'Curves', lambda: metrics.curves(past.events)
  if past.job in _OF_JOB:
    title, draw = _OF_JOB[past.job]
    yield title, of(draw, past)
  yield 'Results', of(page_facts.results, past)
  yield 'Pictures', of(page_files.pictures_left, past)
  yield 'Classes', of(page_examples.classes, past)
  yield 'Most confident mistakes', of(page_examples.mistakes, past)
  if past.weights:
    weights = functools.cache(lambda: page_weights.Weights(past))
    yield 'Attention', lambda: weights().attention()
    yield 'Positions and filters', lambda: weights().drawn()


def _summary(past: past_run.PastRun) -> str:
  c = past.config
  text = past.job
  if past.job in (*past_run.OF_DATA, 'sweep', 'study', 'data_study'):
    text = ' '.join(filter(None, [text, c.model.name, 'on', c.data.name]))
  if 'step' in past.results:
    text += f', {past.results["step"]:,} steps'
  if 'seconds' in past.results:
    text += f', {report.duration(past.results["seconds"])}'
  if past.devices:
    text += f' on {past.devices}'
  return f'{text}.'
