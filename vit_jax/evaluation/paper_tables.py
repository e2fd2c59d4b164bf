"""Accuracies after fine-tuning that the paper reports, for its figures.

Top-1 accuracies in per cent. Figures 4, 8, 9 and 13 show few-shot accuracies,
of which the paper has no table.
"""

from collections.abc import Mapping
import statistics
import types

_COLUMNS = (
  'imagenet2012',
  'imagenet2012-real',
  'cifar10',
  'cifar100',
  'oxford_iiit_pet',
  'oxford_flowers102',
)

Row = Mapping[str, float]  # Accuracy by downstream dataset.


def _row(*accuracies: float) -> Row:
  row = dict(zip(_COLUMNS, accuracies, strict=True))
  row['mean'] = statistics.fmean(
    value for name, value in row.items() if name != 'imagenet2012-real'
  )
  return types.MappingProxyType(row)


# By pre-training set and model.
TABLE_5: Mapping[tuple[str, str], Row] = types.MappingProxyType(
  {
    ('imagenet2012', 'ViT-B/16'): _row(
      77.91, 83.57, 98.13, 87.13, 93.81, 89.49
    ),
    ('imagenet2012', 'ViT-B/32'): _row(
      73.38, 79.56, 97.77, 86.31, 92.04, 85.43
    ),
    ('imagenet2012', 'ViT-L/16'): _row(
      76.53, 82.19, 97.86, 86.35, 93.64, 89.66
    ),
    ('imagenet2012', 'ViT-L/32'): _row(
      71.16, 77.83, 97.94, 87.07, 91.35, 86.36
    ),
    ('imagenet21k', 'ViT-B/16'): _row(83.97, 88.35, 98.95, 91.67, 94.43, 99.38),
    ('imagenet21k', 'ViT-B/32'): _row(81.28, 86.63, 98.79, 91.97, 93.02, 99.11),
    ('imagenet21k', 'ViT-L/16'): _row(85.15, 88.40, 99.16, 93.44, 94.73, 99.61),
    ('imagenet21k', 'ViT-L/32'): _row(80.99, 85.65, 99.13, 93.04, 93.09, 99.19),
    ('imagenet21k', 'ViT-H/14'): _row(85.13, 88.70, 99.27, 93.82, 94.82, 99.51),
    ('jft300m', 'ViT-B/16'): _row(84.15, 88.85, 99.00, 91.87, 95.80, 99.56),
    ('jft300m', 'ViT-B/32'): _row(80.73, 86.27, 98.61, 90.49, 93.40, 99.27),
    ('jft300m', 'ViT-L/16'): _row(87.12, 89.99, 99.38, 94.04, 97.11, 99.56),
    ('jft300m', 'ViT-L/32'): _row(84.37, 88.28, 99.19, 92.52, 95.83, 99.45),
    ('jft300m', 'ViT-H/14'): _row(88.04, 90.33, 99.50, 94.55, 97.56, 99.68),
  }
)

# By model and epochs on JFT-300M: exaFLOPs of pre-training, and accuracies.
TABLE_6: Mapping[tuple[str, int], tuple[float, Row]] = types.MappingProxyType(
  {
    ('ViT-B/32', 7): (55, _row(80.73, 86.27, 98.61, 90.49, 93.40, 99.27)),
    ('ViT-B/16', 7): (224, _row(84.15, 88.85, 99.00, 91.87, 95.80, 99.56)),
    ('ViT-L/32', 7): (196, _row(84.37, 88.28, 99.19, 92.52, 95.83, 99.45)),
    ('ViT-L/16', 7): (783, _row(86.30, 89.43, 99.38, 93.46, 96.81, 99.66)),
    ('ViT-L/16', 14): (1567, _row(87.12, 89.99, 99.38, 94.04, 97.11, 99.56)),
    ('ViT-H/14', 14): (4262, _row(88.08, 90.36, 99.50, 94.71, 97.11, 99.71)),
    ('R50x1', 7): (50, _row(77.54, 84.56, 97.67, 86.07, 91.11, 94.26)),
    ('R50x2', 7): (199, _row(82.12, 87.94, 98.29, 89.20, 93.43, 97.02)),
    ('R101x1', 7): (96, _row(80.67, 87.07, 98.48, 89.17, 94.08, 95.95)),
    ('R152x1', 7): (141, _row(81.88, 87.96, 98.82, 90.22, 94.17, 96.94)),
    ('R152x2', 7): (563, _row(84.97, 89.69, 99.06, 92.05, 95.37, 98.62)),
    ('R152x2', 14): (1126, _row(85.56, 89.89, 99.24, 91.92, 95.75, 98.75)),
    ('R200x3', 14): (3306, _row(87.22, 90.15, 99.34, 93.53, 96.32, 99.04)),
    ('R50+ViT-B/32', 7): (106, _row(84.90, 89.15, 99.01, 92.24, 95.75, 99.46)),
    ('R50+ViT-B/16', 7): (274, _row(85.58, 89.65, 99.14, 92.63, 96.65, 99.40)),
    ('R50+ViT-L/32', 7): (246, _row(85.68, 89.04, 99.24, 92.93, 96.97, 99.43)),
    ('R50+ViT-L/16', 7): (859, _row(86.60, 89.72, 99.18, 93.64, 97.03, 99.40)),
    ('R50+ViT-L/16', 14): (
      1668,
      _row(87.12, 89.76, 99.31, 93.89, 97.36, 99.11),
    ),
  }
)

# VTAB of BiT-L in Table 2. Figure 2 also shows its groups, and VIVI and S4L,
# but no table has their numbers.
BIT_L_VTAB = 76.29
