"""A trained model in Python: predictions, features and attention of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
import dataclasses
import functools
import math
import operator
import os
from typing import Any

import jax
from jaxtyping import Array, Float
import numpy as np

from vit_jax import build
from vit_jax import config as config_lib
from vit_jax.build import pretrained
from vit_jax.data import class_names, image_inputs
from vit_jax.distributed import compilation, processes
from vit_jax.distributed import mesh as mesh_lib
from vit_jax.evaluation import classification, multi_label, representations
from vit_jax.inspection import attention_maps

_THREADS = 8


def load(
  checkpoint: str | os.PathLike[str],
  *,
  batch_size: int = 32,
  keys: Mapping[str, Any] | None = None,
) -> LoadedModel:
  """Loads a trained model, ready to use on images.

  Args:
    checkpoint: path or name of its weights, in any format that
      `checkpoints.load` reads: a file, a folder, or the work directory of a
      run; or a name such as augreg:B/16-imagenet2012 or hf://ORG/NAME.
    batch_size: largest number of images that are processed at once.
    keys: values of config keys that replace those of the checkpoint, such as
      `{'data.image_size': 384}`; for all keys, see `vit_jax/config/`.

  Raises:
    ValueError: if the checkpoint is missing, damaged or of an unknown format,
      or does not specify all that its model needs; or if a key is invalid.
  """
  path = os.fspath(checkpoint)
  if not path:
    raise ValueError(
      'the checkpoint is empty; give a path, or a name such as'
      ' augreg:B/16-imagenet2012.'
    )
  config = config_lib.base(job='predict', batch_size=batch_size, init_from=path)
  config_lib.leave_to_checkpoint(config)
  config_lib.set_keys(config, keys or {})
  config_lib.check(config, takes_steps=False)
  # Small numbers of images are padded to a power of two.
  sizes = (2**i for i in range(math.ceil(math.log2(batch_size))))
  model = pretrained.load_backbone(config)
  return LoadedModel(model, batch_sizes=(*sizes, batch_size))


@dataclasses.dataclass(frozen=True)
class Prediction:
  """The most probable classes of an image.

  Attributes:
    top: names and probabilities of classes; the most probable one is first.
    labels: for models of images with several labels, the same for all labels
      with a probability above `label_threshold`; None for other models.
  """

  top: tuple[tuple[str, float], ...]
  labels: tuple[tuple[str, float], ...] | None = None

  @property
  def name(self) -> str:
    """Name of the most probable class."""
    return self.top[0][0]

  @property
  def probability(self) -> float:
    """Probability of this class."""
    return self.top[0][1]


class LoadedModel:
  """A trained model, with the preprocessing that its checkpoint specifies.

  Every method takes a single image or any number of them, each of which is

  - the path of an image file, or an open `PIL.Image.Image`;
  - pixels (h, w, c) of type uint8 (0 to 255) or uint16 (0 to 65535), of any
    size, with 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 channels (RGB, alpha); or
  - preprocessed: floats in [-1, 1] of the model's size and channels.

  All but preprocessed images are resized, cropped and converted as in an
  evaluation of the checkpoint. They are processed in batches. A program is
  compiled once for each batch size; smaller batches are padded. Results are
  NumPy arrays, or lists, with one row or item per image, in order. If there are
  several processes, all of them must make the same calls.

  Results for the path of a JPEG file and for a PIL image of it may differ
  slightly, since TensorFlow decodes the former and Pillow the latter.

  Attributes:
    model: the Linen module.
    params: its weights, on the host.
    config: config with the settings of the checkpoint.
    class_names: (k,) names of the classes; () without a head.
    image_size: height and width of the model's images in px.
    grid: rows and columns of patches, or of the last map of a ResNet.
    transform: preprocessing of an encoded file, or of pixels, in TensorFlow.
  """

  def __init__(
    self,
    loaded: pretrained.PretrainedModel,
    *,
    batch_sizes: Sequence[int],
  ):
    """Puts the weights on all devices.

    Args:
      loaded: the model.
      batch_sizes: sizes of batches, rounded up to multiples of the number of
        devices. A call uses the smallest one that holds all of its images,
        otherwise the largest.

    Raises:
      ValueError: if the class names of the config are not those of the model.
    """
    self.model = loaded.model
    self.params = loaded.params
    self.config = loaded.config
    self.class_names = _class_names(loaded)
    self.image_size = config_lib.image_size(loaded.config)
    self.grid = loaded.grid
    self._loaded = loaded
    self._mesh = mesh_lib.create(**loaded.config.mesh)
    round_up = functools.partial(mesh_lib.round_up, mesh=self._mesh)
    self._batch_sizes = sorted(set(map(round_up, batch_sizes)))
    self._on_devices = mesh_lib.put(
      loaded.params, mesh_lib.replicated(self._mesh)
    )
    device = self._mesh.local_devices[0]
    self._predict_step = compilation.jit(
      self._top_classes, device, static_argnames='top'
    )
    self._features_step = compilation.jit(
      self._features, device, static_argnames='layers'
    )

  @functools.cached_property
  def transform(self) -> Callable:  # noqa: D102
    return build.eval_transform(self.config)

  @property
  def batch_size(self) -> int:
    """Largest number of images that are processed at once."""
    return self._batch_sizes[-1]

  def predict(
    self, images: image_inputs.Images, *, top: int = 5
  ) -> list[Prediction]:
    """Returns the most probable classes of each image.

    Args:
      images: see `LoadedModel`.
      top: number of classes per image.

    Raises:
      ValueError: if the model has no head, or an image is invalid.
    """
    if not self.class_names:
      raise ValueError(
        f'{self.config.init_from} has no head and therefore no classes;'
        ' fine-tune it first, or use its features.'
      )
    if top < 1:
      raise ValueError(f'top={top}; expected a number of classes, at least 1.')
    step = functools.partial(self._predict_step, top=top)
    return [
      self._prediction(row)
      for outputs in self._run(step, images)
      for row in _rows(outputs)
    ]

  def features(
    self, images: image_inputs.Images, layers: Sequence[str | int] = ('pooled',)
  ) -> dict[str, Any]:
    """Returns features of images, float32.

    Args:
      images: see `LoadedModel`.
      layers: which ones to return: names, and indices of encoder blocks, the
        first being 0 and the last -1. In a ResNet, stages take their place.

    Returns:
      By name: `pooled` (n, d), the representation of the image; `class_token`
      (n, d) and `patch_tokens` (n, rows, columns, d), both after the final
      norm; `blocks`, {index: all tokens after the block, (n, m, d)}, where the
      class token and registers come before the patches.

    Raises:
      ValueError: if the model has no such feature, or an image is invalid.
    """
    layers = (layers,) if isinstance(layers, (str, int)) else tuple(layers)
    unknown = [
      x for x in layers if not isinstance(x, int) and x not in self._layers
    ]
    if unknown or not layers:
      raise ValueError(
        f'layers={layers!r}; expected features of this model, which are'
        f' {", ".join(self._layers)}, or indices of its blocks.'
      )
    step = functools.partial(self._features_step, layers=layers)
    return _concatenate(self._run(step, images))

  def attention(self, images: image_inputs.Images) -> dict[str, np.ndarray]:
    """Returns the attention of a ViT or a hybrid, by layer and head.

    Returns:
      As from `attention_maps.summarize`: `distances` (n, l, heads) in px;
      `rollouts` (n, rows, columns), the share of each patch in the
      representation; `maps` (n, l, heads, rows, columns), the attention of each
      head from the representation to each patch.

    Raises:
      ValueError: if the model has no attention, or an image is invalid.
    """
    attention_maps.check_has_attention(self.model)
    step = functools.partial(
      attention_maps.summarize,
      self.model,
      renormalise=self.config.inspect.renormalise,
    )
    return _concatenate(self._run(step, images))

  def preprocess(
    self, images: image_inputs.Images
  ) -> Float[np.ndarray, 'n h w c']:
    """Returns images as the model expects them, in [-1, 1].

    Raises:
      ValueError: if an image is invalid.
    """
    batches = self._preprocessed(image_inputs.as_list(images), self.batch_size)
    return np.concatenate(list(batches))

  @property
  def _layers(self) -> tuple[str, ...]:
    has_token = representations.has_class_token(self.model)
    return ('pooled', *['class_token'] * has_token, 'patch_tokens')

  def _top_classes(self, params, images, *, top):
    logits, _ = self.model.apply({'params': params}, images, tokens=False)
    loss = self.config.loss
    outputs = classification.top_classes(logits, loss=loss, count=top)
    if self._loaded.multi_label and loss == 'sigmoid':
      outputs['logits'] = logits
    return outputs

  def _features(self, params, images, *, layers):
    blocks = tuple(x for x in layers if isinstance(x, int))
    features = representations.named(
      self.model, params, images, self.grid, blocks
    )
    names = {'blocks' if isinstance(x, int) else x for x in layers}
    return {name: features[name] for name in names}

  def _prediction(self, row: dict[str, np.ndarray]) -> Prediction:
    """Returns the prediction for an image from outputs of `_top_classes`."""

    def named(pairs):
      return tuple((self.class_names[k], float(p)) for k, p in pairs)

    top = zip(row['top_classes'], row['top_probabilities'], strict=True)
    if 'logits' not in row:
      return Prediction(named(top))
    threshold = self.config.label_threshold
    labels = multi_label.predicted_labels(row['logits'], threshold)
    return Prediction(named(top), named(labels))

  def _run(
    self, step: Callable[..., dict[str, Array]], images: image_inputs.Images
  ) -> Iterator[dict[str, Any]]:
    """Yields the outputs of a step for all images, batch by batch."""
    images = image_inputs.as_list(images)
    larger = (size for size in self._batch_sizes if size >= len(images))
    size = next(larger, self.batch_size)
    for batch in self._preprocessed(images, size):
      padded = np.zeros((size, *batch.shape[1:]), np.float32)
      padded[: len(batch)] = batch
      # Every process has read all images, and puts its share on its devices.
      share = mesh_lib.input_share(self._mesh)
      part = np.split(padded, share['process_count'])[share['process_index']]
      put = mesh_lib.put_batch({'image': part}, self._mesh)
      outputs = processes.fetch(step(self._on_devices, put['image']))
      real = operator.itemgetter(slice(len(batch)))
      yield jax.tree.map(real, outputs)

  def _preprocessed(
    self, images: list[image_inputs.OneImage], size: int
  ) -> Iterator[Float[np.ndarray, 'b h w c']]:
    """Yields batches of at most `size` images, in [-1, 1]."""
    settings = {
      'transform': self.transform,
      'image_size': self.image_size,
      'decoder': build.decoder(self.config),
    }

    def read(i):
      try:
        return image_inputs.preprocess(images[i], **settings)
      except ValueError as error:
        place = f'image {i + 1} of {len(images)}: ' if len(images) > 1 else ''
        raise ValueError(f'{place}{error}') from error

    with futures.ThreadPoolExecutor(_THREADS) as pool:
      for start in range(0, len(images), size):
        numbers = range(start, min(start + size, len(images)))
        yield np.stack(list(pool.map(read, numbers)))


def _class_names(loaded: pretrained.PretrainedModel) -> tuple[str, ...]:
  """Returns the names in `predict.class_names`, or else the checkpoint's.

  Raises:
    ValueError: if the file does not have the classes of the model.
  """
  config, names = loaded.config, loaded.class_names
  file = config.predict.class_names
  if file:
    names = class_names.read(file, 'predict.class_names')
  if len(names) != loaded.num_classes:
    raise ValueError(
      f'{len(names)} class names in {file or config.init_from}, but the model'
      f' has {loaded.num_classes} classes; set predict.class_names to a file'
      ' with one name per class.'
    )
  if names != loaded.class_names and set(names) == set(loaded.class_names):
    raise ValueError(
      f'{file} lists the classes of {config.init_from} in another order; list'
      ' them in the order of the labels, as the checkpoint does, or leave'
      ' predict.class_names empty.'
    )
  return names


def _rows(outputs: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
  """Yields the outputs for each image."""
  for values in zip(*outputs.values(), strict=True):
    yield dict(zip(outputs, values, strict=True))


def _concatenate(parts: Iterator[dict[str, Any]]) -> dict[str, Any]:
  return jax.tree.map(lambda *x: np.concatenate(x), *parts)
