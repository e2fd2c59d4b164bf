"""The browser that tests of pages share."""

import pytest

import browser


@pytest.fixture(scope='session')
def window():
  with browser.start() as opened:
    yield opened
