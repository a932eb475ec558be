"""Makes test/helpers.py and fake_hub.py importable under any import mode of pytest."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
