"""Prediction end to end, on a model of photos and what users hand it."""

import json
import os
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

import runs
from vit_jax import checkpoints, main
from vit_jax.data import class_names

IN_PYTHON = """
import json, sys
import vit_jax
assert not {'jax', 'tensorflow'} & set(sys.modules)
for path in sys.argv[1:]:
  model = vit_jax.load(path)
  (prediction,) = model.predict('photo.png')
  print(json.dumps(prediction.top))
"""
COLOURS = {'blue': (0, 0, 255), 'green': (0, 255, 0), 'red': (255, 0, 0)}


def write_photo(path, colour, orientation=1, size=(40, 24)):
  """A photo whose upper left quarter is white, once it is turned upright."""
  pixels = np.full((size[1], size[0], 3), colour, np.uint8)
  pixels[: size[1] // 2, : size[0] // 2] = 255
  image = Image.fromarray(pixels)
  if orientation == 6:  # Has to be turned clockwise by a quarter.
    image = image.transpose(Image.Transpose.ROTATE_90)
  exif = Image.Exif()
  exif[0x0112] = orientation
  path.parent.mkdir(parents=True, exist_ok=True)
  image.save(path, exif=exif)


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
  folder = tmp_path_factory.mktemp('photos')
  for name, colour in COLOURS.items():
    for i in range(10):
      write_photo(folder / name / f'{name}{i}.png', np.array(colour) // (1 + i))
  return folder


@pytest.fixture(scope='module')
def trained(photos, tmp_path_factory):
  """A run on the photos."""
  workdir = tmp_path_factory.mktemp('trained')
  config = runs.override(
    runs.shrink(runs.load_config('folder', str(photos))),
    data__name=f'folder:{photos}',
    data__eval='test',
    data__image_size=16,
    data__eval_crop='center',  # Which prediction follows.
    model__patch_size=8,
    total_steps=40,
    optim__lr=0.01,
    optim__ema_decay=0.0,
  )
  runs.run(config, workdir)
  return workdir


def predicted(config, workdir):
  main.run(config, workdir)
  lines = (workdir / 'predictions.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


def prediction(trained, *paths, **values):
  config = runs.load_config('predict', ','.join(map(str, paths)))
  values = {'init_from': str(trained / 'final.npz')} | values
  return runs.override(config, **values)


def test_test_images_are_predicted_as_the_run_did(trained, photos, tmp_path):
  path = trained / 'predictions_test.jsonl'
  expected = {
    line['example']: line
    for line in map(json.loads, path.read_text().splitlines())
  }
  lines = predicted(prediction(trained, photos, batch_size=7), tmp_path)
  assert [line['example'] for line in lines] == sorted(
    str(path) for path in photos.glob('*/*.png')
  )
  assert len(expected) == 6
  for line in lines:
    assert {top['class'] for top in line['top']} == set(COLOURS)
    probabilities = [top['probability'] for top in line['top']]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1, abs=2e-4)
    if run := expected.get(line['example']):
      assert line['top'][0]['class'] == run['predicted']
      assert line['top'][0]['probability'] == pytest.approx(
        run['probability'], abs=2e-4
      )
  right = [line['top'][0]['class'] in line['example'] for line in lines]
  assert np.mean(right) > 0.9


def test_orientation_is_honored(trained, tmp_path):
  write_photo(tmp_path / 'photos' / 'a.png', (0, 0, 99))
  write_photo(tmp_path / 'photos' / 'b.png', (0, 0, 99), orientation=6)
  Image.open(tmp_path / 'photos' / 'b.png').save(tmp_path / 'turned.png')
  config = prediction(trained, tmp_path / 'photos', tmp_path / 'turned.png')
  upright, turned, not_turned = predicted(config, tmp_path / 'run')
  assert turned['top'] == upright['top']
  assert not_turned['top'] != upright['top']


def test_a_name_that_is_not_utf8_is_shown_escaped(trained, tmp_path):
  write_photo(tmp_path / 'photos' / 'a.png', (0, 0, 99))
  name = os.fsencode(tmp_path / 'photos') + b'/caf\xe9.png'
  os.rename(tmp_path / 'photos' / 'a.png', name)
  (line,) = predicted(
    prediction(trained, tmp_path / 'photos'), tmp_path / 'run'
  )
  assert line['example'] == rf'{tmp_path}/photos/caf\xe9.png'
  assert len(line['top']) == 3


def test_printed_lines(trained, photos, tmp_path, capsys):
  path = photos / 'red' / 'red1.png'
  config = prediction(trained, path, predict__top=2)
  (line,) = predicted(config, tmp_path)
  first, second = line['top']
  assert capsys.readouterr().out == (
    f'{path}: {first["class"]} {first["probability"]:.4f},'
    f' {second["class"]} {second["probability"]:.4f}\n'
  )


def test_unreadable_files_are_named_and_others_go_on(
  trained, photos, tmp_path, caplog
):
  bad = tmp_path / 'bad'
  bad.mkdir()
  (bad / 'text.jpg').write_text('words')
  (bad / 'void.png').touch()
  (bad / 'cut.png').write_bytes((photos / 'red' / 'red1.png').read_bytes()[:60])
  config = prediction(trained, bad, photos / 'red', batch_size=4)
  lines = predicted(config, tmp_path / 'run')
  assert len(lines) == 13
  for line in lines:
    assert ('error' in line) == line['example'].startswith(str(bad))
    assert ('top' in line) != ('error' in line)
  assert '3 of 13 files could not be read' in caplog.text
  assert f'{bad}/void.png' in caplog.text
  config = prediction(trained, bad)
  with pytest.raises(ValueError, match='no file can be .* first of 3 is'):
    main.run(config, tmp_path / 'run')


@pytest.mark.parametrize(
  ('content', 'expected'),
  [
    ('sea\nmoss, dark\n\nrose\n', ('sea', 'moss, dark', 'rose')),
    ('["sea", "moss", "rose"]', ('sea', 'moss', 'rose')),
    ('{"2": "rose", "0": "sea", "1": "moss"}', ('sea', 'moss', 'rose')),
    (
      '{"0": ["n1", "sea"], "1": ["n2", "moss"], "2": ["n3", "rose"]}',
      ('sea', 'moss', 'rose'),
    ),
  ],
)
def test_names_from_a_file(trained, photos, tmp_path, content, expected):
  file = tmp_path / 'names'
  file.write_text(content)
  config = prediction(trained, photos / 'red', predict__class_names=str(file))
  for line in predicted(config, tmp_path / 'run'):
    assert {top['class'] for top in line['top']} == set(expected)
  assert class_names.read(str(file), '') == expected


IMAGENET = runs.SHARED / 'data' / 'imagenet_class_index.json'


@pytest.mark.skipif(not IMAGENET.exists(), reason='needs the class index')
def test_names_of_imagenet():
  names = class_names.read(str(IMAGENET), '')
  assert len(names) == 1000
  assert names[:2] == ('tench', 'goldfish')


@pytest.mark.parametrize(
  ('content', 'message'),
  [
    ('one\ntwo\n', '2 class names .* has 3 classes'),
    ('["one", "two"]', '2 class names .* has 3 classes'),
    ('{"1": "a", "2": "b", "3": "c"}', 'nor .*KeyError'),
    ('["one", 2, "three"]', 'neither a JSON list of names'),
    ('["one", ', 'neither a JSON list of names'),
    (None, 'there is no file'),
  ],
)
def test_other_names_are_refused(trained, photos, tmp_path, content, message):
  file = tmp_path / 'names'
  if content is not None:
    file.write_text(content)
  config = prediction(trained, photos, predict__class_names=str(file))
  with pytest.raises(ValueError, match=message):
    main.run(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'predict__paths': ''}, 'predict.paths is empty'),
    ({'predict__paths': '/no.jpg'}, "'/no.jpg' does not exist"),
    ({'init_from': ''}, 'the job predict needs a trained model'),
    ({'predict__top': 0}, r'predict.top=0 is outside \[1'),
  ],
)
def test_what_cannot_be_is_refused(trained, photos, tmp_path, values, message):
  config = prediction(trained, photos, **values)
  with pytest.raises(ValueError, match=message):
    main.run(config, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_again_with_other_photos_but_not_over_a_training_run(
  trained, photos, tmp_path
):
  for colour in COLOURS:
    lines = predicted(prediction(trained, photos / colour), tmp_path)
    assert len(lines) == 10
  with pytest.raises(ValueError, match="a run of the job 'pretrain', not of"):
    main.run(prediction(trained, photos), trained)


def test_the_same_in_python_in_a_fresh_process(trained, tmp_path):
  """Model, preprocessing and names come with every kind of file."""
  pytest.importorskip('safetensors')
  params, found = checkpoints.load_with_description(trained / 'final.npz')
  settings = {
    name: getattr(found, name)
    for name in ('gelu', 'norm_eps', 'class_names', 'evaluation')
  }
  checkpoints.export(params, tmp_path / 'timm.safetensors', **settings)
  folder = tmp_path / 'huggingface'
  checkpoints.export(params, folder, format='huggingface', **settings)
  write_photo(tmp_path / 'photo.png', (0, 50, 99), orientation=6)
  (line,) = predicted(
    prediction(trained, tmp_path / 'photo.png'), tmp_path / 'run'
  )
  expected = [[top['class'], top['probability']] for top in line['top']]
  paths = [trained, trained / 'final.npz', 'timm.safetensors', folder]
  done = subprocess.run(
    [sys.executable, '-c', IN_PYTHON, *map(str, paths)],
    cwd=tmp_path,
    env=os.environ | {'PYTHONPATH': str(runs.ROOT)},
    stdout=subprocess.PIPE,
    check=True,
  )
  lines = done.stdout.splitlines()
  assert len(lines) == len(paths)
  for path, top in zip(paths, map(json.loads, lines), strict=True):
    rounded = [[name, round(probability, 4)] for name, probability in top]
    assert rounded == expected, path


def test_command_line(trained, photos, tmp_path):
  log = runs.finish(
    f'--config=configs/predict.py:{photos}/blue,{photos}/red/red1.png',
    f'--config.init_from={trained}',
    f'--workdir={tmp_path}',
  )
  assert f'{tmp_path}/predictions.jsonl; predictions: 11' in log
