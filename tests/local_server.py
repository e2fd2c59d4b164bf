"""A local HTTP server with fixed answers, for tests of downloads."""

import contextlib
import http.server
import threading
from typing import NamedTuple
import urllib.parse


class Answer(NamedTuple):
  """An answer to GET and HEAD; `sent` bytes of the body if it is cut short."""

  body: bytes = b''
  headers: dict[str, str] = {}
  status: int = 200
  sent: int | None = None


class Server(http.server.ThreadingHTTPServer):
  """Answers by path, without the query, and lists what was requested."""

  def __init__(self):
    super().__init__(('127.0.0.1', 0), _Handler)
    self.answers = {}
    self.requested = []

  @property
  def url(self):
    return f'http://127.0.0.1:{self.server_port}'


class _Handler(http.server.BaseHTTPRequestHandler):
  def do_GET(self):
    path = urllib.parse.unquote(self.path.partition('?')[0])
    self.server.requested.append(path)
    answer = self.server.answers.get(path, Answer(status=404))
    self.send_response(answer.status)
    for name, value in answer.headers.items():
      self.send_header(name, value)
    self.send_header('Content-Length', str(len(answer.body)))
    self.end_headers()
    if self.command == 'GET':
      self.wfile.write(answer.body[: answer.sent])

  do_HEAD = do_GET  # noqa: N815

  def log_message(self, *unused):
    pass


@contextlib.contextmanager
def serve():
  with Server() as server:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
      yield server
    finally:
      server.shutdown()
      thread.join()
