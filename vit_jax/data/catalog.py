"""The table of named datasets, such as `cifar10`. To add one, add a row.

Split sizes are those of the TensorFlow Datasets (TFDS) builders, by TFDS's
split names. TFDS knows them only after the data is prepared, but estimates of
cost and length need them earlier.
"""

from collections.abc import Mapping
import dataclasses

from vit_jax.data.label_rules import LabelRule


@dataclasses.dataclass(frozen=True)
class Dataset:
  """A dataset that data.name can refer to by a short name.

  Attributes:
    builder: TFDS builder, `name[/config][:version]`.
    num_examples: number of images per split.
    num_classes: size of the label set.
    multi_label: whether an image may have multiple labels.
    label: the builder's feature with the labels, or a rule that computes them.
    instructions: how to get the data if TFDS has no builder for it, with
      `{dir}` for the data folder; empty if it has one.
    few_shot: training and test splits of few-shot evaluations, as in the public
      code (big_vision).
    pixel_factor: factor by which to multiply pixel values.
  """

  builder: str
  num_examples: Mapping[str, int]
  num_classes: int
  multi_label: bool = False
  label: str | LabelRule = 'label'
  instructions: str = ''
  few_shot: tuple[str, str] = ('train', 'test')
  pixel_factor: int = 1

  @property
  def in_tfds(self) -> bool:
    """Whether TFDS can download it, or prepare it from manual files."""
    return not self.instructions


DATASETS: Mapping[str, Dataset] = {
  'caltech101': Dataset(
    'caltech101:3.0.2', {'train': 3_060, 'test': 6_084}, 102
  ),
  'cars196': Dataset('cars196:2.1.0', {'train': 8_144, 'test': 8_041}, 196),
  'cifar10': Dataset('cifar10:3.0.2', {'train': 50_000, 'test': 10_000}, 10),
  'cifar100': Dataset('cifar100:3.0.2', {'train': 50_000, 'test': 10_000}, 100),
  # Images as prepared by Ben Graham, the winner of the competition.
  'diabetic_retinopathy': Dataset(
    'diabetic_retinopathy_detection/btgraham-300:3.0.0',
    {'train': 35_126, 'validation': 10_906, 'test': 42_670},
    5,
  ),
  'dmlab': Dataset(
    'dmlab:2.0.1', {'train': 65_550, 'validation': 22_628, 'test': 22_735}, 6
  ),
  'dtd': Dataset(
    'dtd:3.0.1', {'train': 1_880, 'validation': 1_880, 'test': 1_880}, 47
  ),
  'eurosat': Dataset('eurosat/rgb:2.0.0', {'train': 27_000}, 10),
  # The first 65,000 images include at least 30 of every class.
  'imagenet2012': Dataset(
    'imagenet2012:5.1.0',
    {'train': 1_281_167, 'validation': 50_000},
    1_000,
    few_shot=('train[:65000]', 'validation'),
  ),
  # Beyer et al. (2020), arXiv 2006.07159: 3,163 of its images have no label.
  'imagenet2012_real': Dataset(
    'imagenet2012_real:1.0.0',
    {'validation': 50_000},
    1_000,
    multi_label=True,
    label='real_label',
  ),
  # The public dataset of section 4.1. Images have one label each, although
  # the loss over the 21,843 classes is a sigmoid loss. The release contains
  # 14,197,122 images; the authors trained on about 12.4 million, after merging
  # duplicates. Prepared data may have other numbers of images and classes.
  'imagenet21k': Dataset(
    'imagenet21k',
    {'train': 12_400_000},
    21_843,
    instructions=(
      'Prepare it from the release, a folder with one tar per class, with'
      ' `python -m vit_jax.main --config=configs/prepare.py:tars:PATH'
      ' --config.data.dir={dir}`; then train with `python -m vit_jax.main'
      ' --config=configs/vit_l16.py --config.data.dir={dir}`, or any other'
      ' config.'
    ),
  ),
  # Recht et al. (2019), arXiv 1902.10811.
  'imagenet_v2': Dataset(
    'imagenet_v2/matched-frequency:3.0.0', {'test': 10_000}, 1_000
  ),
  'jft300m': Dataset(
    'jft300m',
    {'train': 303_000_000},
    18_291,
    multi_label=True,
    instructions=(
      'JFT-300M is not public. If you have it, prepare it with `python -m'
      ' vit_jax.main --config=configs/prepare.py:webdataset:PATH'
      ' --config.prepare.name=jft300m --config.data.dir={dir}`, or from another'
      ' source of configs/prepare.py; if not, choose another dataset.'
    ),
  ),
  'oxford_flowers102': Dataset(
    'oxford_flowers102:2.1.1',
    {'train': 1_020, 'validation': 1_020, 'test': 6_149},
    102,
  ),
  'oxford_iiit_pet': Dataset(
    'oxford_iiit_pet:4.0.0', {'train': 3_680, 'test': 3_669}, 37
  ),
  'patch_camelyon': Dataset(
    'patch_camelyon:2.0.0',
    {'train': 262_144, 'validation': 32_768, 'test': 32_768},
    2,
  ),
  'resisc45': Dataset('resisc45:3.0.0', {'train': 31_500}, 45),
  'sun397': Dataset(
    'sun397/tfds:4.0.0',
    {'train': 76_128, 'validation': 10_875, 'test': 21_750},
    397,
  ),
  'svhn_cropped': Dataset(
    'svhn_cropped:3.1.0', {'train': 73_257, 'test': 26_032}, 10
  ),
  'uc_merced': Dataset(
    'uc_merced:2.0.0',
    {'train': 2_100},
    21,
    few_shot=('train[:1000]', 'train[1000:]'),
  ),
}


def evaluated_split(dataset: str) -> str:
  """Returns the split of a dataset on which trained models are evaluated."""
  known = DATASETS.get(dataset)
  splits = known.num_examples if known else ('test',)
  return next(s for s in ('test', 'validation', 'train') if s in splits)
