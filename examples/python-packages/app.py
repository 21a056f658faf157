"""Serves a report on its own directory."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from report import table


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"Hello from two local packages!\n\n{table(Path(__file__).parent)}".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    address = (os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000")))
    print("listening on http://%s:%d" % address, flush=True)
    ThreadingHTTPServer(address, Handler).serve_forever()
