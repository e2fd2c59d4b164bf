"""A page as one file of HTML.

It opens without network and runs no script; a policy in it forbids both.
"""

import jinja2

from vit_jax.page import content


def render(page: content.Page) -> str:
  """The page as HTML; all text in it is escaped."""
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader('vit_jax.page', 'templates'),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  return environment.get_template('page.html').render(page=page)
