"""Text from outside, such as names of files and classes, for printing."""

import re

# Control characters, line separators, characters that change the direction of
# the text around them, and surrogates, which UTF-8 does not have.
_UNPRINTABLE = re.compile(
  r'[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069'
  r'\ud800-\udfff]'
)


def printable(text: str, keep: str = '') -> str:
  r"""Escapes characters that could garble a terminal or cannot be encoded.

  Args:
    text: any text; a newline in a name is printed as `\n`, for example.
    keep: characters not to escape.
  """

  def escape(found):
    return found[0] if found[0] in keep else ascii(found[0])[1:-1]

  return _UNPRINTABLE.sub(escape, text)


def printable_json(text: str) -> str:
  """Escapes the same characters in JSON, whose values remain the same."""

  def escape(found):
    return '\n' if found[0] == '\n' else f'\\u{ord(found[0]):04x}'

  return _UNPRINTABLE.sub(escape, text)
