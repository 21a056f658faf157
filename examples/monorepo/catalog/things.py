"""What there is to buy."""

THINGS = [
    {"id": "lamp", "name": "Desk lamp", "grams": 900},
    {"id": "mug", "name": "Mug", "grams": 350},
]


def find(identifier):
    """The thing with an id, or None."""
    return next((thing for thing in THINGS if thing["id"] == identifier), None)
