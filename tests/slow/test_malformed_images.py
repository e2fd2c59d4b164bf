"""Malformed and hostile image files, through everything that reads images.

Every file ends in an image, a skip or one error, within 60 s and 4 GiB. The
tests print what became of each kind:

  python -m pytest -o addopts= -s tests/slow/test_malformed_images.py
"""

import collections
import io
import json
import os
import resource
import struct
import time
import zlib

import numpy as np
from PIL import Image
import pytest

import runs
from vit_jax import checkpoints, main, models
from vit_jax.data import (
  decode,
  folder,
  near_duplicates,
  photos,
  pipeline,
  preprocess,
)
from vit_jax.data.lazy_tensorflow import tf
import weights

pytestmark = pytest.mark.filterwarnings('default')  # Pillow's, about files.

MAX_SECONDS = 60
MAX_BYTES = 4 * 2**30
SIZE = (32, 32)
TRANSFORMS = {
  'evaluation': preprocess.eval_transform(
    image_size=SIZE, crop='center', precrop_size=(40, 40)
  ),
  'antialiased': preprocess.eval_transform(
    image_size=SIZE, crop='resize', interpolation='lanczos_antialias'
  ),
  'training': lambda raw: preprocess.train_transform(
    image_size=SIZE, crop='inception', flip=True
  )(raw, tf.constant([1, 2], tf.int64)),
  'de-duplication': near_duplicates.thumbnail,
}


def encode(image, kind, **options):
  file = io.BytesIO()
  image.save(file, kind, **options)
  return file.getvalue()


def smooth(height=40, width=56):
  y, x = np.mgrid[:height, :width]
  channels = [x * 255 // width, y * 255 // height, 255 - x * 255 // width]
  return Image.fromarray(np.stack(channels, -1).astype(np.uint8))


KINDS = {
  'JPEG': {'quality': 90},
  'PNG': {},
  'GIF': {},
  'BMP': {},
  'WEBP': {},
  'TIFF': {'compression': 'tiff_lzw'},
}


def flip(count):
  def change(raw, rng):
    raw = bytearray(raw)
    for place in rng.integers(len(raw), size=count):
      raw[place] ^= rng.integers(1, 256)
    return bytes(raw)

  return change


def overwrite(value):
  def change(raw, rng):
    begin = int(rng.integers(len(raw) // 2))
    end = begin + len(raw) // 5
    middle = rng.bytes(end - begin) if value is None else value * (end - begin)
    return raw[:begin] + middle + raw[end:]

  return change


MUTATIONS = {
  'unchanged': lambda raw, rng: raw,
  'cut to 5 bytes': lambda raw, rng: raw[:5],
  'cut to 40 bytes': lambda raw, rng: raw[:40],
  'cut in half': lambda raw, rng: raw[: len(raw) // 2],
  'cut by 3 bytes': lambda raw, rng: raw[:-3],
  'a byte changed in the header': lambda raw, rng: (
    flip(1)(raw[:64], rng) + raw[64:]
  ),
  'a byte changed': flip(1),
  '30 bytes changed': flip(30),
  'a fifth zeroed': overwrite(b'\0'),
  'a fifth of 0xff': overwrite(b'\xff'),
  'a fifth random': overwrite(None),
  'only a signature': lambda raw, rng: raw[:8] + rng.bytes(500),
  'other signature': lambda raw, rng: b'NOPE' + raw[4:],
  'followed by more': lambda raw, rng: raw + rng.bytes(1000),
  'twice': lambda raw, rng: raw + raw,
  'reversed': lambda raw, rng: raw[::-1],
}


def png(width, height, body, *chunks, depth=8, color=2):
  """Returns a PNG file with any header, chunks and compressed pixels."""
  header = struct.pack('>IIBBBBB', width, height, depth, color, 0, 0, 0)
  parts = [(b'IHDR', header), *chunks, (b'IDAT', body), (b'IEND', b'')]
  return b'\x89PNG\r\n\x1a\n' + b''.join(
    struct.pack('>I', len(data))
    + name
    + data
    + struct.pack('>I', zlib.crc32(name + data))
    for name, data in parts
  )


def blank_png(width, height):
  """Returns a valid PNG file of black pixels, written row by row."""
  compressor = zlib.compressobj(1)
  row = bytes(1 + 3 * width)
  rows = max(1, 2**20 // len(row))
  body = [
    compressor.compress(row * min(rows, height - start))
    for start in range(0, height, rows)
  ]
  return png(width, height, b''.join(body) + compressor.flush())


def claims(kind, width, height):
  """Returns a small file whose header claims these sizes."""
  raw = bytearray(encode(smooth(), kind, **KINDS[kind]))
  if kind == 'PNG':
    return png(width, height, zlib.compress(bytes(1000)))
  if kind == 'TIFF':
    for tag, value in ((256, width), (257, height)):
      place = raw.find(struct.pack('<H', tag), 8)
      raw[place : place + 12] = struct.pack('<HHII', tag, 4, 1, value)
  elif kind == 'JPEG':
    place = raw.find(b'\xff\xc0') + 5
    raw[place : place + 4] = struct.pack('>HH', height, width)
  elif kind == 'GIF':
    for place in (6, raw.find(b',\0\0\0\0') + 5):
      raw[place : place + 4] = struct.pack('<HH', width, height)
  elif kind == 'BMP':
    raw[18:26] = struct.pack('<ii', width, height)
  elif kind == 'WEBP':  # The header of a lossy frame.
    place = raw.find(b'\x9d\x01\x2a') + 3
    raw[place : place + 4] = struct.pack('<HH', width & 16383, height & 16383)
  return bytes(raw)


def many_scans():
  """Returns a progressive JPEG file that refines its pixels 2,000 times."""
  raw = encode(smooth(400, 600), 'JPEG', progressive=True)
  last = raw.rfind(b'\xff\xda')
  return raw[:last] + raw[last:-2] * 2_000 + raw[-2:]


def many_frames(count, side):
  frames = [Image.new('L', (side, side), k % 250) for k in range(count)]
  return encode(frames[0], 'GIF', save_all=True, append_images=frames[1:])


def looping_tiff():
  """Returns a TIFF file whose directory is its own successor."""
  raw = bytearray(encode(smooth(), 'TIFF'))
  (directory,) = struct.unpack('<I', raw[4:8])
  (entries,) = struct.unpack('<H', raw[directory : directory + 2])
  end = directory + 2 + 12 * entries
  raw[end : end + 4] = struct.pack('<I', directory)
  return bytes(raw)


def exif_bomb():
  """Returns a JPEG file whose EXIF data claims a billion values."""
  entry = struct.pack('<HHII', 0x0112, 3, 2**30, 8)
  data = b'Exif\0\0II*\0\x08\0\0\0\xff\xff' + entry * 100
  raw = encode(smooth(), 'JPEG')
  return (
    raw[:2] + b'\xff\xe1' + struct.pack('>H', len(data) + 2) + data + raw[2:]
  )


TEXT_BOMB = (b'zTXt', b'Comment\0\0' + zlib.compress(bytes(2 * 10**8)))
PROFILE_BOMB = (b'iCCP', b'profile\0\0' + zlib.compress(bytes(2 * 10**8)))
LINE = (1, 100_000)

# By name: content, and whether it is an image, if that is certain.
HOSTILE = {
  'empty.jpg': (lambda: b'', False),
  'text.png': (lambda: b'words', False),
  'svg.png': (lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>', False),
  'script.jpg': (lambda: b'%!PS-Adobe-3.0 EPSF-3.0\n', False),
  'pdf.tif': (lambda: b'%PDF-1.7\n', False),
  'xl.jpg': (lambda: b'\xff\x0a' + bytes(100), False),
  'heic.jpg': (lambda: b'\0\0\0\x18ftypheic' + bytes(100), False),
  'song.webp': (lambda: b'RIFF\x24\0\0\0WAVEfmt ' + bytes(30), False),
  'zeros.gif': (lambda: bytes(10_000), False),
  'wide.png': (lambda: blank_png(*LINE[::-1]), True),
  'tall.png': (lambda: blank_png(*LINE), True),
  'wide.jpg': (lambda: encode(Image.new('L', (65_000, 1)), 'JPEG'), True),
  'tall.jpg': (lambda: encode(Image.new('L', (1, 65_000)), 'JPEG'), True),
  'wide.gif': (lambda: encode(Image.new('L', (65_000, 1)), 'GIF'), True),
  'tall.bmp': (lambda: encode(Image.new('L', LINE), 'BMP'), True),
  'wide.tif': (lambda: encode(Image.new('RGB', LINE[::-1]), 'TIFF'), True),
  'tall.webp': (lambda: encode(Image.new('RGB', (1, 16_383)), 'WEBP'), True),
  'large.png': (lambda: blank_png(13_000, 13_000), True),
  'too_large.png': (lambda: blank_png(13_400, 13_400), False),
  'large.jpg': (lambda: encode(Image.new('L', (13_000, 13_000)), 'JPEG'), True),
  'claims.png': (lambda: claims('PNG', 12_000, 12_000), False),
  'claims.jpg': (lambda: claims('JPEG', 12_000, 12_000), False),
  'claims.gif': (lambda: claims('GIF', 12_000, 12_000), None),
  'claims.bmp': (lambda: claims('BMP', 12_000, 12_000), False),
  'claims.tif': (lambda: claims('TIFF', 12_000, 12_000), False),
  'claims.webp': (lambda: claims('WEBP', 12_000, 12_000), False),
  'huge.png': (lambda: claims('PNG', 2**31 - 1, 2**31 - 1), False),
  'huge.jpg': (lambda: claims('JPEG', 65_500, 65_500), False),
  'huge.gif': (lambda: claims('GIF', 65_535, 65_535), False),
  'huge.bmp': (lambda: claims('BMP', 2**31 - 1, 2**31 - 1), False),
  'negative.bmp': (lambda: claims('BMP', -5, -(2**31)), False),
  'huge.tif': (lambda: claims('TIFF', 2**32 - 1, 2**32 - 1), False),
  'huge.webp': (lambda: claims('WEBP', 16_383, 16_383), False),
  'nothing.png': (lambda: claims('PNG', 0, 5), False),
  'nothing.gif': (lambda: claims('GIF', 0, 0), False),
  'nothing.jpg': (lambda: claims('JPEG', 56, 0), False),
  'text_bomb.png': (
    lambda: png(1, 1, zlib.compress(bytes(4)), *[TEXT_BOMB] * 10),
    None,
  ),
  'profile_bomb.png': (
    lambda: png(1, 1, zlib.compress(bytes(4)), PROFILE_BOMB),
    None,
  ),
  'pixel_bomb.png': (lambda: png(1, 1, zlib.compress(bytes(10**9), 1)), None),
  'depth.png': (lambda: png(4, 4, zlib.compress(bytes(99)), depth=7), False),
  'frames.gif': (lambda: many_frames(3_000, 100), True),
  'large_frames.gif': (lambda: many_frames(300, 1_000), True),
  'scans.jpg': (many_scans, None),
  'loop.tif': (looping_tiff, True),
  'exif_bomb.jpg': (exif_bomb, True),
}


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  """A folder of one class, and the kind and certainty of each file."""
  root = tmp_path_factory.mktemp('malformed')
  images = root / 'train' / 'all'
  images.mkdir(parents=True)
  kinds, certain = {}, {}
  for kind, options in KINDS.items():
    raw = encode(smooth(), kind, **options)
    for number, (name, change) in enumerate(MUTATIONS.items()):
      file = f'{kind}_{name.replace(" ", "_")}.{kind.lower()}'
      (images / file).write_bytes(change(raw, np.random.default_rng(number)))
      kinds[file] = kind
      if name in ('unchanged', 'followed by more', 'twice'):
        certain[file] = True
      if name in ('cut to 5 bytes', 'other signature'):
        certain[file] = False
  for file, (content, is_image) in HOSTILE.items():
    (images / file).write_bytes(content())
    kinds[file] = 'made by hand'
    if is_image is not None:
      certain[file] = is_image
  (images / 'folder.jpg').mkdir()
  (images / 'link.png').symlink_to('nowhere')
  os.mkfifo(images / 'pipe.gif')
  for file in ('folder.jpg', 'link.png', 'pipe.gif'):
    kinds[file], certain[file] = 'no regular file', False
  return images, kinds, certain


def peak_bytes():
  return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def is_plain(reason):
  """Returns whether a reason is one line, without parts of TensorFlow."""
  parts = ('\n', '{{', 'Traceback', '[Op:', 'object at 0x', 'Error:')
  return reason and not any(part in reason for part in parts)


@pytest.fixture(scope='module')
def read(data):
  """The image or the reason of every file, from single files."""
  images, kinds, _ = data
  transforms = {name: tf.function(f) for name, f in TRANSFORMS.items()}
  found, slowest, largest = {}, {}, {}
  for file in sorted(kinds):
    results = {}
    begin, peak = time.perf_counter(), peak_bytes()
    for name, transform in (*TRANSFORMS.items(), *transforms.items()):
      try:
        results.setdefault(name, []).append(
          photos.read(str(images / file), transform)
        )
      except ValueError as error:
        results.setdefault(name, []).append(str(error))
    slowest[file] = (time.perf_counter() - begin) / 8
    largest[file] = peak_bytes() - peak
    found[file] = results
  for title, values in (('seconds', slowest), ('more peak bytes', largest)):
    most = sorted(values, key=values.get, reverse=True)[:6]
    print(f'\n{title}:', *(f'{name} {values[name]:,.1f}' for name in most))
  print(f'peak {peak_bytes() / 2**30:.2f} GiB')
  assert max(slowest.values()) < MAX_SECONDS
  assert peak_bytes() < MAX_BYTES
  return found


def is_read(results):
  return isinstance(results['evaluation'][0], np.ndarray)


def test_single_files(data, read):
  _, kinds, certain = data
  assert len(kinds) >= 140
  counts = collections.Counter()
  for file, results in read.items():
    for name, (eager, graph) in results.items():
      was_read = isinstance(eager, np.ndarray)
      # Of a JPEG file, training may not need the damaged part.
      may_differ = name == 'training' and kinds[file] == 'JPEG'
      assert was_read == is_read(results) or may_differ, (file, name, eager)
      if was_read:
        assert np.isfinite(eager).all(), file
        np.testing.assert_allclose(graph, eager, atol=1e-5, err_msg=file)
      else:
        assert is_plain(eager), (file, eager)
        assert is_plain(graph), (file, graph)
    if file in certain:
      assert is_read(results) == certain[file], (file, results['evaluation'])
    counts[kinds[file], 'read' if is_read(results) else 'refused'] += 1
  for kind in dict.fromkeys(kinds.values()):
    print(
      f'{kind}: {counts[kind, "read"]} read, {counts[kind, "refused"]} refused'
    )
  for file in ('too_large.png', 'huge.png', 'huge.jpg', 'huge.gif', 'huge.bmp'):
    assert 'data.max_pixels' in read[file]['evaluation'][0]


def test_intact_images_are_right(read):
  original = preprocess.eval_transform(
    image_size=SIZE, crop='center', precrop_size=(40, 40)
  )(tf.constant(np.array(smooth())))
  for kind in KINDS:
    for name in ('unchanged', 'followed_by_more', 'twice'):
      image = read[f'{kind}_{name}.{kind.lower()}']['evaluation'][0]
      lossy = kind in ('JPEG', 'GIF', 'WEBP')
      assert np.abs(image - original).max() < (0.4 if lossy else 1e-5), kind
  for file, content in HOSTILE.items():
    if content[1] and file not in ('loop.tif', 'exif_bomb.jpg'):
      np.testing.assert_allclose(read[file]['evaluation'][0], -1, err_msg=file)


def test_datasets_skip_the_same_files(data, read, caplog):
  images, _, _ = data
  root = images.parent.parent
  source = folder.open_folder(str(root), 'train')
  batches = pipeline.eval_batches(
    source, TRANSFORMS['evaluation'], batch_size=16, skip_corrupt=True
  )
  skipped = set()
  for batch in batches:
    for index in batch['index'][(batch['mask'] == 0) & (batch['index'] >= 0)]:
      skipped.add(os.path.basename(source.describe(int(index))))
  assert skipped == {file for file in read if not is_read(read[file])}
  lines = [
    r.getMessage() for r in caplog.records if 'skipped' in r.getMessage()
  ]
  assert len(lines) == pipeline.MAX_LOGGED
  assert all(is_plain(line.partition('cannot be read:')[2]) for line in lines)
  batches = pipeline.eval_batches(
    source, TRANSFORMS['evaluation'], batch_size=16
  )
  with pytest.raises(ValueError, match='cannot read .*/train/all/') as error:
    list(batches)
  assert is_plain(str(error.value))


def test_prediction_has_a_line_for_every_file(data, read, tmp_path, capsys):
  images, _, _ = data
  model = models.create('ViT-Ti/16', num_classes=3, **runs.SMALL)
  checkpoints.export(weights.random_params(model, SIZE), tmp_path / 'model.npz')
  config = runs.override(
    runs.load_config('predict', str(images)),
    init_from=str(tmp_path / 'model.npz'),
    batch_size=16,
  )
  main.run(config, tmp_path / 'run')
  lines = (tmp_path / 'run' / 'predictions.jsonl').read_text().splitlines()
  lines = {os.path.basename(x['example']): x for x in map(json.loads, lines)}
  assert set(lines) == set(read)
  for file, line in lines.items():
    assert ('top' in line) == is_read(read[file]), line
    assert 'top' in line or is_plain(line['error'])
  assert '\x1b' not in capsys.readouterr().out


@pytest.mark.parametrize('devices', [1, 4])
def test_batches_without_images_are_skipped(tmp_path, devices):
  photos_dir = tmp_path / 'photos'
  for split, count in (('train', 40), ('test', 4)):
    for i in range(count):
      path = photos_dir / split / 'ab'[i % 2] / f'{i}.png'
      path.parent.mkdir(parents=True, exist_ok=True)
      if split == 'test' or i < 6:
        Image.new('RGB', (8, 8), (40 * (i % 6),) * 3).save(path)
      else:
        path.write_bytes((b'', b'words', b'\x89PNG\r\n\x1a\n')[i % 3])
  arguments = (
    f'--config=configs/folder.py:{photos_dir}',
    '--config.model.name=ViT-Ti/4',
    '--config.model.depth=1',
    '--config.model.width=16',
    '--config.model.mlp_dim=16',
    '--config.model.heads=2',
    '--config.data.image_size=8',
    '--config.data.skip_corrupt=true',
    '--config.total_epochs=0',
    '--config.total_steps=30',
    '--config.batch_size=8',
    '--config.mixup=0.2',
    '--config.optim.accumulate=2',
    '--config.optim.ema_decay=0.9',
    '--config.optim.warmup_steps=2',
    '--config.log_every=1',
  )
  workdir = tmp_path / 'run'
  log = runs.finish(*arguments, f'--workdir={workdir}', devices=devices)
  assert 'no examples' in log
  assert 'error' not in log.replace('read: ', '')
  losses = [
    event['train/loss']
    for event in runs.events(workdir)
    if 'train/loss' in event
  ]
  assert 0 < len(losses) < 30
  assert np.isfinite(losses).all()


def test_the_default_limit_is_that_of_pillow():
  assert decode.MAX_PIXELS == 2 * (2**30 // 4 // 3)
