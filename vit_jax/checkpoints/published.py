"""Names of checkpoints that were published as .npz files.

A name is COLLECTION:MODEL for weights that were only pre-trained, followed by
`-imagenet2012` for those that were then fine-tuned on ImageNet. Transformers
were fine-tuned at 384 px, or at 224 px if `-224` follows:

- `vit:B/16`: the paper's, pre-trained on ImageNet-21k.
- `augreg:B/16`: "How to train your ViT?" (Steiner et al. 2021, arXiv
  2106.10270), pre-trained on ImageNet-21k. There are over 50,000 files; a short
  name stands for one per model. A file name without `.npz` is accepted too.
- `sam:B/16`: trained on ImageNet with sharpness-aware minimization (Chen et al.
  2021, arXiv 2106.01548).
- `bit:M-R50x1`: Big Transfer (Kolesnikov et al. 2019, arXiv 1912.11370), M
  pre-trained on ImageNet-21k and S on ImageNet.

docs/checkpoints.md lists all of them.
"""

import difflib
import re

_NAME = re.compile('(augreg|vit|sam|bit):')
_AUGREG_FILE = re.compile(
  r'(R\d*_)?(Ti|S|B|L)_\d+-i2?1k-\d+ep-lr_[\d.]+-aug_\w+-wd_[\d.]+-do_[\d.]+'
  r'-sd_[\d.]+(--\w+-steps_\w+-lr_[\d.]+-res_\d+)?'
)
_IMAGENET = '-imagenet2012'

# Augmentation (light1 is light2 in the paper), weight decay, and the rate of
# dropout and stochastic depth in pre-training; the learning rate of
# fine-tuning. The README of the official repository recommends these, for their
# accuracy in pre-training; that of big_vision adds B/8.
_AUGREG = {
  'Ti/16': ('none', 0.03, 0.0, 0.03),
  'S/32': ('none', 0.1, 0.0, 0.01),
  'S/16': ('light1', 0.03, 0.0, 0.03),
  'B/32': ('light1', 0.1, 0.0, 0.01),
  'B/16': ('medium1', 0.1, 0.0, 0.03),
  'B/8': ('medium2', 0.1, 0.0, None),
  'L/16': ('strong1', 0.1, 0.0, 0.01),
  'R+Ti/16': ('none', 0.03, 0.0, 0.03),
  'R26+S/32': ('light1', 0.1, 0.0, 0.01),
  'R50+L/32': ('medium1', 0.1, 0.1, 0.01),
}
# Those that timm has chosen among the files that were fine-tuned at 224 px.
_AUGREG_224 = {
  'Ti/16': ('none', 0.03, 0.0, 0.03),
  'S/32': ('light1', 0.03, 0.0, 0.03),
  'S/16': ('light1', 0.03, 0.0, 0.03),
  'B/32': ('medium1', 0.03, 0.0, 0.03),
  'B/16': ('medium1', 0.1, 0.0, 0.01),
  'B/8': ('medium1', 0.1, 0.0, 0.01),
  'L/16': ('medium1', 0.1, 0.1, 0.01),
  'R+Ti/16': ('none', 0.03, 0.0, 0.03),
  'R26+S/32': ('light0', 0.03, 0.1, 0.03),
  'R50+L/32': ('medium1', 0.1, 0.1, 0.01),
}
_VIT = {
  'imagenet21k': ('B/32', 'B/16', 'L/32', 'L/16', 'H/14', 'R50+B/16'),
  'imagenet21k+imagenet2012': ('B/32', 'B/16', 'L/32', 'L/16', 'R50+B/16'),
}
_VIT_224 = ('B/16', 'L/16')
_SAM = ('S/16', 'B/32', 'B/16', 'L/32', 'L/16')
_BIT = ('R50x1', 'R50x3', 'R101x1', 'R101x3', 'R152x2', 'R152x4')


def _augreg_file(
  model: str,
  augmentation: str,
  weight_decay: float,
  rate: float,
  lr: float | None = None,
  size_px: int = 384,
) -> str:
  name = (
    f'{re.sub("[/+]", "_", model)}-i21k-300ep-lr_0.001-aug_{augmentation}'
    f'-wd_{weight_decay}-do_{rate}-sd_{rate}'
  )
  if lr is not None:
    name += f'--imagenet2012-steps_20k-lr_{lr}-res_{size_px}'
  return f'vit_models/augreg/{name}.npz'


def _vit_file(folder: str, model: str, suffix: str = '') -> str:
  stem, plus, size = model.rpartition('+')
  name = f'{stem}{plus}ViT-{size.replace("/", "_")}{suffix}'
  return f'vit_models/{folder}/{name}.npz'


def _all_names() -> dict[str, str]:
  names = {}
  for model, (*pretraining, lr) in _AUGREG.items():
    names[f'augreg:{model}'] = _augreg_file(model, *pretraining)
    if lr is not None:
      file = _augreg_file(model, *pretraining, lr)
      names[f'augreg:{model}{_IMAGENET}'] = file
  for model, settings in _AUGREG_224.items():
    file = _augreg_file(model, *settings, 224)
    names[f'augreg:{model}{_IMAGENET}-224'] = file
  for (folder, models), suffix in zip(
    _VIT.items(), ('', _IMAGENET), strict=True
  ):
    for model in models:
      names[f'vit:{model}{suffix}'] = _vit_file(folder, model)
  for model in _VIT_224:
    file = _vit_file('imagenet21k+imagenet2012', model, '-224')
    names[f'vit:{model}{_IMAGENET}-224'] = file
  for model in _SAM:
    names[f'sam:{model}'] = _vit_file('sam', model)
  for model in _BIT:
    for size in 'SM':
      names[f'bit:{size}-{model}'] = f'bit_models/BiT-{size}-{model}.npz'
    file = f'bit_models/BiT-M-{model}-ILSVRC2012.npz'
    names[f'bit:M-{model}{_IMAGENET}'] = file
  return names


# By name, the bucket of Google Cloud Storage and the path of the file in it.
NAMES = _all_names()


def is_name(text: str) -> bool:
  """Returns whether a text names a published file, known or not."""
  return bool(_NAME.match(text))


def find(name: str) -> str:
  """Returns the bucket of a published file and its path there.

  Raises:
    ValueError: if the name is unknown.
  """
  if name in NAMES:
    return NAMES[name]
  collection, _, file = name.partition(':')
  if collection == 'augreg' and _AUGREG_FILE.fullmatch(file):
    return f'vit_models/augreg/{file}.npz'
  nearest = difflib.get_close_matches(name, NAMES, cutoff=0)
  raise ValueError(
    f'{name!r} is not the name of a published checkpoint; the nearest are'
    f' {", ".join(nearest)}. docs/checkpoints.md lists all names; for a file of'
    f' this name, write ./{name}.'
  )
