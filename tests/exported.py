"""Exports of tiny models, and processes that run them without this package."""

import json
import os
import subprocess
import sys

import numpy as np

import runs
from vit_jax import checkpoints
import weights

SIZES = (1, 7)
NAMES = ('sea', 'moss', 'rose', 'sand')
SMALL_STEM = {'stage_depths': (1, 1), 'width_factor': 0.5}
# Name, options and image size, by kind of model.
MODELS = {
  'token': ('ViT-Ti/16', {}, (16, 24)),
  'gap': ('ViT-Ti/16', {'pool': 'gap', 'gelu': 'erf'}, (16, 24)),
  'hybrid': ('R50+ViT-B/32', {**SMALL_STEM, 'patch_size': 1}, (32, 48)),
  'resnet': ('R50x1', SMALL_STEM, (32, 48)),
}
RUN_JAX = """
from jax import export
program = export.deserialize(bytearray(open(path, 'rb').read()))
run = lambda images: program.call(images)
"""
RUN_TENSORFLOW = """
sys.modules['jax'] = None  # TensorFlow would load it if it is installed.
import tensorflow as tf
signature = tf.saved_model.load(path).signatures['serving_default']
run = lambda images: signature(images=tf.constant(images))['logits'].numpy()
"""
RUN_ONNX = """
import onnxruntime
session = onnxruntime.InferenceSession(path)
run = lambda images: session.run(['logits'], {'images': images})[0]
"""
# Runs one file; prints the modules of this package that it has loaded.
_SCRIPT = """
import sys
import numpy as np
path, inputs, outputs = sys.argv[1:]
{setup}
images = np.load(inputs)
parts = [np.asarray(run(images[:size])) for size in {sizes}]
np.save(outputs, np.concatenate(parts))
unwanted = 'vit_jax', 'flax', {others}
assert not [name for name in unwanted if sys.modules.get(name)]
"""


def make(kind, folder, *, seed=0):
  """Writes a run with a tiny model; returns the model and its weights."""
  name, options, size = MODELS[kind]
  if kind == 'resnet':
    model = weights.models.create(name, num_classes=4, **options)
  else:
    model = weights.tiny(name, **options)
  params = weights.random_params(model, size, seed=seed)
  checkpoints.export(params, folder / 'final.npz')
  keys = {'data.image_size': size[0], 'data.image_width': size[1]}
  if hasattr(model, 'gelu'):
    keys |= {'model.gelu': model.gelu, 'model.norm_eps': model.norm_eps}
  (folder / 'config.json').write_text(json.dumps(keys))
  results = json.dumps({'class_names': NAMES})
  (folder / 'results.json').write_text(results)
  return model, params


def export(source, format, workdir, **values):
  """Runs the job; returns its results."""
  config = runs.load_config('export', f'{source},{format}')
  return runs.run(runs.override(config, **values), workdir)


def run_elsewhere(setup, path, images, folder, others=()):
  """Returns outputs for the first image and the first 7, from a new process.

  Args:
    setup: code that defines `run`, a function from images to outputs.
    path: the exported file.
    images: at least 7.
    folder: a folder for files.
    others: modules that the process must not load.
  """
  np.save(folder / 'images.npy', images)
  script = _SCRIPT.format(setup=setup, sizes=SIZES, others=repr(others)[1:-1])
  arguments = path, folder / 'images.npy', folder / 'outputs.npy'
  subprocess.run(
    [sys.executable, '-c', script, *map(str, arguments)],
    cwd=folder,
    env={k: v for k, v in os.environ.items() if k != 'PYTHONPATH'},
    check=True,
  )
  return np.load(folder / 'outputs.npy')
