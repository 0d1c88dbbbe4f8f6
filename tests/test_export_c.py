"""Models as C headers: compiled without a warning, as accurate as the formulas allow, or refused."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import pyfastnn as fnn
from pyfastnn import nn
from pyfastnn.reference import Rounding, interpret, specs
from pyfastnn.reference.activation_smooth import normal_density, normal_distribution
from pyfastnn.testing import assert_within, rng_of

WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Wdouble-promotion", "-Werror"]
COMPILERS = {
    "gcc": ["gcc", "-std=c99", "-O2"],
    "gcc -O3": ["gcc", "-std=c99", "-O3", "-march=native"],
    "clang": ["clang", "-std=c99", "-O2"],
    "g++": ["g++", "-std=c++17", "-O2", "-x", "c++"],
}
ROW = (7,)
IMAGE = (7, 6, 4)
RNG = rng_of("export_c")

MODELS = {
    "linear": (ROW, lambda: [nn.Linear(3)]),
    "no bias": (ROW, lambda: [nn.Linear(5, bias=False), nn.ReLU(), nn.Linear(3, bias=False)]),
    "deep": (ROW, lambda: [layer for k in (33, 17, 64, 5) for layer in (nn.Linear(k), nn.ReLU())] + [nn.Linear(2)]),
    "first in place": (ROW, lambda: [nn.Tanh(), nn.Linear(4)]),
    "last in place": (ROW, lambda: [nn.Linear(4), nn.LayerNorm(), nn.Sigmoid()]),
    "all in place": (ROW, lambda: [nn.BatchNorm(), nn.Tanh()]),
    "nothing": (IMAGE, lambda: [nn.Flatten(), nn.Dropout(0.5)]),
    "dropout": (ROW, lambda: [nn.Dropout(0.5), nn.Linear(5), nn.Dropout(0.5), nn.Linear(2)]),
    "batch_norm": (ROW, lambda: [nn.Linear(9), nn.BatchNorm(eps=1e-3), nn.ReLU(), nn.Linear(3)]),
    "layer_norm": (ROW, lambda: [nn.Linear(9), nn.LayerNorm(eps=1e-3), nn.ReLU(), nn.Linear(3)]),
    "norms of images": (IMAGE, lambda: [nn.BatchNorm(), nn.LayerNorm(), nn.Flatten(), nn.Linear(3)]),
    "prelu": (ROW, lambda: [nn.Linear(5), nn.PReLU(), nn.Linear(4), nn.PReLU(shared=True, init=0.5), nn.Linear(2)]),
    "prelu of images": (IMAGE, lambda: [nn.PReLU(), nn.Flatten(), nn.Linear(2)]),
    "maxout": (ROW, lambda: [nn.Maxout(5), nn.Maxout(3, pieces=4, bias=False)]),
    "softmax": (ROW, lambda: [nn.Linear(5), nn.Softmax()]),
    "softmax of images": (IMAGE, lambda: [nn.Softmax(), nn.Flatten(), nn.Linear(2)]),
    "log_softmax": (ROW, lambda: [nn.Linear(5), nn.LogSoftmax(), nn.Linear(2)]),
    "conv2d": (IMAGE, lambda: [nn.Conv2d(5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(3)]),
    "conv2d same": (
        IMAGE,
        lambda: [nn.Conv2d(6, (2, 3), stride=2, padding="same", bias=False), nn.Flatten(), nn.Linear(2)],
    ),
    "conv2d groups": (IMAGE, lambda: [nn.Conv2d(6, 3, padding=(1, 2), dilation=(2, 1), groups=2), nn.Flatten()]),
    "depthwise": (IMAGE, lambda: [nn.Conv2d(8, 3, stride=(1, 2), padding=1, groups=4), nn.GlobalAvgPool2d()]),
    "max_pool": (IMAGE, lambda: [nn.MaxPool2d((3, 2), stride=2, padding=1), nn.Flatten(), nn.Linear(2)]),
    "avg_pool": (IMAGE, lambda: [nn.AvgPool2d((3, 2), stride=(1, 2), padding=1), nn.Flatten(), nn.Linear(2)]),
    "avg_pool without pad": (
        IMAGE,
        lambda: [nn.AvgPool2d(3, padding=1, count_include_pad=False), nn.Flatten(), nn.Linear(2)],
    ),
    "augmented": (IMAGE, lambda: [nn.RandomFlip(), nn.RandomCrop(), nn.Cutout(), nn.Dropout2d(0.2), nn.Flatten()]),
}
for _layer in (
    nn.ReLU(), nn.LeakyReLU(0.1), nn.LeakyReLU(), nn.ELU(0.7), nn.SELU(), nn.Sigmoid(), nn.Tanh(), nn.Exp(), nn.SiLU(), nn.Softplus(),
    nn.GELU(), nn.GELU("tanh"),
):  # fmt: skip
    MODELS[repr(_layer)] = (ROW, partial(lambda layer: [nn.Linear(6), layer, nn.Linear(3)], _layer))


def made(kind: str, dtype: str = "float32", preprocess: fnn.data.Preprocessor | None = None) -> nn.Sequential:
    """Return a model whose arrays all hold other numbers than those they begin with."""
    shape, layers = MODELS[kind]
    model = nn.Sequential(*layers(), preprocess=preprocess, dtype=dtype).build(shape, seed=3)
    for name, array in model.arrays().items():
        if not name.endswith(".w"):
            array[...] = RNG.uniform(0.3, 1.7, array.shape) if "var" in name else RNG.standard_normal(array.shape)
    return model


def rows(model: nn.Model, count: int = 40) -> np.ndarray:
    """Return rows of small and of large numbers."""
    X = RNG.standard_normal((count, *model.input_shape)) * np.geomspace(1e-3, 10, count).reshape(
        -1, *[1] * len(model.input_shape)
    )
    return X.astype(model.dtype)


class Compiled:
    """The functions of a header as a compiler makes them."""

    def __init__(self, header: Path, compiler: str, real: str = "float", classes: bool = False) -> None:
        command = installed(compiler)
        name = header.stem
        lines = [f'#include "{header.name}"', f'#include "{header.name}"', "/* twice: the guard */"]
        external = 'extern "C" ' if command[0] == "g++" else ""
        start = f"{external}void", f"(const {real} *x, {real} *y, int n);"
        ends = {
            "predict": f"{name}_predict(x + i * {name.upper()}_INPUTS, y + i * {name.upper()}_OUTPUTS)",
            "proba": f"{name}_predict_proba(x + i * {name.upper()}_INPUTS, y + i * {name.upper()}_OUTPUTS)",
            "class": f"y[i] = ({real}){name}_predict_class(x + i * {name.upper()}_INPUTS)",
        }
        for function, body in ends.items():
            if function == "predict" or classes:
                lines.append(f"{start[0]} run_{function}{start[1]}")
                lines.append(f"void run_{function}{start[1][:-1]} {{ for (int i = 0; i < n; i++) {body}; }}")
        if classes:
            lines.append(f"{external}const char *run_label(const {real} *x);")
            lines.append(f"const char *run_label(const {real} *x) {{ return {name}_predict_label(x); }}")
        source = header.with_suffix(".c")
        source.write_text("\n".join(lines) + "\n")
        library = header.with_suffix(f".{compiler.replace(' ', '')}.so")
        compile_(command, source, "-shared", "-fPIC", "-o", str(library), "-lm")
        self.library = ctypes.CDLL(str(library))
        self.library.run_label = getattr(self.library, "run_label", None)
        if self.library.run_label is not None:
            self.library.run_label.restype = ctypes.c_char_p

    def __call__(self, X: np.ndarray, columns: int, function: str = "predict") -> np.ndarray:
        """Return what the function makes of every row; the bytes behind its output must stay."""
        X = np.ascontiguousarray(X)
        out = np.full(len(X) * columns + 16, 77.5, X.dtype)
        pointer = ctypes.c_void_p
        getattr(self.library, f"run_{function}")(pointer(X.ctypes.data), pointer(out.ctypes.data), len(X))
        assert (out[-16:] == 77.5).all()
        return out[:-16].reshape(len(X), columns)

    def label(self, row: np.ndarray) -> str:
        """Return the label of one row."""
        found = self.library.run_label(ctypes.c_void_p(np.ascontiguousarray(row).ctypes.data))
        return found.decode()


def installed(compiler: str) -> list[str]:
    """Return the command of a compiler, or skip the test."""
    if shutil.which(COMPILERS[compiler][0]) is None:
        pytest.skip(f"{COMPILERS[compiler][0]} is not installed")
    return COMPILERS[compiler]


def compile_(command: list[str], source: Path, *arguments: str) -> None:
    """Compile without a warning."""
    done = subprocess.run(
        [*command, *WARNINGS, source.name, *arguments], cwd=source.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and not done.stderr, done.stderr


# The error of the C code: every layer adds its own, and passes on what it was given.


def relative(roundings: int):
    """Return the bound of a function all of whose steps are relative errors; u is half a unit in the last place."""
    return lambda r, x, y, attrs: r.relative(roundings, y)


def error_of_gelu(r, x, y, attrs):
    """Bound ``x * (erfc(-x * sqrt(1/2)) / 2)``: two roundings of the argument, 5 units of erfc (GNU C library), then the product."""
    t = np.minimum(np.abs(x), 1e3)  # beyond this the distribution is 0 or 1
    error = 2.2 * r.u * t * normal_density(t) + 11 * r.u * normal_distribution(np.where(x > 0, t, -t))
    return r.relative(1, y) + t * error + r.tiny * (2 + t)


def error_of_gelu_tanh(r, x, y, attrs):
    """Bound ``x * logistic(z)``: six roundings in z, those of logistic, then the product."""
    t = np.minimum(np.abs(x), 1e3)
    z = np.where(x > 0, 1, -1) * t * np.sqrt(8 / np.pi) * (1 + 0.044715 * t * t)
    s, rest = np.exp(-np.logaddexp(0, -z)), np.exp(-np.logaddexp(0, z))
    return r.relative(1, y) + 6.6 * r.u * t * s * (np.abs(z) * rest + 1) + r.tiny * (2 + t)


# Of exp, log, expm1 and log1p the GNU C library states errors of 1 unit in the last place (2 u), of tanh 2 units.
OF_C = {
    "exp_forward": relative(2),
    "tanh_forward": relative(4),
    "sigmoid_forward": relative(6),  # exp, a sum with one and a quotient, each at its worst
    "silu_forward": lambda r, x, y, attrs: r.relative(7, y) + r.tiny * (2 + np.minimum(np.abs(x), 1e3)),
    "softplus_forward": relative(6),
    "elu_forward": lambda r, x, y, attrs: np.where(x > 0, 0, r.relative(4, y)),
    "selu_forward": relative(5),
    "gelu_forward": error_of_gelu,
    "gelu_tanh_forward": error_of_gelu_tanh,
}
MONOTONE = ("relu", "elu", "selu", "sigmoid", "tanh", "exp", "softplus")
SLOPES = {"gelu": 1.13, "gelu_tanh": 1.13, "silu": 1.1}


def carried(op: str, arguments: list, y: np.ndarray, e: np.ndarray, attrs: dict) -> np.ndarray:
    """Return how far the output of an op may move where its first input moves by up to ``e``."""
    family = op.removesuffix("_forward")
    x, *others = arguments
    forward = specs()[op].reference
    if family in MONOTONE:
        return np.maximum(forward(x + e, **attrs)[0] - y, y - forward(x - e, **attrs)[0])
    if family in SLOPES:
        return SLOPES[family] * e
    if family == "leaky_relu":
        return max(1, abs(attrs["negative_slope"])) * e
    if family == "prelu":
        return np.maximum(1, np.abs(others[0])) * e
    if family in ("linear", "conv2d"):
        return forward(e, np.abs(others[0]), None, **attrs)[0]
    if family in ("max_pool", "avg_pool", "global_avg_pool", "maxout"):
        return forward(e, **attrs)[0]
    if family == "batch_norm_predict":
        gamma, _, _, var = others
        return np.abs(gamma) / np.sqrt(var + attrs["eps"]) * e
    if family == "layer_norm":
        d = np.abs(x - x.mean(axis=-1, keepdims=True))
        c = e + e.mean(axis=-1, keepdims=True)
        var, moved = (d * d).mean(axis=-1, keepdims=True), (2 * d * c + c * c).mean(axis=-1, keepdims=True)
        rstd = 1 / np.sqrt(var + attrs["eps"])
        most = 1 / np.sqrt(np.maximum(var - moved, 0) + attrs["eps"])
        return np.abs(others[0]) * (c * most + d * (most - rstd))
    largest = e.max(axis=-1, keepdims=True)
    if family == "softmax":
        return y * np.expm1(2 * largest)
    assert family == "log_softmax", f"no rule for {op}"
    return e + largest


@np.errstate(all="ignore")
def judged(model: nn.Model, X: np.ndarray, ours: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return the scores of raw rows in a wider type, and how far those of the C code, or of our kernels, may be off.

    A layer's own error is bounded at the exact input and at both ends of what the input may be; between them it changes by a share as small
    as the errors themselves, for which a hundredth more is plenty.
    """
    wide = np.float64 if model.dtype == np.float32 else np.longdouble
    r, graph = Rounding(model.dtype), model.prediction_graph(fuse_pools=False)
    values = {"X": X.reshape(len(X), -1), "index": np.arange(len(X)), **model.arrays()}
    values |= {k: v for k, v in model.folded().items() if k in graph.values}
    exact = interpret(graph, values, dtype=wide)
    errors: dict[str, np.ndarray] = {}
    for node in graph.nodes:
        spec, name = specs()[node.op], node.outputs[0]
        arguments = [None if k is None else exact[k] for k in node.inputs]
        if node.op == "gather_rows":
            bound = spec.bound(r, *arguments)[0]
            total = np.where(np.isfinite(exact[name]), bound, 0)
        else:
            y, first = exact[name], arguments[0]
            source = graph.values[node.inputs[0]].view_of or node.inputs[0]
            e = errors[source].reshape(first.shape)
            own = []
            for x in (first - e, first, first + e):
                there = spec.reference(x, *arguments[1:], **node.attrs)[0]
                if node.op in OF_C and not ours:
                    own.append(OF_C[node.op](r, x, there, node.attrs))
                else:
                    own.append(np.broadcast_to(spec.bound(r, x, *arguments[1:], **node.attrs)[0], y.shape))
            total = 1.01 * (np.max(own, axis=0) + carried(node.op, arguments, y, e, node.attrs))
        errors[name] = np.broadcast_to(np.asarray(total, dtype=wide), exact[name].shape)
    last = graph.values["scores"].view_of or "scores"
    shape = (len(X), -1)
    return exact["scores"].reshape(shape), errors[last].reshape(shape)


def assert_like_ours_anywhere(model: nn.Model, compiled: Compiled, X: np.ndarray) -> None:
    """Assert that C and kernels are both within their bounds of what is right."""
    want, bound = judged(model, X)
    assert_within(compiled(X, want.shape[1]), want, bound, "C")
    assert_within(model(X).reshape(want.shape), want, judged(model, X, ours=True)[1], "ours")


def assert_like_ours(model: nn.Model, compiled: Compiled, X: np.ndarray) -> None:
    """Assert the same, and that the scores are finite and their bounds small."""
    want, bound = judged(model, X)
    assert np.isfinite(bound).all() and (bound <= 1e-3 * (1 + np.abs(want).max())).all()
    assert_like_ours_anywhere(model, compiled, X)


@pytest.mark.parametrize("kind", MODELS)
def test_every_layer(kind, tmp_path):
    model = made(kind)
    fnn.export_c(model, tmp_path / "net.h")
    assert_like_ours(model, Compiled(tmp_path / "net.h", "gcc"), rows(model))


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_compiler(compiler, dtype, tmp_path):
    MODELS["all"] = (
        IMAGE,
        lambda: [layer for k in ("conv2d same", "maxout", "batch_norm") for layer in MODELS[k][1]()],
    )
    model = made("all", dtype)
    fnn.export_c(model, tmp_path / "net.h")
    assert_like_ours(
        model, Compiled(tmp_path / "net.h", compiler, "float" if dtype == "float32" else "double"), rows(model)
    )


@pytest.mark.parametrize(
    "preprocess",
    [
        fnn.data.Standardize(),
        fnn.data.PCA(3),
        fnn.data.Compose([fnn.data.Standardize(), fnn.data.PCA(4), fnn.data.MinMax()]),
    ],
    ids=["scale", "matrix", "matrix and bias"],
)
def test_preprocessing_is_inside(preprocess, tmp_path):
    preprocess.fit(RNG.normal(3, 2, (60, 7)))
    model = made("batch_norm", preprocess=preprocess)
    fnn.export_c(model, tmp_path / "net.h")
    assert_like_ours(model, Compiled(tmp_path / "net.h", "gcc"), rows(model))


LABELS = ["plain", 'a "quote"', "back\\slash", "what??/", "line\nend", "\u00e9\u4e2d\U0001f600", "%s", "7\x017"]


@pytest.mark.parametrize("compiler", COMPILERS)
def test_classes_and_probabilities(compiler, tmp_path):
    X = RNG.standard_normal((80, 5)).astype("f4")
    trainer = fnn.Trainer(
        nn.Sequential(nn.Linear(8), nn.ReLU(), nn.Linear(len(LABELS)), preprocess=fnn.data.Standardize())
    )
    trainer.fit(X, np.array(LABELS)[np.arange(80) % len(LABELS)], epochs=2, verbose=0)
    model = trainer.model
    fnn.export_c(model, tmp_path / "net.h")
    compiled = Compiled(tmp_path / "net.h", compiler, classes=True)
    assert_like_ours(model, compiled, X)
    want, bound = judged(model, X)
    margin = np.diff(np.sort(want, axis=1)[:, -2:])[:, 0]
    clear = margin > 2 * bound.max(axis=1)
    assert clear.sum() > 70
    answers = compiled(X, 1, "class")[:, 0].astype(int)
    np.testing.assert_array_equal(model.classes_[answers[clear]], model.predict(X)[clear])
    assert [compiled.label(x) for x in X] == model.classes_[answers].tolist()
    y, softmax = specs()["softmax_forward"].reference(want)[0], specs()["softmax_forward"].bound
    moved = carried("softmax_forward", [want], y, bound, {})
    assert_within(
        compiled(X, len(LABELS), "proba"), y, 1.01 * (softmax(Rounding("float32"), want)[0] + moved), "probabilities"
    )


def test_multilabel_probabilities(tmp_path):
    model = made("linear")
    model.task = "multilabel"
    fnn.export_c(model, tmp_path / "net.h")
    text = (tmp_path / "net.h").read_text()
    assert "net_sigmoid(out, out, 3);" in text and "net_predict_class" not in text


@pytest.mark.parametrize("kind", MODELS)
def test_nan_and_infinity(kind, tmp_path):
    model = made(kind)
    fnn.export_c(model, tmp_path / "net.h")
    X = rows(model, 3)
    X[1] = np.nan
    X.reshape(3, -1)[2] = np.where(np.arange(X[2].size) % 2, np.inf, -np.inf)
    want = model(X).reshape(3, -1)
    got = Compiled(tmp_path / "net.h", "gcc")(X, want.shape[1])
    assert np.isnan(want[1]).all()
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_array_equal(np.where(np.isinf(got), got, 0), np.where(np.isinf(want), want, 0))


@pytest.mark.parametrize("kind", [kind for kind in MODELS if kind.endswith(")")])
def test_activations_of_extreme_numbers(kind, tmp_path):
    """Where a function has limits or leaves the range of floats, the C code does it as our kernels do."""
    model = nn.Sequential(MODELS[kind][1]()[1]).build(7)
    fnn.export_c(model, tmp_path / "net.h")
    sizes = np.concatenate([np.geomspace(1e-45, 3e38, 400), [0.0, np.inf, np.nan, 20, 87, 88.5, 89, 103, 104]])
    X = np.concatenate([sizes, -sizes[::-1], np.zeros(-2 * len(sizes) % 7)]).astype("f4").reshape(-1, 7)
    assert_like_ours_anywhere(model, Compiled(tmp_path / "net.h", "gcc"), X)


def test_weights_are_exact(tmp_path):
    for dtype, real in (("float32", "float"), ("float64", "double")):
        model = made("linear", dtype)
        info = np.finfo(dtype)
        w = model.arrays()["linear_1.w"]
        w.reshape(-1)[:6] = [info.max, info.smallest_subnormal, -info.tiny, 0.1, -0.0, 1 + info.eps]
        fnn.export_c(model, tmp_path / f"{real}_net.h", f"{real}_net")
        (tmp_path / "w.c").write_text(
            f'#include "{real}_net.h"\nconst void *w(void);\nconst void *w(void) {{ return {real}_net_1_w; }}\n'
        )
        library = tmp_path / f"{real}.so"
        compile_(installed("gcc"), tmp_path / "w.c", "-shared", "-fPIC", "-o", str(library), "-lm")
        function = ctypes.CDLL(str(library)).w
        function.restype = ctypes.c_void_p
        assert ctypes.string_at(function(), w.nbytes) == w.tobytes()


@pytest.mark.parametrize("compiler", COMPILERS)
def test_two_headers_in_one_file_and_none_used(compiler, tmp_path):
    fnn.export_c(made(repr(nn.GELU())), tmp_path / "a.h", "net")
    fnn.export_c(made("conv2d"), tmp_path / "b.h", "net_1")
    (tmp_path / "two.c").write_text(
        '#include "a.h"\n#include "b.h"\nint used(void);\nint used(void) { return NET_INPUTS + NET_1_INPUTS; }\n'
    )
    compile_(installed(compiler), tmp_path / "two.c", "-c", "-o", str(tmp_path / "two.o"))


@pytest.mark.parametrize("kind", ["no bias", "layer_norm", "conv2d", repr(nn.GELU())])
def test_planted_errors_are_found(kind, tmp_path):
    """A weight that is off by a thousandth is beyond the bounds."""
    model = made(kind)
    X, w = rows(model), model.arrays()["conv2d_1.w" if kind == "conv2d" else "linear_1.w"]
    fnn.export_c(model, tmp_path / "net.h")
    w.reshape(-1)[np.abs(w).argmax()] *= 1.001
    with pytest.raises(AssertionError, match="C: .* elements are off"):
        assert_like_ours(model, Compiled(tmp_path / "net.h", "gcc"), X)


def test_nothing_is_allocated_or_kept(tmp_path):
    X = RNG.standard_normal((40, 7)).astype("f4")
    trainer = fnn.Trainer(nn.Sequential(nn.Linear(4), nn.BatchNorm(), nn.GELU(), nn.Linear(3)))
    trainer.fit(X, np.arange(40) % 3, epochs=1, verbose=0)
    fnn.export_c(trainer.model, tmp_path / "net.h")
    text = (tmp_path / "net.h").read_text()
    assert re.findall(r"#\s*include\s*(\S+)", text) == ["<math.h>"]
    for line in re.findall(r"(?m)^static .*", text):
        assert line.startswith(("static const ", "static inline ")), line
    assert not re.search(r"(?m)^[ \t]+static|alloc", text)


# What is refused


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "expected up to 31 ASCII letters"),
        ("my net", "expected up to 31"),
        ("1net", "a letter first"),
        ("_net", "a letter first"),
        ("net_", "single underscores"),
        ("my__net", "single underscores"),
        ("net\n", "expected up to 31"),
        ("n\u00e9t", "ASCII"),
        ("a;int main", "expected up to 31"),
        ("n" * 32, "up to 31"),
        ("int", "a keyword of C or C"),
        ("class", "a keyword of C or C"),
        ("restrict", "a keyword of C or C"),
    ],
)
def test_names_hostile_to_c(name, message, tmp_path):
    with pytest.raises(ValueError, match=f"export_c: 'name' is .*{message}"):
        fnn.export_c(made("linear"), tmp_path / "net.h", name)
    assert not list(tmp_path.iterdir())


def chain_with(layer: nn.Layer, shape: tuple[int, ...] = ROW) -> nn.Sequential:
    return nn.Sequential(layer).build(shape)


def side_by_side() -> nn.Model:
    x = nn.Input(7)
    return nn.Model(x, nn.Add()(nn.Linear(3)(x), nn.Linear(3)(x)))


def two_outputs() -> nn.Model:
    x = nn.Input(7)
    return nn.Model(x, {"a": nn.Linear(3)(x), "b": nn.Linear(3)(x)})


def with_nan() -> nn.Sequential:
    model = made("deep")
    model.arrays()["linear_2.w"][3, 3] = np.nan
    return model


def with_label(label: str) -> nn.Sequential:
    model = made("linear")
    model.task, model.classes_ = "classification", np.array(["a", "b", label])
    return model


class Odd(nn.ReLU):
    """A layer that is no ReLU any more."""


REFUSED = {
    "no model": (lambda: 3, TypeError, "'model' is int, expected a model"),
    "not built": (lambda: nn.Sequential(nn.Linear(3)), RuntimeError, "call model.build"),
    "not fitted": (lambda: made("linear", preprocess=fnn.data.Standardize()), RuntimeError, "is not fitted yet"),
    "group_norm": (
        lambda: chain_with(nn.GroupNorm(1)),
        ValueError,
        "layer 'group_norm_1': there is no C for GroupNorm, only for",
    ),
    "derived": (lambda: chain_with(Odd()), ValueError, "layer 'relu_1': there is no C for Odd"),
    "no chain": (side_by_side, ValueError, "'linear_2' is not called on the result of the layer before it"),
    "two outputs": (two_outputs, ValueError, "1 inputs and 2 outputs, expected one of each"),
    "nan": (with_nan, ValueError, "'linear_2.w' holds NaN or infinite values"),
    "nul": (lambda: with_label("a\0b"), ValueError, "class .* holds a NUL"),
    "long": (lambda: with_label("b" * 1001), ValueError, "class 'bbb.* more than 1000 bytes"),
}


def test_arrays_too_large_for_an_int(tmp_path, monkeypatch):
    monkeypatch.setattr("pyfastnn.io.export_c.LARGEST_ARRAY", 34)
    with pytest.raises(ValueError, match="an array of 35 numbers is too large, expected at most 34"):
        fnn.export_c(made("no bias"), tmp_path / "net.h")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_written_says_so(kind, tmp_path):
    model, error, message = REFUSED[kind]
    (tmp_path / "net.h").write_text("as it was")
    with pytest.raises(error, match=message):
        fnn.export_c(model(), tmp_path / "net.h")
    assert [p.name for p in tmp_path.iterdir()] == ["net.h"]
    assert (tmp_path / "net.h").read_text() == "as it was"


def test_no_half_written_file(tmp_path, monkeypatch):
    (tmp_path / "net.h").write_text("as it was")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        fnn.export_c(made("linear"), tmp_path / "net.h")
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["net.h"]
    assert (tmp_path / "net.h").read_text() == "as it was"
    fnn.export_c(made("linear"), tmp_path / "net.h")
    first = (tmp_path / "net.h").read_bytes()
    assert first.startswith(b"/* A neural network in C99")


def test_layers_called_twice_and_comments(tmp_path):
    layer = nn.Linear(7)
    x = nn.Input(7)
    model = nn.Model(x, nn.Linear(2)(nn.Tanh()(layer(layer(x)))), preprocess=None)
    fnn.export_c(model, tmp_path / "net.h")
    text = (tmp_path / "net.h").read_text()
    assert text.count("static const float net_1_w[49]") == 1
    assert "1. linear_1: Linear(out_features=7" in text
    assert_like_ours(model, Compiled(tmp_path / "net.h", "gcc"), rows(model))
