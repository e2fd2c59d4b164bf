"""Names of the files in a work directory; how they are written and read.

Every process of a run calls the writers; only process 0 writes. A file that is
written here appears complete or not at all.
"""

from collections.abc import Callable
import io
import json
from typing import Any

from etils import epath
import jax
import numpy as np
from PIL import Image

from vit_jax import printing
from vit_jax.checkpoints import atomic, finite, run_folder
from vit_jax.distributed import processes

CONFIG = run_folder.CONFIG
RESULTS = run_folder.RESULTS
DATA = run_folder.DATA
CHECKPOINTS = run_folder.CHECKPOINTS
ENVIRONMENT = 'environment.json'
FINAL_WEIGHTS = run_folder.FINAL_WEIGHTS
BEST_WEIGHTS = 'best.npz'
BEST_STEP = 'best.json'  # The step of the best weights.
METRICS = 'metrics.jsonl'
PAGE = 'report.html'
TABLE = 'table.txt'
PLAN = 'plan.txt'
PHOTO_PREDICTIONS = 'predictions.jsonl'
SPLIT_PREDICTIONS = 'predictions_{}.jsonl'
STUDY_CHART = 'study.png'
VTAB_CHART = 'vtab.png'
INFERENCE_CHART = 'inference.png'


def write_bytes(path: epath.Path, data: bytes) -> None:
  """Writes a file atomically; creates missing folders."""
  if processes.is_first():
    atomic.write_bytes(path, data)


def write_text(path: epath.Path, text: str) -> None:
  """Writes a text file atomically."""
  write_bytes(path, text.encode())


def write_json(path: epath.Path, content: Any) -> None:
  """Writes a JSON file atomically.

  Raises:
    finite.NonFiniteError: if a number in it is NaN or infinite.
  """
  text = json_text(content, f'cannot write {path}', indent=2)
  write_text(path, text + '\n')


def update_json(path: epath.Path, content: Any) -> None:
  """Same as `write_json`, but leaves a file with this content untouched."""
  if read_json(path) != json.loads(json_text(content, f'cannot write {path}')):
    write_json(path, content)


def json_text(content: Any, place: str = 'JSON', **options: Any) -> str:
  """Returns content as JSON, which allows neither NaN nor infinity.

  Args:
    content: the value.
    place: first words of the error message.
    **options: options of `json.dumps`.

  Raises:
    finite.NonFiniteError: if a number is NaN or infinite; the message names it.
  """
  try:
    text = json.dumps(content, allow_nan=False, **options)
  except ValueError:
    numbers = jax.tree.map(lambda x: x if isinstance(x, float) else 0, content)
    finite.check(numbers, place, '.')
    raise
  return printing.printable_json(text)


def write_png(path: epath.Path, picture: Image.Image | np.ndarray) -> None:
  """Writes a picture, or its pixels (h, w, 3) uint8, atomically."""
  write_bytes(path, png(picture))


def png(picture: Image.Image | np.ndarray) -> bytes:
  """Returns a picture, or its pixels (h, w, 3) uint8, as a PNG file."""
  if isinstance(picture, np.ndarray):
    picture = Image.fromarray(picture)
  data = io.BytesIO()
  picture.save(data, 'PNG')
  return data.getvalue()


def read_json(path: epath.Path) -> Any:
  """Returns the content of a JSON file, or None if there is no file.

  Process 0 reads it for all processes.
  """
  return processes.from_first(lambda: run_folder.read_json(path))


def read_or_make_json(path: epath.Path, make: Callable[[], Any]) -> Any:
  """Returns the content of a JSON file; writes `make()` if there is none."""
  if path.exists():
    return read_json(path)
  content = make()
  write_json(path, content)
  return json.loads(json_text(content))


def read_json_lines(path: epath.Path, expected: type = dict) -> list[Any]:
  """Returns the lines of a JSON Lines file; none if there is no file.

  A last line without a line break was cut off when its writer was killed, and
  is dropped.

  Raises:
    ValueError: if another line is damaged or not of the expected type.
  """
  if not path.exists():
    return []
  *lines, _ = path.read_bytes().split(b'\n')
  return [
    run_folder.parse_json(line, path, f', line {number},', expected)
    for number, line in enumerate(lines, 1)
  ]


def read_events(path: epath.Path) -> list[dict[str, float]]:
  """Returns the events in a `metrics.jsonl`; none if there is no file.

  Raises:
    ValueError: if a line is not an event.
  """
  events = read_json_lines(path)
  for event in events:
    for name, value in {'step': event['step'], **event}.items():
      if not isinstance(value, (int, float)):
        raise ValueError(
          f'{path}: {name}={value!r} at step {event["step"]!r} is not a number;'
          ' restore the file, or remove it.'
        )
  return events
