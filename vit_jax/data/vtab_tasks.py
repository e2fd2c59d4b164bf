"""The 19 tasks of VTAB-1k: datasets, splits, labels and augmentation.

The Visual Task Adaptation Benchmark (Zhai et al. 2019, arXiv 1910.04867) with
1,000 training images per task, as defined by google-research/task_adaptation:
800 for training and 200 for validation, all 1,000 for the final runs, and the
whole test split. The builders are those of current TensorFlow Datasets, in
which the same indices refer to the same images.

To add a task, add a row.
"""

from collections.abc import Mapping
import dataclasses

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
    return {
      'train800': 'train[:800]',
      'val200': self.val200,
      'train800val200': f'train[:800]+{self.val200}',
      'test': self.test,
    }


def _natural(title, name, val200):
  return Task(title, 'natural', catalog.DATASETS[name], val200)


def _specialized(title, name, val200, test='test'):
  return Task(title, 'specialized', catalog.DATASETS[name], val200, test)


def _structured(title, dataset, val200, test='test', **avoids):
  return Task(title, 'structured', dataset, val200, test, **avoids)


def _clevr(title, rule):
  # Version 3.1.0 adds questions about the images, and is gigabytes larger.
  sizes = {'train': 70_000, 'validation': 15_000}
  dataset = Dataset('clevr:3.0.0', sizes, rule.num_classes, label=rule)
  return _structured(
    title, dataset, 'train[63000:63200]', 'validation', random_crop=False
  )


def _dsprites(title, feature, num_values, **avoids):
  dataset = Dataset(
    'dsprites:2.0.0',
    {'train': 737_280},
    16,
    label=label_rules.binned(feature, num_values, 16),
    pixel_factor=255,  # Stored pixel values are 0 and 1.
  )
  return _structured(
    title, dataset, 'train[589824:590024]', 'train[663552:]', **avoids
  )


def _kitti(title, rule):
  sizes = {'train': 6_347, 'validation': 423, 'test': 711}
  dataset = Dataset('kitti:3.1.0', sizes, rule.num_classes, label=rule)
  return _structured(title, dataset, 'validation[:200]', random_crop=False)


def _smallnorb(title, feature, num_classes, **avoids):
  sizes = {'train': 24_300, 'test': 24_300}
  dataset = Dataset('smallnorb:2.0.0', sizes, num_classes, label=feature)
  return _structured(title, dataset, 'test[:200]', 'test[12150:]', **avoids)


# In the order of Table 9. Held-out images start at percent * N // 100 of the
# training split: at 90 % of most, 80 % of Pets and dSprites, 60 % of EuroSAT
# and Resisc45.
TASKS: Mapping[str, Task] = {
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
  'clevr_count': _clevr('Clevr-Count', label_rules.CLEVR_COUNT),
  'clevr_distance': _clevr('Clevr-Dist', label_rules.CLEVR_DISTANCE),
  'dmlab': _structured(
    'DMLab', catalog.DATASETS['dmlab'], 'validation[:200]', random_crop=False
  ),
  'dsprites_location': _dsprites(
    'dSpr-Loc', 'label_x_position', 32, random_crop=False, flip=False
  ),
  'dsprites_orientation': _dsprites(
    'dSpr-Ori', 'label_orientation', 40, flip=False
  ),
  'kitti_distance': _kitti('KITTI-Dist', label_rules.KITTI_DISTANCE),
  'smallnorb_azimuth': _smallnorb(
    'sNORB-Azim', 'label_azimuth', 18, flip=False
  ),
  'smallnorb_elevation': _smallnorb('sNORB-Elev', 'label_elevation', 9),
}


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
