"""Print the lowest versions that pyproject.toml promises, one requirement per line, for pip."""

import re
import sys
from pathlib import Path

TEXT = (Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8")

found = re.search(r"^dependencies = \[(.*?)\]", TEXT, flags=re.M | re.S)
assert found, "pyproject.toml has no dependencies"
pinned = re.findall(r'"([a-z0-9]+)>=([0-9.]+)', found[1])
print(
    "\n".join(f"{name}=={version}.*" if version.count(".") == 1 else f"{name}=={version}" for name, version in pinned)
)
sys.exit(not pinned)
