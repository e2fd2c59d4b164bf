"""Evaluation end to end: runs of ours, ReaL, ObjectNet, what does not fit."""

import csv
import dataclasses
import json

import jax
import numpy as np
from PIL import Image
import pytest
import tensorflow_datasets as tfds

import runs
from vit_jax import checkpoints, main
import weights

SIZE = (16, 24)


@pytest.fixture(scope='module')
def run_of_ours(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('runs') / 'digits'
  config = runs.shrink(runs.load_config('digits'))
  runs.override(
    config,
    total_steps=60,
    batch_size=32,
    data__eval='test',
    data__image_size=8,
    optim__lr=0.01,
    optim__ema_decay=0.0,
  )
  runs.run(config, workdir)
  return workdir


@dataclasses.dataclass
class Classifier:
  """A model of ImageNet's classes with random weights."""

  path: str
  model: object
  params: dict

  def top(self, pixels):
    """The five likeliest classes of each uint8 image."""
    logits = weights.logits_of(
      self.model, self.params, np.stack(pixels) / np.float32(127.5) - 1
    )
    return np.argsort(-logits, axis=1)[:, :5], logits


@pytest.fixture(scope='module')
def classifier(tmp_path_factory):
  model = weights.tiny(num_classes=1000)
  params = weights.random_params(model)
  path = tmp_path_factory.mktemp('weights') / 'tiny.npz'
  checkpoints.export(params, path)
  return Classifier(str(path), model, params)


def evaluation(classifier, data, **values):
  config = runs.load_config('evaluate', f',{data}')
  height, width = SIZE
  values = {
    'init_from': classifier.path,
    'batch_size': 7,
    'data__image_size': height,
    'data__image_width': width,
  } | values
  return runs.override(config, **values)


def write_image(path, seed, border=0):
  """Saves noise; returns it without the border that was put around."""
  pixels = np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8)
  path.parent.mkdir(parents=True, exist_ok=True)
  framed = np.pad(
    pixels, [(border, border), (border, border), (0, 0)], constant_values=255
  )
  Image.fromarray(framed).save(path)
  return pixels


def test_a_run_scores_as_it_did_when_it_ended(run_of_ours, tmp_path, capsys):
  before = json.loads((run_of_ours / 'results.json').read_text())
  config = runs.load_config('evaluate', str(run_of_ours))
  results = set()
  for size in (7, 355, 512):
    config.batch_size = size
    after = runs.run(config, tmp_path / str(size))
    results.add(after['metrics']['test/accuracy'])
  assert results == {before['metrics']['test/accuracy']}
  assert 0.15 < min(results) < 1  # It has learned something, not all.
  assert after['class_accuracy'] == before['class_accuracy']
  assert after['class_names'] == list('0123456789')
  assert after['num_examples'] == {'test': 355}
  top5 = before['metrics']['test/top5_accuracy']
  assert after['metrics']['test/top5_accuracy'] == top5 > min(results)
  name = 'predictions_test.jsonl'
  lines = (tmp_path / '512' / name).read_text()
  assert lines == (run_of_ours / name).read_text()

  with (tmp_path / '512' / 'per_class.csv').open() as file:
    rows = list(csv.DictReader(file))
  assert [row['class'] for row in rows] == list('0123456789')
  assert sum(int(row['images']) for row in rows) == 355
  for row in rows:
    accuracy = before['class_accuracy']['test'][row['class']]
    assert float(row['accuracy']) == accuracy
  printed = capsys.readouterr().out
  assert 'split  images    loss  accuracy  top5_accuracy' in printed
  assert f'{min(results):.4f}' in printed


@pytest.mark.parametrize('part', ['', 'final.npz', 'checkpoints'])
def test_a_run_is_known_by_its_folder_and_files(run_of_ours, tmp_path, part):
  config = runs.load_config('evaluate', str(run_of_ours))
  assert config.init_from == str(run_of_ours / 'final.npz')
  config.init_from = str(run_of_ours / part)
  before = json.loads((run_of_ours / 'results.json').read_text())
  metrics = runs.run(config, tmp_path)['metrics']
  assert metrics['test/accuracy'] == before['metrics']['test/accuracy']


def test_finished_evaluations_are_not_done_again(run_of_ours, tmp_path, caplog):
  config = runs.load_config('evaluate', str(run_of_ours))
  config.data.eval = 'test[:8]'
  runs.run(config, tmp_path)
  caplog.set_level('INFO', logger='vit_jax')
  runs.run(config, tmp_path)
  assert 'is finished; ' in caplog.text
  with pytest.raises(ValueError, match='holds a run with another config'):
    main.run(config, run_of_ours)


@pytest.fixture(scope='module')
def imagenet(tmp_path_factory):
  """An image a class, under the names of ImageNet's validation images."""
  folder = tmp_path_factory.mktemp('imagenet')
  images = {}
  for k in range(1000):
    name = f'ILSVRC2012_val_{1000 - k:08d}.JPEG'
    # A PNG by content, so that no pixel changes.
    png = folder / f'{k:04d}' / f'{name}.png'
    images[k] = write_image(png, k)
    png.rename(png.with_suffix(''))
  return folder, images


def test_real(classifier, imagenet, tmp_path):
  folder, images = imagenet
  top, logits = classifier.top([images[k] for k in range(1000)])
  rng = np.random.default_rng(0)
  # Image i + 1 is of class 999 - i.
  table = [
    rng.choice(top[999 - i], rng.integers(0, 3), replace=False).tolist()
    for i in range(1000)
  ]
  table += [[0]] * 9  # More images than there are here.
  (tmp_path / 'real.json').write_text(json.dumps(table))
  config = evaluation(
    classifier,
    f'folder:{folder}',
    data__eval='val=train',
    evaluate__real_json=str(tmp_path / 'real.json'),
  )
  config.batch_size = 333
  results = runs.run(config, tmp_path / 'run')
  metrics = results['metrics']
  own = np.arange(1000)
  assert metrics['val/accuracy'] == np.mean(top[:, 0] == own)
  hits = np.mean((top == own[:, None]).any(axis=1))
  assert metrics['val/top5_accuracy'] == hits
  losses = jax.nn.logsumexp(logits, axis=1) - logits[own, own]
  np.testing.assert_allclose(metrics['val/loss'], losses.mean(), rtol=1e-5)
  with_labels = [k for k in own if table[999 - k]]
  right = [top[k, 0] in table[999 - k] for k in with_labels]
  assert 0 < sum(right) < len(right) < 1000
  assert metrics['real/accuracy'] == sum(right) / len(right)
  assert metrics['real/top5_accuracy'] == 1.0
  assert results['num_examples'] == {'val': 1000, 'real': len(with_labels)}
  with (tmp_path / 'run' / 'per_class.csv').open() as file:
    rows = [row for row in csv.DictReader(file) if row['split'] == 'real']
  labels = [k for row in table[:1000] for k in row]
  assert sum(int(row['images']) for row in rows) == len(labels)
  assert any(row['accuracy'] == '' for row in rows)


def test_real_through_tfds(classifier, tmp_path):
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (12, *SIZE, 3), np.uint8)
  top, _ = classifier.top(list(images))
  # Every third image has no label, every other third a right one.
  labels = [([], [7, int(top[i, 0])], [8])[i % 3] for i in range(12)]
  builder = tfds.builder('imagenet2012_real', data_dir=tmp_path)
  examples = [
    {
      'image': images[i],
      'file_name': f'ILSVRC2012_val_{i + 1:08d}.JPEG',
      'original_label': 0,
      'real_label': labels[i],
    }
    for i in range(12)
  ]
  tfds.dataset_builders.store_as_tfds_dataset(
    name='imagenet2012_real',
    version='1.0.0',
    # JPEG would change the pixels.
    features=tfds.features.FeaturesDict(
      dict(builder.info.features)
      | {'image': tfds.features.Image(encoding_format='png')}
    ),
    split_datasets={'validation': list(enumerate(examples))},
    data_dir=tmp_path,
  )
  config = evaluation(classifier, 'imagenet2012_real', data__dir=str(tmp_path))
  results = runs.run(config, tmp_path / 'run')
  assert results['metrics']['test/accuracy'] == 0.5
  assert results['num_examples'] == {'test': 8}
  assert 'test/loss' not in results['metrics']


OBJECTS = {'alarm_clock': [409, 530], 'plunger': [731], 'zucchini': []}


@pytest.fixture(scope='module')
def release(tmp_path_factory):
  """ObjectNet in little, and each image without its border."""
  folder = tmp_path_factory.mktemp('objectnet')
  images = {}
  for label, name in enumerate(OBJECTS):
    for i in range(11):
      file = folder / 'images' / name / f'{name}{i}.png'
      images[file.stem] = write_image(file, 100 * label + i, border=2)
  (folder / 'mappings').mkdir()
  files = {
    'folder_to_objectnet_label.json': {name: name.title() for name in OBJECTS},
    'objectnet_to_imagenet_1k.json': {
      name.title(): '; '.join(f'name {k}' for k in classes)
      for name, classes in OBJECTS.items()
      if classes
    },
    'pytorch_to_imagenet_2012_id.json': {str(k): k for k in range(1000)},
  }
  for name, content in files.items():
    (folder / 'mappings' / name).write_text(json.dumps(content))
  names = ''.join(f'name {k}\n' for k in range(1000))
  (folder / 'mappings' / 'imagenet_to_label_2012_v2').write_text(names)
  return folder, images


@pytest.mark.parametrize('restricted', [False, True])
def test_objectnet(classifier, release, tmp_path, restricted):
  folder, images = release
  head = classifier.params['head']
  # So that some of these classes are among the first.
  head['bias'] = head['bias'].copy()
  head['bias'][[409, 530, 731]] = 2.0
  checkpoints.export(classifier.params, tmp_path / 'tiny.npz')
  config = evaluation(
    classifier,
    f'objectnet:{folder}',
    evaluate__objectnet_restricted=restricted,
  )
  assert config.data.trim_px == 2
  config.init_from = str(tmp_path / 'tiny.npz')
  results = runs.run(config, tmp_path / 'run')
  known = {f'{n}{i}': n for n in OBJECTS if OBJECTS[n] for i in range(11)}
  assert results['num_examples'] == {'test': 22}
  top, logits = classifier.top([images[stem] for stem in known])
  metrics = results['metrics']
  if restricted:
    chosen = np.where(logits[:, [409, 530]].max(axis=1) > logits[:, 731], 0, 1)
    expected = {'test/accuracy': np.mean(chosen == np.repeat([0, 1], 11))}
    metrics.pop('test/loss')
  else:
    right = [
      np.isin(t, OBJECTS[n]) for t, n in zip(top, known.values(), strict=True)
    ]
    expected = {
      'test/accuracy': np.mean([hits[0] for hits in right]),
      'test/top5_accuracy': np.mean([hits.any() for hits in right]),
    }
    assert expected['test/top5_accuracy'] > expected['test/accuracy']
  assert 0 < expected['test/accuracy'] < 1
  assert metrics == expected
  assert list(results['class_accuracy']['test']) == ['alarm_clock', 'plunger']
  path = tmp_path / 'run' / 'predictions_test.jsonl'
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  assert {line['label'] for line in lines} == {'alarm_clock', 'plunger'}
  names = (
    {'alarm_clock', 'plunger'} if restricted else set(map(str, range(1000)))
  )
  assert {line['predicted'] for line in lines} <= names


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'init_from': ''}, 'needs a trained model: set init_from'),
    ({'init_from': '/nowhere.npz'}, '/nowhere.npz: no such file'),
    ({}, 'has 1000 classes, but digits has 10'),
    ({'data__eval': ''}, 'data.eval is empty'),
    ({'data__image_size': 17}, '17x24 pixels cannot be cut into patches'),
    ({'data__image_size': 0, 'data__image_width': 0}, 'set data.image_size'),
    ({'model__name': 'ViT-B/8'}, 'does not fit the model.*depth=2, width=12'),
    ({'model__name': 'R50x1'}, 'does not fit the model.*block1/unit1'),
    (
      {'evaluate__objectnet_mappings': '/nowhere'},
      "data.name='digits', but ObjectNet is read from the folder",
    ),
    (
      {'data__name': 'tfds:cifar10', 'data__dir': '/nowhere'},
      'download=true',
    ),
  ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(classifier, tmp_path, values, message):
  config = evaluation(classifier, 'digits', **values)
  with pytest.raises(ValueError, match=message):
    main.run(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_real_needs_imagenet(run_of_ours, classifier, imagenet, tmp_path):
  (tmp_path / 'real.json').write_text('[[1]]')
  path = str(tmp_path / 'real.json')
  config = runs.load_config('evaluate', str(run_of_ours))
  config.evaluate.real_json = path
  with pytest.raises(ValueError, match="ReaL needs a model of ImageNet's 1000"):
    main.run(config, tmp_path / 'run')
  folder = f'folder:{imagenet[0]}'
  for split, message in (
    ('a=train[:5],b=train[5:]', 'exactly one split'),
    ('real=train', 'exactly one split, under a name other'),
    ('test=train', 'is not an ImageNet validation image'),
  ):
    config = evaluation(
      classifier, folder, data__eval=split, evaluate__real_json=path
    )
    with pytest.raises(ValueError, match=message):
      main.run(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_named_models_are_checked_against_the_weights(tmp_path):
  model = weights.tiny('ViT-Ti/16', num_classes=10, patch_size=16, pool='gap')
  params = weights.random_params(model, (64, 64))
  checkpoints.export(params, tmp_path / 'tiny.npz')
  config = runs.load_config('evaluate', 'ViT-Ti/16,digits')
  runs.override(
    config,
    init_from=str(tmp_path / 'tiny.npz'),
    model__depth=2,
    model__width=12,
    model__mlp_dim=20,
    data__eval='test[:8]',
  )
  # The size of its images follows from 4x4 positions of 16 pixels.
  assert 'test/accuracy' in runs.run(config, tmp_path / 'run')['metrics']
  config.model.mlp_dim = 24
  with pytest.raises(ValueError, match='has the shape .*mlp_dim=20'):
    main.run(config, tmp_path / 'other')


def test_the_config_knows_splits_and_refuses_other_words(tmp_path):
  for name, split in {
    'imagenet2012': 'validation',
    'imagenet_v2': 'test',
    'cifar10': 'test',
    'uc_merced': 'train',
    'tfds:mnist': 'test',
    'folder:photos': 'test',
  }.items():
    config = runs.load_config('evaluate', f'ViT-B/16,{name}')
    assert config.data.name == name
    assert config.data.eval == f'test={split}'
    assert config.model.name == 'ViT-B/16'
  with pytest.raises(ValueError, match='neither MODEL,DATASET nor a run'):
    runs.load_config('evaluate', str(tmp_path))


def test_a_checkpoint_without_a_head_is_refused(classifier, tmp_path):
  params = {k: v for k, v in classifier.params.items() if k != 'head'}
  checkpoints.export(params, tmp_path / 'headless.npz')
  config = evaluation(classifier, 'digits')
  config.init_from = str(tmp_path / 'headless.npz')
  with pytest.raises(ValueError, match='has no head.*fine-tune it first'):
    main.run(config, tmp_path / 'run')
