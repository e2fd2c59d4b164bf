"""Programs of all kinds of models, in processes without this package."""

import functools
import sys

import jax
import numpy as np
import pytest

import exported
from vit_jax.runtimes import saved_model
import weights

IMAGES = exported.runs.SHARED / 'data' / 'imagenet_jpegs'


@functools.cache
def photos(size):
  from vit_jax.data import photos as photos_lib
  from vit_jax.data import preprocess

  if not IMAGES.exists():
    rng = np.random.default_rng(0)
    return rng.uniform(-1, 1, (16, *size, 3)).astype('f4')
  transform = preprocess.eval_transform(crop='resize', image_size=size)
  paths = sorted(map(str, IMAGES.glob('*.JPEG')))[:16]
  return np.stack([photos_lib.read(path, transform) for path in paths])


@pytest.mark.parametrize(
  ('format', 'file', 'setup', 'others'),
  [
    (
      'stablehlo',
      'model.stablehlo',
      exported.RUN_JAX,
      ('tensorflow',),
    ),
    ('saved_model', 'saved_model', exported.RUN_TENSORFLOW, ()),
    ('onnx', 'model.onnx', exported.RUN_ONNX, ('jax', 'tensorflow')),
  ],
)
@pytest.mark.parametrize('kind', exported.MODELS)
def test_program_agrees(kind, format, file, setup, others, tmp_path):
  if format == 'onnx':
    pytest.importorskip('jax2onnx')
  source = tmp_path / 'source'
  source.mkdir()
  model, params = exported.make(kind, source)
  keys = {'export__images': str(IMAGES)} if IMAGES.exists() else {}
  results = exported.export(source, format, tmp_path / 'run', **keys)
  assert results['num_images'] == 16
  assert results['metrics']['export/largest_difference'] < 1e-5
  batch = photos(exported.MODELS[kind][2])
  found = exported.run_elsewhere(
    setup, tmp_path / 'run' / file, batch, tmp_path, others
  )
  want = np.concatenate(
    [weights.logits_of(model, params, batch[:n]) for n in exported.SIZES]
  )
  assert want.std() > 0.1
  difference = np.abs(found - want).max()
  print(f'{kind} {format}: {difference:.1e} of {np.abs(want).max():.1f}')
  assert difference < 1e-5


def test_saved_model_of_one_image_becomes_tflite(tmp_path):
  tf = saved_model.tf
  source = tmp_path / 'source'
  source.mkdir()
  model, params = exported.make('token', source)
  exported.export(source, 'saved_model', tmp_path / 'run', export__batch_size=1)
  path = str(tmp_path / 'run/saved_model')
  content = tf.lite.TFLiteConverter.from_saved_model(path).convert()
  with pytest.warns(UserWarning, match='LiteRT'):
    interpreter = tf.lite.Interpreter(model_content=content)
  interpreter.allocate_tensors()
  image = weights.random_images()[:1]
  (given,) = interpreter.get_input_details()
  interpreter.set_tensor(given['index'], image)
  interpreter.invoke()
  (output,) = interpreter.get_output_details()
  np.testing.assert_allclose(
    interpreter.get_tensor(output['index']),
    weights.logits_of(model, params, image),
    rtol=0,
    atol=1e-5,
  )


@pytest.mark.parametrize(
  ('format', 'options'),
  [
    ('huggingface', {}),
    ('timm', {'gelu': 'erf'}),
    ('timm', {'pool': 'gap'}),
    ('timm', {'pool': 'gap_norm', 'registers': 2}),
    ('timm', {'pool': 'map', 'positions': 'sincos2d'}),
    ('npz', {'pool': 'gap', 'class_token': True}),
    ('npz', {'positions': 'sincos2d', 'gelu': 'erf'}),
    ('big_vision', {'positions': 'sincos2d'}),
  ],
)
def test_weights_in_other_libraries(format, options, tmp_path, monkeypatch):
  library = {'huggingface': 'transformers', 'timm': 'timm'}.get(format)
  if library == 'transformers':
    pytest.importorskip('torch')
    pytest.importorskip('transformers')
  if library == 'timm':
    sys.path.insert(0, str(exported.runs.ROOT / 'benchmarks'))
    pytest.importorskip('peers')._import_timm()
  source = tmp_path / 'source'
  source.mkdir()
  monkeypatch.setitem(exported.MODELS, 'own', ('ViT-Ti/16', options, (16, 16)))
  exported.make('own', source)
  hidden = {
    f'model__{name}': value
    for name, value in options.items()
    if name in ('positions', 'pool', 'class_token')
  }
  results = exported.export(source, format, tmp_path / 'run', **hidden)
  assert results['runtime'].startswith(library or 'vit_jax')


def test_model_without_a_head(tmp_path):
  source = tmp_path / 'source'
  source.mkdir()
  model, params = exported.make('gap', source)
  headless = {k: v for k, v in params.items() if k != 'head'}
  exported.checkpoints.export(headless, source / 'final.npz')
  (source / 'results.json').unlink()
  exported.export(source, 'stablehlo', tmp_path / 'run')
  content = (tmp_path / 'run/model.stablehlo').read_bytes()
  batch = weights.random_images()
  found = jax.export.deserialize(bytearray(content)).call(batch)
  features = model.apply({'params': params}, batch)[1]['pooled']
  np.testing.assert_allclose(found, features, rtol=0, atol=1e-5)
