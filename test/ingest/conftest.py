"""Makes test/helpers.py and this folder's own helpers importable under any import mode of pytest."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).resolve().parents[1])]
