"""The 19 tasks of VTAB-1k: datasets, splits, labels and augmentation.

The Visual Task Adaptation Benchmark (Zhai et al. 2019, arXiv 1910.04867) with
1,000 training images per task, as defined by google-research/task_adaptation:
800 for training and 200 for validation, all 1,000 for the final runs, and the
whole test split. The builders are those of today's TensorFlow Datasets, in
which the same indices refer to the same images.

To add a task, add a row.
"""

from collections.abc import Mapping
import dataclasses
import types

from vit_jax.data import catalog, label_rules
from vit_jax.data.catalog import Dataset


@dataclasses.dataclass(frozen=True)
class Task:
  """A VTAB task.

  Attributes:
    title: title in Table 9 of the ViT paper.
    group: natural, specialized or structured.
    dataset: dataset of the task.
    val200: validation split, in TFDS's notation.
    test: test split, in TFDS's notation.
    random_crop: whether to crop training images at random; False if the label
      depends on the position of objects (Kolesnikov et al. 2020, arXiv
      1912.11370, supplement F).
    flip: whether to mirror training images; False if the label depends on it.
  """

  title: str
  group: str
  dataset: Dataset
  val200: str
  test: str = 'test'
  random_crop: bool = True
  flip: bool = True

  @property
  def splits(self) -> Mapping[str, str]:
    """TFDS's notation for each split of the task."""
    train800 = 'train[:800]'
    return {
      'train800': train800,
      'val200': self.val200,
      'train800val200': f'{train800}+{self.val200}',
      'test': self.test,
    }


_CLEVR_SIZES = {'train': 70_000, 'validation': 15_000}
_CLEVR = {
  # Version 3.1.0 adds questions about the images, and is gigabytes larger.
  'count': Dataset(
    'clevr:3.0.0', _CLEVR_SIZES, 8, label=label_rules.CLEVR_COUNT
  ),
  'distance': Dataset(
    'clevr:3.0.0', _CLEVR_SIZES, 6, label=label_rules.CLEVR_DISTANCE
  ),
}
_KITTI = Dataset(
  'kitti:3.1.0',
  {'train': 6_347, 'validation': 423, 'test': 711},
  4,
  label=label_rules.KITTI_DISTANCE,
)


def _dsprites(feature: str, num_values: int) -> Dataset:
  return Dataset(
    'dsprites:2.0.0',
    {'train': 737_280},
    16,
    label=label_rules.binned(feature, num_values, 16),
    pixel_factor=255,  # Stored pixel values are 0 and 1.
  )


def _smallnorb(feature: str, num_classes: int) -> Dataset:
  return Dataset(
    'smallnorb:2.0.0',
    {'train': 24_300, 'test': 24_300},
    num_classes,
    label=feature,
  )


def _natural(title, name, val200):
  return Task(title, 'natural', catalog.DATASETS[name], val200)


def _specialized(title, name, val200, test='test'):
  return Task(title, 'specialized', catalog.DATASETS[name], val200, test)


def _structured(title, dataset, val200, test='test', **avoids):
  return Task(title, 'structured', dataset, val200, test, **avoids)


# In the order of Table 9. Held-out images start at percent * N // 100 of the
# training split: at 90 % of most, 80 % of Pets and dSprites, 60 % of EuroSAT
# and Resisc45.
TASKS: Mapping[str, Task] = types.MappingProxyType(
  {
    'caltech101': _natural('Caltech101', 'caltech101', 'train[2754:2954]'),
    'cifar100': _natural('CIFAR-100', 'cifar100', 'train[45000:45200]'),
    'dtd': _natural('DTD', 'dtd', 'validation[:200]'),
    'oxford_flowers102': _natural(
      'Flowers102', 'oxford_flowers102', 'validation[:200]'
    ),
    'oxford_iiit_pet': _natural('Pets', 'oxford_iiit_pet', 'train[2944:3144]'),
    'sun397': _natural('Sun397', 'sun397', 'validation[:200]'),
    'svhn': _natural('SVHN', 'svhn_cropped', 'train[65931:66131]'),
    'patch_camelyon': _specialized(
      'Camelyon', 'patch_camelyon', 'validation[:200]'
    ),
    'eurosat': _specialized(
      'EuroSAT', 'eurosat', 'train[16200:16400]', 'train[21600:]'
    ),
    'resisc45': _specialized(
      'Resisc45', 'resisc45', 'train[18900:19100]', 'train[25200:]'
    ),
    'diabetic_retinopathy': _specialized(
      'Retinopathy', 'diabetic_retinopathy', 'validation[:200]'
    ),
    'clevr_count': _structured(
      'Clevr-Count',
      _CLEVR['count'],
      'train[63000:63200]',
      'validation',
      random_crop=False,
    ),
    'clevr_distance': _structured(
      'Clevr-Dist',
      _CLEVR['distance'],
      'train[63000:63200]',
      'validation',
      random_crop=False,
    ),
    'dmlab': _structured(
      'DMLab',
      catalog.DATASETS['dmlab'],
      'validation[:200]',
      random_crop=False,
    ),
    'dsprites_location': _structured(
      'dSpr-Loc',
      _dsprites('label_x_position', 32),
      'train[589824:590024]',
      'train[663552:]',
      random_crop=False,
      flip=False,
    ),
    'dsprites_orientation': _structured(
      'dSpr-Ori',
      _dsprites('label_orientation', 40),
      'train[589824:590024]',
      'train[663552:]',
      flip=False,
    ),
    'kitti_distance': _structured(
      'KITTI-Dist', _KITTI, 'validation[:200]', random_crop=False
    ),
    'smallnorb_azimuth': _structured(
      'sNORB-Azim',
      _smallnorb('label_azimuth', 18),
      'test[:200]',
      'test[12150:]',
      flip=False,
    ),
    'smallnorb_elevation': _structured(
      'sNORB-Elev',
      _smallnorb('label_elevation', 9),
      'test[:200]',
      'test[12150:]',
    ),
  }
)


def find(name: str) -> Task:
  """Returns the task of that name.

  Raises:
    ValueError: if there is none.
  """
  if name not in TASKS:
    raise ValueError(
      f'{name!r} is not a VTAB task; use one of {", ".join(TASKS)}.'
    )
  return TASKS[name]
