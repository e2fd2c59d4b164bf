"""Finds near-duplicates of test images in a training set."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
import functools
import itertools
import logging
import time

from etils import epath
import ml_collections
import numpy as np
from PIL import Image, ImageDraw

from vit_jax import build, printing
from vit_jax import config as config_lib
from vit_jax.data import decode, exclusions, pipeline
from vit_jax.data.near_duplicates import Match, Matcher, thumbnail
from vit_jax.data.source import NotPreparedError, Source
from vit_jax.workdir import appended_file, claim, console, files, results

_log = logging.getLogger(__name__)

EXCLUDE = 'exclude.json'
PAIRS = 'pairs.jsonl'
PICTURE = 'pairs.png'
# Duplicates found so far, one line per batch, to resume from.
_PROGRESS = 'found.jsonl'
_SECONDS_BETWEEN_LOGS = 10

# Layout of the picture.
_SIDE_PX = 128
_CAPTION_PX = 28
_GAP_PX = 6
_COLUMNS = 6


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Searches `data.train` for images of `dedup.against`.

  Writes the list for `data.exclude`, all pairs with their similarity, and a
  picture of the least similar ones.

  Raises:
    ValueError: if data is missing, an image cannot be read, or faiss is not
      installed.
  """
  if claim.is_finished(config_lib.flatten(config), workdir):
    return
  start = time.perf_counter()
  test_images = _TestImages(config)
  source = build.open_split(config, config.data.name, config.data.train)
  with console.phase(f'reading {test_images.num_examples} test images'):
    matcher = Matcher(test_images.thumbnails())
  claim.start(config_lib.flatten(config), workdir)
  duplicates = _search(config, source, matcher, workdir / _PROGRESS)
  pairs = [_describe(source, test_images, item) for item in duplicates]
  files.write_text(
    workdir / PAIRS,
    ''.join(files.json_text(pair, ensure_ascii=False) + '\n' for pair in pairs),
  )
  with console.phase(f'drawing {workdir / PICTURE}'):
    least_similar = sorted(duplicates, key=lambda item: item.similarity)
    least_similar = least_similar[: config.dedup.pictures]
    if least_similar:
      _draw(
        source,
        test_images,
        least_similar,
        functools.partial(decode.to_rgb, max_pixels=config.data.max_pixels),
        workdir / PICTURE,
      )
  examples = [pair['example'] for pair in pairs]
  files.write_json(
    workdir / EXCLUDE,
    exclusions.content(source.name, source.split, examples),
  )
  results.write(
    workdir,
    config.job,
    seconds=time.perf_counter() - start,
    on_devices=False,
    metrics={},
    num_examples=source.num_examples,
    num_test_images=test_images.num_examples,
    missing=test_images.missing,
    num_duplicates=len(pairs),
  )
  print(_table(test_images, duplicates))
  _log.info(
    'near-duplicates in %s %s: %d of %d examples; check %s, then train with'
    ' --config.data.exclude=%s',
    source.name, source.split, len(pairs), source.num_examples,
    workdir / PICTURE, workdir / EXCLUDE,
  )  # fmt: skip


class _TestImages:
  """The test images of all splits of `dedup.against`, concatenated."""

  def __init__(self, config: ml_collections.ConfigDict):
    self.sources: dict[str, Source] = {}
    self.missing: list[str] = []
    for item in config.dedup.against or ('',):
      name, equals, split = item.rpartition('=')
      if not (name and equals and split):
        raise ValueError(
          f'dedup.against={config.dedup.against!r}: expected DATASET=SPLIT,'
          f' separated by commas, such as cifar10=test; got {item!r}.'
        )
      try:
        self.sources[item] = build.open_split(config, name, split)
      except NotPreparedError:
        if not config.dedup.skip_missing:
          raise
        self.missing.append(item)
    if not self.sources:
      raise ValueError(
        'none of the test sets of dedup.against is prepared:'
        f' {", ".join(self.missing)}; prepare some of them with'
        ' configs/prepare.py:DATASETS, and set data.dir to their folder.'
      )
    if self.missing:
      _log.warning(
        'not searched for, because they are not prepared: %s',
        ', '.join(self.missing),
      )
    sizes = [source.num_examples for source in self.sources.values()]
    self.num_examples = sum(sizes)
    self._config = config
    self._ends = list(itertools.accumulate(sizes))

  def thumbnails(self) -> Iterator[np.ndarray]:
    """Yields batches of thumbnails of all images."""
    for source in self.sources.values():
      yield from _thumbnails(self._config, source, start_step=0)

  def locate(self, position: int) -> tuple[str, int]:
    """Returns the item of `dedup.against` and the index in that split."""
    number = int(np.searchsorted(self._ends, position, 'right'))
    begin = self._ends[number - 1] if number else 0
    return list(self.sources)[number], position - begin


def _thumbnails(
  config: ml_collections.ConfigDict, source: Source, start_step: int
) -> Iterator[np.ndarray]:
  """Yields batches of thumbnails; those of skipped images are blank."""
  batches = pipeline.eval_batches(
    source,
    functools.partial(thumbnail, max_pixels=config.data.max_pixels),
    batch_size=config.batch_size,
    start_step=start_step,
    skip_corrupt=config.data.skip_corrupt,
  )
  for batch in batches:
    yield batch['image'][batch['index'] >= 0]


def _search(
  config: ml_collections.ConfigDict,
  source: Source,
  matcher: Matcher,
  progress: epath.Path,
) -> list[Match]:
  """Returns all near-duplicates; resumes after the batches in `progress`."""
  done = files.read_json_lines(progress, list)
  batch_size = config.batch_size
  first_step = len(done)
  num_steps = -(-source.num_examples // batch_size)
  if done:
    _log.info('resuming from example %d', first_step * batch_size)
  begin = last_log = time.perf_counter()
  lines = appended_file.AppendedFile(progress, b''.join(map(_line, done)))
  batches = _thumbnails(config, source, first_step)
  for step, thumbnails in enumerate(batches, first_step):
    matches = matcher.find(thumbnails, config.dedup.threshold)
    first = step * batch_size
    done.append([m._replace(index=first + m.index) for m in matches])
    lines.append(_line(done[-1]))
    now = time.perf_counter()
    if now - last_log > _SECONDS_BETWEEN_LOGS or step + 1 == num_steps:
      steps_per_second = (step + 1 - first_step) / (now - begin)
      _log.info(
        'searched %d/%d examples  duplicates %d  %.0f images/s  left %s',
        min((step + 1) * batch_size, source.num_examples),
        source.num_examples, sum(map(len, done)),
        steps_per_second * batch_size,
        console.duration((num_steps - step - 1) / steps_per_second),
      )  # fmt: skip
      last_log = now
  return [Match(*item) for batch in done for item in batch]


def _line(batch: Sequence[Match]) -> bytes:
  return (files.json_text(batch) + '\n').encode()


def _describe(
  source: Source, test_images: _TestImages, duplicate: Match
) -> dict[str, str | float]:
  """Returns the record of a near-duplicate in `pairs.jsonl`."""
  against, test_index = test_images.locate(duplicate.original)
  return {
    'example': source.stable_id(duplicate.index),
    'against': against,
    'test_example': test_images.sources[against].stable_id(test_index),
    'similarity': round(duplicate.similarity, 4),
  }


def _table(test_images: _TestImages, duplicates: Iterable[Match]) -> str:
  counts = Counter(test_images.locate(item.original)[0] for item in duplicates)
  rows = [('test images', 'number', 'near-duplicates')]
  for name, source in test_images.sources.items():
    rows.append((name, str(source.num_examples), str(counts[name])))
  return console.table(rows)


def _draw(
  source: Source,
  test_images: _TestImages,
  duplicates: list[Match],
  to_rgb: Callable,
  path: epath.Path,
) -> None:
  """Draws every example beside its test image, in rows, with captions."""
  indices = {item.index for item in duplicates}
  examples = pipeline.read_images(source, indices, to_rgb)
  places = [test_images.locate(item.original) for item in duplicates]
  originals = {
    name: pipeline.read_images(
      part,
      {index for against, index in places if against == name},
      to_rgb,
    )
    for name, part in test_images.sources.items()
  }
  columns = min(_COLUMNS, len(duplicates))
  rows = -(-len(duplicates) // columns)
  cell = (2 * _SIDE_PX + _GAP_PX, _SIDE_PX + _CAPTION_PX)
  sheet = Image.new('RGB', (columns * cell[0], rows * cell[1]), 'white')
  draw = ImageDraw.Draw(sheet)
  for number, (item, (against, test_index)) in enumerate(
    zip(duplicates, places, strict=True)
  ):
    left, top = number % columns * cell[0], number // columns * cell[1]
    images = (examples[item.index], originals[against][test_index])
    for i, image in enumerate(images):
      thumbnail = Image.fromarray(image).resize((_SIDE_PX, _SIDE_PX))
      sheet.paste(thumbnail, (left + i * _SIDE_PX, top))
    name = printing.printable(source.stable_id(item.index)[-40:])
    # The font may lack other characters.
    name = name.encode('ascii', 'backslashreplace').decode()
    captions = (f'{item.similarity:.3f}', name)
    for i, line in enumerate(captions):
      draw.text((left + 2, top + _SIDE_PX + 1 + 12 * i), line, fill='black')
  files.write_png(path, sheet)
