"""Training, evaluation and prediction on images that a table lists."""

import json

import numpy as np
from PIL import Image
import pytest

import runs
from vit_jax import main


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  """Images of one of two colours, in a table and in a multi-label one."""
  root = tmp_path_factory.mktemp('data')
  (root / 'images').mkdir()
  single, several = [], ['file\ttags']
  for i in range(40):
    colour = np.array([255, 0, 0] if i % 2 else [0, 0, 255], np.uint8)
    Image.fromarray(np.tile(colour, (8, 8, 1))).save(root / f'images/{i}.png')
    name = 'red' if i % 2 else 'blue'
    single.append(json.dumps({'image': f'images/{i}.png', 'label': name}))
    several.append(f'{i}.png\t{name}|{"even" if i % 4 else ""}'.rstrip('|'))
  (root / 'single.jsonl').write_text('\n'.join(single))
  (root / 'several.tsv').write_text('\n'.join(several))
  return root


def training(name, **keys):
  config = runs.shrink(runs.load_config('folder', name))
  keys = {'data__eval': 'test', 'data__image_size': 8} | keys
  return runs.override(
    config, data__name=name, model__patch_size=4, optim__lr=0.01, **keys
  )


def test_one_label_per_image(data, tmp_path):
  name = f'table:{data}/single.jsonl'
  runs.run(training(name, total_steps=30), tmp_path / 'run')
  results = json.loads((tmp_path / 'run/results.json').read_text())
  assert results['metrics']['test/accuracy'] == 1
  assert results['class_names'] == ['blue', 'red']

  several = f'table:{data}/several.tsv,root={data}/images'
  predict = runs.load_config('predict', several)
  predict.init_from = str(tmp_path / 'run')
  main.run(predict, tmp_path / 'predicted')
  lines = (tmp_path / 'predicted/predictions.jsonl').read_text().splitlines()
  assert len(lines) == 40
  for i, line in enumerate(map(json.loads, lines)):
    assert line['example'] == f'{data}/images/{i}.png'
    assert line['top'][0]['class'] == ('red' if i % 2 else 'blue')


def test_several_labels_per_image(data, tmp_path):
  name = f'table:{data}/several.tsv,root={data}/images'
  with pytest.raises(ValueError, match="several labels each.*loss='sigmoid'"):
    main.run(training(name), tmp_path / 'softmax')
  runs.run(training(name, loss='sigmoid'), tmp_path / 'run')
  results = json.loads((tmp_path / 'run/results.json').read_text())
  assert results['class_names'] == ['blue', 'even', 'red']
  assert 0 < results['metrics']['test/mean_average_precision'] <= 1
  assert results['multi_label']
