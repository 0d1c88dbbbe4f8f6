"""Write pyfastnn/data/digits.npz from the digits in scikit-learn's wheel.

    python tools/make_digits.py [OUT]

The result is the same to the byte for the same NumPy and zlib.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

DEFAULT = Path(__file__).resolve().parent.parent / "pyfastnn" / "data" / "digits.npz"


def main(out: Path) -> None:
    """Check the source data and write the file."""
    bunch = load_digits()
    images = bunch.data.astype(np.uint8)
    if images.shape != (1797, 64) or not np.array_equal(images, bunch.data) or images.max() != 16:
        raise SystemExit("the digits are not 1797 images of 64 whole numbers 0..16")
    np.savez_compressed(out, X=images, y=bunch.target.astype(np.uint8))
    print(f"{out}: {out.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT)
