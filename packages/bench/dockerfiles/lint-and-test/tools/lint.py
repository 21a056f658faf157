import pathlib
import sys

for root in sys.argv[1:]:
    for path in sorted(pathlib.Path(root).rglob("*.py")):
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if len(line) > 100:
                print(f"{path}:{number}: too long")
print("done")
