"""De-duplication end to end, and training on the remaining examples."""

import json
import logging

import numpy as np
from PIL import Image
import pytest

from planted import COPIES, photo
import runs
from vit_jax import build, main
from vit_jax import config as config_lib
from vit_jax.data import registry


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  """40 training photos; six are copies of the 12 test photos."""
  folder = tmp_path_factory.mktemp('data')
  for i in range(34):
    save(photo(100 + i), folder / 'train' / 'ab'[i % 2] / f'{i}.png')
  for i in range(12):
    save(photo(i), folder / 'test' / 'ab'[i % 2] / f'{i}.png')
  for i, kind in enumerate(list(COPIES)[:6]):
    copy = COPIES[kind](photo(i))
    save(copy, folder / 'train' / 'b' / f'copy_of_{i}.png')
  return folder


def save(image, path):
  path.parent.mkdir(parents=True, exist_ok=True)
  image.save(path)


def config(data, **values):
  return runs.override(
    runs.load_config('dedup', f'folder:{data}'),
    **{
      'dedup__against': f'folder:{data}=test[:6],folder:{data}=test[6:]',
      'batch_size': 8,
      **values,
    },
  )


def expected(data):
  """Yields each copy, the split of its original, and its original."""
  parts = {
    f'folder:{data}={split}': registry.open_source(f'folder:{data}', split)
    for split in ('test[:6]', 'test[6:]')
  }
  where = {
    part.stable_id(i): name
    for name, part in parts.items()
    for i in range(part.num_examples)
  }
  for i in range(6):
    original = f'test/{"ab"[i % 2]}/{i}.png'
    yield f'train/b/copy_of_{i}.png', where[original], original


def test_copies_are_listed_drawn_and_excluded(data, tmp_path, capsys):
  results = runs.run(config(data), tmp_path)
  assert results['num_duplicates'] == 6
  lines = (tmp_path / 'pairs.jsonl').read_text().splitlines()
  pairs = [json.loads(line) for line in lines]
  assert {
    (pair['example'], pair['against'], pair['test_example']) for pair in pairs
  } == set(expected(data))
  listed = json.loads((tmp_path / 'exclude.json').read_text())
  assert listed == {
    'data': f'folder:{data}',
    'split': 'train',
    'examples': [pair['example'] for pair in pairs],
  }
  with Image.open(tmp_path / 'pairs.png') as sheet:
    # The least similar pair is first; both of its images are the same photo.
    pixels = np.asarray(sheet.convert('RGB'), float)
  assert pixels[:128].std() > 10
  out = capsys.readouterr().out
  assert f'folder:{data}=test[:6]' in out

  rest = registry.open_source(
    f'folder:{data}', 'train', exclude=str(tmp_path / 'exclude.json')
  )
  names = [rest.stable_id(i) for i in range(rest.num_examples)]
  assert len(names) == 34
  assert not any('copy' in name for name in names)


def test_interrupted_run_resumes(data, tmp_path, caplog):
  caplog.set_level(logging.INFO, logger='vit_jax')
  runs.run(config(data), tmp_path)
  files = ('found.jsonl', 'pairs.jsonl', 'exclude.json', 'pairs.png')
  whole = {name: (tmp_path / name).read_bytes() for name in files}
  lines = whole['found.jsonl'].splitlines(keepends=True)
  assert len(lines) == 5
  for kept in (b''.join(lines[:2]) + lines[2][:1], b''.join(lines)):
    for name in ('results.json', *files[1:]):
      (tmp_path / name).unlink()
    (tmp_path / 'found.jsonl').write_bytes(kept)
    caplog.clear()
    runs.run(config(data), tmp_path)
    done = 8 * sum(line.endswith(b'\n') for line in kept.splitlines(True))
    assert f'resuming from example {done}' in caplog.text
    assert {name: (tmp_path / name).read_bytes() for name in files} == whole
  caplog.clear()
  runs.run(config(data), tmp_path)
  assert 'is finished' in caplog.text
  with pytest.raises(ValueError, match='dedup.threshold: 0.92 -> 0.9'):
    main.run(config(data, dedup__threshold=0.9), tmp_path)


def test_epochs_count_the_remaining_examples(data, tmp_path):
  runs.run(config(data), tmp_path)
  training = runs.override(
    runs.load_config('folder', str(data)),
    data__exclude=str(tmp_path / 'exclude.json'),
    total_steps=0,
    total_epochs=1.0,
    batch_size=17,
  )
  train = build.open_data(training).train
  assert train.num_examples == 34
  assert config_lib.total_steps(training, train.num_examples) == 2


def test_no_duplicates(data, tmp_path):
  values = {'dedup__against': 'digits=test[:9]', 'data__train': 'train[:5]'}
  results = runs.run(config(data, **values), tmp_path)
  assert results['num_duplicates'] == 0
  assert json.loads((tmp_path / 'exclude.json').read_text())['examples'] == []


def test_missing_test_sets_are_left_out_if_asked(data, tmp_path, caplog):
  values = {
    'dedup__against': 'digits=test[:9],cifar10=test',
    'data__train': 'train[:5]',
    'data__dir': str(tmp_path / 'tfds'),
    'dedup__skip_missing': False,
  }
  with pytest.raises(ValueError, match='cifar10: no prepared data in'):
    main.run(config(data, **values), tmp_path / 'run')
  values['dedup__skip_missing'] = True
  results = runs.run(config(data, **values), tmp_path / 'run')
  assert results['missing'] == ['cifar10=test']
  assert results['num_test_images'] == 9
  assert 'because they are not prepared: cifar10=test' in caplog.text
  values['dedup__against'] = 'cifar10=test'
  with pytest.raises(ValueError, match='none of the test sets .* is prepared'):
    main.run(config(data, **values), tmp_path / 'other')


def test_all_test_sets_of_the_paper_are_searched_for_by_default():
  against = runs.load_config('dedup').dedup.against
  assert against[:2] == ('imagenet2012=validation', 'cifar10=test')
  # Of the 19 tasks of VTAB, two each share CLEVR, dSprites and SmallNORB.
  assert len(set(against)) == len(against) == 2 + 16
  for task in ('cifar100', 'oxford_iiit_pet', 'oxford_flowers102', 'svhn'):
    assert f'vtab:{task}=test' in against


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'dedup__against': ''}, r'expected DATASET=SPLIT'),
    ({'dedup__against': 'digits'}, r'expected DATASET=SPLIT.*digits'),
    ({'dedup__against': 'digits=nowhere'}, "no split 'nowhere'"),
    ({'dedup__threshold': 0.1}, r'dedup.threshold=0.1 is outside \[0.5'),
  ],
)
def test_mistakes_are_explained(data, tmp_path, values, message):
  with pytest.raises(ValueError, match=message):
    main.run(config(data, **values), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()
