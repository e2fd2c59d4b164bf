"""Data with several labels per image, from training to prediction."""

import json

import numpy as np
from PIL import Image
import pytest
from sklearn import metrics as sklearn_metrics
import tensorflow_datasets as tfds

import runs
from vit_jax import main
from vit_jax.evaluation import multi_label
from vit_jax.jobs.compare import points, selection
from vit_jax.page import examples, metric_parts
from vit_jax.workdir import finished_run

COLOURS = ('red', 'green', 'blue', 'violet')  # No image is violet.
NUM_TEST = 20


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  """Images whose labels are the colours they consist of."""
  folder = tmp_path_factory.mktemp('data')
  rng = np.random.default_rng(0)

  def example(i):
    labels = np.flatnonzero(rng.random(3) < 0.5)
    pixels = rng.integers(0, 120, (8, 8, 3), np.uint8)
    pixels[..., labels] += 80
    return i, {'image': pixels, 'label': labels.tolist()}

  tfds.dataset_builders.store_as_tfds_dataset(
    name='colours',
    version='1.0.0',
    features=tfds.features.FeaturesDict(
      {
        'image': tfds.features.Image(encoding_format='png'),
        'label': tfds.features.Sequence(
          tfds.features.ClassLabel(names=COLOURS)
        ),
      }
    ),
    split_datasets={
      'train': list(map(example, range(64))),
      'test': list(map(example, range(NUM_TEST))),
    },
    data_dir=folder,
  )
  return folder


def training(data_dir):
  """Pre-training on JFT in miniature."""
  return runs.override(
    runs.shrink(runs.load_config('vit_l16', 'jft300m')),
    data__name='tfds:colours',
    data__dir=str(data_dir),
    data__eval='test',
    data__image_size=8,
    model__patch_size=4,
    model__head_bias=0.0,
    model__dtype='float32',
    total_steps=40,
    batch_size=16,
    eval_every=20,
    optim__lr=0.01,
    optim__ema_decay=0.5,
    best_metric='test/mean_average_precision',
    label_threshold=0.4,
  )


@pytest.fixture(scope='module')
def trained(data_dir, tmp_path_factory):
  workdir = tmp_path_factory.mktemp('trained')
  runs.run(training(data_dir), workdir)
  return workdir


def read_lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def test_results_and_page(trained):
  results = json.loads((trained / 'results.json').read_text())
  metrics = results['metrics']
  for name in multi_label.METRICS:
    assert 0.5 < metrics[f'test/{name}'] <= 1
    assert f'test/raw_{name}' in metrics
  assert 'test/accuracy' in metrics
  evaluated = [
    (event['test/mean_average_precision'], -event['step'])
    for event in runs.events(trained)
    if 'test/mean_average_precision' in event
  ]
  assert len(evaluated) == 2
  value, step = max(evaluated)
  assert metrics['best/test/mean_average_precision'] == value
  assert metrics['best/step'] == -step
  by_class = results['class_average_precision']['test']
  assert list(by_class) == list(COLOURS)
  assert by_class['violet'] is None
  assert metrics['test/mean_average_precision'] == pytest.approx(
    np.mean([by_class[name] for name in COLOURS[:3]])
  )
  assert results['multi_label']

  run = finished_run.read(trained)
  (table,) = examples.classes(run)
  assert table.head[:2] == ('class of test', 'average precision')
  assert len(table.rows) == 3
  shown = dict(metric_parts.headlines(run.metrics))
  assert 'test/mean_average_precision' in shown


def test_predictions_list_all_labels_above_the_threshold(trained):
  lines = read_lines(trained / 'predictions_test.jsonl')
  assert len(lines) == NUM_TEST

  def rows(labels_of):
    return [[name in labels_of(line) for name in COLOURS] for line in lines]

  labels = rows(lambda line: line['label'])
  predicted = rows(lambda line: [x['class'] for x in line['predicted_labels']])
  results = json.loads((trained / 'results.json').read_text())
  assert results['metrics']['test/micro_f1'] == pytest.approx(
    sklearn_metrics.f1_score(labels, predicted, average='micro')
  )
  assert any(len(line['predicted_labels']) > 1 for line in lines)
  for line in lines:
    probabilities = [x['probability'] for x in line['predicted_labels']]
    assert probabilities == sorted(probabilities, reverse=True)
    assert min(probabilities, default=1) >= 0.4
    if line['predicted_labels']:
      assert line['predicted_labels'][0]['class'] == line['predicted']


def predict(trained, photo, workdir, **values):
  config = runs.load_config('predict', str(photo))
  runs.override(config, init_from=str(trained / 'best.npz'), **values)
  main.run(config, workdir)
  (line,) = read_lines(workdir / 'predictions.jsonl')
  return line


def test_evaluation_and_prediction_of_the_run(
  trained, data_dir, tmp_path, capsys
):
  config = runs.load_config('evaluate', str(trained))
  runs.override(config, batch_size=7, label_threshold=0.4)
  config.data.dir = str(data_dir)
  after = runs.run(config, tmp_path / 'evaluated')
  before = json.loads((trained / 'results.json').read_text())
  for name in (*multi_label.METRICS, 'accuracy'):
    name = f'test/{name}'
    assert after['metrics'][name] == pytest.approx(before['metrics'][name])
  table = (tmp_path / 'evaluated' / 'per_class.csv').read_text().splitlines()
  assert table[0] == 'split,class,images,accuracy,average_precision'
  assert table[4] == 'test,violet,0,,'
  assert 'average_precision' in capsys.readouterr().out

  photo = tmp_path / 'photo.png'
  Image.fromarray(np.full((8, 8, 3), (200, 20, 200), np.uint8)).save(photo)
  line = predict(trained, photo, tmp_path / 'photo')
  assert len(line['top']) == 4
  above = [x for x in line['top'] if x['probability'] > 0.5]
  assert line['predicted_labels'] == above
  assert {x['class'] for x in above} == {'red', 'blue'}
  assert '; labels: ' in capsys.readouterr().out
  # A run without the record lists only the top classes.
  for name in ('results.json', 'data.json'):
    content = json.loads((trained / name).read_text())
    assert content.pop('multi_label')
    (tmp_path / name).write_text(json.dumps(content))
  for name in ('best.npz', 'config.json'):
    (tmp_path / name).write_bytes((trained / name).read_bytes())
  old = predict(tmp_path, photo, tmp_path / 'old')
  assert old == {'example': str(photo), 'top': line['top']}


def test_metrics_that_are_not_measured(data_dir, tmp_path, monkeypatch, caplog):
  config = training(data_dir)
  monkeypatch.setattr(multi_label, 'MAX_BYTES', NUM_TEST * 4 * 4 - 1)
  with pytest.raises(ValueError, match='it can be test/accuracy.'):
    main.run(config, tmp_path)
  assert 'choose a smaller split, such as test[:19], in data.eval' in (
    caplog.text
  )
  config = runs.override(runs.load_config('digits'), loss='sigmoid')
  config.best_metric = 'test/micro_f1'
  with pytest.raises(ValueError, match='it can be test/accuracy.'):
    main.run(config, tmp_path)


def test_sweeps_select_by_the_best_metric(data_dir, tmp_path, monkeypatch):
  config = training(data_dir)
  metrics = {'val/accuracy': 0.2, 'val/mean_average_precision': 0.7}
  monkeypatch.setattr(
    selection.settings, 'run_or_read', lambda *unused: {'metrics': metrics}
  )
  assert selection.held_out_score(config, tmp_path) == 0.7
  config.best_metric = ''
  assert selection.held_out_score(config, tmp_path) == 0.2
  runs.override(config, job='sweep', sweep__job='pretrain', loss='softmax')
  runs.override(config, best_metric='test/macro_f1', sweep__grid='seed=1|2')
  with pytest.raises(ValueError, match='it can be test/accuracy.'):
    main.run(config, tmp_path / 'sweep')


def test_studies_draw_these_metrics(data_dir, tmp_path):
  config = runs.override(training(data_dir), job='study', data__eval='test')
  config.study.metrics = ('test/micro_f1', 'best/test/mean_average_precision')
  config.study.points = {'only': {'family': 'ViT'}}
  points.check(config, points.list_points(config), tmp_path)
  config.study.metrics = ('test/f1',)
  with pytest.raises(ValueError, match='test/mean_average_precision'):
    points.check(config, points.list_points(config), tmp_path)
