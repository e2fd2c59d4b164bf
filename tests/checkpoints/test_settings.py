"""Settings beside weight files: honored, or refused by name."""

import json
import logging
import re

from flax import traverse_util
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax import checkpoints, models
from vit_jax.checkpoints.formats import huggingface, timm
import weights

safetensors = pytest.importorskip('safetensors.numpy')

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PREPROCESSOR = {
  'image_processor_type': 'BitImageProcessor',
  'do_resize': True,
  'size': {'shortest_edge': 32},
  'resample': 3,
  'do_center_crop': True,
  'crop_size': {'height': 16, 'width': 24},
  'do_rescale': True,
  'rescale_factor': 1 / 255,
  'do_normalize': True,
  'image_mean': MEAN,
  'image_std': STD,
  'do_convert_rgb': True,
}


@pytest.fixture
def params():
  return weights.random_params(weights.tiny(gelu='erf'))


def save(folder, tensors, **files):
  """Writes a weight file and JSON files, given by name without suffix."""
  tensors = {k: np.ascontiguousarray(v) for k, v in tensors.items()}
  safetensors.save_file(tensors, folder / 'model.safetensors')
  for name, content in files.items():
    (folder / f'{name}.json').write_text(json.dumps(content))


def save_huggingface(folder, params, preprocessor, **config):
  config = {'num_attention_heads': 3, 'layer_norm_eps': 1e-6} | config
  files = {'config': config, 'preprocessor_config': preprocessor}
  save(folder, huggingface.to_tensors(params), **files)


def save_timm(folder, params, **config):
  config['model_args'] = {'num_heads': 3} | config.get('model_args', {})
  save(folder, timm.to_tensors(params), config=config)


def logits(folder, images):
  params, description = checkpoints.load_with_description(folder)
  model = models.create(
    'ViT-B/16', num_classes=description.num_classes, **description.overrides
  )
  return weights.logits_of(model, params, images)


def expected_logits(params, pixels):
  """The logits for images in [0, 1] that are normalized, not folded."""
  normalized = (pixels - np.float32(MEAN)) / np.float32(STD)
  return weights.logits_of(weights.tiny(gelu='erf'), params, normalized)


@pytest.mark.parametrize('rescale_factor', [1 / 255, 1.0])
def test_normalization_of_hugging_face_is_folded(
  tmp_path, params, rescale_factor
):
  """A factor of 1 leaves pixels in [0, 255], as do mean and std."""
  scale = 255 * rescale_factor
  preprocessor = PREPROCESSOR | {
    'image_mean': [x * scale for x in MEAN],
    'image_std': [x * scale for x in STD],
    'rescale_factor': rescale_factor,
  }
  save_huggingface(tmp_path, params, preprocessor)
  pixels = np.random.default_rng(0).random((2, 16, 24, 3), 'f4')
  expected = expected_logits(params, pixels)
  images = 2 * pixels - 1
  np.testing.assert_allclose(logits(tmp_path, images), expected, atol=1e-5)
  (tmp_path / 'preprocessor_config.json').unlink()
  assert np.abs(logits(tmp_path, images) - expected).max() > 0.01


def test_normalization_of_timm_is_folded(tmp_path, params):
  pixels = np.random.default_rng(0).random((2, 16, 24, 3), 'f4')
  expected = expected_logits(params, pixels)
  cfg = {'input_size': [3, 16, 24], 'mean': MEAN, 'std': STD}
  for config in (
    {'pretrained_cfg': cfg},
    {'architecture': 'vit_tiny_patch16_224', **cfg},  # By older versions.
    {'pretrained_cfg': {'num_classes': 4}},  # timm's defaults.
  ):
    save_timm(tmp_path, params, **config)
    np.testing.assert_allclose(
      logits(tmp_path, 2 * pixels - 1), expected, atol=1e-5
    )


def test_problem_type_of_hugging_face(tmp_path, params):
  for kind, expected in {
    'multi_label_classification': ('sigmoid', True),
    'single_label_classification': ('softmax', False),
    None: ('softmax', False),
  }.items():
    save_huggingface(tmp_path, params, PREPROCESSOR, problem_type=kind)
    _, description = checkpoints.load_with_description(tmp_path)
    assert (description.loss, description.multi_label) == expected


def test_folding_by_hand(tmp_path, params):
  save_huggingface(tmp_path, params, PREPROCESSOR)
  folded = checkpoints.load(tmp_path)['embedding']
  kernel, bias = params['embedding']['kernel'], params['embedding']['bias']
  shift = 0.0
  for c in range(3):
    np.testing.assert_allclose(
      folded['kernel'][:, :, c], kernel[:, :, c] / (2 * STD[c]), rtol=1e-6
    )
    shift += kernel[:, :, c].sum((0, 1)) * (1 - 2 * MEAN[c]) / (2 * STD[c])
  np.testing.assert_allclose(folded['bias'], bias + shift, atol=1e-5)


def test_images_without_normalization(tmp_path, params):
  """Images in [0, 1] are a mean of 0 and a standard deviation of 1."""
  preprocessor = PREPROCESSOR | {'do_normalize': False}
  save_huggingface(tmp_path, params, preprocessor)
  folded = checkpoints.load(tmp_path)['embedding']
  kernel = params['embedding']['kernel']
  np.testing.assert_allclose(folded['kernel'], kernel / 2, rtol=1e-6)
  np.testing.assert_allclose(
    folded['bias'],
    params['embedding']['bias'] + kernel.sum((0, 1, 2)) / 2,
    atol=1e-5,
  )


@pytest.mark.parametrize('format', ['timm', 'huggingface'])
def test_exported_files_are_for_images_in_minus_one_to_one(
  tmp_path, params, format
):
  source = tmp_path / 'source'
  source.mkdir()
  save_huggingface(source, params, PREPROCESSOR)
  loaded = checkpoints.load(source)
  # Beside a config.json of another model, too.
  target = tmp_path / 'target'
  if format == 'timm':
    target.mkdir()
    cfg = {'pretrained_cfg': {'mean': MEAN, 'std': STD}}
    (target / 'config.json').write_text(json.dumps(cfg))
    target /= 'model.safetensors'
  checkpoints.export(
    loaded, target, format=format, gelu='erf', image_size=weights.IMAGE_SIZE
  )
  weights.assert_same(checkpoints.load(target), loaded)


@pytest.mark.parametrize('name', ['model', 'model.safetensors'])
@pytest.mark.parametrize(
  'evaluation',
  [
    checkpoints.Evaluation(image_size=(16, 24)),
    checkpoints.Evaluation('center', 'bicubic_antialias', (16, 24), (32, 32)),
    checkpoints.Evaluation('resize_center', 'bilinear', (16, 24), (20, 32)),
  ],
  ids=lambda evaluation: evaluation.crop,
)
def test_evaluation_is_exported(tmp_path, params, name, evaluation):
  checkpoints.export(
    params,
    tmp_path / name,
    format='timm' if '.' in name else 'huggingface',
    image_size=weights.IMAGE_SIZE,
    evaluation=evaluation,
  )
  _, description = checkpoints.load_with_description(tmp_path / name)
  assert description.evaluation == evaluation
  with pytest.raises(ValueError, match='official format cannot store evalua'):
    checkpoints.export(params, tmp_path / 'x.npz', evaluation=evaluation)


def test_evaluation_of_hugging_face(tmp_path, params):
  def evaluation(**changes):
    preprocessor = PREPROCESSOR | {'image_mean': 0.5, 'image_std': 0.5}
    save_huggingface(tmp_path, params, preprocessor | changes)
    return checkpoints.load_with_description(tmp_path)[1].evaluation

  found = evaluation()
  assert (found.crop, found.interpolation) == ('center', 'bicubic_antialias')
  assert (found.image_size, found.precrop_size) == ((16, 24), (32, 32))
  found = evaluation(
    size={'height': 16, 'width': 24}, do_center_crop=False, resample=2
  )
  assert (found.crop, found.interpolation) == ('resize', 'bilinear')
  assert (found.image_size, found.precrop_size) == ((16, 24), None)
  found = evaluation(size=40, crop_size=32, feature_extractor_type='x')
  assert found.crop == 'resize_center'
  assert (found.image_size, found.precrop_size) == ((32, 32), (40, 40))


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'image_std': [0.2, 0, 0.2]}, r'image_std=.*above 0'),
    ({'image_mean': 'zero'}, "image_mean='zero'; expected one number"),
    ({'image_mean': None}, 'has no image_mean'),
    ({'resample': 0}, 'resample=0 is not supported'),
    ({'do_pad': True}, 'do_pad=True, which is not supported'),
    (
      {'do_center_crop': False},
      'shortest_edge.*does not give all images',
    ),
    ({'do_resize': False}, 'does not give all images the same size'),
    ({'crop_size': 64}, 'crop no larger than size'),
    ({'size': {'longest_edge': 32}}, 'expected height and width'),
  ],
)
def test_preprocessing_that_is_refused(tmp_path, params, changes, message):
  save_huggingface(tmp_path, params, PREPROCESSOR | changes)
  with pytest.raises(ValueError, match=f'preprocessor_config.json.*{message}'):
    checkpoints.load(tmp_path)


def test_evaluation_of_timm(tmp_path, params):
  cfg = {'input_size': [3, 224, 224], 'mean': (0.5,) * 3, 'std': (0.5,) * 3}
  for changes, expected in (
    ({}, ('center', 'bicubic_antialias', (256, 256))),
    (
      {'crop_pct': 0.9, 'interpolation': 'bilinear'},
      ('center', 'bilinear', (248, 248)),
    ),
    (
      {'crop_pct': 1.0, 'crop_mode': 'squash'},
      ('resize_center', 'bicubic_antialias', (224, 224)),
    ),
  ):
    save_timm(tmp_path, params, pretrained_cfg=cfg | changes)
    found = checkpoints.load_with_description(tmp_path)[1].evaluation
    assert (found.crop, found.interpolation, found.precrop_size) == expected
    assert found.image_size == (224, 224)


@pytest.mark.parametrize(
  'config, message',
  [
    ({'pretrained_cfg': {'crop_mode': 'border'}}, "crop_mode='border'"),
    ({'pretrained_cfg': {'interpolation': 'box'}}, "interpolation='box'"),
    ({'model_args': {'act_layer': 'silu'}}, "act_layer='silu'"),
    ({'model_args': {'norm_layer': 'rmsnorm'}}, "norm_layer='rmsnorm'"),
    ({'model_args': {'block_fn': 'ResPostBlock'}}, "block_fn='ResPostBlock'"),
    ({'model_args': {'global_pool': 'max'}}, "global_pool='max'"),
    ({'global_pool': 'map'}, "pool='map', but these .* pool='token'"),
    (
      {'architecture': 'vit_base_patch32_siglip_gap_256'},
      'does not specify act_layer',
    ),
  ],
)
def test_settings_of_timm_that_are_refused(tmp_path, params, config, message):
  save_timm(tmp_path, params, **config)
  with pytest.raises(ValueError, match=f'config.json.*{message}'):
    checkpoints.load(tmp_path)


def test_other_siglip_models_of_timm_have_its_default_gelu(tmp_path, params):
  save_timm(tmp_path, params, architecture='vit_base_patch16_siglip_256')
  _, description = checkpoints.load_with_description(tmp_path)
  assert description.gelu == 'erf'


def test_damaged_json_is_named(tmp_path, params):
  save_huggingface(tmp_path, params, PREPROCESSOR)
  (tmp_path / 'preprocessor_config.json').write_text('{"size": ')
  with pytest.raises(ValueError, match='preprocessor_config.json is not valid'):
    checkpoints.load(tmp_path)


def test_contradicting_numbers_of_heads_are_refused(tmp_path, params):
  save_huggingface(tmp_path, params, PREPROCESSOR)
  with pytest.raises(ValueError, match='conflicting .*: 3 in config.json, 6'):
    checkpoints.load(tmp_path, heads=6)


def logged(caplog, path, **options):
  caplog.clear()
  with caplog.at_level(logging.INFO, logger='vit_jax.checkpoints.loading'):
    checkpoints.load(path, **options)
  (line,) = caplog.messages
  return line


def test_one_line_says_what_is_from_where(tmp_path, params, caplog):
  narrow = {
    name: x.astype(np.float16)
    for name, x in traverse_util.flatten_dict(params, sep='/').items()
  }
  params = traverse_util.unflatten_dict(narrow, sep='/')
  save_huggingface(tmp_path, params, PREPROCESSOR, image_size=[16, 24])
  assert logged(caplog, tmp_path) == (
    f'{tmp_path}/model.safetensors, huggingface format;'
    ' preprocessor_config.json: mean (0.485, 0.456, 0.406) and std (0.229,'
    ' 0.224, 0.225) folded into the patch projection, evaluation center from'
    ' 32x32 to 16x24 (bicubic_antialias); config.json: norm_eps 1e-06, heads 3,'
    ' positions for 16x24 px; assumed: gelu erf, loss softmax; float16 widened'
    ' to float32'
  )
  for name in ('config', 'preprocessor_config'):
    (tmp_path / f'{name}.json').unlink()
  assert logged(caplog, tmp_path, heads=3).endswith(
    'the argument `heads`: heads 3; assumed: images in [-1, 1], gelu erf,'
    ' norm_eps 1e-12, loss softmax, evaluation resize (bilinear); float16'
    ' widened to float32'
  )


def test_defaults_of_timm_are_named(tmp_path, params, caplog):
  cfg = {'std': 0.5, 'input_size': [3, 16, 24]}
  save_timm(tmp_path, params, pretrained_cfg=cfg)
  line = logged(caplog, tmp_path)
  assert "timm's defaults: mean (0.485, 0.456, 0.406) and std (0.5" in line


def test_settings_of_a_run(tmp_path, params, caplog):
  checkpoints.export(params, tmp_path / 'final.npz')
  assert logged(caplog, tmp_path / 'final.npz').endswith(
    'official format; assumed: images in [-1, 1], gelu tanh, norm_eps 1e-06,'
    ' loss softmax, evaluation resize (bilinear)'
  )
  config = {
    'model.gelu': 'erf',
    'data.eval_crop': 'center',
    'data.precrop_size': 32,
    'data.trim_px': 2,
  }
  (tmp_path / 'config.json').write_text(json.dumps(config))
  _, description = checkpoints.load_with_description(tmp_path / 'final.npz')
  assert description.gelu == 'erf'
  assert str(description.evaluation) == (
    'center from 32x32 after trimming 2 px (bilinear)'
  )


@pytest.mark.parametrize('suffix', ['npz', 'safetensors'])
@pytest.mark.parametrize(
  'value, message',
  [
    (np.ones(4, np.int32), 'type I32|type int32'),
    (np.ones(4, bool), 'type BOOL|type bool'),
    (np.ones(4, np.complex64), 'type C64|type complex64'),
    (np.array(list('abcd')), 'type <U1'),
    (np.array([1, np.nan, 1, -np.inf], 'f4'), r'2 of 4 .* such as nan at .1,'),
    (np.array([1, 1, 1, 1e39]), r'not finite in float32 \(1 of 4 values'),
    (
      np.array([1, 1, np.inf, 1], jnp.bfloat16),
      r'1 of 4 values, such as inf at',
    ),
  ],
)
def test_arrays_that_are_refused_by_name(
  tmp_path, params, suffix, value, message
):
  path = tmp_path / f'model.{suffix}'
  if suffix == 'npz':
    name = 'head/bias'
    flat = traverse_util.flatten_dict(params, sep='/')
    np.savez(path, **flat | {name: value})
  else:
    if value.dtype.kind == 'U':
      pytest.skip('the format holds no text')
    name = 'head.bias'
    save(tmp_path, timm.to_tensors(params) | {name: value})
  with pytest.raises(ValueError, match=f'{re.escape(name)}.*({message})'):
    checkpoints.load(path, heads=3)


def test_attention_pooling_is_dropped_only_with_its_head(tmp_path):
  """In files of big_vision; a new head needs no pooling of the old one."""
  model = weights.tiny(pool='gap')
  params = weights.random_params(model)
  probe = {'MAPHead_0': {'probe': np.ones((1, 1, 12), 'f4')}}
  checkpoints.export(params | probe, tmp_path / 'params.npz')
  loaded = checkpoints.load(tmp_path / 'params.npz')
  for head in ('keep', 'keep_pre_logits'):
    with pytest.raises(ValueError, match="'MAPHead_0/probe'.* no place"):
      checkpoints.adapt(loaded, model, weights.IMAGE_SIZE, head=head)
  _, report = checkpoints.adapt(loaded, model, weights.IMAGE_SIZE)
  assert 'MAPHead_0/probe' in report.names('dropped')


@pytest.mark.parametrize(
  ('file', 'key', 'value', 'expected'),
  [
    ('config', 'id2label', ['a'], 'of type dict'),
    ('config', 'id2label', {'x': 'a'}, 'names by number'),
    ('config', 'id2label', {'0': 5}, 'class_names=.* a list of names'),
    ('config', 'image_size', 'x', 'of type int or list'),
    ('config', 'image_size', [16, -1], 'positive number of pixels'),
    ('config', 'hidden_act', [], 'of type str'),
    ('config', 'layer_norm_eps', 7, 'norm_eps=.* from 0 to below 1'),
    ('config', 'num_attention_heads', 0, 'heads=.* a positive number'),
    ('preprocessor', 'rescale_factor', 0, 'a positive number'),
    ('preprocessor', 'resample', [3], 'of type int'),
    ('preprocessor', 'image_std', [1e-300] * 3, 'all above 0'),
  ],
)
def test_settings_of_the_wrong_type_are_refused(
  tmp_path, params, file, key, value, expected
):
  contents = {'config': {}, 'preprocessor': dict(PREPROCESSOR)}
  contents[file][key] = value
  save_huggingface(
    tmp_path, params, contents['preprocessor'], **contents['config']
  )
  with pytest.raises(ValueError, match=rf'{file}.*{expected}'):
    checkpoints.load(tmp_path)


@pytest.mark.parametrize('text', ['{', '[]', '{"a":' * 100_000, '\xff'])
def test_broken_json_is_refused(tmp_path, params, text):
  save_huggingface(tmp_path, params, PREPROCESSOR)
  (tmp_path / 'config.json').write_bytes(text.encode('latin-1'))
  with pytest.raises(ValueError, match=r'config\.json (is not valid|holds a)'):
    checkpoints.load(tmp_path)
