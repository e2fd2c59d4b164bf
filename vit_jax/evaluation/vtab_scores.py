"""The VTAB score, and the results of the ViT paper.

The score is the mean over tasks, not over groups: 77.63 for H/14 in Table 9,
where the mean over the three groups would be 79.6.
"""

from collections.abc import Mapping
import statistics
import types

SCORE = 'mean'  # Name of the mean over all tasks.

_TASKS = (
  'caltech101 cifar100 dtd oxford_flowers102 oxford_iiit_pet sun397 svhn'
  ' patch_camelyon eurosat resisc45 diabetic_retinopathy'
  ' clevr_count clevr_distance dmlab dsprites_location dsprites_orientation'
  ' kitti_distance smallnorb_azimuth smallnorb_elevation'
)


def _row(text: str) -> Mapping[str, float]:
  row = zip(_TASKS.split(), map(float, text.split()), strict=True)
  return types.MappingProxyType(dict(row))


# Top-1 accuracy in per cent (Appendix D.10), by model and pre-training data.
TABLE_9: Mapping[str, Mapping[str, float]] = types.MappingProxyType(
  {
    'ViT-H/14 JFT': _row(
      '95.3 85.5 75.2 99.7 97.2 65.0 88.9 83.3 96.7 91.4 76.6'
      ' 91.7 63.8 53.1 79.4 63.3 84.5 33.2 51.2'
    ),
    'ViT-L/16 JFT': _row(
      '95.4 81.9 74.3 99.7 96.7 63.5 87.4 83.6 96.5 89.7 77.1'
      ' 86.4 63.1 49.7 74.5 60.5 82.2 36.2 51.1'
    ),
    'ViT-L/16 I21k': _row(
      '90.8 84.1 74.1 99.3 92.7 61.0 80.9 82.5 95.6 85.2 75.3'
      ' 70.3 56.1 41.9 74.7 64.9 79.9 30.5 41.7'
    ),
  }
)


def means(
  accuracies: Mapping[str, float], groups: Mapping[str, str]
) -> dict[str, float]:
  """Returns means of accuracies, in any unit, given the group of each task.

  The keys are SCORE, for all tasks, then each group in order of appearance.
  """
  by_group = {}
  for task, accuracy in accuracies.items():
    by_group.setdefault(groups[task], []).append(accuracy)
  return {SCORE: statistics.fmean(accuracies.values())} | {
    group: statistics.fmean(values) for group, values in by_group.items()
  }
