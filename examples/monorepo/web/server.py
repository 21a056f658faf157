"""The page: all things of the catalog, each with its price."""

import html
import json
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import urlopen

TITLE = "Shop"


def ask(url):
    with urlopen(url) as answer:
        return json.load(answer)


class Web(BaseHTTPRequestHandler):
    def do_GET(self):
        things = ask(f"{os.environ['CATALOG_URL']}/")
        rows = [(thing["name"], ask(f"{os.environ['PRICES_URL']}/{thing['id']}")["price"]) for thing in things]
        content = f"<h1>{TITLE}</h1>\n{''.join(f'<p>{html.escape(name)}: {price}</p>' for name, price in rows)}\n".encode()
        self.send_response(200)
        self.send_header("content-type", "text/html; charset=utf-8")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format, *args):
        pass


ThreadingHTTPServer((os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "7000"))), Web).serve_forever()
