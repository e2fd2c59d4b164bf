"""Masked patch prediction through main: results, resuming, fine-tuning."""

import io
import shutil

import numpy as np
from PIL import Image
import pytest
from tensorboard.backend.event_processing import event_accumulator

import runs
from vit_jax import checkpoints, main

TINY = {
  'batch_size': 8,
  'total_steps': 4,
  'log_every': 1,
  'eval_every': 2,
  'checkpoint_every': 2,
  'model__depth': 1,
  'model__width': 16,
  'model__mlp_dim': 16,
  'model__heads': 2,
  'data__eval': 'test[:20]',
  'optim__warmup_steps': 1,
  'masked_patch__picture_every': 3,
}


def tiny(argument='digits', **values):
  config = runs.load_config('masked_patch', argument)
  return runs.override(config, **TINY | values)


@pytest.fixture(scope='module')
def pretrained(tmp_path_factory):
  workdir = tmp_path_factory.mktemp('pretrained')
  return workdir, runs.run(tiny(model__dropout=0.1), workdir)


def test_results_and_history(pretrained):
  workdir, results = pretrained
  assert (results['job'], results['step']) == ('masked_patch', 4)
  metrics = results['metrics']
  assert metrics.keys() == {
    'test/loss',
    'test/accuracy',
    'test/baseline_accuracy',
  }
  assert 0 < metrics['test/baseline_accuracy'] < 1
  assert 0 < metrics['test/loss'] < np.log(512)
  history = runs.events(workdir)
  assert [e['step'] for e in history] == [1, 2, 2, 3, 4, 4]
  assert history[-1] == {'step': 4} | metrics
  np.testing.assert_allclose(history[0]['train/loss'], np.log(512), rtol=1e-6)


def test_pictures_as_files_and_for_tensorboard(pretrained):
  workdir, _ = pretrained
  names = sorted(path.name for path in workdir.glob('patches_*'))
  assert names == ['patches_0000003.png', 'patches_0000004.png']
  picture = np.asarray(Image.open(workdir / names[1]))
  assert picture.shape[2] == 3
  # The first column shows the first test digit, enlarged.
  assert len(np.unique(picture[14:-4, :112])) > 5
  events = event_accumulator.EventAccumulator(str(workdir))
  events.Reload()
  shown = events.Tensors('patches')
  assert [event.step for event in shown] == [3, 4]
  width, height, png = shown[1].tensor_proto.string_val
  assert (int(height), int(width)) == picture.shape[:2]
  np.testing.assert_array_equal(Image.open(io.BytesIO(png)), picture)


def test_interrupted_run_ends_with_the_same_bits(pretrained, tmp_path):
  undisturbed, _ = pretrained
  workdir = tmp_path / 'run'
  shutil.copytree(undisturbed, workdir)
  for name in ('results.json', 'final.npz', 'patches_0000004.png'):
    (workdir / name).unlink()
  shutil.rmtree(workdir / 'checkpoints' / '4')

  runs.run(tiny(model__dropout=0.1), workdir)
  assert runs.events(workdir) == runs.events(undisturbed)
  ours, theirs = (
    np.load(folder / 'final.npz') for folder in (workdir, undisturbed)
  )
  assert sorted(ours.files) == sorted(theirs.files)
  for name in ours.files:
    np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)
  ours, theirs = (
    (folder / 'patches_0000004.png').read_bytes()
    for folder in (workdir, undisturbed)
  )
  assert ours == theirs


def test_it_fine_tunes_like_any_checkpoint(pretrained, tmp_path, caplog):
  workdir, _ = pretrained
  caplog.set_level('INFO', logger='vit_jax')
  config = runs.load_config('finetune', 'ViT-Ti/2,cifar10')
  config = runs.override(
    config,
    **{k: v for k, v in TINY.items() if 'masked' not in k},
    init_from=str(workdir / 'final.npz'),
    data__name='digits',
    data__image_size=12,
    model__dtype='float32',
  )
  results = runs.run(config, tmp_path)
  assert 0 <= results['metrics']['test/accuracy'] <= 1
  (table,) = [m for m in caplog.messages if 'weights of' in m]
  fates = {
    line.split()[0]: line.split()[2] for line in table.splitlines()[2:-2]
  }
  dropped = {name for name, fate in fates.items() if fate == 'dropped'}
  assert dropped == {'mask_token', 'patch_head/bias', 'patch_head/kernel'}
  assert fates['Transformer/posembed_input/pos_embedding'] == 'resized'
  assert {n for n, f in fates.items() if f == 'initialized'} == {
    'head/bias',
    'head/kernel',
  }


def test_few_shot_evaluation_of_its_features(pretrained, tmp_path):
  workdir, _ = pretrained
  config = runs.load_config('few_shot', str(workdir))
  config.few_shot.datasets = ('digits|train[:40]|test[:20]',)
  config.few_shot.shots = (2,)
  expected = runs.run(config, tmp_path / 'few_shot')['metrics']
  config = tiny(
    model__dropout=0.1,
    eval_every=0,
    few_shot__every=4,
    few_shot__datasets='digits|train[:40]|test[:20]',
    few_shot__shots='2',
  )
  metrics = runs.run(config, tmp_path / 'run')['metrics']
  name = 'few_shot/digits/2shot'
  assert metrics[name] == expected[name]


def outputs_of(workdir):
  params = checkpoints.load(workdir / 'final.npz')
  return params['patch_head']['kernel'].shape[1]


def test_averaged_weights_and_micro_batches_on_downsized_patches(tmp_path):
  config = tiny(
    optim__ema_decay=0.99,
    optim__accumulate=2,
    best_metric='test/accuracy',
    masked_patch__target='downsized',
    masked_patch__rate=0.25,
  )
  metrics = runs.run(config, tmp_path)['metrics']
  assert 0 <= metrics['test/accuracy'] <= 1
  assert outputs_of(tmp_path) == 16 * 512
  assert metrics['test/loss'] != metrics['test/raw_loss']
  assert 'best/test/accuracy' in metrics
  assert 'test/raw_baseline_accuracy' not in metrics


def test_pixels_by_a_hybrid(tmp_path):
  config = tiny(
    total_steps=2,
    masked_patch__target='pixels',
    model__name='R50+ViT-B/16',
    model__stage_depths='1',
    model__width_factor=0.5,
    model__patch_size=1,
    data__image_size=16,
  )
  results = runs.run(config, tmp_path)
  assert 0 <= results['metrics']['test/accuracy'] <= 1
  assert outputs_of(tmp_path) == 4 * 4 * 3


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'init_from': 'a.npz'}, "init_from='a.npz' does not apply"),
    ({'mixup': 0.1}, 'mixup=0.1 does not apply'),
    ({'model__representation_size': -1}, 'does not use labels'),
    ({'masked_patch__rate': 0.01}, 'corrupts 0 of the 16 patches'),
    ({'masked_patch__target': 'words'}, 'mean_colour, downsized, pixels'),
    (
      {
        'model__name': 'R50x1',
        'model__depth': 0,
        'model__width': 0,
        'model__mlp_dim': 0,
        'model__heads': 0,
      },
      'R50x1 has no patches to mask',
    ),
    (
      {
        'model__name': 'R50+ViT-B/16',
        'model__patch_size': 1,
        'data__image_size': 34,
      },
      '34x34 pixels cannot be cut into 3x3 equal patches',
    ),
  ],
)
def test_invalid_configs_are_refused(values, message, tmp_path):
  with pytest.raises(ValueError, match=message):
    main.run(tiny(**values), tmp_path / 'run')
  assert not (tmp_path / 'run').exists()


def test_an_unknown_argument_is_answered_with_the_known_ones():
  with pytest.raises(ValueError, match='jft300m.*digits, folder:PATH or'):
    runs.load_config('masked_patch', 'cifar10')
