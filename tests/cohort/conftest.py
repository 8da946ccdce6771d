"""The maker of BIDS datasets stands with the tests of BIDS; the command line is run in this process."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "io" / "bids"))
