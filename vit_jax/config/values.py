"""Parses, formats and checks the values of config keys.

On the command line, values are text. Items of a tuple are separated by commas,
except those before the options of a table.
Keys that hold settings of other keys have four forms, and factors a fifth:

  setting   {'optim.lr': 0.01, 'mixup': 0.1}        optim.lr=0.01 mixup=0.1
  settings  ({'mixup': 0.1}, {'mixup': 0.2})        mixup=0.1; mixup=0.2
  axes      {'optim.lr': (0.01, 0.03)}              optim.lr=0.01|0.03
  points    {'wide': {'family': 'ViT',              wide (ViT): model.width=768
                      'model.width': 768}}
  factors   (('head/.*', 10.0), ('cls', 0.1))       head/.*=10,cls=0.1
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
import contextlib
import dataclasses
import difflib
import math
import os
import re
from typing import Any

from vit_jax.config.job_keys import JOB_KEYS
from vit_jax.config.keys import KEYS
from vit_jax.data import table

FAMILY = 'family'  # Entry of a point beside the keys that it sets.
_BOOLS = dict.fromkeys(('true', 't', '1'), True)
_BOOLS |= dict.fromkeys(('false', 'f', '0'), False)
_LIST_OF = {int: 'whole numbers, such as 3,4,6,3', float: 'numbers'}
_MAX_SETTINGS = 10_000  # Of a grid.
_MAX_SHOWN = 200  # Characters of a value in a message.
# Settings apply to training runs, which share the job's devices and page.
_NOT_IN_SETTINGS = {'job', 'distributed', 'report'} | {
  name.partition('.')[0] for name in JOB_KEYS
} - {'few_shot'}
_POINT = re.compile(
  r'((?P<name>[^=:()]+)(\((?P<family>[^=()]+)\))?:(\s|$))?(?P<pairs>.*)',
  re.DOTALL,
)
# Patterns may contain commas and equals signs.
_FACTOR = re.compile(r'(?P<pattern>.+?)=(?P<factor>[-+.\deE]+)(,\s*|$)')


class Number(float):
  """A number that prints as it was spelled, such as 1e-3, in names of runs."""

  def __init__(self, spelling: str | float):
    super().__init__()
    self._spelling = str(spelling)

  def __str__(self) -> str:
    return self._spelling


_PARSERS = {bool: lambda text: _BOOLS[text.lower()], float: Number}


def check_name(name: str) -> None:
  """Checks that a config key exists.

  Raises:
    ValueError: if it does not; the message suggests the nearest key.
  """
  if name not in KEYS:
    near = difflib.get_close_matches(str(name), KEYS, n=1)
    raise ValueError(
      f'{_shown(name)} is not a config key'
      + (f'; did you mean {near[0]}?' if near else '.')
    )


def parse(name: str, text: str) -> Any:
  """Returns the value of a key that is given as text on the command line.

  Raises:
    ValueError: if there is no such key, or the text is malformed.
  """
  check_name(name)
  key = KEYS[name]
  if key.form:
    return FORMS[key.form].parse(name, text)
  if key.type is tuple:
    try:
      return tuple(key.items(item) for item in table.split_list(text))
    except ValueError as error:
      raise ValueError(
        f'{name}={_shown(text)} is not a list of {_LIST_OF[key.items]}:'
        f' {key.meaning}'
      ) from error
  try:
    return _PARSERS.get(key.type, key.type)(text)
  except (KeyError, ValueError) as error:
    raise ValueError(
      f'{name}={_shown(text)} is not of type {key.type.__name__}: {key.meaning}'
    ) from error


def _parse_setting(name: str, text: str) -> dict[str, Any]:
  setting = {}
  for pair in text.split():
    key, equals, value = pair.partition('=')
    if not equals:
      raise ValueError(
        f'{name}: {_shown(text)} is not KEY=VALUE pairs separated by spaces.'
      )
    setting[key] = parse(key, value)
  return setting


def _parse_axes(name: str, text: str) -> dict[str, tuple[Any, ...]]:
  axes = {}
  for axis in text.split():
    key, equals, values = axis.partition('=')
    if not equals or not values:
      raise ValueError(
        f'{name}={_shown(text)}: {_shown(axis)} is not KEY=A|B|C, such as'
        ' optim.lr=0.01|0.03.'
      )
    axes[key] = tuple(parse(key, value) for value in values.split('|'))
  return axes


def _parse_points(name: str, text: str) -> dict[str, dict[str, Any]]:
  points = {}
  for item in _split(text):
    match = _POINT.fullmatch(item)
    setting = _parse_setting(name, match['pairs'])
    point = (match['name'] or _join(setting, ',')).strip()
    if point in points:
      raise ValueError(
        f'two points are called {point!r}; give each a unique name, as in'
        ' NAME: KEY=VALUE; NAME: KEY=VALUE.'
      )
    family = {FAMILY: match['family']} if match['family'] else {}
    points[point] = family | setting
  return points


def _parse_factors(name: str, text: str) -> tuple[tuple[str, float], ...]:
  matches = list(_FACTOR.finditer(text))
  with contextlib.suppress(ValueError):
    if ''.join(match[0] for match in matches) == text:
      return tuple((m['pattern'], Number(m['factor'])) for m in matches)
  raise ValueError(
    f'{name}={_shown(text)} is not PATTERN=FACTOR pairs separated by commas:'
    f' {KEYS[name].meaning}'
  )


def _split(text: str) -> Iterator[str]:
  return filter(None, map(str.strip, text.split(';')))


def _axis_settings(axes: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
  for key, values in axes.items():
    if not isinstance(values, tuple) or not values:
      raise ValueError(
        f'{key}={_shown(values)} is not a tuple of values, such as'
        " {'optim.lr': (0.01, 0.03)}."
      )
  # Counted, since the combinations may not fit into memory.
  if (count := math.prod(map(len, axes.values()))) > _MAX_SETTINGS:
    raise ValueError(
      f'the grid {_shown(axes)} has {count:,} settings, more than'
      f' {_MAX_SETTINGS:,}; try fewer values at once.'
    )
  for key, values in axes.items():
    yield from ({key: value} for value in values)


def _point_settings(points: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
  for name, point in points.items():
    if not isinstance(point, Mapping):
      raise ValueError(f'point {_shown(name)}: {_shown(point)} is not a dict.')
    for text in (name, point.get(FAMILY, '')):
      if not isinstance(text, str):
        raise ValueError(
          f'point {_shown(name)}: names and families are strings, got'
          f' {_shown(text)}.'
        )
    yield _without_family(point)


def _without_family(point: Mapping[str, Any]) -> Mapping[str, Any]:
  return {key: value for key, value in point.items() if key != FAMILY}


def _join(setting: Mapping[str, Any], separator: str = ' ') -> str:
  return separator.join(f'{k}={as_text(v, k)}' for k, v in setting.items())


def _axis_text(key: str, values: tuple[Any, ...]) -> str:
  return f'{key}={"|".join(as_text(value, key) for value in values)}'


def _point_text(name: str, point: Mapping[str, Any]) -> str:
  setting = _without_family(point)
  if name == _join(setting, ','):
    return _join(setting)
  family = f' ({point[FAMILY]})' if FAMILY in point else ''
  return f'{name}{family}: {_join(setting)}'.strip()


def _check_setting(name: str, setting: Any) -> None:
  if not isinstance(setting, Mapping):
    raise ValueError(f'{name}: {_shown(setting)} is not a dict of keys.')
  for key, value in setting.items():
    check_name(key)
    if key.partition('.')[0] in _NOT_IN_SETTINGS:
      raise ValueError(
        f'{name} sets {key}={_shown(value)}, which does not belong to a single'
        f' training run; set {key} for the whole job instead.'
      )
    check(key, value)


def _check_factor(name: str, item: Any) -> None:
  is_pair = isinstance(item, tuple) and len(item) == 2
  if not (is_pair and isinstance(item[0], str) and _is_of_type(item[1], float)):
    raise ValueError(
      f'{name}: {_shown(item)} is not a pattern and a factor, such as'
      " ('head/.*', 10.0)."
    )
  _check_item(name, item[1])


@dataclasses.dataclass(frozen=True)
class Form:
  """Settings of other keys, or factors, as the value of a key.

  Attributes:
    parse: from the name of the key and text to the value.
    items: from the value to its settings or factors.
    text: from the value to text.
    check_item: checks one of the items of the key of that name.
  """

  parse: Callable[[str, str], Any]
  items: Callable[[Any], Iterable[Any]]
  text: Callable[[Any], str]
  check_item: Callable[[str, Any], None] = _check_setting


FORMS = {
  'setting': Form(_parse_setting, lambda setting: [setting], _join),
  'settings': Form(
    lambda name, text: tuple(_parse_setting(name, s) for s in _split(text)),
    iter,
    lambda settings: '; '.join(map(_join, settings)),
  ),
  'axes': Form(
    _parse_axes,
    _axis_settings,
    lambda axes: ' '.join(_axis_text(*axis) for axis in axes.items()),
  ),
  'points': Form(
    _parse_points,
    _point_settings,
    lambda points: '; '.join(_point_text(*point) for point in points.items()),
  ),
  'factors': Form(
    _parse_factors,
    iter,
    lambda factors: ','.join(f'{p}={as_text(f)}' for p, f in factors),
    _check_factor,
  ),
}


def check(name: str, value: Any) -> None:
  """Checks the type and the range of a key's value.

  Raises:
    ValueError: with the key, its value, and what is valid.
  """
  key = KEYS[name]
  _check_type(name, value)
  if key.form:
    form = FORMS[key.form]
    for item in form.items(value):
      form.check_item(name, item)
    return
  for item in value if key.type is tuple else (value,):
    _check_item(name, item)


def _check_type(name: str, value: Any) -> None:
  key = KEYS[name]
  if not _is_of_type(value, key.type):
    raise ValueError(
      f'{name}={_shown(value)} is of type {type(value).__name__}, but'
      f' {key.type.__name__} is expected: {key.meaning}'
    )
  items = value if key.type is tuple and not key.form else ()
  if not all(_is_of_type(item, key.items) for item in items):
    raise ValueError(
      f'{name}={_shown(value)} holds items that are not of type'
      f' {key.items.__name__}: {key.meaning}'
    )


def _is_of_type(value, expected: type) -> bool:
  # To Python, a bool is an int.
  return type(value) is expected or (
    expected is float and type(value) in (int, Number)
  )


def _check_item(name: str, value: Any) -> None:
  """Checks a value that is not a tuple, or an item of a tuple."""
  key = KEYS[name]
  shown = f'{name}={_shown(value)}'
  if isinstance(value, str) and '\0' in value:
    raise ValueError(f'{shown} contains a null character; remove it.')
  if key.choices and value not in key.choices:
    known = ', '.join(str(choice) for choice in key.choices if choice)
    raise ValueError(f'{shown} is not one of {known}: {key.meaning}')
  if isinstance(value, (str, bool)):
    return
  if isinstance(value, float) and not math.isfinite(value):
    raise ValueError(f'{shown} is not finite: {key.meaning}')
  low, high = key.range
  if not low <= value <= high:
    raise ValueError(
      f'{shown} is outside [{low:.10g}, {high:.10g}]: {key.meaning}'
    )


def _shown(value: Any) -> str:
  """Returns a value as it appears in messages, shortened if it is long."""
  text = repr(value)
  return text if len(text) <= _MAX_SHOWN else f'{text[:_MAX_SHOWN]}...'


def as_text(value: Any, name: str = '') -> str:
  """Returns a value as text, the inverse of `parse`.

  Args:
    value: the value of a key.
    name: dotted name of the key; only needed for keys with a form.
  """
  if name in KEYS and KEYS[name].form:
    return FORMS[KEYS[name].form].text(value)
  if isinstance(value, (tuple, list)):
    return ','.join(map(as_text, value))
  return str(value).lower() if isinstance(value, bool) else str(value)


def from_json(
  keys: Mapping[str, Any], file: str | os.PathLike[str] = 'config.json'
) -> dict[str, Any]:
  """Returns the keys of a `config.json` with their current types.

  Older files store lists and settings as text. Keys that no longer exist are
  returned as they are.

  Args:
    keys: content of the file.
    file: name of the file, for messages.

  Raises:
    ValueError: if a value is not of the type of its key.
  """
  typed = {}
  for name, value in keys.items():
    try:
      typed[name] = _typed(name, value)
    except ValueError as error:
      raise ValueError(f'{file}: {error}') from error
  return typed


def _typed(name: str, value: Any) -> Any:
  if name not in KEYS:
    return _tuples(value)
  if isinstance(value, str) and KEYS[name].type is not str:
    return parse(name, value)
  value = _tuples(value)
  _check_type(name, value)
  return value


def _tuples(value):
  if isinstance(value, Mapping):
    return {name: _tuples(item) for name, item in value.items()}
  return tuple(map(_tuples, value)) if isinstance(value, list) else value
