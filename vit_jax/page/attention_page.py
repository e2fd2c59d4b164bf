"""An interactive page that shows what each patch of a photo attends to.

The page is one HTML file that contains the photo, the attention weights by
layer and head, and a script; its content security policy forbids all requests.
Each weight is stored as one byte, on a logarithmic scale.
"""

import base64
from collections.abc import Iterator, Sequence
import logging
import math

from etils import epath
from jaxtyping import Float, PyTree, UInt8
import markupsafe
import matplotlib
import numpy as np

from vit_jax.inspection import attention_maps, figures
from vit_jax.models import vit
from vit_jax.page import content, pictures
from vit_jax.workdir import files, finished_run

_log = logging.getLogger(__name__)

# Smaller weights are shown as zero.
SMALLEST = 1e-5
# The weight of each code. A step is 4.6 %, so rounding changes a weight by at
# most 2.3 %.
VALUES = np.concatenate([[0], np.geomspace(SMALLEST, 1, 255)])

_ATTENTION_POOLING = 'attention pooling'
_MEAN_POOLING = 'mean of the patches'
_RESERVED_MB = 0.5  # For everything except the weights.


def write(
  folder: epath.Path,
  model: vit.VisionTransformer,
  params: PyTree,
  images: Sequence[Float[np.ndarray, 'h w c']],
  captions: Sequence[str],
  *,
  weights_name: str,
  max_mb: float,
) -> list[dict[str, str]]:
  """Writes a page per image, `attention_N.html`, if at least one layer fits.

  Args:
    folder: where to write them.
    model: a model with attention.
    params: its weights, unrolled, as returned by `checkpoints.load`.
    images: preprocessed, in [-1, 1], all of the same size.
    captions: names of the images.
    weights_name: path or name of the weights.
    max_mb: largest size of a page in MB, see `layers_within`.

  Returns:
    For each page, the name of its `file` and the caption of its `image`.
  """
  pages = []
  for image, caption in zip(images, captions, strict=True):
    try:
      layers = layers_within(model, image.shape[:2], max_mb)
    except ValueError as error:
      _log.warning('skipping the attention page: %s', error)
      break
    path = folder / f'attention_{len(pages) + 1}.html'
    text = html(
      model,
      params,
      image,
      caption=caption,
      weights_name=weights_name,
      layers=layers,
    )
    files.write_text(path, text)
    _log.info(
      'wrote %s: %.1f MB, %d of %d layers',
      path, len(text) / 1e6, len(layers), model.depth,
    )  # fmt: skip
    pages.append({'file': path.name, 'image': caption})
  return pages


def encode(weights: Float[np.ndarray, '*n']) -> UInt8[np.ndarray, '*n']:
  """Returns a code for each attention weight, an index into `VALUES`.

  Weights are rounded on the logarithmic scale. Those that would be rounded to
  less than `SMALLEST` become zero.
  """
  positive = np.maximum(weights, np.finfo(np.float32).tiny)
  codes = 255 - 254 * np.log(positive) / math.log(SMALLEST)
  return np.clip(codes.round(), 0, 255).astype(np.uint8)


def layers_within(
  model: vit.VisionTransformer, image_size: tuple[int, int], max_mb: float
) -> list[int]:
  """Returns the layers that fit on a page, counted from 0.

  These are all layers or, if only some fit, evenly spaced ones from the first
  to the last. If only one fits, it is the last.

  Args:
    model: a model with attention.
    image_size: height and width in px.
    max_mb: size of the page in MB, 10^6 bytes.

  Raises:
    ValueError: if not even one layer fits.
  """
  tokens = len(model.prefix) + math.prod(model.grid_shape(image_size))
  # Base64 has four characters for three bytes.
  layer_mb = model.heads * tokens**2 * 4 / 3 / 1e6
  number = min(model.depth, int((max_mb - _RESERVED_MB) / layer_mb))
  if number < 1:
    raise ValueError(
      f'the attention of one layer, {model.heads} heads and {tokens} tokens,'
      f' needs {layer_mb:.1f} MB, but a page may have {max_mb:g} MB; increase'
      ' inspect.page_mb, or use smaller images.'
    )
  if number == 1:
    return [model.depth - 1]
  return np.linspace(0, model.depth - 1, number).round().astype(int).tolist()


def html(
  model: vit.VisionTransformer,
  params: PyTree,
  image: Float[np.ndarray, 'h w c'],
  *,
  caption: str,
  weights_name: str,
  layers: Sequence[int],
) -> str:
  """Returns the page of an image as HTML.

  Args:
    model: a model with attention.
    params: its weights, unrolled, as returned by `checkpoints.load`.
    image: preprocessed, in [-1, 1].
    caption: name of the image.
    weights_name: path or name of the weights.
    layers: layers to show, counted from 0, as returned by `layers_within`.

  Raises:
    ValueError: if the model has no attention or does not support the image.
  """
  images = image[None]
  size = image.shape[:2]
  rows, columns = model.grid_shape(size)
  codes = list(_codes(model, params, images, layers))
  (shares,) = np.asarray(attention_maps.token_shares(model, params, images))
  pooling = {'token': '', 'map': _ATTENTION_POOLING}
  prefix = ['class token'] if model.prefix.class_token else []
  prefix += [f'register {i + 1}' for i in range(model.prefix.registers)]
  colours = matplotlib.colormaps['magma'](range(256), bytes=True)[:, :3]
  facts = {
    'rows': rows,
    'columns': columns,
    'heads': model.heads,
    'layers': [layer + 1 for layer in layers],
    'prefix': prefix,
    'pooling': pooling.get(model.pool, _MEAN_POOLING),
    'shares': _rounded(shares),
    'values': _rounded(VALUES),
    'colours': colours.tolist(),
  }
  pixels = (255 * figures.to_pixels(image)).round().astype('u1')
  height, width = model.token_size
  return content.render(
    'attention.html',
    caption=caption,
    weights_name=weights_name,
    facts=facts,
    depth=model.depth,
    patch=f'{height}x{width}',
    smallest=f'{SMALLEST:.5f}',
    photo=pictures.photo(pixels, f'Photo {caption}', max_px=max(size)).markup,
    codes=codes,
  )


def _codes(model, params, images, layers) -> Iterator[markupsafe.Markup]:
  """Yields the codes of each layer (heads, n, n) in base64."""
  by_layer = attention_maps.by_layer(model, params, images)
  for i, weights in enumerate(by_layer):
    if i in layers:
      codes = encode(np.asarray(weights[0], np.float32))
      yield markupsafe.Markup(base64.b64encode(codes.tobytes()).decode())


def _rounded(values) -> list[float]:
  return [float(f'{value:.6g}') for value in values]


def links(run: finished_run.FinishedRun) -> list[content.Part]:
  """Returns links to the pages that a run has written, if any."""
  rows = [
    (content.Link(page['file'], page['file']), page['image'])
    for page in run.results.get('pages', [])
  ]
  if not rows:
    return []
  text = 'On these pages, click a patch of the image to see what it attends to.'
  table = content.Table(('page', 'image'), rows, numbers=False)
  return [content.Text(text), table]
