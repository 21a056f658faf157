"""A small web page. Change the greeting here, or the page in templates/, while `hd up` runs."""

from flask import Flask, render_template

import config

app = Flask(__name__)


@app.route("/")
def index():
    return render_template("index.html", title=config.TITLE, greeting="Hello from Hyperdocker!")


@app.route("/health")
def health():
    return {"status": "ok"}


if __name__ == "__main__":
    app.run(host=config.HOST, port=config.PORT)
