"""Finding image files."""

import logging
import os

import pytest

from vit_jax.data import photos


def test_files_and_folders_are_found(tmp_path, caplog):
  for name in ('b/2.jpg', 'b/c/1.PNG', 'b/a.gif', 'b/notes.txt', 'b/.x/1.jpg',
               'b/.1.jpg', 'other.image'):  # fmt: skip
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
  (tmp_path / 'b' / 'c' / 'up').symlink_to('..')
  with caplog.at_level(logging.INFO, logger='vit_jax'):
    found = photos.find([f'{tmp_path}/other.image', f'{tmp_path}/b'])
  assert (
    f'{tmp_path}/b: skipped 1 file (.txt); 1 file (hidden); folder'
    f' {tmp_path}/b/.x (hidden); folder {tmp_path}/b/c/up (link'
  ) in caplog.text
  names = ['other.image', 'b/2.jpg', 'b/a.gif', 'b/c/1.PNG']
  assert found == [f'{tmp_path}/{name}' for name in names]
  with pytest.raises(ValueError, match="'/nowhere' does not exist"):
    photos.find(['/nowhere'])
  (tmp_path / 'empty').mkdir()
  with pytest.raises(ValueError, match='empty.* contains no images; .*jpg'):
    photos.find([f'{tmp_path}/empty'])


def test_a_comma_in_a_name(tmp_path):
  for name in ('a,b', 'c', 'd', 'd, e'):
    (tmp_path / name).mkdir()
    (tmp_path / name / '1.tiff').touch()
  found = photos.find([f'{tmp_path}/a', 'b', f'{tmp_path}/c'])
  assert found == [f'{tmp_path}/a,b/1.tiff', f'{tmp_path}/c/1.tiff']
  with pytest.raises(ValueError, match="'e' does not exist"):
    photos.find([f'{tmp_path}/d', 'e'])


def test_special_files_are_not_read(tmp_path):
  os.mkfifo(tmp_path / 'pipe.jpg')
  for path in (tmp_path / 'pipe.jpg', '/dev/zero'):
    with pytest.raises(ValueError, match='a FIFO, a socket or a device'):
      photos.read(str(path), lambda raw: raw)
