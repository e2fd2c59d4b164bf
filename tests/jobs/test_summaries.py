"""Numbers, table and chart of point summaries, by hand."""

import json

from PIL import Image
import pytest

import runs
from vit_jax.jobs.compare import points, summaries
from vit_jax.workdir import finished_run


def summary(name, family, exaflops, accuracy, **values):
  costs = {
    'steps': 10,
    'images': 640,
    'exaflops': exaflops,
    'compiler_exaflops': 1.01 * exaflops,
    'core_days': 0.5,
  }
  metrics = {'test/accuracy': accuracy, 'test/accuracy_std': 0.01}
  arguments = {
    'seeds': 3, 'diverged': 0, 'costs': costs, 'metrics': metrics, 'curves': {}
  }  # fmt: skip
  return summaries.PointSummary(name, family, **arguments | values)


SUMMARIES = [
  summary('small', 'ViT', 2.0, 0.5),
  summary('large', 'ViT', 8.0, 0.7),
  summary('middle', 'ResNet', 4.0, 0.45),
  summary('none', 'ResNet', 0, 0, seeds=0, diverged=3, costs={}, metrics={}),
]
METRIC = 'test/accuracy'


def test_table():
  lines = summaries.table(SUMMARIES, 'exaflops', [METRIC]).splitlines()
  cells = [line.split() for line in lines]
  assert cells[1] == ['small', 'ViT', '10', '640', '2', '2.02', '0.5',
                      '50.00±1.00', '*']  # fmt: skip
  # Dearer and worse than the small one.
  assert cells[3][-1] == '45.00±1.00'
  assert cells[4] == ['none', 'ResNet', 'diverged']
  assert cells[-1][0] == '*'


def test_places():
  assert summaries.place(SUMMARIES[1], SUMMARIES, 'relative') == 4
  assert summaries.place(SUMMARIES[1], SUMMARIES, 'exaflops') == 8
  assert summaries.on_frontier('core_days', METRIC, SUMMARIES) == [
    False, True, False, False
  ]  # fmt: skip
  assert not any(summaries.on_frontier('examples', METRIC, SUMMARIES))


def test_results_hold_all():
  found = json.loads(
    json.dumps(summaries.as_json(SUMMARIES, 'exaflops', [METRIC]))
  )
  assert [point['frontier'] for point in found] == [True, True, False, False]
  assert found[0]['metrics'][METRIC] == 0.5


def test_metrics_to_draw():
  config = runs.load_config('digits')
  assert summaries.metrics_to_draw(config, SUMMARIES) == [METRIC]
  config.study.metrics = ('val/accuracy',)
  with pytest.raises(ValueError, match='choose from test/accuracy'):
    summaries.metrics_to_draw(config, SUMMARIES)


def size_of(path):
  with Image.open(path) as chart:
    return chart.size


@pytest.mark.parametrize('across', ['exaflops', 'relative', 'name', 'step'])
def test_charts(across, tmp_path):
  path = tmp_path / 'chart.png'
  curve = {METRIC: [(1, 0.1, 0.0), (2, 0.3, 0.1)]}
  found = [summary(o.name, o.family, 1, 0.5, curves=curve) for o in SUMMARIES]
  drawn = found if across == 'step' else SUMMARIES
  summaries.draw(path, drawn, across, [METRIC], 'title')
  width, height = size_of(path)
  assert width > height > 400
  summaries.draw(path, drawn, across, [METRIC, METRIC + '_std'], 'title')
  assert size_of(path)[0] > 1.5 * width


def test_curves_are_means_at_the_steps_of_all_runs(tmp_path):
  ended = []
  for seed, values in enumerate(({1: 0.2, 2: 0.4}, {1: 0.4, 2: 0.8, 3: 0.9})):
    folder = tmp_path / f'{seed}'
    folder.mkdir()
    lines = [json.dumps({'step': s, METRIC: v}) for s, v in values.items()]
    (folder / 'metrics.jsonl').write_text('\n'.join(lines) + '\n')
    results = {'step': 3, 'seconds': 1.0, 'core_days': 2.0 + seed}
    run = finished_run.FinishedRun(folder, {}, results | {'parameters': 5})
    ended.append(points.Run(run, {METRIC: max(values.values())}))
  config = runs.shrink(runs.load_config('digits'))
  point = points.Point('name', 'family', config)
  found = summaries.summarize(point, [*ended, None])
  assert (found.seeds, found.diverged) == (2, 1)
  deviation = 0.2 / 2**0.5
  assert found.curves[METRIC] == [
    (1, pytest.approx(0.3), pytest.approx(deviation)),
    (2, pytest.approx(0.6), pytest.approx(2 * deviation)),
  ]
  assert found.metrics[METRIC] == pytest.approx(0.65)
  assert found.costs['core_days'] == 2.5
