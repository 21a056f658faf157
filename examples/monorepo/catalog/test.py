from things import THINGS, find

assert find("mug")["name"] == "Mug"
assert find("nothing") is None
assert len({thing["id"] for thing in THINGS}) == len(THINGS)
print(f"{len(THINGS)} things are in order")
