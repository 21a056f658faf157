"""Settings, each with an environment variable that overrides it."""

import os

TITLE = os.environ.get("APP_TITLE", "Flask demo")
HOST = os.environ.get("HOST", "127.0.0.1")
PORT = int(os.environ.get("PORT", "5000"))
