"""The random generator against its authors' known answers, and dropout masks as statistics."""

from __future__ import annotations

import numpy as np
import pytest

from pyfastnn import _core
from pyfastnn import functional as F
from pyfastnn.reference.philox import element_words, philox4x32

# Random123, tests/kat_vectors: counter, key, result of philox4x32 with 10 rounds.
KNOWN = [
    (
        "00000000 00000000 00000000 00000000",
        "00000000 00000000",
        "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
    ),
    (
        "ffffffff ffffffff ffffffff ffffffff",
        "ffffffff ffffffff",
        "408f276d 41c83b0e a20bc7c6 6d5451fd",
    ),
    (
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]


def words(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN, ids=["zeros", "ones", "pi"])
def test_known_answers(counter, key, result):
    got = philox4x32(np.array([words(counter)], dtype=np.uint32), tuple(words(key)))
    assert got[0].tolist() == words(result)


def scalar_philox(counter: list[int], key: list[int]) -> list[int]:
    """Write the paper's round in plain integers, one block at a time."""
    c, k = list(counter), list(key)
    for _ in range(10):
        first, second = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [second >> 32 ^ c[1] ^ k[0], second % 2**32, first >> 32 ^ c[3] ^ k[1], first % 2**32]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


@pytest.mark.parametrize(("seed", "node", "step"), [(0, 0, 0), (2**53 - 1, 3, 2**32 + 5), (12345678901, 2**32 - 1, 7)])
def test_kernel_uses_the_word_of_each_element(seed, node, step):
    """Masks of the kernel at several p, against words made one by one."""
    n = 77
    expected = []
    for e in range(n):
        counter = [e // 4, 0, node, step % 2**32]
        expected.append(scalar_philox(counter, [seed % 2**32, seed >> 32])[e % 4])
    assert element_words(n, seed=seed, node=node, step=step).tolist() == expected
    for p in (0.0, 0.1, 0.5, 0.9):
        _, mask = F.dropout(np.ones(n, np.float32), p, seed=seed, node=node, step=step)
        assert mask.tolist() == [int(word >= p * 2**32) for word in expected]


@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_share_of_dropped_elements(p):
    """Within five standard deviations of a binomial; and neighbours are independent."""
    n = 200_000
    y, mask = F.dropout(np.ones(n), p, seed=11)
    kept = mask.astype(bool)
    deviation = (p * (1 - p) / n) ** 0.5
    assert abs((1 - kept.mean()) - p) < 5 * deviation
    assert abs(y.mean() - 1) < 5 * deviation / (1 - p)
    centred = kept - kept.mean()
    for lag in (1, 2, 3, 4, 8, 16, 4096):
        correlation = (centred[lag:] * centred[:-lag]).mean() / (p * (1 - p))
        assert abs(correlation) < 5 / (n - lag) ** 0.5


def test_each_number_gives_another_mask():
    x = np.ones(1000, np.float32)
    masks = [
        F.dropout(x, seed=seed, step=step, node=node)[1].tobytes()
        for seed, step, node in ((1, 0, 0), (2, 0, 0), (1, 1, 0), (1, 0, 1), (2**32 + 1, 0, 0))
    ]
    assert len(set(masks)) == len(masks)


def test_both_float_types_have_the_same_mask():
    row = tuple({"step": 4.0, "seed": 9.0}.get(field, 0.0) for field in _core.hyper_fields())
    masks = [_core.call("dropout_forward", (np.ones(501, d),), None, (0.3, 2), row)[1] for d in ("f4", "f8")]
    assert masks[0].tobytes() == masks[1].tobytes()


def test_a_part_of_an_array_has_the_words_of_its_beginning():
    x = np.ones(1003, np.float32)
    whole = F.dropout(x, seed=3)[1]
    assert (F.dropout(x[:500], seed=3)[1] == whole[:500]).all()
