"""Pictures that need no other file, each with its text alternative."""

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

from vit_jax.page import content

_PX_PER_POINT = 96 / 72
_SMALL_PX = 64  # Images up to this side are enlarged without smoothing.
_THUMBNAIL_PX = 224
_WIDEST_PX = 1400
_QUALITY = 85

_salts = itertools.count()


def drawing(figure: Figure, alt: str, caption: str = '') -> content.Picture:
  """A figure as SVG, without background and with black as the text's colour.

  It so is readable on light and on dark pages, and its text stays text.

  Args:
    figure: of any kind.
    alt: what it shows, in words and numbers.
    caption: below it.
  """
  file = io.BytesIO()
  style = {
    'svg.fonttype': 'none',
    # Names in one drawing must not be those in another on the same page.
    'svg.hashsalt': f'{next(_salts)}',
  }
  nothing = dict.fromkeys(('Creator', 'Date', 'Format', 'Type'))
  with matplotlib.rc_context(style):
    figure.savefig(file, format='svg', transparent=True, metadata=nothing)
  text = file.getvalue().decode()
  head, body = re.search(r'<svg ([^>]*)>(.*)', text, re.DOTALL).groups()
  box = re.search(r'viewBox="([^"]*)"', head)[1]
  body = re.sub(r'<!--.*?-->|<metadata>.*?</metadata>', '', body, flags=re.S)
  body = re.sub(r'<g id="[^"]*"', '<g', body)
  body = re.sub(r'\n\s*', '\n', body).replace('#000000', 'currentColor')
  width = float(box.split()[2]) * _PX_PER_POINT
  return content.Picture(
    markupsafe.Markup(
      f'<svg role="img" aria-label="{markupsafe.escape(alt)}"'
      f' viewBox="{box}" style="max-width: {width:.0f}px"'
      f' xmlns:xlink="http://www.w3.org/1999/xlink">{body}'
    ),
    caption,
  )


def photo(pixels: UInt8[np.ndarray, 'h w 3'], alt: str) -> content.Picture:
  """An image as a thumbnail; small ones keep their pixels to be seen.

  Args:
    pixels: of the image.
    alt: what it shows, in words and numbers.
  """
  image = Image.fromarray(pixels)
  if max(image.size) <= _SMALL_PX:
    return _embed(image, 'PNG', alt, 'pixels')
  image.thumbnail((_THUMBNAIL_PX, _THUMBNAIL_PX))
  return _embed(image, 'JPEG', alt)


def file(path: epath.Path, alt: str, caption: str = '') -> content.Picture:
  """A picture from a file, on white, in whichever form is shorter.

  Args:
    path: of the file.
    alt: what it shows, in words and numbers.
    caption: below it.
  """
  image = Image.open(io.BytesIO(path.read_bytes())).convert('RGB')
  image.thumbnail((_WIDEST_PX, image.height))
  forms = [_embed(image, form, alt, 'sheet', caption) for form in _FORMS]
  return min(forms, key=lambda picture: len(picture.markup))


_FORMS = ('PNG', 'JPEG')


def _embed(image, form, alt, style='', caption=''):
  data = io.BytesIO()
  image.save(data, form, quality=_QUALITY, optimize=True)
  code = base64.b64encode(data.getvalue()).decode()
  return content.Picture(
    markupsafe.Markup(
      f'<img src="data:image/{form.lower()};base64,{code}"'
      f' width="{image.width}" height="{image.height}"'
      f' alt="{markupsafe.escape(alt)}" class="{style}">'
    ),
    caption,
  )
