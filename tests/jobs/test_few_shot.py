"""Few-shot evaluation end to end: as a job, and while a run trains."""

import json
import shutil

import numpy as np
from PIL import Image
import pytest

import runs
from vit_jax import checkpoints, main, models
from vit_jax import config as config_lib
from vit_jax.build import few_shot_evaluator
from vit_jax.data import registry
from vit_jax.evaluation import few_shot_regression
import weights

DATA = 'digits|train|test[:100]'


@pytest.fixture(scope='module')
def run_of_ours(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('runs') / 'digits'
  config = runs.override(
    runs.shrink(runs.load_config('digits')),
    total_steps=100,
    batch_size=32,
    data__image_size=8,
    optim__lr=0.01,
    checkpoint_every=50,
    few_shot__every=40,
    few_shot__datasets=DATA,
    few_shot__shots='1,5',
  )
  runs.run(config, workdir)
  return workdir, config


def few_shots(init_from, **values):
  values = {
    'init_from': str(init_from),
    'few_shot__datasets': DATA,
    'few_shot__shots': '1,5',
  } | values
  return runs.override(runs.load_config('few_shot', ',digits'), **values)


def test_results_are_those_of_the_draws_whatever_the_batch(
  run_of_ours, tmp_path, capsys
):
  workdir, _ = run_of_ours
  found = []
  for size in (3, 64):
    config = few_shots(workdir / 'final.npz', batch_size=size)
    found.append(runs.run(config, tmp_path / str(size)))
  small, large = found
  assert small['accuracies'] == large['accuracies']
  printed = capsys.readouterr().out
  for shots, values in small['accuracies']['digits'].items():
    assert len(set(values)) > 1
    name = f'few_shot/digits/{shots}shot'
    mean, spread = np.mean(values), np.std(values, ddof=1)
    assert small['metrics'][name] == pytest.approx(mean)
    assert small['metrics'][f'{name}_std'] == pytest.approx(spread)
    assert printed.count(f'{name}  {mean:.4f}  {spread:.4f}') == 2
  assert set(small['accuracies']['digits']) == {'1', '5'}
  assert small['job'] == 'few_shot'
  assert small['num_examples']['digits']['test'] == 100
  # Three draws of 50, which may have some in common.
  assert 100 <= small['num_examples']['digits']['train'] <= 150
  one, five = (small['metrics'][f'few_shot/digits/{n}shot'] for n in ('1', '5'))
  assert 0.25 < one < five < 1


def test_accuracy_from_whole_arrays(run_of_ours, tmp_path):
  """Computes the accuracy without pipeline and batches, for every image."""
  workdir, _ = run_of_ours
  params, description = checkpoints.load_with_description(workdir / 'final.npz')
  model = models.create(
    'ViT-Ti/2', num_classes=description.num_classes, **description.overrides
  )

  def features(split):
    source = registry.open_source('digits', split)
    pixels, labels = zip(*map(source.load, source.ordered()), strict=True)
    # Resized from 8 to 9 px, of which the middle is cut.
    resized = [np.asarray(few_shot_resize(raw)) for raw in pixels]
    images = np.stack(resized)[:, :8, :8] / np.float32(127.5) - 1
    _, found = model.apply({'params': params}, images, train=False)
    return few_shot_regression.Features(
      np.asarray(found['pre_logits']), np.array(labels), np.arange(len(labels))
    )

  support, queries = features('train'), features('test[:100]')
  expected = [
    few_shot_regression.accuracy(
      support.take(
        few_shot_regression.choose_support(support.label, 10, 5, seed)
      ),
      queries,
      num_classes=10,
      l2=1024.0,
    )
    for seed in range(3)
  ]
  results = runs.run(few_shots(workdir / 'final.npz'), tmp_path)
  assert results['accuracies']['digits']['5'] == expected


def few_shot_resize(raw):
  """Bilinear from 8 to 9 px between pixel centers, then whole values."""
  at = np.clip((np.arange(9) + 0.5) * 8 / 9 - 0.5, 0, 7)
  low = np.floor(at).astype(int)
  high = np.minimum(low + 1, 7)
  part = at - low
  image = np.asarray(raw, np.float64)
  image = np.broadcast_to(image, (8, 8, 3))
  rows = image[low] + (image[high] - image[low]) * part[:, None, None]
  both = rows[:, low] + (rows[:, high] - rows[:, low]) * part[:, None]
  return np.floor(both + 1e-6).astype(np.float32)


def history(workdir):
  return [
    event
    for event in runs.events(workdir)
    if any(name.startswith('few_shot/') for name in event)
  ]


def test_training_runs_evaluate_the_averaged_weights(run_of_ours, tmp_path):
  workdir, config = run_of_ours
  assert config.optim.ema_decay > 0
  found = history(workdir)
  assert [event['step'] for event in found] == [40, 80, 100]
  names = {'few_shot/digits/1shot', 'few_shot/digits/5shot'}
  for event in found:
    assert set(event) == {'step', *names}
  job = runs.run(few_shots(workdir / 'final.npz'), tmp_path)
  results = json.loads((workdir / 'results.json').read_text())
  for name in names:
    assert found[-1][name] == job['metrics'][name]
    assert results['metrics'][name] == job['metrics'][name]


def test_a_resumed_run_has_the_same_history(run_of_ours, tmp_path):
  workdir, config = run_of_ours
  again = tmp_path / 'run'
  shutil.copytree(workdir, again)
  (again / 'results.json').unlink()
  shutil.rmtree(again / 'checkpoints' / '100')
  runs.run(config, again)
  assert len(history(again)) == 3
  assert runs.events(again) == runs.events(workdir)


def test_several_devices_agree_with_one(run_of_ours, tmp_path):
  workdir, _ = run_of_ours
  path = workdir / 'final.npz'
  arguments = (
    '--config=configs/few_shot.py:,digits',
    f'--config.init_from={path}',
    f'--config.few_shot.datasets={DATA}',
    '--config.few_shot.shots=1,5',
    '--config.batch_size=7',
  )
  runs.finish(*arguments, f'--workdir={tmp_path / "8"}', devices=8)
  eight = json.loads((tmp_path / '8' / 'results.json').read_text())
  assert eight['device_count'] == 8
  one = runs.run(few_shots(path), tmp_path / '1')
  assert eight['accuracies'] == one['accuracies']


def test_heads_do_not_matter(run_of_ours, tmp_path):
  workdir, _ = run_of_ours
  params = checkpoints.load(workdir / 'final.npz')
  del params['head']
  checkpoints.export(params, tmp_path / 'headless.npz')
  found = [
    runs.run(
      few_shots(path, data__image_size=8, few_shot__seeds=1),
      tmp_path / path.stem,
    )['accuracies']
    for path in (workdir / 'final.npz', tmp_path / 'headless.npz')
  ]
  assert found[0] == found[1]


def test_several_datasets_have_a_mean(run_of_ours, tmp_path):
  workdir, _ = run_of_ours
  datasets = f'{DATA},other=digits|train[:200]|test[100:150]'
  results = runs.run(
    few_shots(workdir / 'final.npz', few_shot__datasets=datasets), tmp_path
  )
  both = [results['accuracies'][name]['5'] for name in ('digits', 'other')]
  draws = np.mean(both, axis=0)
  assert results['accuracies']['mean']['5'] == pytest.approx(draws)
  metrics = results['metrics']
  assert metrics['few_shot/mean/5shot'] == pytest.approx(draws.mean())
  assert metrics['few_shot/mean/5shot_std'] == pytest.approx(draws.std(ddof=1))


def test_random_weights_are_those_that_a_run_starts_from(tmp_path, caplog):
  start = runs.override(
    runs.shrink(runs.load_config('digits')),
    seed=1,
    data__image_size=8,
    optim__lr=0.0,
  )
  runs.run(start, tmp_path / 'start')
  found = {'run': few_shots(tmp_path / 'start' / 'final.npz')}
  for seed in (0, 1):
    found[seed] = few_shots('', seed=seed, data__image_size=8)
    found[seed].model.update(start.model)
  for name, config in found.items():
    found[name] = runs.run(config, tmp_path / str(name))['accuracies']
  assert found[0] != found[1] == found['run']
  assert 'the weights are random' in caplog.text


@pytest.mark.parametrize('part', ['', 'final.npz'])
def test_a_run_is_known_by_its_folder(run_of_ours, part):
  workdir, _ = run_of_ours
  config = runs.load_config('few_shot', str(workdir / part))
  assert config.init_from == str(workdir / 'final.npz')
  assert config.few_shot.datasets == ('digits',)


def test_small_classes_take_part_with_all_they_have(tmp_path, caplog):
  for split in ('train', 'test'):
    for k, name in enumerate(('few', 'many')):
      folder = tmp_path / 'photos' / split / name
      folder.mkdir(parents=True)
      for i in range(2 + 3 * k):
        Image.new('L', (9, 7), 200 * k + 10 * i).save(folder / f'{i}.png')
  params = weights.random_params(weights.tiny())
  checkpoints.export(params, tmp_path / 'tiny.npz')
  config = few_shots(
    tmp_path / 'tiny.npz',
    few_shot__datasets=f'folder:{tmp_path / "photos"}',
    few_shot__shots='4',
    data__image_size=16,
    data__image_width=24,
  )
  results = runs.run(config, tmp_path / 'run')
  assert results['num_examples'] == {'photos': {'train': 7, 'test': 7}}
  assert '1 of 2 classes have fewer than 4 examples (the smallest has 2)' in (
    caplog.text
  )


def test_names_and_splits():
  datasets = (
    'cifar100, imagenet2012,tfds:cars196:2.1.0,folder:/a/flowers/,'
    'pets=oxford_iiit_pet|train[:90%]|train[90%:],uc_merced'
  )
  config = config_lib.base()
  config_lib.set_keys(config, {'few_shot.datasets': datasets})
  found = few_shot_evaluator.parse_datasets(config)
  assert [(d.name, d.dataset, d.train, d.test) for d in found] == [
    ('cifar100', 'cifar100', 'train', 'test'),
    ('imagenet2012', 'imagenet2012', 'train[:65000]', 'validation'),
    ('cars196', 'tfds:cars196:2.1.0', 'train', 'test'),
    ('flowers', 'folder:/a/flowers/', 'train', 'test'),
    ('pets', 'oxford_iiit_pet', 'train[:90%]', 'train[90%:]'),
    ('uc_merced', 'uc_merced', 'train[:1000]', 'train[1000:]'),
  ]


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'few_shot__datasets': ''}, 'the list is empty'),
    ({'few_shot__datasets': 'mean=digits'}, "the name 'mean' is that of"),
    ({'few_shot__datasets': 'digits|train'}, "'digits.train' does not match"),
    ({'few_shot__datasets': 'digits,digits'}, "the name 'digits' occurs twice"),
    ({'few_shot__datasets': 'digit'}, "unknown dataset 'digit'"),
    ({'few_shot__datasets': 'digits|learn|test'}, 'learn'),
    ({'few_shot__shots': ''}, 'one or more positive'),
    ({'few_shot__shots': '0,5'}, r'few_shot.shots=0 is outside \[1, '),
    ({'few_shot__shots': 'five'}, 'not a list of whole numbers'),
    ({'init_from': ''}, 'no weights are given'),
    ({'init_from': '/nowhere.npz'}, 'no such file'),
    ({'model__name': 'ViT-B/2'}, 'does not fit the model'),
  ],
)
def test_what_does_not_fit_is_refused(run_of_ours, tmp_path, values, message):
  config = few_shots(run_of_ours[0] / 'final.npz')
  with pytest.raises(ValueError, match=message):
    main.run(runs.override(config, **values), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()
