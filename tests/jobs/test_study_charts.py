"""Charts of studies, drawn from stored numbers."""

import itertools

from matplotlib.backends.backend_agg import FigureCanvasAgg
import numpy as np
import pytest

import runs
from vit_jax.evaluation import paper_tables
from vit_jax.inspection import study_charts
from vit_jax.jobs.compare import points, summaries

METRICS = ('finetune/mean/accuracy', 'finetune/imagenet2012/accuracy')


def paper_summaries():
  """Table 6 as the summaries of a study, half a point below the paper."""
  found = []
  for (model, epochs), (exaflops, row) in paper_tables.TABLE_6.items():
    metrics = {
      f'finetune/{name}/accuracy': value / 100 - 0.005
      for name, value in row.items()
    }
    metrics |= {f'{name}_std': 0.002 for name in metrics}
    name = f'{model}, {epochs} epochs'
    found.append(
      summaries.PointSummary(
        name=name,
        family=points.family_of(model),
        seeds=3,
        diverged=0,
        costs={'exaflops': exaflops},
        metrics=metrics,
        curves={},
      )
    )
  return found


def figure_5():
  config = runs.load_config('scaling', 'jft300m')
  found = paper_summaries()
  return study_charts.accuracy_by_cost(
    {m: summaries._lines(found, 'exaflops', m) for m in METRICS},
    title='jft300m',
    x_label=summaries.COSTS['exaflops'],
    log_x=True,
    references={m: summaries.marks_of_the_paper(config, m) for m in METRICS},
  )


def test_names_stay_inside_the_axes():
  figure = figure_5()
  canvas = FigureCanvasAgg(figure)
  canvas.draw()
  for axes in figure.axes:
    inside = axes.get_window_extent()
    assert len(axes.texts) == len(paper_tables.TABLE_6)
    for text in axes.texts:
      box = text.get_window_extent()
      assert inside.x0 < box.x0 and box.x1 < inside.x1, text.get_text()
      assert inside.y0 < box.y0 and box.y1 < inside.y1, text.get_text()


def test_names_hide_neither_marks_nor_each_other():
  figure = figure_5()
  FigureCanvasAgg(figure).draw()
  for axes in figure.axes:
    boxes = [text.get_window_extent() for text in axes.texts]
    marks = axes.transData.transform([text.xy for text in axes.texts])
    for box in boxes:
      assert not any(box.contains(*mark) for mark in marks)
    pairs = itertools.combinations(boxes, 2)
    assert sum(a.overlaps(b) for a, b in pairs) <= 1


def test_marks_of_the_paper_are_at_its_numbers():
  figure = figure_5()
  axes = figure.axes[1]
  gray = [line for line in axes.lines if line.get_color() == '0.6']
  found = {
    (x, y)
    for line in gray
    for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)
  }
  assert len(found) == 18
  assert (783, 86.3) in {(x, round(y, 2)) for x, y in found}
  # In gray, families are told apart by their marks.
  marks = {line.get_marker() for line in gray}
  assert len(marks) == 3


def test_other_studies_have_no_marks_of_the_paper():
  config = runs.load_config('scaling', 'digits')
  assert summaries.marks_of_the_paper(config, METRICS[0]) == {}
  config = runs.load_config('scaling', 'jft300m')
  assert summaries.marks_of_the_paper(config, 'test/accuracy') == {}


def test_figure_3_has_the_numbers_of_table_5():
  config = runs.load_config('data_study', 'figure3')
  lines = summaries.marks_of_the_paper(config, METRICS[1])
  assert {mark.x: round(100 * mark.mean, 2) for mark in lines['ViT-L/16']} == {
    1_281_167: 76.53,
    12_400_000: 85.15,
    303_000_000: 87.12,
  }


@pytest.mark.parametrize('row', list(paper_tables.TABLE_6))
def test_means_are_over_five_datasets(row):
  _, accuracies = paper_tables.TABLE_6[row]
  five = [
    v for k, v in accuracies.items() if k not in ('mean', 'imagenet2012-real')
  ]
  assert accuracies['mean'] == pytest.approx(np.mean(five))
  assert len(five) == 5
