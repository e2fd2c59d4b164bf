"""Pictures embedded in the page.

Each has a text alternative, `alt`: what it shows, in words and numbers. Its
caption, if any, is above it.
"""

import base64
import io
import itertools
import re

from etils import epath
from jaxtyping import UInt8
import markupsafe
import matplotlib
from matplotlib.figure import Figure
import numpy as np
from PIL import Image

from vit_jax import printing
from vit_jax.inspection import labels
from vit_jax.page import content

_PX_PER_POINT = 96 / 72
_SMALL_PX = 64  # Images up to this size are enlarged without smoothing.
_THUMBNAIL_PX = 224
_MAX_WIDTH_PX = 1400
_JPEG_QUALITY = 85
# Hexagrams, which no name has and which are about as wide as Chinese characters
# and emoji: they take the place of characters that Matplotlib cannot measure.
_STAND_INS = tuple(map(chr, (*range(0x4DC0, 0x4E00), *range(0x1D300, 0x1D357))))

_salts = itertools.count()


def drawing(figure: Figure, alt: str, caption: str = '') -> content.Picture:
  """Returns a figure as SVG that is readable on light and on dark pages.

  Its background is transparent, black becomes the colour of the page's text,
  and text stays text, for which the browser has more fonts than Matplotlib.
  """
  file = io.BytesIO()
  # Ids must be unique within a page.
  style = {'svg.fonttype': 'none', 'svg.hashsalt': f'{next(_salts)}'}
  no_metadata = dict.fromkeys(('Creator', 'Date', 'Format', 'Type'))
  names = {}

  def save():
    file.seek(0)
    file.truncate()
    figure.savefig(file, format='svg', transparent=True, metadata=no_metadata)

  def stand_in(missing):
    names.update(zip(_STAND_INS, missing, strict=False))
    return {character: other for other, character in names.items()}

  with matplotlib.rc_context(style):
    labels.render(figure, save, stand_in)
  text = file.getvalue().decode().translate(str.maketrans(names))
  head, body = re.search(r'<svg ([^>]*)>(.*)', text, re.DOTALL).groups()
  box = re.search(r'viewBox="([^"]*)"', head)[1]
  body = re.sub(r'<!--.*?-->|<metadata>.*?</metadata>', '', body, flags=re.S)
  body = re.sub(r'<g id="[^"]*"', '<g', body)
  body = re.sub(r'\n\s*', '\n', body).replace('#000000', 'currentColor')
  width = float(box.split()[2]) * _PX_PER_POINT
  return content.Picture(
    markupsafe.Markup(
      f'<svg role="img" aria-label="{_escape(alt)}"'
      f' viewBox="{box}" style="max-width: {width:.0f}px"'
      f' xmlns:xlink="http://www.w3.org/1999/xlink">{body}'
    ),
    caption,
  )


def photo(
  pixels: UInt8[np.ndarray, 'h w 3'], alt: str, *, max_px: int = _THUMBNAIL_PX
) -> content.Picture:
  """Returns a thumbnail of an image; tiny images keep their visible pixels."""
  image = Image.fromarray(pixels)
  if max(image.size) <= _SMALL_PX:
    return _embed(image, 'PNG', alt, 'pixels')
  image.thumbnail((max_px, max_px))
  return _embed(image, 'JPEG', alt)


def file(path: epath.Path, alt: str, caption: str = '') -> content.Picture:
  """Embeds a picture from a file, as PNG or JPEG, whichever is smaller."""
  image = Image.open(io.BytesIO(path.read_bytes())).convert('RGB')
  image.thumbnail((_MAX_WIDTH_PX, image.height))
  embedded = [
    _embed(image, format, alt, 'sheet', caption) for format in ('PNG', 'JPEG')
  ]
  return min(embedded, key=lambda picture: len(picture.markup))


def _escape(alt: str) -> markupsafe.Markup:
  return markupsafe.escape(printing.printable(alt))


def _embed(image, format, alt, style='', caption=''):
  data = io.BytesIO()
  image.save(data, format, quality=_JPEG_QUALITY, optimize=True)
  code = base64.b64encode(data.getvalue()).decode()
  return content.Picture(
    markupsafe.Markup(
      f'<img src="data:image/{format.lower()};base64,{code}"'
      f' width="{image.width}" height="{image.height}"'
      f' alt="{_escape(alt)}" class="{style}">'
    ),
    caption,
  )
