"""Finds near-duplicates of test images in a set to train on."""

from collections import Counter
from collections.abc import Iterator
import itertools
import json
import logging
import time

from etils import epath
import ml_collections
import numpy as np

from vit_jax import build
from vit_jax import config as config_lib
from vit_jax.data import decode, exclusions, near_duplicates, pipeline, registry
from vit_jax.jobs.data import pair_sheet
from vit_jax.workdir import claim, console, files, results

_log = logging.getLogger(__name__)

EXCLUDE = 'exclude.json'
PAIRS = 'pairs.jsonl'
PICTURE = 'pairs.png'
# What was found so far, a line a batch, so that a run can go on.
_FOUND = 'found.jsonl'
_SECONDS_BETWEEN_LINES = 10


def run(config: ml_collections.ConfigDict, workdir: epath.Path) -> None:
  """Looks for the images of `dedup.against` in `data.train`.

  Leaves the list for `data.exclude`, all pairs with their similarity, and a
  picture of the least similar ones.

  Raises:
    ValueError: if data is missing, an image cannot be read, or faiss is not
      installed.
  """
  if claim.is_finished(config_lib.flatten(config), workdir):
    return
  begin = time.perf_counter()
  tests = _Tests(config)
  source = build.open_split(config, config.data.name, config.data.train)
  with console.phase(f'reading {tests.num_examples} test images'):
    matcher = near_duplicates.Matcher(tests.thumbnails(config.batch_size))
  claim.start(config_lib.flatten(config), workdir)
  found = _search(config, source, matcher, workdir / _FOUND)
  pairs = [_pair(source, tests, *item) for item in found]
  _write_pairs(workdir / PAIRS, pairs)
  with console.phase(f'drawing {workdir / PICTURE}'):
    _draw(source, tests, found, config.dedup.pictures, workdir / PICTURE)
  files.write_json(
    workdir / EXCLUDE,
    exclusions.content(
      source.name, source.split, [pair['example'] for pair in pairs]
    ),
  )
  results.write(
    workdir,
    config.job,
    seconds=time.perf_counter() - begin,
    on_devices=False,
    metrics={},
    num_examples=source.num_examples,
    num_test_images=tests.num_examples,
    num_duplicates=len(pairs),
  )
  _print_table(tests, found)
  _log.info(
    '%d of %d examples of %s %s are near-duplicates; look at %s, then train'
    ' with --config.data.exclude=%s',
    len(pairs), source.num_examples, source.name, source.split,
    workdir / PICTURE, workdir / EXCLUDE,
  )  # fmt: skip


class _Tests:
  """The test images of all splits of `dedup.against`, one after another."""

  def __init__(self, config: ml_collections.ConfigDict):
    self.sources = {}
    for item in config.dedup.against.split(','):
      name, equals, split = item.strip().rpartition('=')
      if not (name and equals and split):
        raise ValueError(
          f'dedup.against={config.dedup.against!r}: expected DATASET=SPLIT,'
          f' separated by commas, such as cifar10=test; got {item!r}.'
        )
      self.sources[item.strip()] = build.open_split(config, name, split)
    sizes = [source.num_examples for source in self.sources.values()]
    self.num_examples = sum(sizes)
    self._ends = list(itertools.accumulate(sizes))

  def thumbnails(self, batch_size: int) -> Iterator[np.ndarray]:
    """Of all images."""
    for source in self.sources.values():
      yield from _thumbnails(source, batch_size, start_step=0)

  def place(self, position: int) -> tuple[str, int]:
    """The split, as it was named, and the index in it."""
    number = int(np.searchsorted(self._ends, position, 'right'))
    begin = self._ends[number - 1] if number else 0
    return list(self.sources)[number], position - begin


def _thumbnails(
  source: registry.Source, batch_size: int, start_step: int
) -> Iterator[np.ndarray]:
  batches = pipeline.eval_batches(
    source,
    near_duplicates.thumbnail,
    batch_size=batch_size,
    start_step=start_step,
  )
  for batch in batches:
    yield batch['image'][batch['mask'] > 0]


def _search(
  config: ml_collections.ConfigDict,
  source: registry.Source,
  matcher: near_duplicates.Matcher,
  path: epath.Path,
) -> list[tuple[int, int, float]]:
  """Index, position among the test images and similarity of each find."""
  done = _read_found(path)
  batch_size = config.batch_size
  total = -(-source.num_examples // batch_size)
  if done:
    _log.info('going on from example %d', len(done) * batch_size)
  begin = last_line = time.perf_counter()
  with path.open('w') as lines:
    lines.writelines(json.dumps(batch) + '\n' for batch in done)
    lines.flush()
    first = len(done)
    if first == total:
      return [tuple(item) for batch in done for item in batch]
    batches = _thumbnails(source, batch_size, start_step=first)
    for step, thumbnails in enumerate(batches, first):
      matches = matcher.find(thumbnails, config.dedup.threshold)
      done.append(
        [(step * batch_size + m.row, m.original, m.similarity) for m in matches]
      )
      lines.write(json.dumps(done[-1]) + '\n')
      lines.flush()
      now = time.perf_counter()
      if now - last_line > _SECONDS_BETWEEN_LINES or step + 1 == total:
        speed = (step + 1 - first) / (now - begin)
        _log.info(
          'looked at %d/%d examples  found %d  %.0f images/s  left %s',
          min((step + 1) * batch_size, source.num_examples),
          source.num_examples, sum(map(len, done)), speed * batch_size,
          console.duration((total - step - 1) / speed),
        )  # fmt: skip
        last_line = now
  return [tuple(item) for batch in done for item in batch]


def _read_found(path: epath.Path) -> list[list]:
  if not path.exists():
    return []
  lines = path.read_text().splitlines(keepends=True)
  # A line without an end was cut short when the run was killed.
  return [json.loads(line) for line in lines if line.endswith('\n')]


def _pair(source, tests, index, position, similarity) -> dict:
  against, test_index = tests.place(position)
  return {
    'example': source.stable_id(index),
    'against': against,
    'test_example': tests.sources[against].stable_id(test_index),
    'similarity': round(similarity, 4),
  }


def _write_pairs(path: epath.Path, pairs: list[dict]) -> None:
  path.write_text(
    ''.join(json.dumps(pair, ensure_ascii=False) + '\n' for pair in pairs)
  )


def _draw(source, tests, found, count, path: epath.Path) -> None:
  """Draws the pairs that are the least similar, these first."""
  chosen = sorted(found, key=lambda item: item[2])[:count]
  if not chosen:
    return
  examples = _read_images(source, {index for index, _, _ in chosen})
  places = [tests.place(position) for _, position, _ in chosen]
  originals = {
    name: _read_images(
      part, {index for where, index in places if where == name}
    )
    for name, part in tests.sources.items()
  }
  sheet = pair_sheet.draw(
    [
      (
        examples[index],
        originals[name][test_index],
        (f'{similarity:.3f}', f'{source.stable_id(index)[-40:]}'),
      )
      for (index, _, similarity), (name, test_index) in zip(
        chosen, places, strict=True
      )
    ]
  )
  with path.open('wb') as file:
    sheet.save(file, 'PNG')


def _read_images(source, indices: set[int]) -> dict[int, np.ndarray]:
  """Images by index; the others are passed over without decoding them."""
  if not indices:
    return {}
  batches = pipeline.eval_batches(
    source, decode.to_rgb, batch_size=1, only=np.array(sorted(indices))
  )
  return {int(b['index'][0]): b['image'][0] for b in batches}


def _print_table(tests, found) -> None:
  counts = Counter(tests.place(position)[0] for _, position, _ in found)
  rows = [('test images', 'number', 'near-duplicates of them')]
  for name, source in tests.sources.items():
    rows.append((name, str(source.num_examples), str(counts[name])))
  print(console.table(rows))
