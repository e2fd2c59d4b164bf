"""Original data: images and labels as they are before `prepare` writes them.

An original consists of units, such as the archives of a folder, that worker
processes index independently of each other. A new kind subclasses `Original`
and `Unit`, and gets a row in `kinds.KINDS`. This module does not import
TensorFlow.
"""

import abc
from collections.abc import Collection, Iterator
import dataclasses


@dataclasses.dataclass(frozen=True)
class Item:
  """An image of the original data.

  Attributes:
    name: unique name within the original, such as n01440764/n01440764_10026.
      It becomes the feature `file_name`.
    labels: labels of its classes; exactly one, unless the data is multi-label.
    data: content of the image file, of whatever kind. It is not checked yet.
    split: split to which it belongs.
    file: path of a file that holds `data`, from where it is read again when the
      shards are written. Empty if it cannot be read by its offset, as in a
      compressed archive; `data` is then copied to a temporary file.
    offset: position of `data` in that file, in bytes.
    error: why the image cannot be read, if its unit knows; it is then listed as
      unreadable, and `data` has no effect.
  """

  name: str
  labels: tuple[str, ...]
  data: bytes
  split: str = 'train'
  file: str = ''
  offset: int = 0
  error: str = ''


class Unit(abc.ABC):
  """A piece of the original data that one process indexes.

  Units are frozen dataclasses of plain values. They are pickled for the worker
  process, and a preparation resumes only if `repr` of every unit is the same as
  before; a unit that is an archive has its size as a field. Up to 10,000 images
  per unit are a good size.
  """

  @abc.abstractmethod
  def items(self) -> Iterator[Item]:
    """Reads the images, in a fixed order; runs in a worker process.

    Only a few images are held in memory at a time.

    Raises:
      ValueError: if the unit as a whole is damaged, such as an archive that is
        cut off. This ends the preparation; the message names the file.
    """


class Original(abc.ABC):
  """The original data; stays in the main process.

  Attributes:
    multi_label: whether the labels of an image are stored as a list. If not,
      they still are if an image has no or several labels.
  """

  multi_label: bool = False

  @abc.abstractmethod
  def units(self) -> Iterator[Unit]:
    """Yields the units in a fixed order; is called repeatedly.

    Raises:
      ValueError: if the original has no images or is not as expected.
    """

  def class_names(self, labels: Collection[str]) -> dict[str, str]:
    """Returns the name of the class of every label, in the order of class ids.

    By default, a class is named by its label. Whole numbers are ordered by
    value, other labels by their text.

    Args:
      labels: the labels of all images.
    """
    numeric = all(label.isdecimal() for label in labels)

    def position(label: str) -> tuple[int, str]:
      return int(label) if numeric else 0, label

    return {label: label for label in sorted(labels, key=position)}
