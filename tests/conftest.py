import sys
from pathlib import Path

# Helpers that several test files share.
sys.path += [str(Path(__file__).parent), str(Path(__file__).parent / "runs")]
