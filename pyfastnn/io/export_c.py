"""Models as C: one header file with the numbers and the functions, for programs that have nothing of ours."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from pyfastnn.io.atomic import atomic_write
from pyfastnn.io.export_c_layers import Array, Step, copy, preprocess_steps, steps_of
from pyfastnn.io.export_c_text import needed
from pyfastnn.nn.model import Model

__all__ = ["export_c"]

KEYWORDS = (
    "alignas", "alignof", "and", "and_eq", "asm", "auto", "bitand", "bitor", "bool", "break", "case", "catch", "char", "class", "compl",
    "complex", "concept", "const", "consteval", "constexpr", "constinit", "continue", "decltype", "default", "delete", "do", "double",
    "else", "enum", "explicit", "export", "extern", "false", "float", "for", "friend", "goto", "if", "imaginary", "inline", "int",
    "long", "mutable", "namespace", "new", "noexcept", "not", "not_eq", "nullptr", "operator", "or", "or_eq", "private", "protected",
    "public", "register", "requires", "restrict", "return", "short", "signed", "sizeof", "static", "static_assert", "struct", "switch",
    "template", "this", "thread_local", "throw", "true", "try", "typedef", "typeid", "typename", "typeof", "union", "unsigned", "using",
    "virtual", "void", "volatile", "wchar_t", "while", "xor", "xor_eq",
)  # fmt: skip
LONGEST_NAME = 31  # with what is added to it under the 63 characters that C99 promises to tell apart
LONGEST_LABEL = 1000  # C99 promises string constants of 4095 characters; one byte may take four
LARGEST_ARRAY = 2**31 - 1  # what an int of C counts to


def export_c(model: Model, path: str | os.PathLike[str], name: str = "net") -> None:
    """Write a model as one C99 header that needs nothing but ``math.h``.

    The header holds the weights as constants, exactly, the preprocessing, and functions for one raw row. It allocates nothing and keeps
    nothing between calls, so any number of threads may call it at once; C++17 takes it too.

    Parameters
    ----------
    model : Model
        A built model that is a chain: one input, one output, each layer called on the result of the one before. Layers that act in
        training alone (`Dropout` and augmentation) are left out.
    path : path
        The file, such as ``"net.h"``; replaced as a whole or not at all.
    name : str, default "net"
        Begins all names in the header, so that several fit into one program: up to 31 ASCII letters, digits and single underscores, a
        letter first, no keyword of C or C++.

    Raises
    ------
    TypeError
        If ``model`` is no model or ``name`` no text.
    ValueError
        If ``name`` is not such a name, the network is no chain, there is no C for a layer (the message names it), a number of the model is
        NaN or infinite, or a class label holds a NUL or is longer than 1000 bytes.
    RuntimeError
        If the model is not built or its preprocessing not fitted.
    FileNotFoundError
        If the folder does not exist.

    Notes
    -----
    With ``name="net"`` the header defines, where ``float`` is ``double`` for a model of float64:

    * ``NET_INPUTS``, ``NET_OUTPUTS``, ``NET_WORKSPACE``: values of a row, in the order height, width, channels, and of a workspace.
    * ``void net_predict(const float *x, float *out)``: what ``model(X)`` gives for a row; the workspace is on the stack.
    * ``void net_predict_with(const float *x, float *out, float *workspace)``: the same in a workspace of the caller, one for each thread.
    * ``void net_predict_proba(const float *x, float *out)``: as ``model.predict_proba``, for classifiers and multi-label models.
    * ``int net_predict_class(const float *x)``, ``const char *net_predict_label(const float *x)``, ``net_classes``: as ``model.predict``,
      for classifiers; labels are in UTF-8.

    ``x`` and ``out`` must not overlap. Sums are taken in another order than here and `exp` and its like come from the C library, so results
    differ from ``model(X)`` by rounding. A sum of n products has a relative error of at most about ``n * 2**-24`` of the sum of their
    absolute values (``n * 2**-53`` in float64), as ours has. NaN and infinity pass through as they do here. Compile without fast-math.

    Examples
    --------
    >>> import pyfastnn as fnn
    >>> from pyfastnn import nn
    >>> model = nn.Sequential(nn.Linear(8), nn.ReLU(), nn.Linear(2)).build(4)
    >>> fnn.export_c(model, "net.h")  # doctest: +SKIP
    """
    text = "".join(_header(model, name)).encode("ascii")
    with atomic_write(path) as file:
        file.write(text)


def _header(model: Model, name: str) -> Iterator[str]:
    """Yield the parts of the header; all errors come before the first part that needs time."""
    from pyfastnn import _core

    if not isinstance(model, Model):
        raise TypeError(f"export_c: 'model' is {type(model).__name__}, expected a model such as nn.Sequential(...)")
    _check_name(name)
    steps = list(_steps(model))
    (inputs,) = (math.prod(shape) for shape in model.input_shapes.values())
    (outputs,) = (math.prod(shape) for shape in model.output_shapes().values())
    labels = [_string(label) for classes in model.classes.values() for label in classes.tolist()]
    multilabel = "multilabel" in model.tasks.values()
    steps = steps or [("copy", copy(inputs))]
    functions = {step.function for _, step in steps}
    functions |= {"argmax", "softmax"} if labels else {"sigmoid"} if multilabel else set[str]()
    _check_sizes(inputs, steps)

    real, upper = "float" if model.dtype == np.float32 else "double", name.upper()
    calls, workspace = _calls(steps, name, model.dtype)
    yield f"/* {_comment(_core.__version__, model, name, real)} */\n"
    yield f"#ifndef PYFASTNN_{name}_H\n#define PYFASTNN_{name}_H\n\n#include <math.h>\n\n"
    yield f"#define {upper}_INPUTS {inputs}\n#define {upper}_OUTPUTS {outputs}\n#define {upper}_WORKSPACE {max(1, workspace)}\n\n"
    written = set()
    for prefix, step in steps:
        for key, table in step.tables.items():
            if table is not None and f"{prefix}_{key}" not in written:
                written.add(f"{prefix}_{key}")
                yield f"static const {real} {name}_{prefix}_{key}[{table.size}] = {{\n{_numbers(table)}}};\n"
    if labels:
        lines = "".join(f"    {label},\n" for label in labels)
        yield f"static const char *const {name}_classes[{len(labels)}] = {{\n{lines}}};\n"
    yield "\n"
    suffix = "f" if real == "float" else ""
    for text in needed(functions):
        yield text.replace("@", f"{name}_").replace("REAL", real).replace("~", suffix) + "\n"
    unused = "" if workspace else "    (void)workspace;\n"
    yield f"static inline void {name}_predict_with(const {real} *x, {real} *out, {real} *workspace)\n{{\n{unused}{calls}}}\n\n"
    yield f"static inline void {name}_predict(const {real} *x, {real} *out)\n{{\n    {real} workspace[{upper}_WORKSPACE];\n"
    yield f"    {name}_predict_with(x, out, workspace);\n}}\n"
    if labels or multilabel:
        last = f"{name}_softmax(out, out, 1, {outputs})" if labels else f"{name}_sigmoid(out, out, {outputs})"
        yield f"\nstatic inline void {name}_predict_proba(const {real} *x, {real} *out)\n{{\n"
        yield f"    {name}_predict(x, out);\n    {last};\n}}\n"
    if labels:
        yield f"\nstatic inline int {name}_predict_class(const {real} *x)\n{{\n    {real} out[{upper}_OUTPUTS];\n"
        yield f"    {name}_predict(x, out);\n    return {name}_argmax(out, {outputs});\n}}\n"
        yield f"\nstatic inline const char *{name}_predict_label(const {real} *x)\n{{\n"
        yield f"    return {name}_classes[{name}_predict_class(x)];\n}}\n"
    yield "\n#endif\n"


def _check_name(name: str) -> None:
    if not isinstance(name, str):
        raise TypeError(f"export_c: 'name' is {name!r}, expected text such as 'net'")
    fits = re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) and "__" not in name and not name.endswith("_")
    if not fits or len(name) > LONGEST_NAME:
        raise ValueError(
            f"export_c: 'name' is {name[:80]!r}, expected up to {LONGEST_NAME} ASCII letters, digits and single underscores, a letter first"
        )
    if name in KEYWORDS:
        raise ValueError(f"export_c: 'name' is {name!r}, a keyword of C or C++; expected another, such as 'net'")


def _steps(model: Model) -> Iterator[tuple[str, Step]]:
    """Yield the steps of a model, each with what the names of its tables begin with."""
    arrays, network = model.arrays(), model.network
    if len(network.inputs) != 1 or len(network.outputs) != 1:
        raise ValueError(
            f"export_c: the model has {len(network.inputs)} inputs and {len(network.outputs)} outputs, expected one of each"
        )
    shapes = model.value_shapes(model.input_shapes)
    for preprocess in model.preprocessors.values():
        folded = preprocess.arrays("", model.dtype)
        for step in preprocess_steps(folded):
            yield "preprocess", _checked(step, "preprocess")
    numbers = {layer: number for number, layer in enumerate(network.layers, 1)}
    for at, call in enumerate(network.calls):
        if call.sources != (at,):
            raise ValueError(
                f"export_c: {call.layer!r} is not called on the result of the layer before it; only chains of layers can be written as C"
            )
        own = {k.rsplit(".", 1)[1]: v for k, v in arrays.items() if k.rsplit(".", 1)[0] == call.layer}
        try:
            steps = steps_of(network.layers[call.layer], own, shapes[at])
        except ValueError as error:
            raise ValueError(f"export_c: layer {call.layer!r}: {error}") from None
        for step in steps:
            yield str(numbers[call.layer]), _checked(step, call.layer)
    if list(network.outputs.values()) != [len(network.calls)]:
        raise ValueError(
            "export_c: the output is not the result of the last layer; only chains of layers can be written as C"
        )


def _checked(step: Step, layer: str) -> Step:
    for key, table in step.tables.items():
        if table is not None and not np.isfinite(table).all():
            raise ValueError(f"export_c: '{layer}.{key}' holds NaN or infinite values, which C has no constants for")
    return step


def _check_sizes(inputs: int, steps: list[tuple[str, Step]]) -> None:
    sizes = [table.size for _, step in steps for table in step.tables.values() if table is not None]
    largest = max([inputs, *sizes, *(step.size for _, step in steps)])
    if largest > LARGEST_ARRAY:
        raise ValueError(f"export_c: an array of {largest} numbers is too large, expected at most {LARGEST_ARRAY}")


def _calls(steps: list[tuple[str, Step]], name: str, dtype: np.dtype[Any]) -> tuple[str, int]:
    """Return the calls of all steps as lines of C, and the size of the workspace.

    Values lie in two halves of the workspace by turns; as soon as only steps in place are left, in ``out``.
    """
    halves, sizes, places = ("first", "second"), {"first": 0, "second": 0}, ["x"]
    for at, (_, step) in enumerate(steps, 1):
        source = places[-1]
        if all(later.in_place for _, later in steps[at:]):
            target = "out"
        elif step.in_place and source != "x":
            target = source
        else:
            target = halves[source == "first"]
        if target in sizes:
            sizes[target] = max(sizes[target], step.size)
        places.append(target)
    at_place = {"x": "x", "out": "out", "first": "workspace", "second": f"workspace + {sizes['first']}"}
    lines = []
    for (prefix, step), source, target in zip(steps, places, places[1:], strict=False):
        tables = ["0" if table is None else f"{name}_{prefix}_{key}" for key, table in step.tables.items()]
        numbers = [str(n) if isinstance(n, int) else _number(n, dtype) for n in step.numbers]
        arguments = ", ".join([at_place[source], at_place[target], *tables, *numbers])
        lines.append(f"    {name}_{step.function}({arguments});\n")
    return "".join(lines), sum(sizes.values())


def _number(value: float, dtype: np.dtype[Any]) -> str:
    """Return a finite number, rounded to the float type, as a constant in base 16: nothing is lost, and no compiler rounds it."""
    mantissa, exponent = float(dtype.type(value)).hex().split("p")
    return f"{mantissa.rstrip('0').rstrip('.') if '.' in mantissa else mantissa}p{exponent}{'f' if dtype == np.float32 else ''}"


def _numbers(table: Array) -> str:
    found = [_number(value, table.dtype) for value in table.ravel()]
    return "".join(f"    {', '.join(found[at : at + 8])},\n" for at in range(0, len(found), 8))


def _string(label: object) -> str:
    """Return a label as a string of C in UTF-8: anything but plain characters in octal, which ends after three digits."""
    data = str(label).encode("utf-8", "surrogatepass")
    if len(data) > LONGEST_LABEL or 0 in data:
        raise ValueError(
            f"export_c: the class {str(label)[:40]!r} cannot be a string of C: it holds a NUL or more than {LONGEST_LABEL} bytes"
        )
    plain = (chr(c) if 32 <= c < 127 and chr(c) not in '"\\?' else f"\\{c:03o}" for c in data)
    return f'"{"".join(plain)}"'


def _comment(version: str, model: Model, name: str, real: str) -> str:
    """Return the comment at the head."""
    layers = [f"{number}. {key}: {layer!r}" for number, (key, layer) in enumerate(model.layers.items(), 1)]
    layers[:0] = [f"preprocess: {preprocess!r}" for preprocess in model.preprocessors.values()]
    lines = [
        f"A neural network in C99, written by pyfastnn {version}.",
        "",
        *layers,
        "",
        f"{real} out[{name.upper()}_OUTPUTS];",
        f"{name}_predict(x, out);  // x: {name.upper()}_INPUTS values, as they were before any preprocessing",
    ]
    text = "\n".join(f"   {line}".rstrip() for line in lines).lstrip().encode("ascii", "backslashreplace").decode()
    for mark in ("*/", "/*", "??"):  # ends of comments, nested ones, trigraphs
        text = text.replace(mark, f"{mark[0]} {mark[1]}")
    return text
