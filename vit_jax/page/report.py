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

from vit_jax.checkpoints import atomic
from vit_jax.page import (
  content,
  examples,
  facts,
  metric_parts,
  outputs,
  render,
  studies,
)
from vit_jax.page import weights as weights_lib
from vit_jax.workdir import console, files, finished_run

_log = logging.getLogger(__name__)

Draw = Callable[[], list[content.Part]]

# What comes of a job's own.
_OF_JOB = {
  'sweep': ('Settings and runs', studies.sweep),
  'vtab': ('Tasks', studies.vtab),
  'study': ('Points and runs', studies.study),
  'data_study': ('Points and runs', studies.study),
  'few_shot': ('Few-shot accuracy', studies.few_shot),
  'predict': ('Photos', examples.photo_predictions),
  'plan': ('Plan', outputs.plan),
  'inference': ('Inference', studies.inference),
}


def finish(workdir: epath.Path) -> None:
  """Writes the page of a run that has just ended, unless it is there already.

  A run that was asked to stop has no results, and gets no page yet.
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


def write(past: finished_run.FinishedRun) -> None:
  """Writes the page of a run, and those of the runs below it."""
  _write(past, past.workdir.name)
  for other in past.below:
    folder = other.workdir.relative_to(past.workdir)
    _write(other, f'{past.workdir.name}/{folder}')


def _write(past: finished_run.FinishedRun, title: str) -> None:
  with console.phase(f'writing {past.workdir / files.PAGE}'):
    html = render.render(build(past, title))
    atomic.write_bytes(past.workdir / files.PAGE, html.encode())


def build(past: finished_run.FinishedRun, title: str) -> content.Page:
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
    _log.warning('%s lacks %s', past.workdir / files.PAGE, ', '.join(failures))
  return content.Page(
    title=title,
    summary=_summary(past),
    headlines=metric_parts.headlines(studies.headlines(past)),
    sections=sections,
    footer=f'Written by vit_jax, {datetime.date.today().isoformat()}.',
  )


def _sections(past: finished_run.FinishedRun) -> Iterator[tuple[str, Draw]]:
  """Headings, and what draws what is below them."""
  of = functools.partial
  yield 'What ran', of(facts.what_ran, past)
  yield 'Curves', lambda: metric_parts.curves(past.events)
  if past.job in _OF_JOB:
    title, draw = _OF_JOB[past.job]
    yield title, of(draw, past)
  yield 'Results', of(facts.results, past)
  yield 'Pictures', of(outputs.pictures_left, past)
  yield 'Classes', of(examples.classes, past)
  yield 'Most confident mistakes', of(examples.mistakes, past)
  if past.weights:
    weights = functools.cache(lambda: weights_lib.Weights(past))
    yield 'Attention', lambda: weights().attention()
    yield 'Positions and filters', lambda: weights().drawn()


def _summary(past: finished_run.FinishedRun) -> str:
  c = past.config
  text = past.job
  if past.job in (*finished_run.OF_DATA, 'sweep', 'study', 'data_study'):
    text = ' '.join(filter(None, [text, c.model.name, 'on', c.data.name]))
  if 'step' in past.results:
    text += f', {past.results["step"]:,} steps'
  if 'seconds' in past.results:
    text += f', {console.duration(past.results["seconds"])}'
  if past.devices:
    text += f' on {past.devices}'
  return f'{text}.'
