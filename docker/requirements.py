"""Prints what pyproject.toml asks for, extras named on the command line included, a requirement a line.

Only for the Dockerfile: a layer made from these lines is not made anew when something else in pyproject.toml changes.
"""

import sys
import tomllib
from pathlib import Path

project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
extras = project["optional-dependencies"]
print("\n".join([*project["dependencies"], *(line for extra in sys.argv[1:] for line in extras[extra])]))
