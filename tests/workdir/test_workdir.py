import json
import logging
import math

from etils import epath
import jax
import numpy as np
from PIL import Image
import pytest

from vit_jax import config as config_lib
from vit_jax.checkpoints import finite
from vit_jax.evaluation import classification
from vit_jax.training import loop
from vit_jax.workdir import claim, console, files, metrics, results
from vit_jax.workdir import predictions as predictions_lib


@pytest.mark.parametrize(
  ('seconds', 'text'),
  [
    (0.4, '0s'),
    (59.6, '1m00s'),
    (200, '3m20s'),
    (3600, '1h00m'),
    (5 * 3600 + 7 * 60 + 59, '5h07m'),
    (2 * 86400 + 3 * 3600, '2d03h'),
  ],
)
def test_duration(seconds, text):
  assert console.duration(seconds) == text


def read_steps(folder):
  lines = (folder / 'metrics.jsonl').read_text().splitlines()
  return [json.loads(line)['step'] for line in lines]


def test_metric_log_goes_on_from_the_checkpoint(tmp_path):
  folder = epath.Path(tmp_path)
  log = metrics.MetricLog(folder, resume_step=0)
  for step in (1, 2, 3):
    log.write(step, {'train/loss': 1.0 / step})
  with (tmp_path / 'metrics.jsonl').open('a') as f:
    f.write('{"step": 4, "train/lo')  # Killed in the middle of a line.
  log = metrics.MetricLog(folder, resume_step=2)
  assert read_steps(tmp_path) == [1, 2]
  log.write(2, {'train/loss': 9.0})  # Known already.
  log.write(2, {'test/accuracy': 0.5})
  log.write(3, {'train/loss': 0.25})
  assert read_steps(tmp_path) == [1, 2, 2, 3]


def test_best_is_the_first_of_the_highest(tmp_path):
  log = metrics.MetricLog(epath.Path(tmp_path), resume_step=0)
  assert log.best('val/accuracy') is None
  for step, accuracy in [(1, 0.5), (2, 0.75), (3, 0.75), (4, 0.5)]:
    log.write(step, {'val/accuracy': accuracy})
  assert log.best('val/accuracy') == (2, 0.75)


def test_picture_is_a_file(tmp_path):
  picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
  log = metrics.MetricLog(epath.Path(tmp_path), resume_step=0)
  log.write_picture(500, 'patches', picture)
  (path,) = tmp_path.glob('*.png')
  assert path.name == 'patches_0000500.png'
  np.testing.assert_array_equal(np.asarray(Image.open(path)), picture)


def test_progress_line(tmp_path, caplog):
  progress = loop.Progress(
    step=40,
    metrics={'loss': 0.5, 'learning_rate': 1e-3},
    seconds_per_step=0.25,
    data_wait=0.125,
  )
  caplog.set_level(logging.INFO, logger='vit_jax')
  log = metrics.MetricLog(epath.Path(tmp_path), resume_step=0)
  metrics.log_progress(progress, log, total_steps=1000, batch_size=32)
  assert caplog.messages == [
    'step   40/1000  loss 0.5000  lr 1.00e-03  128 images/s'
    '  waiting for data 12%  left 4m00s'
  ]
  (event,) = log.events
  assert event == {
    'step': 40,
    'train/loss': 0.5,
    'train/learning_rate': 1e-3,
    'perf/images_per_second': 128.0,
    'perf/data_wait': 0.125,
  }


@pytest.mark.parametrize(
  ('labels', 'names'),
  [
    (np.array([1, 0]), ['dog', 'cat']),
    (np.array([[1.0, 1.0], [0.0, 0.0]]), [['cat', 'dog'], []]),
  ],
)
def test_predictions_by_name(tmp_path, labels, names):
  predictions = classification.Predictions(
    index=np.array([7, 8]),
    top_classes=np.array([[1, 0], [1, 0]]),
    top_probabilities=np.array([[0.75, 0.25], [0.5, 0.5]], np.float32),
    label=labels,
  )
  predictions_lib.write(
    epath.Path(tmp_path),
    'test',
    predictions,
    ('cat', 'dog'),
    'photo-{}.jpg'.format,
  )
  text = (tmp_path / 'predictions_test.jsonl').read_text()
  lines = [json.loads(line) for line in text.splitlines()]
  assert [line['label'] for line in lines] == names
  assert lines[0] == {
    'example': 'photo-7.jpg',
    'label': names[0],
    'predicted': 'dog',
    'probability': 0.75,
  }


def test_results_of_a_job(tmp_path):
  params = {'kernel': np.zeros((3, 4)), 'bias': np.zeros(4)}
  results.write(
    epath.Path(tmp_path),
    'evaluate',
    seconds=43_200.0,
    params=params,
    metrics={'test/accuracy': 0.5},
    init_from='final.npz',
  )
  written = json.loads((tmp_path / 'results.json').read_text())
  assert written == {
    'job': 'evaluate',
    'seconds': 43_200.0,
    'device_kind': jax.devices()[0].device_kind,
    'device_count': jax.device_count(),
    'core_days': 0.5 * jax.device_count(),
    'parameters': 16,
    'metrics': {'test/accuracy': 0.5},
    'init_from': 'final.npz',
  }
  results.write(epath.Path(tmp_path), 'prepare', datasets={})
  written = json.loads((tmp_path / 'results.json').read_text())
  assert written == {'job': 'prepare', 'datasets': {}}


def test_a_folder_belongs_to_one_config(tmp_path):
  folder = epath.Path(tmp_path) / 'run'
  keys = config_lib.flatten(config_lib.base(job='evaluate'))
  assert not claim.is_finished(keys, folder)
  claim.start(keys, folder)
  assert not claim.is_finished(keys, folder)
  with pytest.raises(ValueError, match='another config .seed: 0 -> 1'):
    claim.is_finished(keys | {'seed': 1}, folder)
  claim.restart(keys | {'seed': 1}, folder)
  with pytest.raises(ValueError, match="of the job 'evaluate', not of 'sweep'"):
    claim.restart(keys | {'job': 'sweep'}, folder)
  results.write(folder, 'evaluate', metrics={})
  assert claim.is_finished(keys | {'seed': 1}, folder)


def test_json_files_hold_no_nan(tmp_path):
  folder = epath.Path(tmp_path)
  log = metrics.MetricLog(folder, resume_step=0)
  log.write(1, {'test/loss': 1.0})
  with pytest.raises(finite.NonFiniteError, match='step 2: .* in test/loss'):
    log.write(2, {'test/loss': math.nan, 'test/accuracy': 0.5})
  log.write(2, {'test/loss': 2.0})
  assert read_steps(tmp_path) == [1, 2]
  with pytest.raises(finite.NonFiniteError, match='in class_accuracy/test/1'):
    results.write(
      folder,
      'evaluate',
      metrics={'test/accuracy': 0.5},
      class_accuracy={'test': [None, -math.inf]},
    )
  assert not (tmp_path / 'results.json').exists()


@pytest.mark.parametrize(
  ('name', 'content', 'message'),
  [
    ('config.json', '{"job": "evalu', 'config.json is not JSON .* cut short'),
    ('config.json', '[1]', 'config.json is a list in JSON, but a dict'),
    (
      'config.json',
      '{"seed": "x"}',
      "config.json: seed='x' is not of type int",
    ),
    ('config.json', '{"seed": null}', 'config.json: seed=None is of type None'),
    ('config.json', '{"job": 3}', "'job' is of type int, but str is expected"),
    ('results.json', '{"step": "x"}', "results.json: 'step' is of type str"),
    ('results.json', '\xff', 'results.json is not JSON'),
    ('metrics.jsonl', '{"step": 1}\n{"st\n', 'jsonl, line 2, is not JSON'),
    ('metrics.jsonl', '{"loss": 1}\n', "jsonl has no field 'step'"),
    (
      'metrics.jsonl',
      '{"step": "a"}\n',
      "step='a' at step 'a' is not a number",
    ),
    ('metrics.jsonl', '3\n', 'line 1, is a int in JSON, but a dict'),
  ],
)
def test_damaged_files_of_a_run_are_named(name, content, message, tmp_path):
  folder = epath.Path(tmp_path)
  keys = config_lib.flatten(config_lib.base(job='evaluate'))
  claim.start(keys, folder)
  results.write(folder, 'evaluate', metrics={})
  (tmp_path / name).write_bytes(content.encode('latin-1'))
  with pytest.raises(ValueError, match=message) as error:
    claim.is_finished(keys, folder)
    metrics.MetricLog(folder, resume_step=1)
  assert str(tmp_path / name) in str(error.value)
  assert 'restore' in str(error.value) or '=' in str(error.value)


def test_a_field_that_is_missing_is_named(tmp_path):
  folder = epath.Path(tmp_path)
  (tmp_path / 'results.json').write_text('{"metrics": {"a": 1}}')
  found = files.read_json(folder / 'results.json')
  assert found == {'metrics': {'a': 1}}
  with pytest.raises(ValueError, match="results.json has no field 'step'"):
    found['step']
  with pytest.raises(ValueError, match="results.json has no field 'b'"):
    found['metrics']['b']
