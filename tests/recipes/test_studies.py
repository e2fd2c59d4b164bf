"""Points of the paper's studies against its recipes."""

from etils import epath
import pytest

import runs
from vit_jax import config as config_lib
from vit_jax import recipes
from vit_jax.build import few_shot_evaluator
from vit_jax.jobs.compare import points, selection, transfer

# What a study changes in its runs.
OF_STUDY = (
  'job',
  'study.',
  'data_study.',
  'sweep.',
  'few_shot.',
  'data.subset',
)


def settings(config):
  return {
    key: value
    for key, value in config_lib.flatten(config).items()
    if not key.startswith(OF_STUDY)
  }


def test_table_6_is_pre_trained_as_table_3_has_it():
  found = points.list_points(runs.load_config('scaling', 'jft300m'))
  assert len(found) == 18
  for point in found:
    model, epochs = point.name.removesuffix(' epochs').split(', ')
    recipe = recipes.pretraining(model, f'jft300m,{epochs}')
    assert settings(point.config) == settings(recipe)
  families = [point.family for point in found]
  assert [families.count(f) for f in ('ViT', 'ResNet', 'hybrid')] == [6, 7, 5]


@pytest.mark.parametrize('name', ['table5', 'figure3'])
def test_sets_are_learned_as_table_3_has_it(name):
  found = points.list_points(runs.load_config('data_study', name))
  assert len(found) == 3 * 5
  for point in found:
    model, data = point.name.split(' from ')
    recipe = recipes.pretraining(model, data)
    recipe.best_metric = 'val/accuracy'
    assert settings(point.config) == settings(recipe)
    assert point.family == model


def test_sizes_take_the_same_number_of_steps():
  found = points.list_points(runs.load_config('data_study', 'figure4'))
  assert len(found) == 6
  for point in found:
    # Seven times 303 million images, in batches of 4,096.
    assert (point.config.total_steps, point.config.total_epochs) == (517822, 0)
    assert point.config.best_metric == 'val/accuracy'
  lrs = {point.name: point.config.optim.lr for point in found}
  assert lrs['ViT-b/32'] == lrs['ViT-B/32'] == 8e-4
  assert lrs['R152x2'] == 6e-4


def test_ablations_change_one_thing():
  found = points.list_points(runs.load_config('ablation', 'shape'))
  base, *others = found
  shape = ('depth', 'width', 'mlp_dim', 'patch_size')
  model = base.config.model
  assert [model[key] for key in shape] == [8, 1024, 2048, 32]
  for point in others:
    own = point.config.model
    changed = [key for key in shape if own[key] != model[key]]
    assert changed == ([point.family] if point.family in shape else list(shape))
    assert own.width == 64 * own.heads
  rows = [
    (p.config.model.positions, p.config.model.positions_at)
    for p in points.list_points(runs.load_config('ablation', 'positions'))
  ]
  places = ('stem', 'every_layer', 'every_layer_shared')
  assert rows == [
    ('none', 'stem'),
    *(('1d', place) for place in places),
    *(('2d', place) for place in places),
    ('relative', 'stem'),
  ]
  assert [
    (p.config.model.pool, p.config.model.representation_size, p.config.optim.lr)
    for p in points.list_points(runs.load_config('ablation', 'pooling'))
  ] == [('token', -1, 8e-4), ('gap', 0, 8e-4), ('gap', 0, 3e-4)]


def test_axial_models_train_at_the_rate_of_average_pooling():
  found = points.list_points(runs.load_config('ablation', 'axial'))
  assert {p.name: p.config.optim.lr for p in found} == {
    'ViT-B/32': 8e-4,
    'Axial-ViT-B/32': 3e-4,
    'ViT-B/16': 8e-4,
    'Axial-ViT-B/16': 3e-4,
    'R50x1': 1e-3,
    'AxialR50x1': 1e-3,
  }


def test_shapes_are_compared_by_the_mean_over_datasets():
  config = runs.load_config('ablation', 'shape')
  assert config.study.metrics[0] == 'few_shot/mean/5shot'
  assert config.few_shot.shots == (5,)
  names = few_shot_evaluator.metric_names(config)
  assert len(names) == 1 + 6
  assert set(config.study.metrics) < set(names)


def test_sgd_decays_weights_as_in_bit():
  found = points.list_points(runs.load_config('ablation', 'optimizer'))
  assert {p.family: p.config.optim.coupled_decay for p in found} == {
    'Adam': False,
    'SGD': True,
  }


@pytest.mark.parametrize(
  ('config', 'argument'),
  [
    ('data_study', 'table5'),
    ('data_study', 'figure3'),
    ('scaling', 'jft300m'),
    ('ablation', 'optimizer'),
  ],
)
def test_transfer_selects_the_learning_rate_as_in_table_4(config, argument):
  study = runs.load_config(config, argument)
  assert 'imagenet2012' in study.study.finetune
  small = (0.001, 0.003, 0.01, 0.03)
  expected = {
    'imagenet2012': ('train[:99%]', 'train[99%:]', (0.003, 0.01, 0.03, 0.06)),
    'cifar10': ('train[:98%]', 'train[98%:]', small),
    'cifar100': ('train[:98%]', 'train[98%:]', small),
    'oxford_iiit_pet': ('train[:90%]', 'train[90%:]', small),
    'oxford_flowers102': (
      'train+validation[:80%]',
      'validation[80%:]',
      small,
    ),
  }
  by_model = {p.config.model.name: p for p in points.list_points(study)}
  for model, point in by_model.items():
    for dataset in study.study.finetune:
      tuned = transfer.finetune_config(
        study, point.config, epath.Path('run'), dataset
      )
      sweep, candidates = transfer.trials(study, tuned)
      train, val, lrs = expected[dataset]
      trial = selection.held_out_config(sweep)
      assert (trial.data.train, trial.data.eval) == (train, f'val={val}')
      assert candidates[:4] == [(('optim.lr', lr),) for lr in lrs]
      bit = [dict(setting) for setting in candidates[4:]]
      assert [setting['optim.schedule'] for setting in bit] == (
        [] if 'ViT' in model else ['steps']
      )


def test_cheap_studies_fine_tune_at_one_rate():
  study = runs.load_config('data_study', 'digits')
  assert transfer.trials(study, recipes.finetuning('ViT-B/16,cifar10'))[1] == [
    ()
  ]


def test_table_5_is_scored_by_real_labels():
  for config, argument in (('data_study', 'table5'), ('scaling', 'jft300m')):
    names = transfer.metric_names(runs.load_config(config, argument))
    assert 'finetune/imagenet2012-real/accuracy' in names


@pytest.mark.parametrize(
  ('config', 'argument'),
  [('scaling', 'cifar10'), ('data_study', 'figure5'), ('ablation', 'colour')],
)
def test_unknown_studies_are_named(config, argument):
  with pytest.raises(ValueError, match=argument):
    runs.load_config(config, argument)
