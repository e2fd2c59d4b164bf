"""Files of timm and Hugging Face: names, layouts and settings."""

import json
import resource

from flax import traverse_util
import jax.numpy as jnp
import numpy as np
import pytest

from vit_jax import checkpoints
from vit_jax.checkpoints.formats import huggingface, pytorch, timm
import weights

safetensors = pytest.importorskip('safetensors.numpy')
FORMATS = {'timm': timm, 'huggingface': huggingface}


def kernel(params, *path):
  for name in path:
    params = params[name]
  return params['kernel']


def save(path, tensors):
  tensors = {k: np.ascontiguousarray(v) for k, v in tensors.items()}
  path.parent.mkdir(exist_ok=True)
  safetensors.save_file(tensors, path)


@pytest.mark.parametrize('gelu, norm_eps', [('tanh', 1e-6), ('erf', 1e-12)])
@pytest.mark.parametrize('format', ['timm', 'huggingface'])
def test_round_trips_are_exact(tmp_path, format, gelu, norm_eps):
  model = weights.tiny(gelu=gelu, norm_eps=norm_eps)
  params = weights.random_params(model)
  path = tmp_path / ('model' if format == 'huggingface' else 'm.safetensors')
  checkpoints.export(
    params,
    path,
    format=format,
    gelu=gelu,
    norm_eps=norm_eps,
    image_size=weights.IMAGE_SIZE,
    class_names='abcd',
  )
  loaded, description = checkpoints.load_with_description(path)
  weights.assert_same(loaded, params)
  assert description.format == format
  assert description.overrides == weights.SIZES | {
    'pool': 'token',
    'patch_size': (8, 8),
    'gelu': gelu,
    'norm_eps': norm_eps,
  }
  assert description.num_classes == 4
  assert description.class_names == ('a', 'b', 'c', 'd')
  expected_size = weights.IMAGE_SIZE if format == 'huggingface' else None
  assert description.image_size == expected_size


def test_only_timm_holds_mean_pooled_models(tmp_path):
  params = weights.random_params(weights.tiny(pool='gap'))
  checkpoints.export(params, tmp_path / 'm.safetensors')
  loaded, description = checkpoints.load_with_description(
    tmp_path / 'm.safetensors'
  )
  weights.assert_same(loaded, params)
  assert description.sizes['pool'] == 'gap'
  with pytest.raises(ValueError, match='class token.*no parameter cls'):
    checkpoints.export(params, tmp_path / 'model', format='huggingface')


def test_layouts_of_timm():
  params = weights.random_params(weights.tiny())
  tensors = timm.to_tensors(params)
  block = params['Transformer']['encoderblock_1']
  attention = block['MultiHeadDotProductAttention_0']
  # Output 5 of the keys, in a width of 12, is head 1, dimension 1, of 4.
  fused = tensors['blocks.1.attn.qkv.weight']
  np.testing.assert_array_equal(
    fused[12 + 5], attention['key']['kernel'][:, 1, 1]
  )
  np.testing.assert_array_equal(
    tensors['blocks.1.attn.qkv.bias'][24 + 5], attention['value']['bias'][1, 1]
  )
  np.testing.assert_array_equal(
    tensors['blocks.1.attn.proj.weight'][:, 5], attention['out']['kernel'][1, 1]
  )
  np.testing.assert_array_equal(
    tensors['patch_embed.proj.weight'][7, 2, 3],
    params['embedding']['kernel'][3, :, 2, 7],
  )
  np.testing.assert_array_equal(
    tensors['blocks.1.mlp.fc2.weight'].T, kernel(block, 'MlpBlock_0', 'Dense_1')
  )


def test_timm_with_separate_queries_keys_and_values():
  params = weights.random_params(weights.tiny())
  tensors = timm.to_tensors(params)
  for block in range(2):
    for leaf in ('weight', 'bias'):
      name = f'blocks.{block}.attn.qkv.{leaf}'
      parts = np.split(tensors.pop(name), 3)
      for letter, part in zip('qkv', parts, strict=True):
        tensors[f'blocks.{block}.attn.{letter}_proj.{leaf}'] = part
  weights.assert_same(timm.read(tensors, heads=3), params)


def newer_names(tensors):
  """Converts names to those that transformers 5 uses in memory."""
  changes = {
    'vit.encoder.layer.': 'vit.layers.',
    'attention.attention.query': 'attention.q_proj',
    'attention.attention.key': 'attention.k_proj',
    'attention.attention.value': 'attention.v_proj',
    'attention.output.dense': 'attention.o_proj',
    'intermediate.dense': 'mlp.fc1',
    '.output.dense': '.mlp.fc2',
  }
  renamed = {}
  for name, value in tensors.items():
    for old, new in changes.items():
      name = name.replace(old, new)
    renamed[name] = value
  return renamed


def without_prefix(tensors):
  """Converts names to those of a ViTModel."""
  return {k.removeprefix('vit.'): v for k, v in tensors.items()}


@pytest.mark.parametrize('rename', [newer_names, without_prefix])
def test_other_names_of_hugging_face(rename):
  params = weights.random_params(weights.tiny())
  tensors = rename(huggingface.to_tensors(params))
  assert huggingface.matches(tensors) and not timm.matches(tensors)
  with pytest.raises(ValueError, match='width of 12'):
    huggingface.read(tensors)
  weights.assert_same(huggingface.read(tensors, heads=3), params)


def test_pooler_and_mask_token_are_loaded():
  params = weights.random_params(weights.tiny())
  tensors = huggingface.to_tensors(params)
  tensors['vit.pooler.dense.weight'] = np.arange(144, dtype='f4').reshape(
    12, -1
  )
  tensors['vit.embeddings.mask_token'] = np.zeros((1, 1, 12))
  loaded = huggingface.read(tensors, heads=3)
  assert loaded['pre_logits']['kernel'][1, 0] == 1
  assert loaded['mask_token'].shape == (1, 1, 12)


def test_unusual_number_of_heads_has_to_be_given(tmp_path):
  params = weights.random_params(weights.tiny())
  path = tmp_path / 'm.safetensors'
  save(path, timm.to_tensors(params))
  with pytest.raises(ValueError, match=r'm\.safetensors.*width of 12.*heads='):
    checkpoints.load(path)
  weights.assert_same(checkpoints.load(path, heads=3), params)
  with pytest.raises(ValueError, match="out/kernel'.*cannot be split into 5"):
    checkpoints.load(path, heads=5)


def test_usual_number_of_heads_by_width():
  assert [pytorch.usual_heads(w) for w in (192, 384, 768, 1024, 1280)] == [
    3,
    6,
    12,
    16,
    16,
  ]


@pytest.mark.parametrize(
  'format, config, expected',
  [
    ('timm', None, ('erf', 1e-6, None, None)),
    (
      'timm',
      {
        'architecture': 'vit_tiny_patch16_224',
        'model_args': {'act_layer': 'gelu_tanh', 'num_heads': 2},
        'label_names': ['x', 'y', 'z', 'w'],
        'pretrained_cfg': {'input_size': [3, 16, 24]},
      },
      ('tanh', 1e-6, ('x', 'y', 'z', 'w'), (16, 24)),
    ),
    ('huggingface', None, ('erf', 1e-12, None, None)),
    (
      'huggingface',
      {
        'hidden_act': 'gelu_new',
        'layer_norm_eps': 1e-5,
        'num_attention_heads': 2,
        'image_size': 224,
        # Unordered, and 10 after 9.
        'id2label': {'10': 'b', '9': 'a'},
      },
      ('tanh', 1e-5, ('a', 'b'), (224, 224)),
    ),
    ('huggingface', {'id2label': {'0': 'LABEL_0'}}, ('erf', 1e-12, None, None)),
  ],
)
def test_settings_are_read_from_config_json(tmp_path, format, config, expected):
  params = weights.random_params(weights.tiny())
  save(tmp_path / 'model.safetensors', FORMATS[format].to_tensors(params))
  if config is not None:
    (tmp_path / 'config.json').write_text(json.dumps(config))
  heads = None if config and 'id2label' not in config else 2
  _, description = checkpoints.load_with_description(tmp_path, heads=heads)
  assert expected == (
    description.gelu,
    description.norm_eps,
    description.class_names,
    description.image_size,
  )
  assert description.sizes['heads'] == 2


def test_unsupported_activation_is_refused(tmp_path):
  params = weights.random_params(weights.tiny())
  save(tmp_path / 'model.safetensors', huggingface.to_tensors(params))
  (tmp_path / 'config.json').write_text('{"hidden_act": "quick_gelu"}')
  with pytest.raises(ValueError, match="config.json .* 'quick_gelu'"):
    checkpoints.load(tmp_path)


def test_unsupported_architecture_is_refused(tmp_path):
  params = weights.random_params(weights.tiny())
  tensors = timm.to_tensors(params)
  path = tmp_path / 'm.safetensors'
  save(path, tensors | {'blocks.1.attn.q_norm.bias': np.ones(4, 'f4')})
  with pytest.raises(ValueError, match=r"m\.safetensors.*'blocks.1.*q_norm"):
    checkpoints.load(path, heads=3)
  patches = 'swin.embeddings.patch_embeddings.projection.weight'
  save(path, {patches: np.ones((12, 3, 4, 4), 'f4')})
  with pytest.raises(ValueError, match="'swin.* has no counterpart"):
    checkpoints.load(path)  # No matter how many heads there are.
  save(path, {'conv1.weight': np.ones(12, 'f4')})
  with pytest.raises(ValueError, match='not a Vision Transformer of timm or'):
    checkpoints.load(path)


@pytest.mark.parametrize(
  ('format', 'name', 'shape', 'reason'),
  [
    ('timm', 'dist_token', (1, 1, 12), 'a distillation token and two heads'),
    ('timm', 'head_dist.weight', (4, 12), 'a distillation token and two heads'),
    ('timm', 'blocks.0.mlp.fc1_g.weight', (20, 12), 'a gated MLP'),
    ('timm', 'blocks.0.mlp.fc1.weight', (40, 12), '40 outputs.* a gated MLP'),
    ('timm', 'norm_pre.weight', (12,), 'a norm before the encoder'),
    (
      'timm',
      'blocks.0.attn.relative_position_bias_table',
      (9, 3),
      'this kind of relative positions',
    ),
    (
      'huggingface',
      'deit.embeddings.distillation_token',
      (1, 1, 12),
      'a distillation token and two heads',
    ),
    (
      'huggingface',
      'dinov2.encoder.layer.0.mlp.weights_in.weight',
      (40, 12),
      'a gated MLP',
    ),
  ],
)
def test_unsupported_parts_are_named(tmp_path, format, name, shape, reason):
  tensors = FORMATS[format].to_tensors(weights.random_params(weights.tiny()))
  save(tmp_path / 'model.safetensors', tensors | {name: np.ones(shape, 'f4')})
  with pytest.raises(ValueError, match=f'parameter {name!r}.*{reason}'):
    checkpoints.load(tmp_path, heads=3)


@pytest.mark.parametrize(
  ('format', 'names'),
  [
    ('timm', ('decoder_blocks.0.norm1.bias', 'decoder_embed.bias')),
    (
      'huggingface',
      ('decoder.decoder_layers.0.mlp.fc1.bias', 'decoder.mask_token'),
    ),
  ],
)
def test_the_decoder_of_mae_is_left_out(tmp_path, caplog, format, names):
  params = weights.random_params(weights.tiny(num_classes=0))
  tensors = FORMATS[format].to_tensors(params)
  decoder = dict.fromkeys(names, np.ones(8, 'f4'))
  save(tmp_path / 'model.safetensors', tensors | decoder)
  with caplog.at_level('INFO', logger='vit_jax.checkpoints.loading'):
    loaded, found = checkpoints.load_with_description(tmp_path, heads=3)
  weights.assert_same(loaded, params)
  assert found.ignored == names
  message = f'do not belong to an image model: 2, such as {names[0]}'
  assert message in caplog.messages[0]


def test_missing_block_is_refused(tmp_path):
  params = weights.random_params(weights.tiny(depth=3))
  tensors = timm.to_tensors(params)
  tensors = {k: v for k, v in tensors.items() if 'blocks.1.' not in k}
  save(tmp_path / 'm.safetensors', tensors)
  with pytest.raises(ValueError, match=r"m\.saf.*'Transformer/encoderblock_1/"):
    checkpoints.load(tmp_path / 'm.safetensors', heads=3)


def test_narrow_floats_are_widened(tmp_path):
  params = weights.random_params(weights.tiny())
  tensors = timm.to_tensors(params)
  for dtype in (jnp.bfloat16, np.float16):
    narrow = {k: v.astype(dtype) for k, v in tensors.items()}
    save(tmp_path / 'm.safetensors', narrow)
    loaded = checkpoints.load(tmp_path / 'm.safetensors', heads=3)
    wide = {k: v.astype('f4') for k, v in narrow.items()}
    weights.assert_same(loaded, timm.read(wide, heads=3))


@pytest.mark.parametrize('size', [0, 4, 5000])
def test_truncated_file_is_refused(tmp_path, size):
  path = tmp_path / 'm.safetensors'
  checkpoints.export(weights.random_params(weights.tiny()), path)
  whole = path.read_bytes()
  assert len(whole) > 5000
  path.write_bytes(whole[:size])
  with pytest.raises(ValueError, match=r'm\.safetensors: not a readable'):
    checkpoints.load(path)


def test_hidden_layers_of_the_head_are_refused(tmp_path):
  params = weights.random_params(weights.tiny(representation_size=12))
  for format, path in (
    ('timm', tmp_path / 'm.safetensors'),
    ('huggingface', tmp_path / 'model'),
  ):
    with pytest.raises(ValueError, match="cannot store 'pre_logits/bias'"):
      checkpoints.export(params, path, format=format, image_size=(16, 24))
    assert not path.exists()
    checkpoints.export(
      params, path, format=format, image_size=(16, 24), drop=('pre_logits',)
    )
    expected = {k: v for k, v in params.items() if k != 'pre_logits'}
    weights.assert_same(checkpoints.load(path), expected)


def test_hybrids_are_refused(tmp_path):
  model = weights.tiny(
    'R50+ViT-B/16', patch_size=1, stage_depths=(), width_factor=0.5
  )
  params = weights.random_params(model)
  with pytest.raises(ValueError, match="cannot store 'conv_root/kernel'"):
    checkpoints.export(params, tmp_path / 'm.safetensors')


def test_hugging_face_folder(tmp_path):
  folder = tmp_path / 'model'
  params = weights.random_params(weights.tiny())
  checkpoints.export(
    params, folder, format='huggingface', gelu='erf', image_size=(16, 24)
  )
  assert {p.name for p in folder.iterdir()} == {
    'config.json',
    'preprocessor_config.json',
    'model.safetensors',
  }
  config = json.loads((folder / 'config.json').read_text())
  assert config['hidden_act'] == 'gelu'
  assert config['layer_norm_eps'] == 1e-6
  assert (config['image_size'], config['patch_size']) == ([16, 24], 8)
  assert config['id2label'] == {str(i): f'LABEL_{i}' for i in range(4)}
  processor = json.loads((folder / 'preprocessor_config.json').read_text())
  assert processor['size'] == {'height': 16, 'width': 24}
  byte, scale = 200, processor['rescale_factor']
  pixel = (byte * scale - processor['image_mean'][0]) / processor['image_std'][
    0
  ]
  assert pixel == pytest.approx(byte / 127.5 - 1)


def test_hugging_face_folder_is_overwritten(tmp_path):
  for seed in range(2):
    params = weights.random_params(weights.tiny(), (16, 16), seed=seed)
    checkpoints.export(
      params, tmp_path / 'model', format='huggingface', image_size=16
    )
    weights.assert_same(checkpoints.load(tmp_path / 'model'), params)
  config = json.loads((tmp_path / 'model' / 'config.json').read_text())
  assert config['image_size'] == 16
  (tmp_path / 'model' / 'results.json').write_text('{}')
  with pytest.raises(ValueError, match=r'other files, such as results\.json'):
    checkpoints.export(params, tmp_path / 'model', format='huggingface')


def test_failed_write_never_mixes_two_models(tmp_path):
  params = weights.random_params(weights.tiny(), (16, 16))
  folder = tmp_path / 'model'
  checkpoints.export(params, folder, format='huggingface')
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (4000, limits[1]))
  try:
    with pytest.raises(OSError, match='too large'):
      checkpoints.export(params, folder, format='huggingface', gelu='erf')
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert '"hidden_act": "gelu"' in (folder / 'config.json').read_text()
  with pytest.raises(ValueError, match='neither model.safetensors nor'):
    checkpoints.load(folder)
  checkpoints.export(params, folder, format='huggingface')
  weights.assert_same(checkpoints.load(folder), params)


def test_mismatched_sizes_are_refused(tmp_path):
  params = weights.random_params(weights.tiny())
  with pytest.raises(ValueError, match='for 6 patches.*16x16 px.*image_size='):
    checkpoints.export(params, tmp_path / 'model', format='huggingface')
  with pytest.raises(ValueError, match='2 class names for 4 classes'):
    checkpoints.export(
      params,
      tmp_path / 'model',
      format='huggingface',
      image_size=(16, 24),
      class_names=['a', 'b'],
    )


def test_weights_without_a_head(tmp_path):
  params = weights.random_params(weights.tiny(num_classes=0))
  assert 'head' not in traverse_util.flatten_dict(params, sep='/')
  for path in (tmp_path / 'model', tmp_path / 'm.safetensors'):
    format = 'timm' if path.suffix else 'huggingface'
    checkpoints.export(params, path, format=format, image_size=(16, 24))
    loaded, description = checkpoints.load_with_description(path)
    weights.assert_same(loaded, params)
    assert description.num_classes == 0
