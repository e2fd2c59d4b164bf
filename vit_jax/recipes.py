"""The paper's training recipes as tables, and configs made from their rows."""

import dataclasses

import ml_collections

from vit_jax import config as config_lib


@dataclasses.dataclass(frozen=True)
class Pretraining:
  """A row of Table 3.

  Attributes:
    epochs: lengths that the paper gives; the last one is the default.
    lr: base learning rate of Adam.
    decay: 'linear' or 'cosine'.
    weight_decay: decoupled, times the learning rate.
    dropout: rate.
  """

  epochs: tuple[int, ...]
  lr: float
  decay: str
  weight_decay: float
  dropout: float


_JFT = {'decay': 'linear', 'weight_decay': 0.1, 'dropout': 0.0}
_I21K = {'decay': 'linear', 'weight_decay': 0.03, 'dropout': 0.1}
_I1K = Pretraining((300,), 3e-3, 'cosine', 0.3, 0.1)

TABLE_3 = {
  ('ViT-B/32', 'jft300m'): Pretraining((7,), 8e-4, **_JFT),
  ('ViT-B/16', 'jft300m'): Pretraining((7,), 8e-4, **_JFT),
  ('ViT-L/32', 'jft300m'): Pretraining((7,), 6e-4, **_JFT),
  ('ViT-L/16', 'jft300m'): Pretraining((7, 14), 4e-4, **_JFT),
  ('ViT-H/14', 'jft300m'): Pretraining((14,), 3e-4, **_JFT),
  ('ViT-B/32', 'imagenet21k'): Pretraining((90,), 1e-3, **_I21K),
  ('ViT-B/16', 'imagenet21k'): Pretraining((90,), 1e-3, **_I21K),
  ('ViT-L/32', 'imagenet21k'): Pretraining((30, 90), 1e-3, **_I21K),
  ('ViT-L/16', 'imagenet21k'): Pretraining((30, 90), 1e-3, **_I21K),
  # Table 3 has no such row; our choice is what it says of ViT-L.
  ('ViT-H/14', 'imagenet21k'): Pretraining((30, 90), 1e-3, **_I21K),
  ('ViT-B/32', 'imagenet2012'): _I1K,
  ('ViT-B/16', 'imagenet2012'): _I1K,
  ('ViT-L/32', 'imagenet2012'): _I1K,
  ('ViT-L/16', 'imagenet2012'): _I1K,
  ('ViT-H/14', 'imagenet2012'): _I1K,
}

# The last 1 % of ImageNet's training images choose the best checkpoint, as
# in section 4.3; of the larger sets a few images are kept out for a look.
_SPLITS = {
  'imagenet2012': ('train[:99%]', 'val=train[99%:],test=validation'),
  'imagenet21k': ('train[51200:]', 'val=train[:51200]'),
  'jft300m': ('train[51200:]', 'val=train[:51200]'),
}


def pretraining(model: str, argument: str) -> ml_collections.ConfigDict:
  """Pre-training of `model` as Table 3 has it.

  Args:
    model: such as 'ViT-L/16'.
    argument: 'DATA' or 'DATA,EPOCHS': the pre-training set, and the length
      where Table 3 has two.

  Raises:
    ValueError: if Table 3 has no such row.
  """
  data, _, epochs = argument.partition(',')
  row = TABLE_3.get((model, data))
  if row is None or epochs not in ('', *map(str, row.epochs)):
    known = [
      f'{known_data}{f",{n}" if n != known_row.epochs[-1] else ""}'
      for (known_model, known_data), known_row in TABLE_3.items()
      if known_model == model
      for n in known_row.epochs
    ]
    raise ValueError(
      f'{argument!r} is no pre-training of {model}; Table 3 has'
      f' {" and ".join(known)}.'
    )
  train, evals = _SPLITS[data]
  config = config_lib.base(
    job='pretrain',
    batch_size=4096,
    total_epochs=float(epochs or row.epochs[-1]),
    eval_every=5000,
    checkpoint_every=2500,
  )
  config.model.update(
    name=model,
    representation_size=-1,
    dropout=row.dropout,
    dtype='bfloat16',
  )
  config.data.update(name=data, train=train, eval=evals, image_size=224)
  config.optim.update(
    name='adam',
    lr=row.lr,
    schedule=row.decay,
    warmup_steps=10_000,
    weight_decay=row.weight_decay,
  )
  if data == 'imagenet2012':
    config.optim.clip_norm = 1.0
    config.best_metric = 'val/accuracy'
  else:
    config.loss = 'sigmoid'
    config.model.head_bias = -10.0
  return config
