"""A headless Chromium that says what went wrong on a page."""

import base64
import contextlib
import json
import os
import shutil

import pytest

try:
  from selenium import webdriver
  from selenium.webdriver.chrome import options as chrome_options
  from selenium.webdriver.chrome import service as chrome_service
  from selenium.webdriver.common.keys import Keys
  from selenium.webdriver.support import select
except ImportError:
  webdriver = None

BROWSER = shutil.which('chromium') or shutil.which('google-chrome')
DRIVER = shutil.which('chromedriver')
needs_browser = pytest.mark.skipif(
  not (webdriver and BROWSER and DRIVER),
  reason='needs Chromium, its driver and Selenium',
)

_NOT_DRAWN = """
  const images = [...document.images]
    .filter((x) => !x.complete || !x.naturalWidth);
  const drawings = [...document.querySelectorAll('svg')]
    .filter((x) => !x.getBoundingClientRect().height || !x.getBBox().width);
  return [...images, ...drawings].map((x) => x.outerHTML.slice(0, 200));
"""
_WITHOUT_WORDS = """
  return [...document.querySelectorAll('img, svg')]
    .filter((x) => !(x.alt || x.getAttribute('aria-label') || '').trim())
    .map((x) => x.outerHTML.slice(0, 200));
"""
_TOO_WIDE = """
  const most = document.documentElement.clientWidth;
  return [...document.querySelectorAll('body *')]
    .filter((x) => x.getBoundingClientRect().right > most + 1)
    .filter((x) => !x.closest('.scroll') && !x.closest('svg'))
    .map((x) => x.outerHTML.slice(0, 200));
"""


class Browser:
  """One browser for many pages."""

  def __init__(self, driver):
    self._driver = driver

  def open(self, path, *, width=1200, dark=False):
    """Opens a local page at a width in px."""
    self._log('browser'), self._log('performance')  # Those of earlier pages.
    self._command(
      'Emulation.setDeviceMetricsOverride',
      width=width, height=900, deviceScaleFactor=1, mobile=False,
    )  # fmt: skip
    scheme = 'dark' if dark else 'light'
    self._command(
      'Emulation.setEmulatedMedia',
      features=[{'name': 'prefers-color-scheme', 'value': scheme}],
    )
    self._driver.get(path.resolve().as_uri())

  def problems(self):
    """By kind, what was found on the page; empty lists if it is fine."""
    return {
      'console': [entry['message'] for entry in self._log('browser')],
      'requests': [
        url
        for url in self._requests()
        if not url.startswith('data:') and url != self._driver.current_url
      ],
      'not drawn': self._driver.execute_script(_NOT_DRAWN),
      'without words': self._driver.execute_script(_WITHOUT_WORDS),
      'too wide': self._driver.execute_script(_TOO_WIDE),
    }

  def count(self, selector):
    """Returns the number of elements."""
    return len(self._driver.find_elements('css selector', selector))

  def text(self, selector):
    """Returns the visible text of an element."""
    return self._element(selector).text

  def point(self, selector, right, down, *, click=False):
    """Moves the pointer to a point of an element, in shares of its size."""
    element = self._element(selector)
    self._driver.execute_script(
      'arguments[0].scrollIntoView({block: "center"})', element
    )
    # Offsets are relative to the centre.
    x, y = (
      (right - 0.5) * element.rect['width'],
      (down - 0.5) * element.rect['height'],
    )
    actions = webdriver.ActionChains(self._driver, duration=0)
    actions.move_to_element_with_offset(element, round(x), round(y))
    (actions.click() if click else actions).perform()

  def press(self, selector, *keys):
    """Presses keys in an element, by name; modifiers are held until the end."""
    codes = [getattr(Keys, name) for name in keys]
    self._element(selector).send_keys(*codes)

  def choose(self, selector, option):
    """Chooses an option of a list by its text."""
    select.Select(self._element(selector)).select_by_visible_text(option)

  def run(self, script):
    """Returns the result of a script."""
    return self._driver.execute_script(script)

  def colours(self):
    """Returns the colours of background and text of the page."""
    return self._driver.execute_script(
      'const s = getComputedStyle(document.body);'
      'return [s.backgroundColor, s.color];'
    )

  def screenshot(self, path):
    """Saves a picture of the whole page."""
    shot = self._command('Page.captureScreenshot', captureBeyondViewport=True)
    path.write_bytes(base64.b64decode(shot['data']))

  def _element(self, selector):
    return self._driver.find_element('css selector', selector)

  def _requests(self):
    for entry in self._log('performance'):
      message = json.loads(entry['message'])['message']
      if message['method'] == 'Network.requestWillBeSent':
        yield message['params']['request']['url']

  def _log(self, name):
    return self._driver.get_log(name)

  def _command(self, name, **arguments):
    return self._driver.execute_cdp_cmd(name, arguments)


@contextlib.contextmanager
def start():
  """A browser without a window."""
  options = chrome_options.Options()
  options.binary_location = BROWSER
  options.add_argument('--headless=new')
  options.add_argument('--disable-dev-shm-usage')
  if os.getuid() == 0:
    options.add_argument('--no-sandbox')  # Which root cannot have.
  options.set_capability(
    'goog:loggingPrefs', {'browser': 'ALL', 'performance': 'ALL'}
  )
  # With both paths given, Selenium looks for nothing in the network.
  driver = webdriver.Chrome(options, chrome_service.Service(DRIVER))
  try:
    yield Browser(driver)
  finally:
    driver.quit()
