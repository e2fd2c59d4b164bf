"""The ablations that take minutes to compile, in miniature.

python -m pytest -o addopts= tests/slow/test_ablations.py
"""

import pytest

import runs


@pytest.mark.parametrize('name', ('axial', 'optimizer', 'pooling', 'shape'))
def test_every_ablation_runs_in_miniature(name, tmp_path):
  config = runs.shrink(runs.load_config('ablation', name))
  results = runs.run(config, tmp_path)
  families = {point['family'] for point in results['points']}
  assert len(families) == len(results['points']) > 1
  (metric,) = results['drawn']
  for point in results['points']:
    assert 0 <= point['metrics'][metric] <= 1
  assert (tmp_path / 'study.png').exists()
