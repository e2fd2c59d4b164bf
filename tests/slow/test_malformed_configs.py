"""Malformed command lines and configs end in a result or in one error line.

Every one runs the real command line, in a forked process with a limit of time
and memory; some also in a new process. Several hundred of them take minutes, so
they run when they are asked for:

  python -m pytest -s -o addopts= tests/slow/test_malformed_configs.py
"""

import collections
import json
import math
import os
import pathlib
import subprocess
import sys

import pytest

import runs
from vit_jax.config import KEYS

SECONDS = 60
MEBIBYTES = 4096
DIGITS = (
  '--config=configs/digits.py',
  '--config.report.page=false',
  '--config.total_steps=2',
  '--config.batch_size=8',
  '--config.data.eval=test[:16]',
  '--config.model.depth=1',
  '--config.model.width=16',
  '--config.model.mlp_dim=16',
  '--config.model.heads=2',
  '--config.optim.warmup_steps=1',
)
LONG = 'x' * 5000


def unknown_keys():
  for key in (
    *('sed', 'batchsize', 'BATCH_SIZE', 'model', 'model.', 'model.nam'),
    *('optim.lr.x', '.seed', 'seed.', '..', 'model..name', 'config.seed'),
    *('__class__', 'modèle.name', 'a' * 300, 'optim-lr', 'optim lr'),
  ):
    yield f'--config.{key}=1'
  yield '--config.batch_size[0]=1'
  yield '--config.optim.boundaries[0]=1'
  yield '--config.=1'
  yield '-config.sed=1'
  yield '-config.batch_size[0]=1'
  yield '--noconfig.seed'
  yield '--noconfig.nothing'


WRONG = {
  int: ('many', '1.5', '', '1e3', '0x10', 'nan', 'None', '[1]', '1 2'),
  float: ('many', '', '1,5', 'None', '[1]', 'true'),
  bool: ('maybe', '', '2', 'None', '1.0'),
}
WRONG_FORMS = {
  'axes': ('x', 'a=1', 'optim.lr=', 'optim.lr=x', 'seed=1|x', '=1', 'seed|1'),
  'setting': ('x', 'a=1', 'optim.lr=x', '=1', 'seed', 'seed=1;mixup=0.1'),
  'settings': ('x', 'a=1', 'optim.lr=x', ';x;', 'seed=1 x'),
  'points': ('A: x', 'A: a=1', 'A: seed=x', 'A: seed=1; A: seed=2', ': seed=1'),
  'factors': ('x', 'a=', '=1', 'a=x', 'a=1,b', 'a=-1', 'a=1e999', '[=1'),
}


def wrong_types():
  for name, key in KEYS.items():
    if key.form:
      values = WRONG_FORMS[key.form]
    elif key.type is tuple and key.items is not str:
      values = ('x', '1,x', '1;2', '(1,2)', '1 2')
    else:
      values = WRONG.get(key.type, ())
    for value in values:
      yield f'--config.{name}={value}'
    if key.choices:
      yield f'--config.{name}=nonsense'


def out_of_range():
  for name, key in KEYS.items():
    if key.type in (int, float) and key.low > -math.inf:
      yield f'--config.{name}={key.low - 1:g}'
    if key.type in (int, float) and key.high < math.inf:
      yield f'--config.{name}={int(key.high) + 1}'
    if key.type is float:
      yield f'--config.{name}=nan'
      yield f'--config.{name}=inf'
      yield f'--config.{name}=1e999'
    if key.type is int:
      yield f'--config.{name}={10**30}'


# Keys that a training run on digits reads.
_OTHER_JOBS = (
  *('masked_patch', 'sweep', 'vtab', 'study', 'data_study', 'plan', 'predict'),
  *('inference', 'prepare', 'evaluate', 'interpolate', 'inspect', 'dedup'),
)
_EXTREME = {int: (10**9, 2**31), float: (1e30, 1e-30)}
_STRINGS = ('nothing', '../..', '$(id)', 'é🦄', '\x1b[31m', '(', LONG)


def extreme_values():
  for name, key in KEYS.items():
    if name.split('.')[0] in _OTHER_JOBS or key.form:
      continue
    if name == 'total_steps':
      continue  # A run that takes years is a right one.
    values = _EXTREME.get(key.type, ())
    if key.type is str and not key.choices and name != 'job':
      values = _STRINGS[: 3 if name.startswith('distributed') else None]
    if key.type is tuple:
      values = ('nothing',) if key.items is str else (10**9, -1, '0,0,0,0')
    for value in values:
      yield f'--config.{name}={value}'


COMBINATIONS = (
  'total_epochs=0 & total_steps=0',
  'total_steps=5 & optim.warmup_steps=5',
  'optim.schedule=steps',
  'optim.schedule=steps & optim.boundaries=2,1',
  'optim.schedule=steps & optim.boundaries=-1',
  'optim.name=sgd & optim.lr=1e30',
  'optim.accumulate=3',
  'optim.accumulate=16',
  'optim.freeze=(a+)+$',
  'optim.freeze=[',
  'optim.freeze=.*',
  'optim.lr_factors=nothing=2',
  'optim.lr_factors=.*=2,head/.*=1',
  'optim.lr_factors=(a+)+$=2',
  'model.name=R50x1 & optim.layer_decay=0.5',
  'model.heads=3',
  'model.width=15',
  'model.width=18 & model.positions=2d',
  'model.positions=relative & model.positions_at=every_layer',
  'model.name=ViT-B/0',
  'model.name=ViT-B/-16',
  'model.name=ViT-B/999999999999',
  'model.name=R50x0',
  'model.name=R50x1 & model.positions=2d',
  'model.name=R50+ViT-B/3',
  'model.name=R50x1 & model.stage_depths=0,0,0,0',
  'model.name=R50x1 & model.stage_depths=1,1,1,1,1,1,1,1',
  'model.name=R50x1 & model.width_factor=0.3',
  'data.image_size=7',
  'data.image_size=1',
  'data.image_width=9',
  'data.trim_px=4',
  'data.trim_px=1000',
  'data.crop=random & data.precrop_size=3',
  'data.eval_crop=center & data.precrop_size=3',
  'data.train=test[:0]',
  'data.train=train[90%:10%]',
  'data.train=train[:200%]',
  'data.train=train[999999:]',
  'data.train=train[',
  'data.train=train+nothing',
  'data.eval=',
  'data.eval=test,test',
  'data.eval=a=test,a=train',
  'data.eval=../x=test',
  'data.eval=a b=test',
  'data.eval==test',
  'data.eval=train/x=test',
  'data.subset=1000000',
  'data.subset=1',
  'data.readers=3',
  'data.readers=4096',
  'mesh.data=3',
  'mesh.data=-1 & mesh.fsdp=-1',
  'mesh.tensor=0',
  'best_metric=val/accuracy',
  'best_metric=accuracy',
  'profile_steps=5:3',
  'profile_steps=0:999999999999999999999',
  'profile_steps=-1:1',
  'init_head=keep',
  'job=finetune',
  'job=sweep & sweep.grid=job=fly|evaluate',
  'job=sweep & sweep.grid=sweep.grid=x',
  'job=sweep & sweep.job=pretrain & sweep.grid='
  + ' '.join(
    f'optim.{key}=' + '|'.join(f'0.{n}' for n in range(1, 30))
    for key in ('lr', 'b1', 'b2', 'momentum')
  ),
  'job=study & study.points=..: seed=1',
  'job=study & study.points=$: seed=1',
  'job=study & study.points=A: job=study',
  'job=study & study.points=A: model.name=ViT-X/1',
  'job=study & sweep.job=pretrain & study.points=A: seed=1'
  ' & study.metrics=nothing',
  'job=study & sweep.job=pretrain & study.points=A: seed=1'
  ' & study.finetune=nothing',
  'job=study & study.collect=/nowhere',
  'job=data_study & sweep.job=pretrain & study.points=A: seed=1'
  ' & data_study.sizes=-1',
  'job=masked_patch & masked_patch.rate=0',
  'job=masked_patch & model.name=R50x1',
  'job=inference & inference.models=ViT-X/9',
  'job=inference & inference.image_sizes=-1',
  'job=plan & plan.topologies=v99:1',
  'job=plan & plan.topologies=v3:0x0',
  'job=few_shot',
  'few_shot.every=1',
  'few_shot.every=1 & few_shot.datasets=nothing',
  'few_shot.every=1 & few_shot.datasets=digits|x|y',
  'few_shot.every=1 & few_shot.datasets=digits|train|test & few_shot.shots=0',
  'few_shot.every=1 & few_shot.datasets=digits|train|test'
  ' & few_shot.shots=100000',
  'distributed.num_processes=2',
  'distributed.coordinator=x:1',
  'distributed.coordinator=127.0.0.1:1 & distributed.num_processes=1'
  ' & distributed.process_index=5',
)


def impossible_combinations():
  for combination in COMBINATIONS:
    yield tuple(f'--config.{key}' for key in combination.split(' & '))


def broken_paths(folder):
  file = folder / 'file'
  file.write_text('text')
  empty = folder / 'empty'
  empty.mkdir()
  nothing = folder / 'nothing'
  for path in (nothing, file, empty, '/dev/null', '/proc/self/mem', f'/{LONG}'):
    yield DIGITS, f'--config.data.name=folder:{path}'
    yield DIGITS, '--config.job=finetune', f'--config.init_from={path}'
    yield DIGITS, f'--config.data.exclude={path}'
  for path in (nothing, file, empty):
    yield (f'--config=configs/evaluate.py:{path}',)
    yield (f'--config=configs/report.py:{path}',)
    yield (f'--config=configs/predict.py:{path}',)
    yield (f'--config=configs/interpolate.py:{path},{path}',)
    yield (f'--config=configs/inspect_model.py:{path}',)
    yield (f'--config=configs/dedup.py:folder:{path}',)
    yield DIGITS, f'--config.data.dir={path}', '--config.data.name=cifar10'
  yield DIGITS, '--config.data.name=tfds:no_such_builder'
  yield DIGITS, '--config.data.name=vtab:no_such_task'
  yield DIGITS, '--config.data.name='
  for scheme in ('https', 's3', 'ftp', 'x'):
    yield DIGITS, f'--config.init_from={scheme}://a/b.npz'
    yield DIGITS, f'--config.data.dir={scheme}://a/b'
    yield DIGITS, f'--config.data.name=folder:{scheme}://a/b'


def workdirs(folder):
  file = folder / 'no_folder'
  file.write_text('text')
  for path in (
    *(file, file / 'below', '/dev/null', '/proc/nothing', f'/tmp/{LONG}'),
    *('https://a/b', 's3://a/b', 'x://y'),
  ):
    yield DIGITS, f'--workdir={path}'
  for content in ('', '{', '[]', '1', '"x"', 'null', '{"job": 1}', '\udc80'):
    workdir = folder / f'config-{len(list(folder.iterdir()))}'
    workdir.mkdir()
    text = content.encode(errors='surrogateescape')
    (workdir / 'config.json').write_bytes(text)
    yield DIGITS, f'--workdir={workdir}'
  for name in ('results.json', 'metrics.jsonl', 'data.json'):
    for content in ('', '{', '[]', '1', 'null', '{"step": "x"}\n'):
      workdir = folder / f'{name}-{len(list(folder.iterdir()))}'
      workdir.mkdir()
      (workdir / name).write_text(content)
      yield DIGITS, f'--workdir={workdir}'


FILES = {
  'empty': '',
  'no_function': 'x = 1\n',
  'syntax': 'def get_config(:\n',
  'not_utf8': b'\xff\xfe\x00'.decode('latin1'),
  'none': 'def get_config():\n  return None\n',
  'dict': 'def get_config():\n  return {"seed": 1}\n',
  'number': 'def get_config():\n  return 1\n',
  'no_callable': 'get_config = 3\n',
  'too_many': 'def get_config(a, b, c):\n  return a\n',
  'no_import': 'import no_such_module\n',
  'recursion': 'def get_config():\n  return get_config()\n',
  'other_config': (
    'import ml_collections\n'
    'def get_config():\n  return ml_collections.ConfigDict({"seed": 1})\n'
  ),
}
CHANGES = {
  'unknown': 'base(sed=1)',
  'unknown_group': 'base(nothing={})',
  'wrong_type': 'base(seed="x")',
  'set_to_none': 'base(seed=None)',
  'wrong_group': 'base(model=3)',
  'list_for_tuple': 'base(total_steps=2, few_shot={"shots": "x"})',
  'nan': 'base(total_epochs=float("nan"))',
  'huge': 'base(total_steps=10**40)',
  'wrong_form': 'base(sweep={"grid": 3})',
}


def config_files(folder):
  files = dict(FILES)
  for name, call in CHANGES.items():
    files[name] = (
      'from vit_jax import config as config_lib\n'
      f'def get_config():\n  return config_lib.{call}\n'
    )
  for name, text in files.items():
    path = folder / f'{name}.py'
    path.write_text(text, encoding='latin1')
    yield (f'--config={path}',)
    yield f'--config={path}:argument', '--show'
  yield (f'--config={folder}',)
  yield (f'--config={folder / "nothing.py"}',)
  yield ('--config=configs/digits.py:argument',)
  yield ('--config=configs/digits',)
  yield ('--config=digits',)
  yield ('--config=',)
  yield ('--config=:',)
  yield ('--config=/dev/null',)
  yield ('--config=configs/digits.py\n',)
  yield (f'--config={LONG}.py',)
  for argument in ('x', 'ViT-X/1,cifar10', ',', ',,,', 'folder:', LONG):
    for name in ('finetune', 'vit_b16', 'ablation', 'scaling', 'resnet'):
      yield f'--config=configs/{name}.py:{argument}', '--show'


def flags(folder):
  config = '--config=configs/digits.py'
  yield ()
  yield ('--help=maybe',)
  yield ('--show',)
  yield config, '--nothing'
  yield config, '--show=maybe'
  yield config, '--show', 'word'
  yield (*DIGITS, '--verbosity=x')
  yield (*DIGITS, '--flagfile=/nowhere')
  yield (*DIGITS, f'--flagfile={folder}')
  yield (*DIGITS, '--', '--config.seed=1')
  yield config, '--config.seed'
  yield config, '--config'
  yield config, '--workdir=a', '--workdir=b', '--nothing=1'
  yield config, '--config.seed=1', '--config.seed=x'
  yield config, f'--{LONG}'
  yield config, '--xml_output=/nowhere/x'
  yield config, 'configs/digits.py'
  yield ('configs/digits.py',)
  yield config, '---show'
  yield config, '--\udc80'
  yield config, '-show', '-config.seed=x'


@pytest.fixture(scope='module')
def server():
  process = subprocess.Popen(
    [
      sys.executable,
      runs.ROOT / 'tests' / 'slow' / 'command_server.py',
      *map(str, (SECONDS, MEBIBYTES)),
    ],
    cwd=runs.ROOT,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    text=True,
  )
  with process:
    yield process
    process.stdin.close()


def ask(server, arguments):
  server.stdin.write(json.dumps(arguments) + '\n')
  server.stdin.flush()
  return json.loads(server.stdout.readline())


def faults(answer, workdir, arguments):
  """What is wrong with the end of a command line; '' if nothing is."""
  code, log = answer['code'], answer['log']
  if answer['seconds'] > SECONDS:
    return f'took {answer["seconds"]:.0f} s'
  if answer['mebibytes'] > MEBIBYTES:
    return f'took {answer["mebibytes"]} MiB'
  if code not in (0, 1):
    return f'ended with {code}'
  if left := [
    path
    for path in (workdir.rglob('*') if os.path.isdir(workdir) else ())
    if 'tmp' in path.name
  ]:
    return f'left {left}'
  errors = log.count('error: ')
  if code == 0:
    if 'Traceback' in log or log.startswith('error: '):
      return 'succeeded, but logged an error'
    shown = any(flag.startswith('--show') for flag in arguments)
    done = (workdir / 'results.json').exists()
    return '' if shown or done or 'is finished' in log else 'no result'
  if 'Traceback' in log:
    # Errors in the code of the user have one.
    (config, *_) = [a for a in arguments if a.startswith('--config=')] or ['']
    own = config.startswith('--config=/') and '/config_flags.py"' in log
    return '' if own else 'a traceback'
  if '{{' in log or 'allow_pickle' in log:
    return 'the message of a library'
  (*_, last) = log.splitlines() or ['']
  if errors < 1 or not last.startswith('error: '):
    return 'no error line, or more than one line'
  return ''


def flatten(parts):
  for part in parts if isinstance(parts, tuple) else (parts,):
    yield from flatten(part) if isinstance(part, tuple) else (part,)


KINDS = {
  'unknown keys': lambda _: unknown_keys(),
  'wrong types': lambda _: wrong_types(),
  'out of range': lambda _: out_of_range(),
  'extreme values': lambda _: extreme_values(),
  'impossible combinations': lambda _: impossible_combinations(),
  'broken paths': broken_paths,
  'work directories': workdirs,
  'config files': config_files,
  'flags': flags,
}
# Checked without data and model.
SHOWN = ('unknown keys', 'wrong types', 'out of range')
OF_DIGITS = (*SHOWN, 'extreme values', 'impossible combinations')


@pytest.mark.parametrize('kind', KINDS)
def test_ends_in_a_result_or_one_error_line(kind, server, tmp_path):
  found, counts = [], collections.Counter()
  folder = tmp_path / 'inputs'
  folder.mkdir()
  for number, case in enumerate(KINDS[kind](folder)):
    arguments = list(flatten(case))
    if kind in OF_DIGITS:
      arguments = [*DIGITS, *arguments]
    if kind in SHOWN:
      arguments.append('--show')
    given = [a for a in arguments if a.startswith('--workdir=')]
    if not given:
      arguments.append(f'--workdir={tmp_path / str(number)}')
    workdir = pathlib.Path((given or arguments)[-1].partition('=')[2])
    answer = ask(server, arguments)
    counts['results' if answer['code'] == 0 else 'errors'] += 1
    own = [a[:200] for a in arguments if a not in DIGITS]
    if fault := faults(answer, workdir, arguments):
      found.append(f'{fault}: {own}\n{answer["log"][-1500:]}')
    elif kind in SHOWN and answer['code'] == 0:
      found.append(f'accepted: {own}')
    elif kind == 'out of range' and workdir.exists():
      found.append(f'left {workdir}: {own}')
  print(f'\n{kind}: {dict(counts)}, {len(found)} faults', flush=True)
  assert sum(counts.values()) > 15
  assert not found, '\n\n'.join(found)


@pytest.mark.parametrize(
  'arguments',
  [
    (*DIGITS, '--config.sed=1'),
    (*DIGITS, '--config.seed=x', '--show'),
    (*DIGITS, '--config.model.heads=3'),
    (*DIGITS, '--config.data.name=folder:/nowhere'),
    ('--config=configs/nothing.py',),
    (*DIGITS, '--config.log_every=1000000000'),
  ],
)
def test_a_new_process_ends_in_the_same_way(arguments, server, tmp_path):
  answers = []
  for name in ('forked', 'new'):
    workdir = tmp_path / name
    command = [*arguments, f'--workdir={workdir}']
    if name == 'forked':
      answer = ask(server, command)
      answers.append((answer['code'], answer['log']))
    else:
      process = runs.start(*command)
      _, log = process.communicate(timeout=SECONDS)
      answers.append((process.returncode, log))
    assert workdir.exists() == (answers[-1][0] == 0)
  (one, first), (two, second) = answers
  assert one == two
  if one:
    assert first.splitlines()[-1] == second.splitlines()[-1]
