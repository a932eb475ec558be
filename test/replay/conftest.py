"""Makes the helpers of other folders importable under any import mode of pytest."""

import sys
from pathlib import Path

TEST = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TEST), str(TEST / "ingest")]
