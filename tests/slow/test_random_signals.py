"""Runs that get signals at random moments end like an undisturbed one.

Several dozen programs start here, one after another, so it runs when it is
asked for; RANDOM_SEED repeats the moments of an earlier time:

  python -m pytest -s -o addopts= tests/slow/test_random_signals.py
"""

import collections
import os
import random
import signal
import time

import numpy as np
from PIL import Image
import pytest

import runs

COUNTS = {signal.SIGKILL: 30, signal.SIGTERM: 10, signal.SIGINT: 10}
SEED = int(os.environ.get('RANDOM_SEED', time.time()))
TINY = (
  '--config.batch_size=16',
  '--config.model.depth=1',
  '--config.model.width=16',
  '--config.model.mlp_dim=32',
  '--config.model.dropout=0.1',
  '--config.optim.warmup_steps=10',
)
ARGUMENTS = (
  '--config=configs/digits.py',
  '--config.total_steps=800',
  '--config.log_every=10',
  '--config.eval_every=200',
  '--config.checkpoint_every=50',
  '--config.best_metric=test/accuracy',
  '--config.optim.accumulate=2',
  '--config.optim.ema_decay=0.9',
  *TINY,
)
STARTED = 0.2  # Seconds until Python has started and runs our first line.


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory):
  """An undisturbed run, and how many seconds it took."""
  workdir = tmp_path_factory.mktemp('undisturbed')
  # The first start compiles for all others.
  runs.finish(*ARGUMENTS, f'--workdir={workdir / "first"}')
  begin = time.monotonic()
  runs.finish(*ARGUMENTS, f'--workdir={workdir / "second"}')
  seconds = time.monotonic() - begin
  assert_same_end(workdir / 'second', workdir / 'first')
  return workdir / 'first', seconds


def assert_same_end(workdir, other):
  assert runs.events(workdir) == runs.events(other)
  for name in ('final.npz', 'best.npz'):
    ours, theirs = np.load(workdir / name), np.load(other / name)
    assert sorted(ours.files) == sorted(theirs.files)
    for parameter in theirs.files:
      np.testing.assert_array_equal(ours[parameter], theirs[parameter])
  name = 'predictions_test.jsonl'
  assert (workdir / name).read_text() == (other / name).read_text()


def disturb(number, seconds, *arguments):
  """Starts a program and sends a signal.

  Returns:
    Its log, and whether it was still running.
  """
  process = runs.start(*arguments)
  try:
    process.communicate(timeout=seconds)
  except runs.subprocess.TimeoutExpired:
    process.send_signal(number)
    _, log = process.communicate(timeout=120)
    return log, check(number, process.returncode, log)
  assert process.returncode == 0
  return '', False


def check(number, code, log):
  """Checks how a program ends; returns whether the signal ended it."""
  if number == signal.SIGKILL:
    return code == -signal.SIGKILL
  assert 'Traceback' not in log, log
  saved = log.count('; the same command resumes')
  if number == signal.SIGTERM:
    assert code in ((0,) if saved else (0, -signal.SIGTERM)), log
    return bool(saved) or code != 0
  if code in (0, -signal.SIGINT):  # It had ended, or Python was shutting down.
    return False
  assert code == 130, log
  assert log.count('interrupted; to continue, type: ') == 1, log
  assert log.splitlines()[-1].startswith('interrupted; '), log
  return True


def phase(log):
  """Returns what the program was doing, from the last line of its log."""
  last = {'': 'imports'}
  for part, name in {
    'job pretrain': 'data',
    'parameters:': 'restore',
    'compiling the training step ...': 'compile',
    'compiling the training step took': 'train',
    'predictions_test.jsonl': 'results',
  }.items():
    if part in log:
      last = {part: name}
  return next(iter(last.values()))


def test_runs_end_like_an_undisturbed_one(undisturbed, tmp_path):
  other, seconds = undisturbed
  draw = random.Random(SEED)
  print(f'\nRANDOM_SEED={SEED}; an undisturbed run takes {seconds:.1f} s')
  numbers = [number for number, n in COUNTS.items() for _ in range(n)]
  draw.shuffle(numbers)
  sent, phases, finished = collections.Counter(), collections.Counter(), 0
  while numbers:
    workdir = tmp_path / f'run-{finished}'
    arguments = (*ARGUMENTS, f'--workdir={workdir}')
    # A run gets at most six signals, and then comes to its end.
    for _ in range(6):
      if not numbers:
        break
      moment = draw.uniform(STARTED, seconds)
      log, was_sent = disturb(numbers[-1], moment, *arguments)
      if not was_sent:
        break  # The run has finished.
      number = numbers.pop()
      sent[number.name] += 1
      phases[phase(log)] += 1
    runs.finish(*arguments)
    assert_same_end(workdir, other)
    finished += 1
    print(f'{finished} runs bit-equal; signals: {dict(sent)}', flush=True)
  print(f'moments: {dict(phases)}')
  assert sent == {number.name: n for number, n in COUNTS.items()}


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
  folder = tmp_path_factory.mktemp('photos')
  for i in range(200):
    path = folder / 'ab'[i % 2] / f'{i}.png'
    path.parent.mkdir(exist_ok=True)
    Image.new('RGB', (300, 300), (i, 255 - i, i // 2)).save(path)
  return folder


def test_ctrl_c_in_other_jobs_is_one_line(undisturbed, photos, tmp_path):
  run, _ = undisturbed
  points = 'a: model.name=ViT-Ti/2; b: model.name=ViT-Ti/4'
  jobs = {
    'show': ('--config=configs/digits.py', '--show'),
    'evaluate': (f'--config=configs/evaluate.py:{run}',),
    'few_shot': (f'--config=configs/few_shot.py:{run}',),
    'inspect_model': (f'--config=configs/inspect_model.py:{run}',),
    'predict': (
      f'--config=configs/predict.py:{photos}',
      f'--config.init_from={run}/final.npz',
    ),
    'study': (
      '--config=configs/ablation.py:pooling,digits',
      f'--config.study.points={points}',
      '--config.model.heads=2',
      '--config.total_epochs=0',
      '--config.total_steps=100',
      '--config.data.image_size=8',
      '--config.data.eval=test',
      *TINY,
    ),
    'dedup': (
      f'--config=configs/dedup.py:folder:{photos}',
      f'--config.dedup.against=folder:{photos}=test',
    ),
  }
  draw = random.Random(SEED)
  print(f'\nRANDOM_SEED={SEED}')
  for name, arguments in jobs.items():
    moments = [draw.uniform(STARTED, 15) for _ in range(4)]
    arguments = (*arguments, f'--workdir={tmp_path / name}')
    ends = [disturb(signal.SIGINT, moment, *arguments) for moment in moments]
    ended = sum(sent for _, sent in ends)
    print(f'{name}: {ended} of {len(moments)} interrupted', flush=True)
