"""VTAB scores of the paper from Table 9: means over tasks, not groups."""

import pytest

from vit_jax.data import vtab_tasks
from vit_jax.evaluation import vtab_scores

GROUPS = {name: task.group for name, task in vtab_tasks.TASKS.items()}


@pytest.mark.parametrize(
  ('model', 'mean', 'of_groups'),
  [
    ('ViT-H/14 JFT', 77.63, [86.69, 87.00, 65.03]),
    ('ViT-L/16 JFT', 76.29, [85.56, 86.72, 62.96]),
    ('ViT-L/16 I21k', 72.71, [83.27, 84.65, 57.50]),
  ],
)
def test_means_of_table_9(model, mean, of_groups):
  means = vtab_scores.means(vtab_scores.TABLE_9[model], GROUPS)
  assert list(means) == ['mean', 'natural', 'specialized', 'structured']
  assert means['mean'] == pytest.approx(mean, abs=0.006)
  assert list(means.values())[1:] == pytest.approx(of_groups, abs=0.006)


def test_means_of_some_tasks():
  means = vtab_scores.means({'dtd': 0.5, 'svhn': 0.7, 'dmlab': 0.0}, GROUPS)
  assert means == pytest.approx({'mean': 0.4, 'natural': 0.6, 'structured': 0})


def test_table_9_has_the_order_of_the_tasks():
  for row in vtab_scores.TABLE_9.values():
    assert list(row) == list(vtab_tasks.TASKS)
  best = vtab_scores.TABLE_9['ViT-H/14 JFT']
  assert best['oxford_flowers102'] == 99.7
  assert best['kitti_distance'] == 84.5
  assert best['smallnorb_elevation'] == 51.2
