"""Malformed weight files, made by mutation: a right result or one clear error.

python -m pytest -o addopts= -s tests/slow/test_malformed_inputs.py
"""

import json
import os
import pathlib
import shutil
import socket
import struct
import zipfile
import zlib

from etils import epath
import jax
import jax.numpy as jnp
import malformed
import numpy as np
import optax
import pytest

import runs
from vit_jax import checkpoints
from vit_jax.build import pretrained
from vit_jax.checkpoints import checksums
from vit_jax.checkpoints import store as store_lib
from vit_jax.checkpoints.formats import official
from vit_jax.training import state as state_lib
import weights

PARAMS = weights.random_params(weights.tiny())
SHAPES = jax.tree.map(np.shape, PARAMS)
ARRAYS = official.flatten(PARAMS)
NAMES = list(ARRAYS)
SEEDS = range(12)


@pytest.fixture(scope='module')
def start(tmp_path_factory):
  """Returns a folder with a valid file or folder of every kind."""
  folder = tmp_path_factory.mktemp('valid')
  checkpoints.export(PARAMS, folder / 'plain.npz')
  np.savez_compressed(folder / 'small.npz', **ARRAYS)
  checkpoints.export(PARAMS, folder / 'big.npz', format='big_vision')
  checkpoints.export(PARAMS, folder / 'timm.safetensors')
  checkpoints.export(
    PARAMS, folder / 'hf', format='huggingface', image_size=(16, 24)
  )
  (folder / 'timm').mkdir()
  checkpoints.export(PARAMS, folder / 'timm/model.safetensors')
  with store_lib.Store(folder / 'run/checkpoints') as store:
    params = jax.tree.map(jnp.asarray, PARAMS)
    state = state_lib.create(params, optax.adam(0.1), average=False)
    store.save(3, state, meta={'seconds': 1.0})
  return folder


def use(path):
  """Loads a file, as a user and as a job; any result is a whole model."""
  checkpoints.load_with_description(path, heads=3)
  config = runs.load_config('evaluate')
  config.init_from = str(path)
  config.model.update(name='', heads=3)
  config.data.update(image_size=16, image_width=24)
  params = pretrained.load_classifier(config).params
  assert jax.tree.map(np.shape, params) == SHAPES
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(params))


# Bytes of a file.


def mutated(data, seed):
  """Changes some bytes of a file in one of seven ways."""
  rng = np.random.default_rng(seed)
  data = bytearray(data)
  begin, end = sorted(rng.integers(0, len(data), 2).tolist())
  length = int(rng.integers(1, 64))
  match seed % 7:
    case 0:
      data[begin] ^= 1 << int(rng.integers(8))
    case 1:
      del data[begin:]
    case 2:
      data[begin : begin + length] = rng.bytes(length)
    case 3:
      del data[begin : begin + length]
    case 4:
      data[begin:begin] = rng.bytes(length)
    case 5:
      first, second = data[begin : begin + length], data[end : end + length]
      data[begin : begin + length], data[end : end + length] = second, first
    case 6:
      data += rng.bytes(length)
  return bytes(data)


def changed_bytes(start):
  for name in ('plain.npz', 'small.npz', 'big.npz', 'timm.safetensors'):
    data = (start / name).read_bytes()
    # Also within the last bytes, where an archive has its directory, and the
    # first ones, where a safetensors file has its header.
    for seed in range(4 * len(SEEDS)):
      part = 3000 if seed % 2 else len(data)

      def write(folder, data=data, name=name, seed=seed, part=part):
        if name.endswith('.npz'):
          whole = data[:-part] + mutated(data[-part:], seed)
        else:
          whole = mutated(data[:part], seed) + data[part:]
        (folder / name).write_bytes(whole)
        return folder / name

      yield malformed.Case(f'bytes of {name}', f'seed {seed}', write)


# Fields of ZIP headers: offset, format, values.
_LOCAL = {
  'version': (4, 'H', (0, 99)),
  'flags': (6, 'H', (1, 8, 64, 0x800, 0xFFFF)),
  'method': (8, 'H', (8, 9, 12, 14, 93, 99)),
  'name length': (26, 'H', (0, 5, 0xFFFF)),
  'extra length': (28, 'H', (1, 0xFFFF)),
}
_CENTRAL = {
  'version': (6, 'H', (99,)),
  'flags': (8, 'H', (1, 8, 64, 0x800, 0xFFFF)),
  'method': (10, 'H', (8, 9, 12, 14, 93, 99)),
  'crc': (16, 'I', (0, 1)),
  'compressed size': (20, 'I', (0, 1, 2**31, 2**32 - 1)),
  'size': (24, 'I', (0, 1, 2**31, 2**32 - 1)),
  'name length': (28, 'H', (0, 5, 0xFFFF)),
  'extra length': (30, 'H', (1, 0xFFFF)),
  'comment length': (32, 'H', (1, 0xFFFF)),
  'offset': (42, 'I', (1, 500, 2**31, 2**32 - 1)),
  'name': (46, 'B', (0xFF, 0, 10)),
}
_END = {
  'entries': (10, 'H', (0, 1, 0xFFFF)),
  'size': (12, 'I', (0, 1, 2**32 - 1)),
  'offset': (16, 'I', (0, 1, 2**32 - 1)),
}


def zip_fields(start):
  for signature, fields, ending in (
    (b'PK\3\4', _LOCAL, 'any'),
    (b'PK\1\2', _CENTRAL, 'any'),
    (b'PK\5\6', _END, 'any'),
  ):
    for field, (offset, form, values) in fields.items():
      for value in values:

        def write(folder, s=signature, offset=offset, form=form, value=value):
          data = bytearray((start / 'plain.npz').read_bytes())
          struct.pack_into(f'<{form}', data, data.index(s) + offset, value)
          (folder / 'x.npz').write_bytes(data)
          return folder / 'x.npz'

        name = f'{signature[2:]} {field} {value}'
        yield malformed.Case('ZIP fields', name, write, ending)


def npy(header, data=b'', version=(1, 0)):
  """Returns an .npy file with this text as its header."""
  text = header.encode() + b'\n'
  length = struct.pack('<H' if version == (1, 0) else '<I', len(text))
  return b'\x93NUMPY' + bytes(version) + length + text + data


def descr(shape, dtype="'<f4'", order=False):
  return f"{{'descr': {dtype}, 'fortran_order': {order}, 'shape': {shape}}}"


def write_members(path, members, method=zipfile.ZIP_STORED):
  with zipfile.ZipFile(path, 'w', method) as archive:
    for name, data in members:
      archive.writestr(name, data)
  return path


def members_of(arrays):
  for name, array in arrays.items():
    shape = ', '.join(map(str, array.shape))
    header = descr(f'({shape},)' if shape else '()')
    yield f'{name}.npy', npy(header, np.ascontiguousarray(array).tobytes())


def npy_headers(start):
  del start
  scale = ARRAYS['Transformer/encoder_norm/scale']
  data, doubles = scale.tobytes(), scale.astype('f8').tobytes()
  swapped = scale.astype('>f4').tobytes()
  right = {
    'unchanged': npy(descr('(12,)'), data),
    'Fortran order': npy(descr('(12,)', order=True), data),
    'version 2': npy(descr('(12,)'), data, (2, 0)),
    'big-endian': npy(descr('(12,)', "'>f4'"), swapped),
    'spaces': npy(descr('(12,)') + ' ' * 3000, data),
  }
  wrong = {
    'huge': npy(descr('(10**9, 10**9)'), data),
    'huge numbers': npy(descr(f'({10**9}, {10**9})'), data),
    'large': npy(descr(f'({2**40},)'), data),
    'beyond 64 bits': npy(descr(f'({10**40},)'), data),
    'thousands of digits': npy(descr('(1' + '0' * 4000 + ',)'), data),
    'wraps to 12': npy(descr(f'({2**62 * 4 + 12},)'), data),
    'negative': npy(descr('(-12,)'), data),
    'two negative': npy(descr('(-3, -4)'), data),
    'zero': npy(descr('(0, 12)'), data),
    'empty': npy(descr('(0,)')),
    '0-d': npy(descr('()'), data[:4]),
    'many axes': npy(descr('(12' + ', 1' * 99 + ')'), data),
    'wrong length': npy(descr('(11,)'), data[:44]),
    'matrix': npy(descr('(3, 4)'), data),
    'not a tuple': npy(descr('[12]'), data),
    'text': npy(descr("('12',)"), data),
    'boolean': npy(descr('(True,)'), data[:4]),
    'float': npy(descr('(12.0,)'), data),
    'objects': npy(descr('(12,)', "'|O'"), data),
    'structure': npy(descr('(12,)', "[('a', '<f4')]"), data),
    'objects in a structure': npy(descr('(12,)', "[('a', '|O')]"), data),
    'subarray': npy(descr('(4,)', "('<f4', (3,))"), data),
    'strings': npy(descr('(12,)', "'<U1'"), data),
    'bytes': npy(descr('(3,)', "'|S16'"), data),
    'no bytes': npy(descr('(12,)', "'|S0'")),
    'integers': npy(descr('(12,)', "'<i4'"), data),
    'complex': npy(descr('(6,)', "'<c8'"), data),
    'dates': npy(descr('(6,)', "'<M8[s]'"), data),
    'raw': npy(descr('(12,)', "'|V4'"), data),
    'large items': npy(descr('(1,)', "'|V2000000000'"), data),
    'unknown type': npy(descr('(12,)', "'<q99'"), data),
    'type of a number': npy(descr('(12,)', '12'), data),
    'type of None': npy(descr('(12,)', 'None'), data),
    'longer data': npy(descr('(12,)'), data + b'x'),
    'shorter data': npy(descr('(12,)'), data[:-1]),
    'other width of items': npy(descr('(12,)'), doubles),
    'no dict': npy("'x'", data),
    'no keys': npy('{}', data),
    'more keys': npy(descr('(12,)')[:-1] + ", 'x': 1}", data),
    'no order': npy("{'descr': '<f4', 'shape': (12,)}", data),
    'order': npy(descr('(12,)', order="'x'"), data),
    'syntax': npy('{', data),
    'code': npy("__import__('os').system('true')", data),
    'nesting': npy('(' * 3000, data),
    'signs': npy('-' * 3000 + '1', data),
    'long': npy(descr('(12,)') + ' ' * 20000, data),
    'very long': npy(descr('(12,)') + ' ' * 9_000_000, data, (2, 0)),
    'version 3': npy(descr('(12,)'), data, (3, 0)),
    'version 9': npy(descr('(12,)'), data, (9, 0)),
    'no magic': data,
    'nothing': b'',
    'only magic': b'\x93NUMPY',
    'nulls': npy('\0' * 20, data),
  }
  for ending, headers in (('result', right), ('error', wrong)):
    for name, member in headers.items():

      def write(folder, member=member):
        members = dict(members_of(ARRAYS))
        members['Transformer/encoder_norm/scale.npy'] = member
        return write_members(folder / 'x.npz', members.items())

      yield malformed.Case('.npy headers', name, write, ending)


def archives(start):
  """Whole archives: members that are missing, repeated or too many."""
  del start
  for name in NAMES:
    if 'pos_embedding' in name:  # A model may have no positions.
      continue
    rest = {k: v for k, v in ARRAYS.items() if k != name}
    yield _archive('missing member', name, rest, ending='error')
  for name in NAMES:
    flat = ARRAYS | {name: np.float32(1)}
    yield _archive('0-d member', name, flat, ending='error')
    below = ARRAYS | {f'{name}/more': np.zeros(3, 'f4')}
    yield _archive('name below an array', name, below, ending='error')
  for name in NAMES[:5]:
    wide = ARRAYS | {name: np.zeros((*ARRAYS[name].shape, 2), 'f4')}
    yield _archive('one more axis', name, wide, ending='error')
    long = np.concatenate([ARRAYS[name]] * 2, -1)
    yield _archive('longer axis', name, ARRAYS | {name: long})
  for name in ('..', '../../x', '/etc/x', '', 'a//b', '\x1b[31m', 'x' * 300):
    extra = ARRAYS | {name: np.zeros(3, 'f4')}
    yield _archive('name of a member', repr(name[:9]), extra, ending='error')
  for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
    yield _archive(
      'compression', str(method), ARRAYS, method=method, ending='error'
    )
  unread = {'opt/count': np.zeros((), 'i4'), 'opt/x': np.zeros(3, 'f4')}
  prefixed = {f'params/{k}': v for k, v in ARRAYS.items()}
  for name in ('Transformer/posembed_input/pos_embedding',):
    prefixed['params/pos_embedding'] = prefixed.pop(f'params/{name}')[:, 1:]
  yield _archive('optimizer state', 'small', prefixed | unread, ending='result')

  def write_large(folder):
    path = write_members(folder / 'x.npz', members_of(prefixed))
    for number in range(5):
      _append_zeros(path, f'opt/{number}.npy')
    return path

  yield malformed.Case('optimizer state', '20 GB', write_large, 'result')

  def write_bomb(folder):
    rest = {k: v for k, v in ARRAYS.items() if k != 'head/kernel'}
    path = write_members(folder / 'x.npz', members_of(rest))
    _append_zeros(path, 'head/kernel.npy')
    return path

  yield malformed.Case('bomb', 'head', write_bomb, 'error')

  def write_declared(folder):
    path = write_members(folder / 'x.npz', members_of(ARRAYS))
    data = bytearray(path.read_bytes())
    place = data.index(b'PK\1\2')
    struct.pack_into('<II', data, place + 20, 2**31, 2**31)
    path.write_bytes(data)
    return path

  yield malformed.Case('bomb', 'declared size', write_declared, 'error')

  def write_twice(folder):
    members = [*members_of(ARRAYS), *list(members_of(ARRAYS))[:1]]
    return write_members(folder / 'x.npz', members)

  yield malformed.Case('repeated member', 'first', write_twice, 'error')

  def write_latin(folder):
    data = (write_members(folder / 'x.npz', members_of(ARRAYS))).read_bytes()
    (folder / 'x.npz').write_bytes(
      data.replace(b'head/bias', b'head/\xff\xfe\xfdx')
    )
    return folder / 'x.npz'

  yield malformed.Case('name of a member', 'not UTF-8', write_latin, 'error')
  for content in (
    b'',
    b'PK',
    b'PK\5\6' + bytes(18),
    b'\x93NUMPY',
    b'\x80\x02}',
  ):

    def write(folder, content=content):
      (folder / 'x.npz').write_bytes(content)
      return folder / 'x.npz'

    yield malformed.Case('no archive', repr(content[:6]), write, 'error')


def _archive(kind, name, arrays, *, method=zipfile.ZIP_STORED, ending='any'):
  return malformed.Case(
    kind,
    name,
    lambda folder: write_members(folder / 'x.npz', members_of(arrays), method),
    ending,
  )


def _append_zeros(path, name):
  """Adds an array of 4 GB, compressed to 4 MB without writing it out."""
  size, number = 1 << 26, 60
  header = npy(descr(f'({number * size // 4},)'))
  deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
  parts = [
    deflate.compress(data) + deflate.flush(zlib.Z_FULL_FLUSH)
    for data in (header, bytes(size))
  ]
  with zipfile.ZipFile(path, 'a') as archive:
    archive.writestr(name, parts[0] + parts[1] * number + deflate.flush())
    (info,) = (x for x in archive.filelist if x.filename == name)
    # Written into the directory of the archive, which readers follow.
    info.compress_type = zipfile.ZIP_DEFLATED
    info.file_size = len(header) + number * size


# safetensors.


def safetensors_headers(start):
  data = (start / 'timm.safetensors').read_bytes()
  length = int.from_bytes(data[:8], 'little')
  header, body = json.loads(data[8 : 8 + length]), data[8 + length :]
  first = min(k for k in header if k != '__metadata__')
  others = [k for k in header if k not in (first, '__metadata__')]
  for name, value in {
    'zero': 0, 'one': 1, 'beyond': len(data), 'huge': 2**63, 'all': 2**64 - 1,
    'short': length - 1, 'long': length + 1,
  }.items():  # fmt: skip
    yield _file(
      'safetensors header length',
      name,
      value.to_bytes(8, 'little') + data[8:],
      'error',
    )
  entry = header[first]
  for name, change in {
    'no entry': None,
    'empty entry': {},
    'text': 'x',
    'unknown type': entry | {'dtype': 'F8_E4M3'},
    'integers': entry | {'dtype': 'I32'},
    'type of a list': entry | {'dtype': ['F32']},
    'wider type': entry | {'dtype': 'F64'},
    'no shape': entry | {'shape': None},
    'text in a shape': entry | {'shape': ['1']},
    'negative': entry | {'shape': [-1, -12]},
    'huge': entry | {'shape': [10**9, 10**9]},
    'thousands of digits': entry | {'shape': [10**4000, 10**4000]},
    'other shape': entry | {'shape': [entry['shape'][-1]]},
    'no axis': entry | {'shape': []},
    'no offsets': entry | {'data_offsets': []},
    'swapped offsets': entry | {'data_offsets': entry['data_offsets'][::-1]},
    'negative offsets': entry | {'data_offsets': [-4, 44]},
    'offsets beyond': entry | {'data_offsets': [10**12, 10**12 + 48]},
    'text in offsets': entry | {'data_offsets': ['0', '48']},
    'overlap': entry | {'data_offsets': header[others[0]]['data_offsets']},
  }.items():
    text = json.dumps(header | {first: change})
    yield _safetensors('safetensors entry', name, text, body, 'any')
  missing = {k: v for k, v in header.items() if k != first}
  yield _safetensors('safetensors entry', 'gap', json.dumps(missing), body)
  for name in others:
    size = np.subtract(*header[name]['data_offsets'][::-1])
    rest = {k: v for k, v in header.items() if k != name}
    begin = header[name]['data_offsets'][0]
    for key, other in rest.items():
      if key != '__metadata__' and other['data_offsets'][0] > begin:
        offsets = [int(x - size) for x in other['data_offsets']]
        rest[key] = other | {'data_offsets': offsets}
    kept = body[:begin] + body[begin + size :]
    yield _safetensors(
      'safetensors without an array', name, json.dumps(rest), kept
    )
  for name, text in {
    'empty': '',
    'no object': '[1]',
    'cut': json.dumps(header)[:-30],
    'nesting': '{"a":' * 100_000,
    'list nesting': '[' * 100_000,
    'nulls': '\0' * 40,
    'repeated': json.dumps(header)[:-1]
    + f', {json.dumps(first)}: {json.dumps(entry)}}}',
    'metadata of numbers': json.dumps(header | {'__metadata__': {'heads': 3}}),
    'metadata of a list': json.dumps(header | {'__metadata__': [1]}),
    'metadata of null': json.dumps(header | {'__metadata__': None}),
    'digits': '{"a":' + '9' * 5000 + '}',
  }.items():
    yield _safetensors('safetensors JSON', name, text, body)
  for key in ('heads', 'gelu', 'norm_eps', 'class_names', 'evaluation', 'mean',
              'std'):  # fmt: skip
    for value in ('', 'x', '-1', '0', 'NaN', '[]', '{}', '[[1]]', '1e999',
                  '{"crop": 5}', '{"crop": "x"}', '{"image_size": [0, 1]}',
                  '[' * 50_000):  # fmt: skip
      metadata = header['__metadata__'] | {key: value}
      text = json.dumps(header | {'__metadata__': metadata})
      yield _safetensors(
        'safetensors metadata', f'{key} {value[:9]}', text, body, 'any'
      )


def _safetensors(kind, name, text, body, ending='error'):
  text = text.encode()
  return _file(
    kind, name, len(text).to_bytes(8, 'little') + text + body, ending
  )


def _file(kind, name, content, ending, file_name='x.safetensors'):
  def write(folder):
    (folder / file_name).write_bytes(content)
    return folder / file_name

  return malformed.Case(kind, name, write, ending)


# JSON beside weight files.

VALUES = (
  None, True, 0, -1, 3, 10**30, 1e308, float('nan'), '', 'x', [], [1],
  [1, 2, 3],  ['a'], {}, {'a': 1}, {'height': -1, 'width': 0}, [[[]]],
)  # fmt: skip


def some_values(seed):
  """Returns a third of the values."""
  rng = np.random.default_rng(len(str(seed)))
  chosen = rng.choice(len(VALUES), len(VALUES) // 3, replace=False)
  return [VALUES[i] for i in sorted(chosen)]


def json_values(start):
  timm_config = {
    'architecture': 'vit', 'global_pool': 'token', 'label_names': list('abcd'),
    'model_args': {'num_heads': 3, 'img_size': [16, 24]},
    'pretrained_cfg': {
      'input_size': [3, 16, 24], 'interpolation': 'bicubic', 'crop_pct': 1.0,
      'crop_mode': 'center', 'mean': [0.5] * 3, 'std': [0.5] * 3,
    },
  }  # fmt: skip
  files = {
    ('hf', name): json.loads((start / 'hf' / name).read_text())
    for name in ('config.json', 'preprocessor_config.json')
  }
  files['timm', 'config.json'] = timm_config
  for (folder, name), content in files.items():
    for keys in _keys(content):
      for value in some_values(keys):
        changed = json.loads(json.dumps(content))
        inner = changed
        for key in keys[:-1]:
          inner = inner[key]
        inner[keys[-1]] = value
        yield _beside(
          start, folder, name, f'{keys[-1]} {value!r}', json.dumps(changed)
        )
    for text in ('', '[]', '3', '{', '"x"', '{"a":' * 100_000, '\0', '\xff'):
      yield _beside(start, folder, name, f'text {text[:9]!r}', text)
  run_config = {
    'model.gelu': 'erf', 'model.norm_eps': 1e-6, 'loss': 'softmax',
    'data.image_size': 16, 'data.image_width': 24, 'data.eval_crop': 'resize',
    'data.eval_interpolation': 'bilinear', 'data.precrop_size': 32,
    'data.trim_px': 0,
  }  # fmt: skip
  for key in run_config:
    for value in some_values(key):
      text = json.dumps(run_config | {key: value})
      yield _beside(start, 'run', 'config.json', f'{key} {value!r}', text)
  for value in VALUES:
    text = json.dumps({'class_names': value})
    yield _beside(start, 'run', 'results.json', f'names {value!r}', text)


def _keys(content, prefix=()):
  for key, value in content.items():
    yield (*prefix, key)
    if isinstance(value, dict) and key != 'label2id':
      yield from _keys(value, (*prefix, key))


def _beside(start, source, name, what, text):
  def write(folder):
    shutil.copytree(start / source, folder / source)
    (folder / source / name).write_bytes(text.encode('latin-1'))
    return folder / source

  return malformed.Case(f'{source}/{name}', what, write)


# Folders of checkpoints.


def run_folders(start):
  root = start / 'run'
  names = sorted(
    path.relative_to(root).as_posix()
    for path in root.rglob('*')
    if path.is_file()
  )
  for name in names:
    for seed in range(4):
      for is_hidden in (False, True):

        def write(folder, name=name, seed=seed, is_hidden=is_hidden):
          copy = _copy_run(start, folder)
          data = (copy / name).read_bytes() or b'x'
          (copy / name).write_bytes(mutated(data, seed + len(name)))
          return _with_checksums(copy, is_hidden)

        kind = f'bytes of a checkpoint{", with checksums" * is_hidden}'
        yield malformed.Case(kind, f'{name} {seed}', write)

    def remove(folder, name=name):
      copy = _copy_run(start, folder)
      (copy / name).unlink()
      return copy

    def replace_by_folder(folder, name=name):
      copy = remove(folder, name)
      (copy / name).mkdir()
      return copy

    def replace_by_pipe(folder, name=name):
      copy = remove(folder, name)
      os.mkfifo(copy / name)
      return copy

    yield malformed.Case('missing file of a checkpoint', name, remove)
    yield malformed.Case('folder in a checkpoint', name, replace_by_folder)
    yield malformed.Case('pipe in a checkpoint', name, replace_by_pipe)
  for text in (
    '{}', '[]', '{"files": 3}', '{"files": {"x": 3}}',
    '{"files": {"/dev/zero": {"size": 0, "crc32": 0}}}',
    '{"files": {"../../../x": {"size": 0, "crc32": 0}}}',
  ):  # fmt: skip

    def write_manifest(folder, text=text):
      copy = _copy_run(start, folder)
      (copy / 'checkpoints/3' / checksums.MANIFEST).write_text(text)
      return copy

    yield malformed.Case('manifest', text, write_manifest)
  for name in ('²', '٣', '-3', '3.5', '9' * 200):

    def write_step(folder, name=name):
      copy = _copy_run(start, folder)
      shutil.copytree(copy / 'checkpoints/3', copy / 'checkpoints' / name)
      return copy

    yield malformed.Case('name of a step', name[:9], write_step)


def _copy_run(start, folder):
  return pathlib.Path(shutil.copytree(start / 'run', folder / 'run'))


def _with_checksums(copy, is_hidden):
  """Returns the folder, with checksums of its bytes if damage is hidden."""
  if is_hidden and (copy / 'checkpoints/3').is_dir():
    checksums.write_manifest(epath.Path(copy) / 'checkpoints/3')
  return copy


# Paths.


def paths(start):
  def pipe(folder):
    os.mkfifo(folder / 'x.npz')
    return folder / 'x.npz'

  def bound_socket(folder):
    here = os.getcwd()
    os.chdir(folder)  # Names of sockets are short.
    try:
      with socket.socket(socket.AF_UNIX) as server:
        server.bind('x.npz')
    finally:
      os.chdir(here)
    return folder / 'x.npz'

  def directory(folder):
    (folder / 'x.npz').mkdir()
    return folder / 'x.npz'

  def pipe_of_folder(folder):
    shutil.copytree(start / 'hf', folder / 'hf')
    (folder / 'hf/model.safetensors').unlink()
    os.mkfifo(folder / 'hf/model.safetensors')
    return folder / 'hf'

  def pipe_of_json(folder):
    shutil.copytree(start / 'hf', folder / 'hf')
    (folder / 'hf/config.json').unlink()
    os.mkfifo(folder / 'hf/config.json')
    return folder / 'hf'

  def broken_link(folder):
    (folder / 'x.npz').symlink_to('nowhere')
    return folder / 'x.npz'

  def circular_link(folder):
    (folder / 'x.npz').symlink_to('x.npz')
    return folder / 'x.npz'

  for write in (pipe, bound_socket, directory, pipe_of_folder, pipe_of_json,
                broken_link, circular_link):  # fmt: skip
    yield malformed.Case('path', write.__name__, write, 'error')
  for path in ('/dev/zero', '/dev/stdin', '/proc/self/mem', '', 'a\0b', '/',
               'x' * 300):  # fmt: skip
    yield malformed.Case('path', path[:9], lambda _, p=path: p, 'error')


@pytest.mark.parametrize(
  'make',
  [
    changed_bytes, zip_fields, npy_headers, archives, safetensors_headers,
    json_values, run_folders, paths,
  ],
)  # fmt: skip
@pytest.mark.filterwarnings(
  'ignore:Duplicate name',
  # Late reads of Orbax, which `foreign_errors.hide_late_reads` hides.
  'ignore::pytest.PytestUnraisableExceptionWarning',
)
def test_malformed_weights(make, start, tmp_path):
  counts = malformed.run(make(start), tmp_path, use)
  assert counts.total() > 10
