"""Data studies in miniature through main: sizes, choice, table."""

import json

import pytest

import runs
from vit_jax import main
from vit_jax.data import registry
from vit_jax.jobs.compare import points

SMALL = {
  'total_steps': 4,
  'batch_size': 16,
  'eval_every': 2,
  'checkpoint_every': 0,
  'data__image_size': 8,
  'data__eval': 'val=train[:40],test=test[:64]',
  'data__train': 'train[40:]',
  'data_study__sizes': '0,20',
  'optim__warmup_steps': 1,
  'sweep__seeds': 1,
}
TINY = 'model.name=ViT-Ti/8 model.width=16 model.mlp_dim=16 model.heads=2'
POINTS = f'a (one): {TINY} model.depth=1; b (two): {TINY} model.depth=2'


def small_study(**values):
  values = SMALL | {'study__points': POINTS} | values
  return runs.override(runs.load_config('data_study', 'digits'), **values)


def read(path):
  return json.loads(path.read_text())


@pytest.fixture(scope='module')
def study(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('data_study')
  config = small_study(
    sweep__grid='label_smoothing=0.0|0.5',
    few_shot__datasets='digits|train[:100]|test[:64]',
    few_shot__shots='5',
  )
  runs.run(config, workdir)
  return workdir


def test_every_model_learns_from_every_size(study):
  found = read(study / 'results.json')['points']
  assert [(p['family'], p['costs']['examples']) for p in found] == [
    ('one', 20),
    ('two', 20),
    ('one', 1402),
    ('two', 1402),
  ]
  assert [p['name'] for p in found[1:3]] == [
    'b, 20 examples',
    'a, all examples',
  ]
  (chart,) = study.glob('*.png')
  assert chart.name == 'study.png'


def test_regularization_is_chosen_by_the_best_validation_accuracy(study):
  for point in read(study / 'results.json')['points']:
    scores, deepest = {}, {}
    for setting in ('label_smoothing=0.0', 'label_smoothing=0.5'):
      name = points.Point(f'{point["name"]}, {setting}', '', None).folder
      folder = study / name / 'seed-0' / 'train'
      metrics = read(folder / 'results.json')['metrics']
      scores[setting] = metrics['best/val/accuracy']
      deepest[setting] = sorted(p.name for p in folder.parent.iterdir())
    chosen = max(scores, key=scores.get)
    assert point['chosen'] == chosen
    # Only the chosen setting is transferred, with its best weights.
    other = next(s for s in scores if s != chosen)
    assert deepest == {chosen: ['few_shot', 'train'], other: ['train']}
    name = points.Point(f'{point["name"]}, {chosen}', '', None).folder
    seed = study / name / 'seed-0'
    init_from = read(seed / 'few_shot' / 'config.json')['init_from']
    assert init_from == str(seed / 'train' / 'best.npz')
    assert point['metrics']['best/val/accuracy'] == scores[chosen]
    step = read(seed / 'train' / 'results.json')['metrics']['best/step']
    (then,) = [
      event['test/accuracy']
      for event in runs.events(seed / 'train')
      if event['step'] == step and 'test/accuracy' in event
    ]
    assert point['metrics']['test/accuracy'] == then


def test_the_table_has_models_side_by_side(study):
  lines = (study / 'table.txt').read_text().splitlines()
  assert lines[0].split() == [
    'pre-training',
    'examples',
    'metric',
    'one',
    'two',
  ]
  found = read(study / 'results.json')['points']
  first = lines[1].split()
  assert first[:3] == ['digits', '20', 'few_shot/digits/5shot']
  for cell, point in zip(first[3:], found[:2], strict=True):
    mean = 100 * point['metrics']['few_shot/digits/5shot']
    assert cell.split('±')[0] == f'{mean:.2f}'


def test_a_smaller_subset_is_in_a_larger_one():
  def rows(size, seed):
    source = registry.open_source('digits', 'train', subset=size, seed=seed)
    return {source.stable_id(i) for i in range(source.num_examples)}

  assert rows(20, 3) < rows(100, 3)
  assert rows(20, 3) != rows(20, 4)


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'data_study__sizes': 'many'}, 'not a list of whole numbers'),
    ({'study__collect': '/runs/a'}, 'runs all of its points'),
    (
      {'sweep__grid': 'label_smoothing=0.0|0.1', 'best_metric': ''},
      'selecting among 2 settings .* needs best_metric',
    ),
  ],
)
def test_mistakes_are_refused_before_anything_is_written(
  values, message, tmp_path
):
  with pytest.raises(ValueError, match=message):
    main.run(small_study(**values), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_resnets_are_tried_without_dropout(tmp_path):
  """A grid over rates that ResNets lack trains them once per size."""
  config = small_study(
    sweep__grid='model.dropout=0.0|0.1 model.stochastic_depth=0.0|0.1',
    data_study__sizes='20',
    data__image_size=32,
    study__points='R: model.name=R50x1 model.stage_depths=1'
    ' model.width_factor=0.5',
    total_steps=1,
    optim__warmup_steps=0,
  )
  (point,) = runs.run(config, tmp_path)['points']
  assert (point['name'], point['chosen']) == ('R, 20 examples', '')
  assert point['family'] == 'R50x1'
  assert point['costs']['examples'] == 20
