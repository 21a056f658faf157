"""A guestbook: GET shows it, POST with `author` and `said` writes in it."""

import html
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import psycopg2

TITLE = "Guestbook"


def query(sql, *values):
    """One statement in a transaction of its own; its rows, if it has any."""
    with psycopg2.connect("") as connection, connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall() if cursor.description else []


class Guestbook(BaseHTTPRequestHandler):
    def do_GET(self):
        entries = query("SELECT author, said FROM entries ORDER BY id DESC LIMIT 50")
        lines = "".join(f"<li><b>{html.escape(author)}</b>: {html.escape(said)}</li>" for author, said in entries)
        self.answer(200, f"<h1>{TITLE}</h1><ul>{lines}</ul><p>{len(entries)} entries</p>\n")

    def do_POST(self):
        form = parse_qs(self.rfile.read(int(self.headers.get("content-length", 0))).decode())
        query("INSERT INTO entries (author, said) VALUES (%s, %s)", form["author"][0], form["said"][0])
        self.answer(201, "Thank you\n")

    def answer(self, status, body):
        content = body.encode()
        self.send_response(status)
        self.send_header("content-type", "text/html; charset=utf-8")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format, *args):
        print(f"{self.command} {self.path} {args[1]}", flush=True)


with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "db", "schema.sql")) as schema:
    query(schema.read())
address = (os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8200")))
print(f"listening on {address[0]}:{address[1]}", flush=True)
ThreadingHTTPServer(address, Guestbook).serve_forever()
