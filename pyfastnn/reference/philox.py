"""Philox4x32-10, the counter-based random generator behind dropout.

Written from the paper, independently of the kernel: 64-bit products of NumPy integers, all counters
at once. The same key and counter give the same words on every machine.

Source: Salmon, Moraes, Dror, Shaw 2011, Parallel random numbers: as easy as 1, 2, 3.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
ROUNDS = 10


def philox4x32(counter: NDArray[np.uint32], key: tuple[int, int], rounds: int = ROUNDS) -> NDArray[np.uint32]:
    """Return four random words for every counter.

    Parameters
    ----------
    counter : ndarray of uint32, shape (..., 4)
        One counter of 128 bits in each row, lowest word first.
    key : tuple of two int, each in [0, 2**32)
        The same for all counters.
    rounds : int, default 10
        Ten is what the authors recommend.

    Returns
    -------
    ndarray of uint32, shape (..., 4)
        The words of each counter.

    Examples
    --------
    >>> words = philox4x32(np.zeros((1, 4), dtype=np.uint32), (0, 0))
    >>> [f"{word:08x}" for word in words[0]]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    c = [counter[..., k].astype(np.uint64) for k in range(4)]
    for number in range(rounds):
        k0, k1 = (np.uint64((key[k] + number * _WEYL[k]) % 2**32) for k in range(2))
        first, second = c[0] * _MULTIPLIERS[0], c[2] * _MULTIPLIERS[1]
        c = [
            (second >> _HALF) ^ c[1] ^ k0,
            second & _LOW,
            (first >> _HALF) ^ c[3] ^ k1,
            first & _LOW,
        ]
    return np.stack(c, axis=-1).astype(np.uint32)


def element_words(size: int, *, seed: int, node: int, step: int) -> NDArray[np.uint32]:
    """Return the random word of each of ``size`` elements.

    Element e takes word ``e % 4`` of the counter ``(low of e // 4, high of e // 4, node, low of
    step)`` under the key ``(low of seed, high of seed)``, where low and high are the halves of a
    64-bit number.
    """
    blocks = np.arange((size + 3) // 4, dtype=np.uint64)
    counter = np.empty((len(blocks), 4), dtype=np.uint32)
    counter[:, 0] = blocks & _LOW
    counter[:, 1] = blocks >> _HALF
    counter[:, 2] = node
    counter[:, 3] = step % 2**32
    return philox4x32(counter, (seed % 2**32, seed >> 32)).reshape(-1)[:size]
