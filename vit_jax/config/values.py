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
import re
from typing import Any

from vit_jax.config.keys import KEYS

FAMILY = 'family'  # Of a point, beside the keys that it sets.
_BOOLS = {'true': True, 't': True, '1': True} | {
  'false': False,
  'f': False,
  '0': False,
}
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
  """Returns the value of a key that is given as text.

  Args:
    name: dotted name of the key.
    text: its value, as on the command line.

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
    return _BOOLS[text.lower()] if key.type is bool else key.type(text)
  except (KeyError, ValueError) as error:
    raise ValueError(
      f'{name}={text!r} is not of type {key.type.__name__}: {key.meaning}'
    ) from error


def _parse_item(name: str, text: str) -> Any:
  """Parses a value within a setting; numbers keep their spelling."""
  value = parse(name, text)
  return Number(text) if KEYS[name].type is float else value


def _parse_setting(name: str, text: str) -> dict[str, Any]:
  pairs = [pair.split('=', 1) for pair in text.split()]
  if any(len(pair) != 2 for pair in pairs):
    raise ValueError(
      f'{name}: {text!r} is not KEY=VALUE pairs separated by blanks.'
    )
  return {key: _parse_item(key, value) for key, value in pairs}


def _parse_settings(name: str, text: str) -> tuple[dict[str, Any], ...]:
  items = filter(None, map(str.strip, text.split(';')))
  return tuple(_parse_setting(name, item) for item in items)


def _parse_axes(name: str, text: str) -> dict[str, tuple[Any, ...]]:
  axes = {}
  for axis in text.split():
    key, equals, values = axis.partition('=')
    if not equals or not values:
      raise ValueError(
        f'{name}={text!r}: {axis!r} is not KEY=A|B|C, such as'
        ' optim.lr=0.01|0.03.'
      )
    axes[key] = tuple(_parse_item(key, value) for value in values.split('|'))
  return axes


def _parse_points(name: str, text: str) -> dict[str, dict[str, Any]]:
  points = {}
  for item in filter(None, map(str.strip, text.split(';'))):
    match = _POINT.fullmatch(item)
    setting = _parse_setting(name, match['pairs'])
    point = (match['name'] or _join(setting, ',')).strip()
    if point in points:
      raise ValueError(
        f'two points are called {point!r}; give each a name of its own, as in'
        ' NAME: KEY=VALUE; NAME: KEY=VALUE.'
      )
    family = {FAMILY: match['family']} if match['family'] else {}
    points[point] = family | setting
  return points


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


def _axes_text(axes: Mapping[str, Any]) -> str:
  return ' '.join(
    f'{key}={"|".join(map(as_text, values))}' for key, values in axes.items()
  )


def _points_text(points: Mapping[str, Any]) -> str:
  texts = []
  for name, point in points.items():
    family = f' ({point[FAMILY]})' if FAMILY in point else ''
    setting = _without_family(point)
    label = '' if name == _join(setting, ',') else f'{name}{family}: '
    texts.append(f'{label}{_join(setting)}'.strip())
  return '; '.join(texts)


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
    _parse_settings, iter, lambda settings: '; '.join(map(_join, settings))
  ),
  'axes': Form(_parse_axes, _axis_settings, _axes_text),
  'points': Form(
    _parse_points,
    lambda points: map(_without_family, points.values()),
    _points_text,
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
  elif key.choices and value not in key.choices:
    raise ValueError(
      f'{name}={value!r} is not one of {", ".join(key.choices)}: {key.meaning}'
    )
  too_low = key.low is not None and not value >= key.low
  too_high = key.high is not None and not value <= key.high
  if too_low or too_high:
    low = '-inf' if key.low is None else f'{key.low:g}'
    high = 'inf' if key.high is None else f'{key.high:g}'
    raise ValueError(
      f'{name}={value!r} is outside [{low}, {high}]: {key.meaning}'
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
  """Returns the keys of a `config.json` with the types that they have today.

  Lists and settings were once written as text. Keys that no longer exist are
  returned as they are.
  """
  return {name: _from_json(KEYS.get(name), name, v) for name, v in keys.items()}


def _from_json(key, name, value):
  if key and isinstance(value, str) and key.type is not str:
    return parse(name, value)
  return _tuples(value)


def _tuples(value):
  if isinstance(value, Mapping):
    return {name: _tuples(item) for name, item in value.items()}
  return tuple(map(_tuples, value)) if isinstance(value, list) else value
