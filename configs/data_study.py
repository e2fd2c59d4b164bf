"""Accuracy against the size of the pre-training set (section 4.3).

  python -m vit_jax.main --config=configs/data_study.py
  python -m vit_jax.main --config=configs/data_study.py:table5
  python -m vit_jax.main --config=configs/data_study.py:folder:PATH

- figure4 (the default): R50x1, R152x2, ViT-b/32, B/32, L/32 and L/16 on 9, 30,
  90 and all 303 million images of JFT-300M, scored by ImageNet 5-shot accuracy.
  All take the same number of steps, and the weights with the best held-out
  accuracy are scored (early stopping).
- figure3: ViTs on ImageNet, ImageNet-21k and JFT-300M, scored by fine-tuning on
  ImageNet. Weight decay, dropout and label smoothing are selected for each by
  held-out accuracy; the paper does not list the values, which are our choice.
- table5: the same models and sets, scored on all downstream tasks of Table 5,
  and by the ReaL labels of ImageNet: TFDS's imagenet2012_real, or
  --config.evaluate.real_json=REAL.
- folder:PATH: a small ViT and a small ResNet at 32 px on 250, 1,000, 4,000 and
  16,000 images, with three seeds; digits: on 50, 200, 800 and all images.

Subsets are random, nested, and the same for all models. The keys are those of a
study (see configs/scaling.py) and

  --config.data_study.sizes=1000,10000,0
  --config.sweep.grid='optim.weight_decay=0.03|0.3 label_smoothing=0.0|0.1'
  --config.best_metric=val/accuracy  (selects the setting)

`table.txt` lists the models side by side, `study.png` plots them. Every run has
a folder of its own, and the same command resumes. Hardware: TPU slices.
Expected: ViT-L is worse than ViT-B from ImageNet, and better from JFT-300M.
Table 5, ImageNet: L/16 76.53, 85.15, 87.12 per cent; B/16 77.91, 83.97, 84.15.
"""

import ml_collections

from vit_jax import recipes
from vit_jax.recipes import studies

FIGURE_4_MODELS = ('R50x1', 'R152x2', 'ViT-B/32', 'ViT-L/32', 'ViT-L/16')
FIGURE_4_SIZES = (9_000_000, 30_000_000, 90_000_000, 0)  # 0: all.
TABLE_5_MODELS = ('ViT-B/16', 'ViT-B/32', 'ViT-L/16', 'ViT-L/32', 'ViT-H/14')
TABLE_5_SETS = ('imagenet2012', 'imagenet21k', 'jft300m')
FIGURE_3_REGULARIZATION = {
  'optim.weight_decay': (0.03, 0.1, 0.3),
  'model.dropout': (0.0, 0.1),
  'label_smoothing': (0.0, 0.1),
}
SMALL_MODELS = {
  'ViT': {'family': 'ViT', **studies.vit('ViT-Ti/4', depth=4, width=96)},
  'ResNet': {'family': 'ResNet', **studies.resnet(1, 1, 1)},
}
SMALL_SIZES = (250, 1000, 4000, 16_000)
DIGITS_SIZES = (50, 200, 800, 0)


def get_config(argument: str = 'figure4') -> ml_collections.ConfigDict:
  """Returns the config for a study of the paper, or for own images or digits.

  Raises:
    ValueError: if there is no such study.
  """
  if studies.is_small(argument):
    config = _small(argument)
  elif argument == 'figure4':
    config = _figure_4()
  elif argument in ('figure3', 'table5'):
    config = _table_5()
    if argument == 'figure3':
      config.study.update(finetune=('imagenet2012',), real=False)
      config.sweep.grid = FIGURE_3_REGULARIZATION
  else:
    raise ValueError(
      f'there is no data study {argument!r}; choose figure3, figure4 or table5;'
      ' for a small study, folder:PATH or digits.'
    )
  config.job = 'data_study'
  config.study.across = 'examples'
  return config


def _small(data):
  config = studies.compare(studies.small(data), SMALL_MODELS)
  config.data.update(train='train[:95%]', eval='val=train[95%:],test')
  config.update(best_metric='val/accuracy', eval_every=100)
  config.study.metrics = ('test/accuracy',)
  config.data_study.sizes = DIGITS_SIZES if data == 'digits' else SMALL_SIZES
  return config


def _figure_4():
  config = recipes.pretraining('ViT-B/32', studies.JFT)
  config.update(
    total_epochs=0.0,
    total_steps=7 * 303_000_000 // 4096,  # 7 epochs of all images.
    best_metric='val/accuracy',
  )
  shared = ('total_steps', 'total_epochs', 'best_metric')
  points = {
    model: {
      'family': model,
      **studies.changes(config, model, f'{studies.JFT},7', keep=shared),
    }
    for model in FIGURE_4_MODELS
  }
  # B with all hidden dimensions halved; Table 3 has no row for it.
  points['ViT-b/32'] = {'family': 'ViT-b/32', 'model.name': 'ViT-b/32'}
  config = studies.compare(config, points)
  config.data_study.sizes = FIGURE_4_SIZES
  config.few_shot.update(datasets=('imagenet2012',), shots=(5,))
  return config


def _table_5():
  config = recipes.pretraining('ViT-B/16', 'imagenet2012')
  points = {
    f'{model} from {data}': {
      'family': model,
      **studies.changes(config, model, data, keep=('best_metric',)),
    }
    for data in TABLE_5_SETS
    for model in TABLE_5_MODELS
  }
  config = studies.compare(config, points)
  config.study.update(
    finetune=studies.DOWNSTREAM, finetune_sweep=True, real=True
  )
  return config
