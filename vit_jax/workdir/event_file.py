"""TensorBoard events: scalars and pictures."""

import io
import os
import socket
import time

from etils import epath
from jaxtyping import UInt8
import numpy as np
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.plugins.image import metadata as image_metadata
from tensorboard.plugins.scalar import summary_v2
from tensorboard.summary.writer import record_writer

from vit_jax.workdir import appended_file, files

# TensorBoard reloads its page at this interval by default.
_SECONDS_BETWEEN_WRITES = 30


class EventFile:
  """The events since the run was started or resumed.

  TensorFlow's writer is not used, as it cannot repair its file after a failed
  write.
  """

  def __init__(self, folder: epath.Path):
    now = time.time()
    process = f'{socket.gethostname()}.{os.getpid()}'
    version = event_pb2.Event(wall_time=now, file_version='brain.Event:2')
    self._file = appended_file.AppendedFile(
      folder / f'events.out.tfevents.{now:.3f}.{process}',
      _record(version),
      seconds_between_writes=_SECONDS_BETWEEN_WRITES,
    )

  def write_scalars(self, step: int, values: dict[str, float]) -> None:
    """Appends scalars, by name."""
    summary = summary_pb2.Summary()
    for name, value in values.items():
      summary.MergeFrom(summary_v2.scalar_pb(name, value))
    self._write(step, summary)

  def write_picture(
    self, step: int, name: str, pixels: UInt8[np.ndarray, 'h w 3']
  ) -> None:
    """Appends a picture."""
    height, width, _ = pixels.shape
    content = [b'%d' % width, b'%d' % height, files.png(pixels)]
    summary = summary_pb2.Summary()
    summary.value.add(
      tag=name,
      metadata=image_metadata.create_summary_metadata(None, None),
      tensor={
        'dtype': 'DT_STRING',
        'tensor_shape': {'dim': [{'size': len(content)}]},
        'string_val': content,
      },
    )
    self._write(step, summary)

  def _write(self, step: int, summary: summary_pb2.Summary) -> None:
    event = event_pb2.Event(wall_time=time.time(), step=step, summary=summary)
    self._file.append(_record(event))


def _record(event: event_pb2.Event) -> bytes:
  """Returns an event in the format of TFRecord files."""
  record = io.BytesIO()
  record_writer.RecordWriter(record).write(event.SerializeToString())
  return record.getvalue()
