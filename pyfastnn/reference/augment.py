"""Reference of the random changes of images: pad, cut out the shifted window, flip it, put a square of zeros over it.

Written with padded arrays and NumPy's slices, where the kernel computes which pixel comes from where.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from pyfastnn.reference.philox import philox4x32
from pyfastnn.reference.spec import (
    Array,
    Cost,
    ErrorCase,
    OpSpec,
    Rng,
    Rounding,
    Sample,
    awkward,
    different_dtype,
    label_of,
    normal,
    register,
)

_SHAPES = (
    (1, 1, 1, 1), (0, 3, 3, 1), (3, 4, 0, 2), (2, 1, 9, 3), (5, 7, 1, 1), (9, 5, 6, 3), (17, 3, 2, 5), (4, 13, 11, 1),
    (3, 8, 9, 16), (2, 17, 16, 3), (33, 4, 4, 1),
)  # fmt: skip
SHAPES = tuple({"n": n, "h": h, "w": w, "c": c} for n, h, w, c in _SHAPES)
BENCH = ({"n": 128, "h": 32, "w": 32, "c": 3}, {"n": 128, "h": 28, "w": 28, "c": 1})
SOURCE = "DeVries and Taylor 2017 (cutout); Krizhevsky et al. 2012 (flips, shifted crops); Salmon et al. 2011"

_HYPER = {"seed": 5.0, "step": 3.0}
_ALL = {"flip": 3.0, "pad": 2.0, "cutout": 3.0, "node": 1.0}


def draw(
    count: int, height: int, width: int, *, flip: int, pad: int, node: int, seed: int, step: int
) -> dict[str, Array]:
    """Return what is drawn for each of ``count`` images.

    Image k takes the words of the counter ``(low of k, high of k, node, low of step)``.

    Returns
    -------
    dict of str to ndarray, shape (count,)
        ``vertical`` and ``horizontal`` (bool: flipped), ``down`` and ``right`` (shifts in [-pad, pad]), ``row`` and ``column`` (centre of
        the square).
    """
    number = np.arange(count, dtype=np.uint64)
    counter = np.empty((count, 4), dtype=np.uint32)
    counter[:, 0] = number & np.uint64(0xFFFFFFFF)
    counter[:, 1] = number >> np.uint64(32)
    counter[:, 2] = node
    counter[:, 3] = step % 2**32
    word = philox4x32(counter, (seed % 2**32, seed >> 32)).astype(np.int64)
    centre = word[:, 3] * (height * width) >> 32
    return {
        "horizontal": (word[:, 0] >= 2**31) & bool(flip & 1),
        "vertical": (word[:, 0] % 2**31 >= 2**30) & bool(flip & 2),
        "down": (word[:, 1] * (2 * pad + 1) >> 32) - pad,
        "right": (word[:, 2] * (2 * pad + 1) >> 32) - pad,
        "row": centre // max(1, width),
        "column": centre % max(1, width),
    }


def augment(
    x: Array,
    *,
    flip: float = 0,
    pad: float = 0,
    cutout: float = 0,
    node: float = 0,
    seed: float,
    step: float,
) -> tuple[Array]:
    """Return the images of ``x``, each changed by its own draw."""
    n, h, w, _ = x.shape
    p = int(pad)
    drawn = draw(n, h, w, flip=int(flip), pad=p, node=int(node), seed=int(seed), step=int(step))
    padded = np.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))
    y = np.empty_like(x)
    for k in range(n):
        top, left = p + drawn["down"][k], p + drawn["right"][k]
        window = padded[k, top : top + h, left : left + w]
        y[k] = window[:: -1 if drawn["vertical"][k] else 1, :: -1 if drawn["horizontal"][k] else 1]
        y[k][_square(drawn, k, int(cutout))] = 0
    return (y,)


def augment_backward(
    dy: Array,
    *,
    flip: float = 0,
    pad: float = 0,
    cutout: float = 0,
    node: float = 0,
    seed: float,
    step: float,
) -> tuple[Array]:
    """Return the gradient of the input of `augment`: every pixel goes back to where it came from."""
    n, h, w, c = dy.shape
    p = int(pad)
    drawn = draw(n, h, w, flip=int(flip), pad=p, node=int(node), seed=int(seed), step=int(step))
    dx = np.empty_like(dy)
    for k in range(n):
        window = dy[k].copy()
        window[_square(drawn, k, int(cutout))] = 0
        padded = np.zeros((h + 2 * p, w + 2 * p, c), dy.dtype)
        top, left = p + drawn["down"][k], p + drawn["right"][k]
        padded[top : top + h, left : left + w] = window[
            :: -1 if drawn["vertical"][k] else 1, :: -1 if drawn["horizontal"][k] else 1
        ]
        dx[k] = padded[p : p + h, p : p + w]
    return (dx,)


def _square(drawn: dict[str, Array], k: int, side: int) -> tuple[slice, slice]:
    """Return the pixels of image k under its square; what lies beyond the border is left to the slices."""
    top, left = int(drawn["row"][k]) - side // 2, int(drawn["column"][k]) - side // 2
    return slice(max(0, top), max(0, top + side)), slice(max(0, left), max(0, left + side))


def _exact(r: Rounding, *arrays: Array, **numbers: float) -> tuple[Any]:
    return (0.0,)


def _case(name: str) -> Any:
    def case(rng: Rng, dtype: DTypeLike, n: int, h: int, w: int, c: int) -> Sample:
        return Sample(label_of(n=n, h=h, w=w, c=c), {name: normal(rng, dtype, n, h, w, c)}, _ALL, _HYPER)

    return case


def _special(name: str) -> Any:
    def special(rng: Rng, dtype: DTypeLike) -> list[Sample]:
        images = {name: normal(rng, dtype, 7, 5, 4, 2)}
        odd = {name: np.resize(awkward(dtype), (7, 5, 4, 2)).astype(dtype)}
        far = {"seed": float(2**53 - 1), "step": float(2**32 + 9)}
        settings = {
            "horizontal": {"flip": 1.0},
            "vertical": {"flip": 2.0},
            "crop": {"pad": 1.0},
            "crop_beyond_the_image": {"pad": 9.0},
            "cutout_one": {"cutout": 1.0},
            "cutout_even": {"cutout": 4.0},
            "cutout_everything": {"cutout": 11.0},
            "nothing": {},
        }
        samples = [Sample(label, images, attrs, _HYPER) for label, attrs in settings.items()]
        samples.append(Sample("awkward", odd, _ALL, _HYPER))
        samples.append(Sample("large_seed_step_and_node", images, {**_ALL, "node": float(2**32 - 2)}, far))
        samples += [Sample(f"other_{key}", images, _ALL, {**_HYPER, key: 4.0}) for key in _HYPER]
        return samples

    return special


def _errors(name: str, op: str) -> Any:
    def errors(rng: Rng, dtype: DTypeLike) -> list[ErrorCase]:
        good = _case(name)(rng, dtype, n=2, h=3, w=4, c=3).inputs
        flat = {name: normal(rng, dtype, 2, 36)}
        return [
            ErrorCase(Sample("dtype", different_dtype(good, name), {}, _HYPER), TypeError, f"{op}: '{name}'.*int32"),
            ErrorCase(Sample("flat", flat, {}, _HYPER), ValueError, rf"{op}: '{name}' has shape \(2, 36\)"),
        ]

    return errors


for _op, _name, _reference in (("augment", "x", augment), ("augment_backward", "dy", augment_backward)):
    register(
        OpSpec(
            name=_op,
            reference=_reference,
            bound=_exact,
            case=_case(_name),
            shapes=SHAPES,
            bench=BENCH,
            special=_special(_name),
            errors=_errors(_name, _op),
            cost=lambda itemsize, n, h, w, c: Cost(0, 2 * itemsize * n * h * w * c),
            source=SOURCE,
            backward={"x": "augment_backward.dx"} if _op == "augment" else {},
        )
    )
