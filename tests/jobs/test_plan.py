"""Plans: compiled for slices that are not attached."""

import math

import pytest

import runs
from vit_jax.jobs.measure import plan


def plan_config(tmp_path, topologies='v3:1x1', **values):
  config = runs.shrink(runs.load_config('plan', f'ViT-B/16,{topologies}'))
  return runs.override(config, **values), tmp_path / 'run'


def test_a_plan_needs_neither_data_nor_devices(tmp_path, capsys):
  pytest.importorskip('libtpu')
  config, workdir = plan_config(tmp_path, data__image_size=32)
  config.plan.topologies = ('v3:1x1', 'v3:2x2')
  points = runs.run(config, workdir)['points']
  assert [point['cores'] for point in points] == [2, 8]
  # One block, the last norm, 5 positions and a head of 10 classes.
  width, mlp = 16, 16
  parameters = (
    (16 * 16 * 3 + 1) * width
    + (1 + 5) * width
    + 4 * (width + 1) * width
    + (width + 1) * mlp
    + (mlp + 1) * width
    + 6 * width
    + (width + 1) * width  # The hidden layer of the head.
    + (width + 1) * 10
  )
  for point in points:
    assert point['parameters'] == parameters
    # Weights and two moments in float32, and three counters.
    assert 0 <= point['state_bytes'] - 3 * 4 * parameters <= 12
    assert point['arguments'] >= point['state_bytes']
    assert point['fits']
    assert point['peak'] < point['available_bytes']
    assert point['traffic']['all-reduce']['count'] >= 1
    assert point['accumulate'] == 1
    assert point['steps'] == 2
    # Of products with one row, the compiler turns some into sums.
    per_step = point['operations'] * point['cores']
    assert 0.9 < per_step / point['operations_per_step'] <= 1
    assert point['limits']['compute'] == point['operations'] / 61.5e12
  chip, slice_ = (point['limits'] for point in points)
  assert 'interconnect' not in chip
  assert slice_['HBM'] > slice_['interconnect'] > 0
  text = capsys.readouterr().out
  assert 'yes, with 15.' in text
  assert text.count('HBM, at most') == 4  # In each case, and in the table.

  # The same command computes the missing cases.
  (workdir / 'results.json').unlink()
  first, second = sorted((workdir / 'points').iterdir())
  before = second.read_text()
  first.unlink()
  second.write_text(before.replace('"steps": 2', '"steps": 3'))
  again = runs.run(config, workdir)['points']
  assert [point['steps'] for point in again] == [2, 3]


def test_an_unknown_slice_is_refused_first(tmp_path):
  config, workdir = plan_config(tmp_path, topologies='v3-8')
  with pytest.raises(ValueError, match='v3:2x2'):
    runs.run(config, workdir)
  assert not workdir.exists()


def test_length_of_a_run_is_known_without_its_data():
  config = runs.load_config('plan', 'ViT-L/16,v3:2x2,imagenet21k')
  runs.override(config, data__train='train')
  assert plan.total_steps(config) == math.ceil(90 * 12_400_000 / 4096)
  runs.override(config, data__train='train[:1%]', total_epochs=1.0)
  assert plan.total_steps(config) == math.ceil(124_000 / 4096)
  runs.override(config, data__name='folder:/nowhere', total_steps=7)
  assert plan.total_steps(config) == 7


@pytest.mark.parametrize(
  ('run', 'expected'),
  [
    # exaFLOPs of Table 6, over core-days of Table 2 at 61.5 TFLOP/s.
    ('ViT-H/14, JFT-300M, 14 epochs', 4262e6 / (2500 * 86400 * 61.5)),
    ('ViT-L/16, JFT-300M, 14 epochs', 1567e6 / (680 * 86400 * 61.5)),
  ],
)
def test_utilisation_of_the_paper(run, expected):
  assert plan.paper_utilisation(run) == pytest.approx(expected)


def test_cost_of_a_run():
  row = {
    'cores': 8,
    'peak_operations_per_second': 1e12,
    'useful_operations_per_step': 4e12,
    'steps': 86_400,
  }
  assert plan.step_seconds(row, 0.5) == pytest.approx(1.0)
  assert plan.core_days(row, 0.5) == pytest.approx(8.0)


def test_a_step_that_does_not_fit_is_reported():
  row = {
    'model': 'ViT-H/14',
    'topology': 'v2:2x2',
    'mesh': {'data': 8, 'fsdp': 1, 'tensor': 1},
    'cores': 8,
    'image_size': [224, 224],
    'batch_size': 8,
    'accumulate': 1,
    'parameters': 10,
    'state_bytes': 2**30,
    'fits': False,
    'available_bytes': 7 * 2**30,
    'operations_per_step': 4e12,
    'useful_operations_per_step': 4e12,
    'peak_operations_per_second': 1e12,
    'given_utilisation': 0.5,
    'steps': 10,
  }
  text = plan.report([row, row])
  assert 'not in 7.00 GiB' in text
  assert text.count('does not fit') == 2
