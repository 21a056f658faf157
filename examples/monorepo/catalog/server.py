"""GET / lists the things, GET /<id> shows one."""

import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from things import THINGS, find


class Catalog(BaseHTTPRequestHandler):
    def do_GET(self):
        found = THINGS if self.path == "/" else find(self.path.lstrip("/"))
        content = json.dumps(found).encode()
        self.send_response(200 if found else 404)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format, *args):
        pass


ThreadingHTTPServer(("127.0.0.1", int(os.environ.get("PORT", "7001"))), Catalog).serve_forever()
