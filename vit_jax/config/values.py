"""Values of config keys: from text, from JSON, as text, and their checks.

Text is the form of the command line. Items of a tuple are separated by commas.
Four keys hold settings of other keys:

  setting   {'optim.lr': 0.01, 'mixup': 0.1}        optim.lr=0.01 mixup=0.1
  settings  ({'mixup': 0.1}, {'mixup': 0.2})        mixup=0.1; mixup=0.2
  axes      {'optim.lr': (0.01, 0.03)}              optim.lr=0.01|0.03
  points    {'wide': {'family': 'ViT',              wide (ViT): model.width=768
                      'model.width': 768}}
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
import dataclasses
import difflib
import math
import re
from typing import Any

from vit_jax.config.keys import KEYS

FAMILY = 'family'  # Entry of a point beside the keys that it sets.
_BOOLS = dict.fromkeys(('true', 't', '1'), True)
_BOOLS |= dict.fromkeys(('false', 'f', '0'), False)
_LIST_OF = {int: 'whole numbers, such as 3,4,6,3', float: 'numbers'}
_POINT = re.compile(
  r'((?P<name>[^=:()]+)(\((?P<family>[^=()]+)\))?:(\s|$))?(?P<pairs>.*)',
  re.DOTALL,
)


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
    near = difflib.get_close_matches(name, KEYS, n=1)
    raise ValueError(
      f'{name!r} is not a config key'
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
    items = [item.strip() for item in text.split(',') if item.strip()]
    try:
      return tuple(key.items(item) for item in items)
    except ValueError as error:
      raise ValueError(
        f'{name}={text!r} is not a list of {_LIST_OF[key.items]}: {key.meaning}'
      ) from error
  try:
    return _PARSERS.get(key.type, key.type)(text)
  except (KeyError, ValueError) as error:
    raise ValueError(
      f'{name}={text!r} is not of type {key.type.__name__}: {key.meaning}'
    ) from error


def _parse_setting(name: str, text: str) -> dict[str, Any]:
  setting = {}
  for pair in text.split():
    key, equals, value = pair.partition('=')
    if not equals:
      raise ValueError(
        f'{name}: {text!r} is not KEY=VALUE pairs separated by spaces.'
      )
    setting[key] = parse(key, value)
  return setting


def _parse_axes(name: str, text: str) -> dict[str, tuple[Any, ...]]:
  axes = {}
  for axis in text.split():
    key, equals, values = axis.partition('=')
    if not equals or not values:
      raise ValueError(
        f'{name}={text!r}: {axis!r} is not KEY=A|B|C, such as'
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


def _split(text: str) -> Iterator[str]:
  return filter(None, map(str.strip, text.split(';')))


def _axis_settings(axes: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
  for key, values in axes.items():
    if not isinstance(values, tuple) or not values:
      raise ValueError(
        f'{key}={values!r} is not a tuple of values, such as'
        " {'optim.lr': (0.01, 0.03)}."
      )
    yield from ({key: value} for value in values)


def _without_family(point: Mapping[str, Any]) -> Mapping[str, Any]:
  return {key: value for key, value in point.items() if key != FAMILY}


def _join(setting: Mapping[str, Any], separator: str = ' ') -> str:
  return separator.join(f'{key}={as_text(v)}' for key, v in setting.items())


def _axis_text(key: str, values: tuple[Any, ...]) -> str:
  return f'{key}={"|".join(map(as_text, values))}'


def _point_text(name: str, point: Mapping[str, Any]) -> str:
  setting = _without_family(point)
  if name == _join(setting, ','):
    return _join(setting)
  family = f' ({point[FAMILY]})' if FAMILY in point else ''
  return f'{name}{family}: {_join(setting)}'.strip()


@dataclasses.dataclass(frozen=True)
class Form:
  """Settings of other keys as the value of a key.

  Attributes:
    parse: from the name of the key and text to the value.
    settings: from the value to its settings.
    text: from the value to text.
  """

  parse: Callable[[str, str], Any]
  settings: Callable[[Any], Iterable[Mapping[str, Any]]]
  text: Callable[[Any], str]


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
    lambda points: map(_without_family, points.values()),
    lambda points: '; '.join(_point_text(*point) for point in points.items()),
  ),
}


def check(name: str, value: Any) -> None:
  """Checks the type and the range of a key's value.

  Raises:
    ValueError: with the key, its value, and what is valid.
  """
  key = KEYS[name]
  number = key.type is float and type(value) in (int, Number)
  if type(value) is not key.type and not number:
    raise ValueError(
      f'{name}={value!r} is of type {type(value).__name__}, but'
      f' {key.type.__name__} is expected: {key.meaning}'
    )
  if key.form:
    for setting in FORMS[key.form].settings(value):
      if not isinstance(setting, Mapping):
        raise ValueError(f'{name}: {setting!r} is not a dict of keys.')
      for other, item in setting.items():
        check_name(other)
        check(other, item)
  elif key.type is tuple:
    number = (int, float) if key.items is float else key.items
    if not all(isinstance(item, number) for item in value):
      raise ValueError(
        f'{name}={value!r} holds items that are not of type'
        f' {key.items.__name__}: {key.meaning}'
      )
    if key.items is float and not all(map(math.isfinite, value)):
      raise ValueError(
        f'{name}={value!r} holds numbers that are not finite: {key.meaning}'
      )
  elif key.choices and value not in key.choices:
    known = ', '.join(filter(None, key.choices))
    raise ValueError(f'{name}={value!r} is not one of {known}: {key.meaning}')
  if key.type is float and not math.isfinite(value):
    raise ValueError(f'{name}={value!r} is not finite: {key.meaning}')
  if key.type in (int, float) and not key.low <= value <= key.high:
    raise ValueError(
      f'{name}={value!r} is outside [{key.low:g}, {key.high:g}]: {key.meaning}'
    )


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


def from_json(keys: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the keys of a `config.json` with their current types.

  Older files have lists and settings as text. Keys that no longer exist are
  returned as they are.
  """
  return {
    name: parse(name, value)
    if isinstance(value, str) and name in KEYS and KEYS[name].type is not str
    else _tuples(value)
    for name, value in keys.items()
  }


def _tuples(value):
  if isinstance(value, Mapping):
    return {name: _tuples(item) for name, item in value.items()}
  return tuple(map(_tuples, value)) if isinstance(value, list) else value
