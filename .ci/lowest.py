"""Print the lowest versions that pyproject.toml promises, one requirement per line, for pip."""

import re
import sys
from pathlib import Path

TEXT = (Path(__file__).resolve().parents[1] / "pyproject.toml").read_text(encoding="utf-8")

found = re.findall(r"^(?:dependencies|measure|models) = \[(.*?)\]", TEXT, flags=re.M | re.S)
assert len(found) == 3, "pyproject.toml lacks dependencies or extras"
pinned = re.findall(r'"([a-z0-9]+)>=([0-9.]+)', "".join(found))
print(
    "\n".join(f"{name}=={version}.*" if version.count(".") == 1 else f"{name}=={version}" for name, version in pinned)
)
sys.exit(not pinned)
