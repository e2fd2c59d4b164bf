"""Detection of formats by content, and errors for unknown ones."""

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from vit_jax import checkpoints, models
import weights

PARAMS = {'head': {'kernel': np.eye(4, dtype='f4')}}


def test_content_takes_precedence_over_the_suffix(tmp_path):
  checkpoints.export(PARAMS, tmp_path / 'params.npz')
  renamed = (tmp_path / 'params.npz').rename(tmp_path / 'params.safetensors')
  weights.assert_same(checkpoints.load(str(renamed)), PARAMS)
  bare = renamed.rename(tmp_path / 'params')
  weights.assert_same(checkpoints.load(bare), PARAMS)


def test_missing_file_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r'absent\.npz: no such file'):
    checkpoints.load(tmp_path / 'absent.npz')


def test_unknown_files_are_refused(tmp_path):
  (tmp_path / 'params.h5').write_bytes(b'\x89HDF\r\n\x1a\n' + bytes(100))
  with pytest.raises(ValueError, match=r"params\.h5.*'\.h5'.*known.*\.npz"):
    checkpoints.load(tmp_path / 'params.h5')


def test_unknown_folders_are_refused(tmp_path):
  with pytest.raises(ValueError, match=r'neither model\.safetensors nor'):
    checkpoints.load(tmp_path)


def test_files_of_torch_save_are_refused(tmp_path):
  with zipfile.ZipFile(tmp_path / 'model.pt', 'w') as file:
    file.writestr('archive/data.pkl', b'\x80\x02}q\x00.')
  with pytest.raises(ValueError, match=r'model\.pt.*convert.*\.safetensors'):
    checkpoints.load(tmp_path / 'model.pt')


def test_settings_come_from_the_run_of_a_file(tmp_path):
  params = weights.random_params(weights.tiny())
  checkpoints.export(params, tmp_path / 'final.npz')
  _, described = checkpoints.load_with_description(tmp_path / 'final.npz')
  assert described == checkpoints.Description(
    'official',
    sizes=weights.SIZES | {'patch_size': (8, 8), 'pool': 'token'},
    num_classes=4,
  )
  config = {
    'model.gelu': 'erf',
    'data.image_size': 16,
    'data.image_width': 24,
  }
  (tmp_path / 'config.json').write_text(json.dumps(config))
  (tmp_path / 'results.json').write_text('{"class_names": ["a", "b"]}')
  _, described = checkpoints.load_with_description(tmp_path / 'final.npz')
  assert described.gelu == 'erf'
  assert described.image_size == (16, 24)
  assert described.class_names == ('a', 'b')


def test_overrides_recreate_the_model(tmp_path):
  for name, model in (
    ('ViT-L/16', weights.tiny(pool='gap', representation_size=5)),
    (
      'R26+ViT-S/32',
      weights.tiny(
        'R50+ViT-B/32', patch_size=1, stage_depths=(1, 2), width_factor=0.5
      ),
    ),
  ):
    params = weights.random_params(model)
    checkpoints.export(params, tmp_path / 'params.npz')
    loaded, description = checkpoints.load_with_description(
      tmp_path / 'params.npz'
    )
    weights.assert_same(loaded, params)
    remade = models.create(
      name, num_classes=description.num_classes, **description.overrides
    )
    assert remade == model


def test_models_and_checkpoints_do_not_import_tensorflow():
  code = (
    'import sys; from vit_jax import checkpoints, models;'
    "print({'tensorflow', 'clu', 'torch', 'jax'} & set(sys.modules))"
  )
  output = subprocess.check_output([sys.executable, '-c', code], text=True)
  assert output.strip() == "{'jax'}"


def test_safetensors_library_is_only_needed_for_writing():
  code = (
    'import sys; sys.modules["safetensors"] = None;'
    'from vit_jax.checkpoints.formats import safetensors_file;'
    'safetensors_file.write({}, {}, None)'
  )
  failed = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True
  )
  last_line = failed.stderr.strip().splitlines()[-1]
  assert last_line.startswith('ImportError: ')
  assert 'pip install safetensors' in last_line
