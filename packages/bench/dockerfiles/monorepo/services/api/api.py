def handle(path):
    return {"path": path}
