"""The command line as a user meets it: configs, overrides, bad input."""

import json
import os
import shutil
import subprocess
import sys

import jax
import numpy as np
from PIL import Image
import pytest

import official_files
import runs
from vit_jax import build, checkpoints, jobs, main
from vit_jax import config as config_lib
from vit_jax.build import summary
from vit_jax.models import flops

# Jobs on TFDS data or finished runs have tests of their own.
WITHOUT_DIGITS = {'prepare', 'report', 'vtab'}
CONFIGS = sorted(
  {path.stem for path in runs.CONFIGS.glob('*.py')} - WITHOUT_DIGITS
)


@pytest.fixture(scope='module')
def pretrained(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('pretrained')
  runs.run(runs.shrink(runs.load_config('digits')), workdir)
  return workdir


@pytest.mark.parametrize('name', CONFIGS)
def test_every_config_runs_in_miniature(name, pretrained, tmp_path):
  config = runs.shrink(runs.load_config(name))
  if config.job == 'plan':
    pytest.importorskip('libtpu')
  elif config.job not in ('pretrain', 'masked_patch', 'study', 'data_study'):
    runs.start_from(config, pretrained)
  if config.job == 'predict':
    config.predict.paths = (str(tmp_path / 'photo.png'),)
    Image.new('RGB', (8, 8)).save(config.predict.paths[0])
  results = runs.run(config, tmp_path)
  assert results['job'] == config.job
  if config.job not in ('pretrain', 'finetune', 'masked_patch'):
    return
  assert results['step'] == 2
  assert 0 <= results['metrics']['test/accuracy'] <= 1
  assert results['device_count'] == 1
  assert results['core_days'] == results['seconds'] / 86400
  params = checkpoints.load(tmp_path / 'final.npz')
  head, outputs = 'head', 10
  if config.job == 'masked_patch':
    head, outputs = 'patch_head', 512
  assert params[head]['kernel'].shape[-1] == outputs
  if name == 'augreg':
    released = official_files.augreg_shapes(
      outputs, patches=16, patch_size=16, **runs.SMALL
    )
    file = np.load(tmp_path / 'final.npz')
    assert {key: file[key].shape for key in file} == released
  assert list(tmp_path.glob('events.out.tfevents.*'))


# Beside the default arguments, those of other forms.
ARGUMENTS = (
  ('ablation', 'shape,digits'),
  ('data_study', 'figure3'),
  ('evaluate', ',objectnet:/nowhere'),
  ('export', 'vit:B/16,onnx'),
  ('finetune', 'ViT-L/16,imagenet2012,table2'),
  ('folder', '/nowhere'),
  ('inference', 'ViT-B/32'),
  ('masked_patch', 'imagenet2012'),
  ('scaling', 'folder:/nowhere'),
  ('sweep', 'R50x1,cifar10'),
)


@pytest.mark.parametrize(
  ('name', 'arguments'),
  [
    *((path.stem, ()) for path in sorted(runs.CONFIGS.glob('*.py'))),
    *((name, (argument,)) for name, argument in ARGUMENTS),
  ],
)
def test_every_config_is_shown_without_data(name, arguments):
  config = runs.load_config(name, *arguments)
  job = jobs.JOBS[config.job]
  lines = summary.describe(
    config,
    'runs/x',
    has_model=job.has_model,
    reads_weights=job.reads_weights,
  )
  text = '\n'.join(lines)
  assert ('\nweights: ' in text) == job.reads_weights
  assert text.startswith(f'job {config.job}, work directory runs/x\n')
  assert ('model' in text.splitlines()[-1]) == job.has_model
  assert ('steps:' in text) == bool(config.total_steps or config.total_epochs)


def test_counts_are_those_of_the_model_that_trains():
  config = runs.load_config('digits')
  model = build.create_model(config, num_classes=10)
  operations = flops.forward(model, (8, 8))
  params = jax.eval_shape(
    lambda: build.initial_params(model, (8, 8), np.uint32(0))
  )
  parameters = sum(x.size for x in jax.tree.leaves(params))
  (*_, line) = summary.describe(config, 'runs/x')
  assert line == (
    f'model: ViT-Ti/2, {parameters:,} parameters, {operations / 1e9:.3f}'
    ' GFLOPs per image of 8x8 px'
  )


def test_every_job_has_its_function():
  for name, job in jobs.JOBS.items():
    assert callable(getattr(job.module, job.function)), name


def test_compiled_programs_are_kept_in_the_cache_of_the_user(
  monkeypatch, tmp_path, caplog
):
  def folder(text=''):
    with main._compilation_cache(text):
      return jax.config.jax_compilation_cache_dir

  given = jax.config.jax_compilation_cache_dir
  assert folder() == folder('none') == given  # That of tests/conftest.py.
  jax.config.update('jax_compilation_cache_dir', None)
  try:
    monkeypatch.setenv('VIT_JAX_CACHE', str(tmp_path))
    assert folder() == str(tmp_path / 'compiled')
    assert folder(str(tmp_path / 'other')) == str(tmp_path / 'other')
    assert folder('none') is None
    (tmp_path / 'file').touch()
    assert folder(str(tmp_path / 'file')) is None
    (record,) = caplog.records
    assert 'set compilation_cache to another folder' in record.getMessage()
    # Each process would have its own programs.
    monkeypatch.setattr(main.processes, 'is_multiprocess', lambda: True)
    assert folder() is None
    assert folder(str(tmp_path / 'other')) == str(tmp_path / 'other')
  finally:
    jax.config.update('jax_compilation_cache_dir', given)


# Their imports take seconds; jobs import them when they need them.
HEAVY = (
  'faiss',
  'jinja2',
  'keras',
  'matplotlib',
  'pandas',
  'scipy',
  'sklearn',
  'tensorflow',
  'tensorflow_datasets',
  'torch',
  'vit_jax.jobs.train',
  'vit_jax.page',
)


def test_show_needs_no_heavy_imports_and_no_devices(tmp_path):
  command = [
    'vit_jax.main',
    '--config=configs/vit_l16.py:imagenet2012',
    '--show',
    f'--workdir={tmp_path / "run"}',
  ]
  code = (
    'import runpy, sys, atexit\n'
    f'loaded = lambda: print({{*{HEAVY}}} & {{*sys.modules}})\n'
    'atexit.register(loaded)\n'
    f'sys.argv = {command!r}\n'
    'runpy.run_module("vit_jax.main", run_name="__main__")\n'
  )
  shown = subprocess.run(
    [sys.executable, '-c', code],
    cwd=runs.ROOT,
    env=os.environ | {'JAX_PLATFORMS': 'nothing'},
    stdout=subprocess.PIPE,
    text=True,
    check=True,
  ).stdout
  lines = shown.splitlines()
  assert lines.pop() == 'set()'
  assert lines[0] == f'job pretrain, work directory {tmp_path / "run"}'
  shown_keys = dict(line.split(maxsplit=1) for line in lines[2:-4])
  assert shown_keys['optim.lr'] == '0.003'
  assert shown_keys['optim.weight_decay'] == '0.3'
  # 99 % of 1,281,167 images; 304,326,632 parameters and the head's hidden
  # layer of 1024 * 1024 + 1024.
  assert lines[-4:] == [
    'training split: train[:99%] of imagenet2012, 1,268,355 examples',
    'steps: 92,898 of 4,096 examples, 300 epochs',
    'optimizer: adam, learning rate 0.003 after 10,000 steps of warm-up,'
    ' cosine decay, weight decay 0.3',
    'model: ViT-L/16, 305,376,232 parameters, 123.112 GFLOPs per image of'
    ' 224x224 px',
  ]
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  ('arguments', 'keys'),
  [
    (['--config.seed=3', '-config.mixup', '0.1'], {'seed': 3, 'mixup': 0.1}),
    (['--noconfig.data.flip'], {'data.flip': False}),
    (['--config.model.scan'], {'model.scan': True}),
    (['--config.total_steps=20'], {'total_steps': 20, 'total_epochs': 0.0}),
    (
      ['--config.study.points=A (fam): model.name=ViT-S/16; B: seed=1'],
      {
        'study.points': {
          'A': {'family': 'fam', 'model.name': 'ViT-S/16'},
          'B': {'seed': 1},
        }
      },
    ),
  ],
)
def test_keys_on_the_command_line(arguments, keys):
  rest, texts = main._split_keys(['main', *arguments, '--show'])
  assert rest == ['main', '--show']
  config = config_lib.base(total_epochs=2.0)
  config_lib.set_keys(config, texts)
  flat = config_lib.flatten(config)
  assert {name: flat[name] for name in keys} == keys


def test_a_run_from_before_lists_were_tuples_resumes(tmp_path):
  config = runs.shrink(runs.load_config('digits'))
  config.optim.update(schedule='steps', boundaries=(1,))
  runs.run(config, tmp_path)
  path = tmp_path / 'config.json'
  keys = json.loads(path.read_text())
  assert keys['optim.boundaries'] == [1]
  keys |= {'optim.boundaries': '1', 'study.points': '', 'sweep.grid': ''}
  keys |= {'few_shot.shots': '1,5,10,25', 'sweep.also': ''}
  path.write_text(json.dumps(keys))
  before = (tmp_path / 'results.json').stat().st_mtime_ns
  runs.run(config, tmp_path)
  assert (tmp_path / 'results.json').stat().st_mtime_ns == before
  config.optim.boundaries = (2,)
  with pytest.raises(ValueError, match=r'boundaries: \(1,\) -> \(2,\)'):
    runs.run(config, tmp_path)


def test_default_workdir():
  assert main.default_workdir('configs/digits.py') == 'runs/digits'
  assert (
    main.default_workdir('a/configs/vit_l16.py:jft300m,7')
    == 'runs/vit_l16-jft300m-7'
  )
  assert (
    main.default_workdir('configs/folder.py:/my/photos')
    == 'runs/folder--my-photos'
  )


def test_metrics_of_the_averaged_weights_are_the_results(tmp_path):
  config = runs.shrink(runs.load_config('digits'))
  config.eval_every = 1
  results = runs.run(config, tmp_path)
  *_, first, last = runs.events(tmp_path)
  metrics = results['metrics']
  assert {k: v for k, v in last.items() if k != 'step'} == metrics
  assert {'test/accuracy', 'test/raw_accuracy', 'test/raw_loss'} <= set(metrics)
  assert metrics['test/loss'] != metrics['test/raw_loss']
  names = results['class_accuracy']['test']
  assert list(names) == [str(digit) for digit in range(10)]


def test_profiler_trace(tmp_path):
  config = runs.shrink(runs.load_config('digits'))
  config.profile_steps = '1:1'
  runs.run(config, tmp_path)
  assert list((tmp_path / 'profile').rglob('*.xplane.pb'))


def test_epochs_follow_the_batch_size(tmp_path):
  config = runs.override(
    runs.shrink(runs.load_config('digits')),
    total_steps=0,
    total_epochs=0.05,
    optim__warmup_steps=-1,
  )
  num_train = 1442
  assert runs.run(config, tmp_path / 'a')['step'] == -(-num_train // 20 // 8)
  config.batch_size = 32
  assert runs.run(config, tmp_path / 'b')['step'] == -(-num_train // 20 // 32)


def dotted(**values):
  return runs.override(runs.shrink(runs.load_config('digits')), **values)


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'job': 'fly'}, "job='fly' is not one of the jobs pretrain"),
    ({'data__name': 'folder:/nowhere'}, "folder '/nowhere' does not exist"),
    ({'data__name': 'digit'}, 'digit'),
    ({'data__train': 'learn'}, 'learn'),
    ({'data__image_size': 9}, '9x9 pixels cannot be cut into patches'),
    ({'data__image_width': 9}, '8x9 pixels cannot be cut into patches'),
    ({'model__name': 'ViT-X/16'}, 'ViT-X/16'),
    ({'model__heads': 3}, 'heads'),
    ({'mesh__data': 3}, 'mesh.data=3, .* needs 3 devices'),
    ({'optim__warmup_steps': 2}, 'takes up all of a run of 2 steps'),
    ({'best_metric': 'val/accuracy'}, 'it can be test/accuracy'),
    (
      {'data__eval': 'train[:9],test', 'best_metric': 'train/accuracy'},
      'train/ is the prefix .* another name, as in train_split=train',
    ),
    ({'data__eval': 'perf=test'}, 'perf/ is the prefix'),
    ({'data__eval': 'best=test'}, 'best/ is the prefix'),
    ({'data__eval': 'few_shot=test'}, 'few_shot/ is the prefix'),
    ({'data__eval': 'train/x=test'}, 'is not a file name'),
    ({'data__trim_px': 4}, r'trim_px=4 leaves nothing of .* of 8x8 px'),
    ({'data__exclude': 's3://bucket/list'}, "'s3://bucket/list' is a URL"),
    ({'batch_size': 2**31 - 8}, r'at least 1,552.0 GiB .* 2147483640x8x8x3'),
    ({'model__width': 2**20, 'model__mlp_dim': 2**20}, 'GiB for weights and'),
    ({'profile_steps': 'x'}, 'FIRST:LAST'),
    ({'profile_steps': '2:3'}, 'begins after the run, .* 0 to 1;'),
    ({'data__precrop_size': 7}, 'precrop_size=7 is smaller'),
  ],
)
def test_impossible_configs_are_refused_before_anything_is_written(
  values, message, tmp_path
):
  with pytest.raises(ValueError, match=message):
    main.run(dotted(**values), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
  ('arguments', 'messages'),
  [
    ((), ['--config=configs/NAME.py is missing']),
    (('--config=configs/nothing.py',), ['configs/nothing.py', 'No such file']),
    (
      ('--config=configs/digits.py', '--config.sed=1'),
      ["'sed'", 'did you mean seed?'],
    ),
    (
      ('--config=configs/digits.py', '--config.batch_size=many'),
      ["batch_size='many'", 'is not of type int'],
    ),
    (
      ('--config=configs/vit_l16.py',),
      [
        'imagenet21k',
        'python -m vit_jax.main --config=configs/prepare.py:tars:PATH'
        ' --config.data.dir=DIR`',
        'python -m vit_jax.main --config=configs/vit_l16.py'
        ' --config.data.dir=DIR`',
      ],
    ),
    (
      ('--config=configs/vit_l16.py:cifar10',),
      ["no pre-training of ViT-L/16 on 'cifar10'", 'imagenet2012'],
    ),
  ],
)
def test_bad_command_lines_end_in_one_message(arguments, messages, tmp_path):
  if arguments and 'data' not in ''.join(arguments):
    arguments = (*arguments, f'--workdir={tmp_path / "run"}')
  log = runs.finish(*arguments, expect=1)
  assert log.count('error:') == 1
  assert 'Traceback' not in log
  for message in messages:
    assert message in log
  assert not (tmp_path / 'run').exists()


def test_batch_that_does_not_divide_over_devices(tmp_path):
  log = runs.finish(
    '--config=configs/digits.py',
    '--config.batch_size=100',
    f'--workdir={tmp_path / "run"}',
    devices=8,
    expect=1,
  )
  assert 'batch_size=100 is not divisible by 8' in log
  assert 'use 96 or 104' in log
  assert 'Traceback' not in log


def test_a_run_resumed_on_eight_devices_ends_alike(tmp_path):
  arguments = (
    '--config=configs/digits.py',
    '--config.total_steps=5',
    '--config.log_every=1',
    '--config.checkpoint_every=2',
    '--config.batch_size=32',
    '--config.eval_batch_size=7',
    '--config.model.depth=2',
    '--config.model.width=32',
    '--config.model.dropout=0.1',
    '--config.optim.name=sgd',
    '--config.optim.lr=0.1',
    '--config.optim.accumulate=2',
    '--config.optim.warmup_steps=1',
  )
  sharded = (
    '--config.mesh.fsdp=2',
    '--config.mesh.tensor=2',
    '--config.model.scan=true',
    '--config.model.remat=full',
  )
  one, eight = tmp_path / 'one', tmp_path / 'eight'
  runs.finish(*arguments, f'--workdir={one}')
  shutil.copytree(one, eight)
  (eight / 'results.json').unlink()
  for step in (4, 5):
    shutil.rmtree(eight / 'checkpoints' / str(step))
  log = runs.finish(*arguments, *sharded, f'--workdir={eight}', devices=8)
  assert 'resuming from step 2' in log
  assert 'mesh data=2, fsdp=2, tensor=2' in log

  assert len(runs.events(one)) == 6
  for a, b in zip(runs.events(one), runs.events(eight), strict=True):
    assert a.keys() == b.keys()
    for name in a:
      np.testing.assert_allclose(b[name], a[name], rtol=1e-5, err_msg=name)
  results = json.loads((eight / 'results.json').read_text())
  assert results['device_count'] == 8
  # Files do not depend on scan and mesh.
  expected = checkpoints.load(one / 'final.npz')
  for path in (eight / 'final.npz', eight / 'checkpoints'):
    jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
      checkpoints.load(path),
      expected,
    )


FLOWERS = runs.SHARED / 'data' / 'flowers12'
needs_flowers = pytest.mark.skipif(
  not FLOWERS.exists(), reason='needs the flowers12 photos'
)
SMALL = (
  '--config.model.name=ViT-Ti/16',
  '--config.model.depth=1',
  '--config.model.width=32',
  '--config.model.mlp_dim=64',
  '--config.model.heads=2',
  '--config.data.image_size=32',
)


@needs_flowers
def test_evaluation_does_not_depend_on_its_batch_size(tmp_path):
  config = runs.override(
    runs.load_config('folder', str(FLOWERS)),
    total_steps=3,
    total_epochs=0.0,
    batch_size=32,
    model__name='ViT-Ti/16',
    model__depth=1,
    model__width=32,
    model__mlp_dim=64,
    model__heads=2,
    data__image_size=32,
  )
  accuracies = set()
  for size in (7, 64, 512):
    config.eval_batch_size = size
    workdir = tmp_path / str(size)
    results = runs.run(config, workdir)
    accuracies.add(results['metrics']['test/accuracy'])
    lines = (workdir / 'predictions_test.jsonl').read_text().splitlines()
    assert len({json.loads(line)['example'] for line in lines}) == 240
  assert len(accuracies) == 1


@needs_flowers
def test_own_images_as_the_readme_says(tmp_path):
  """Follows the README in a separate folder, like a user."""
  photos = tmp_path / 'photos'
  for split in ('train', 'test'):
    for folder in (FLOWERS / split).iterdir():
      (photos / folder.name).mkdir(parents=True, exist_ok=True)
      for photo in list(folder.iterdir())[:10]:
        shutil.copy(photo, photos / folder.name / f'{split}_{photo.name}')
  readme = (runs.ROOT / 'README.md').read_text()
  section = readme.partition('## Your own images')[2].partition('\n## ')[0]
  script = section.partition('```bash\n')[2].partition('```')[0]
  assert '--config=configs/folder.py:PHOTOS' in script
  script = script.replace('PHOTOS', str(photos))
  script = script.replace('configs/', f'{runs.ROOT}/configs/')
  script = script.replace('python', runs.command()[0], 1).rstrip()
  script += ' ' + ' '.join(SMALL) + ' --config.total_epochs=1'
  environment = os.environ | {'PYTHONPATH': str(runs.ROOT)}
  subprocess.run(
    ['bash', '-ec', script], cwd=tmp_path, env=environment, check=True
  )
  (workdir,) = (tmp_path / 'runs').iterdir()
  results = json.loads((workdir / 'results.json').read_text())
  names = sorted(path.name for path in photos.iterdir())
  assert results['class_names'] == names
  lines = (workdir / 'predictions_test.jsonl').read_text().splitlines()
  assert len(lines) >= 12
  for line in map(json.loads, lines):
    assert line['label'] in line['example'].split('/')
    assert line['predicted'] in names
