import os
import sys

total = 0
for directory, names, files in os.walk(sys.argv[1]):
    names.sort()
    for name in sorted(files):
        if name.endswith(".py"):
            with open(os.path.join(directory, name)) as file:
                total += sum(1 for _ in file)
print(total)
