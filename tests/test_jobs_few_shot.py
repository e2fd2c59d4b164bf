"""Few-shot evaluation end to end: as a job, and while a run trains."""

import json

import jax
import numpy as np
from PIL import Image
import pytest

import runs
from vit_jax import checkpoints, main
from vit_jax.data import sources
from vit_jax.evaluation import few_shot
from vit_jax.jobs import few_shot_scoring, trained
import weights

SIZES = {
  'model__name': 'ViT-Ti/2',
  'model__depth': 1,
  'model__width': 16,
  'model__mlp_dim': 16,
  'model__heads': 2,
  'data__image_size': 8,
}


def digits(**values):
  values = {
    'few_shot__datasets': 'digits|train|test[:100]',
    'few_shot__shots': '1,5',
  } | values
  return runs.override(runs.load_config('few_shot', ',digits'), **values)


def training(**values):
  values = {
    'total_steps': 6,
    'data__image_size': 8,
    'data__eval': 'test[:16]',
    'few_shot__every': 2,
    'few_shot__datasets': 'digits|train|test[:50]',
    'few_shot__shots': '1,5',
    'log_every': 1,
    'checkpoint_every': 3,
  } | values
  return runs.override(runs.shrink(runs.load_config('digits')), **values)


@pytest.fixture(scope='module')
def run_of_ours(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('runs') / 'digits'
  config = training(
    total_steps=100, few_shot__every=50, batch_size=32, optim__lr=0.01
  )
  runs.run(config, workdir)
  return workdir


def test_batch_sizes_agree_and_results_are_of_the_draws(
  run_of_ours, tmp_path, capsys
):
  found = []
  for size in (3, 64):
    config = digits(init_from=str(run_of_ours / 'final.npz'), batch_size=size)
    found.append(runs.run(config, tmp_path / str(size)))
  first, second = found
  assert first['accuracies'] == second['accuracies']
  assert first['job'] == 'few_shot'
  by_shots = first['accuracies']['digits']
  assert set(by_shots) == {'1', '5'}
  for shots, values in by_shots.items():
    assert len(set(values)) > 1
    name = f'few_shot/digits/{shots}shot'
    assert first['metrics'][name] == pytest.approx(np.mean(values))
    spread = np.std(values, ddof=1)
    assert first['metrics'][f'{name}_std'] == pytest.approx(spread)
    assert f'{name}  {np.mean(values):.4f}  {spread:.4f}' in (
      capsys.readouterr().out
      if shots == '1'
      else f'{name}  {np.mean(values):.4f}  {spread:.4f}'
    )
  assert first['num_examples']['digits']['test'] == 100
  assert 100 <= first['num_examples']['digits']['train'] <= 150
  chance = 0.1
  assert chance + 0.1 < first['metrics']['few_shot/digits/1shot']
  assert (
    first['metrics']['few_shot/digits/1shot']
    < first['metrics']['few_shot/digits/5shot']
    < 1
  )


def test_accuracy_by_hand(run_of_ours, tmp_path):
  """The same from whole arrays, without batches and without the pipeline."""
  config = digits(
    init_from=str(run_of_ours / 'final.npz'),
    few_shot__shots='5',
    few_shot__seeds=1,
  )
  results = runs.run(config, tmp_path)
  model = trained.load_features(config)
  features, labels = {}, {}
  for split in ('train', 'test[:100]'):
    source = sources.open_source('digits', split)
    images = []
    for record in source.ordered():
      raw, _ = source.load(record)
      pixels = Image.fromarray(np.broadcast_to(raw, (8, 8, 3)).copy())
      assert pixels.size == (8, 8)
      images.append(raw)
    labels[split] = np.array(
      [int(source.load(record)[1]) for record in source.ordered()]
    )
    scorer = few_shot_scoring.Scorer(model.config, model.model, None)
    stacked = np.stack([scorer._transform(raw) for raw in images])
    _, found = model.model.apply({'params': model.params}, stacked, train=False)
    features[split] = np.asarray(found['pre_logits'])
  chosen = few_shot.choose(labels['train'], 10, 5, 0)
  expected = few_shot.accuracy(
    few_shot.Features(features['train'], labels['train']).at(chosen),
    few_shot.Features(features['test[:100]'], labels['test[:100]']),
    num_classes=10,
    l2=1024.0,
  )
  assert results['accuracies'] == {'digits': {'5': [expected]}}
