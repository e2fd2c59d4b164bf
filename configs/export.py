"""Exports a trained model for another runtime, and checks the result.

  python -m vit_jax.main --config=configs/export.py:RUN,FORMAT

RUN is a checkpoint of any kind: the work directory of a run, a file, or a name
such as augreg:B/16-imagenet2012. FORMAT is one of

| format | written | compared by |
|--|--|--|
| `npz` | weights under official names | vit_jax |
| `big_vision` | weights for big_vision | vit_jax |
| `timm` | weights for timm's `VisionTransformer` | timm |
| `huggingface` | a folder for transformers | transformers |
| `stablehlo` | program for CPU, CUDA and TPU, for `jax.export` | JAX |
| `saved_model` | program for TensorFlow (Serving) and TFLite | TensorFlow |
| `onnx` | program for ONNX Runtime and others | ONNX Runtime |

The job then compares the outputs for 16 images on the CPU, and removes a file
whose outputs differ by more than 1e-5 (timm and transformers: 1e-4), multiplied
by the largest output if that is above 1; docs/checkpoints.md has details. The
largest difference, the size and the time to load are printed and written to
`results.json`. By default, the images are smooth noise; for photos, set
`--config.export.images=PATHS`. If PyTorch, timm or transformers is needed but
not installed, vit_jax loads the weights instead. `model.json` has the class
names and the preprocessing of images.

Programs take any number of images of the model's size, as floats in [-1, 1].
With `--config.export.input=pixels`, they take uint8 (or uint16 if the model
does) and scale it themselves; decoding, resizing and cropping are not included.
They return logits or, without a head, the representations of images. TFLite
needs a fixed number of images: `--config.export.batch_size=1`. ONNX needs
jax2onnx; without it, an error shows how to install it. Hardware: any.
"""

import ml_collections

from vit_jax import config as config_lib


def get_config(argument: str = '') -> ml_collections.ConfigDict:
  """Returns the config for 'RUN,FORMAT' or, for StableHLO, 'RUN'."""
  config = config_lib.base(job='export', batch_size=16)
  config_lib.leave_to_checkpoint(config)
  run, comma, format = argument.rpartition(',')
  config.init_from = run if comma else format
  if comma:
    config_lib.set_keys(config, {'export.format': format})
  return config
