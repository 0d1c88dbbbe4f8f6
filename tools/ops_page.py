"""Make docs/ops.md: every op of the table with formula, error, source and backends, and the parts users build with.

    python tools/ops_page.py          writes the page
    python tools/ops_page.py --check  exits 1 if it is not up to date

Signatures come from the compiled table, everything else from the docstrings of the functions, layers, losses and update rules.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from pyfastnn import functional, nn, optim
from pyfastnn.graph.schema import Arg, OpSchema, schemas
from pyfastnn.nn import initializers
from pyfastnn.reference import specs

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "ops.md"

HEAD = """# Ops, layers, losses and update rules

Made by `python tools/ops_page.py` from the op table and the docstrings; do not edit. Every op has a kernel for float32 and
float64, compiled for x86-64-v2, AVX2 and AVX-512, and a NumPy reference in float64 (`pyfastnn/reference`) that the tests hold each
of them against; all of them run on the CPU backend. In a signature letters that agree are sizes that agree, `*` is any number of
dimensions, `?` marks what may be left out.
"""

SECTION = re.compile(r"^(\w[\w ]*)\n-+$", re.MULTILINE)


def sections(doc: str) -> tuple[str, dict[str, str]]:
    """Return what stands before the first section of a docstring, and the sections by name."""
    parts = SECTION.split(inspect.cleandoc(doc))
    return parts[0].strip(), {parts[i]: parts[i + 1].strip() for i in range(1, len(parts), 2)}


def functions_of_ops() -> dict[str, list[str]]:
    """Return the public functions of `pyfastnn.functional` that call each op, found in their text; the op's own comes first."""
    known = schemas()
    found: dict[str, list[str]] = {}
    for name in functional.__all__:
        function = getattr(functional, name)
        tree = ast.parse(inspect.getsource(inspect.unwrap(function)))
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in known:
                found.setdefault(node.value, []).append(name)
    for op, names in found.items():
        names.sort(key=lambda name: name != op.removesuffix("_forward"))
    return found


def argument(arg: Arg) -> str:
    """Return ``x[n, i]`` with its dtype where that is not the float type of the call."""
    dtype = "" if arg.dtype == "T" else f": {arg.dtype}"
    return f"{arg.name}{'?' if arg.optional else ''}[{', '.join(arg.dims)}]{dtype}"


def signature(op: OpSchema) -> str:
    """Return inputs, outputs, attributes and hyper fields in one line."""
    text = f"{', '.join(map(argument, op.inputs))} -> {', '.join(map(argument, op.outputs))}"
    if op.attrs:
        text += "; " + ", ".join(f"{k}={v:g}" for k, v in op.attrs.items())
    if op.hyper:
        text += "; reads " + ", ".join(op.hyper)
    return text


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a text, each on one line."""
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]


def op_entry(op: OpSchema, functions: list[str]) -> Iterator[str]:
    """Yield the lines of one op."""
    yield f"### `{op.name}`"
    yield ""
    yield f"`{signature(op)}`"
    yield ""
    if functions:
        before, rest = sections(getattr(functional, functions[0]).__doc__ or "")
        first, *more = paragraphs(before)
        yield f"`functional.{functions[0]}`: {' '.join([first, *more])}"
        for part in paragraphs(rest.get("Notes", "")):
            yield ""
            yield part
    source = specs()[op.name].source
    yield ""
    yield f"Source: {source}."
    yield ""


def classes(module: ModuleType, base: type) -> list[tuple[str, Any]]:
    """Return the public classes of a module below a base, by name."""
    found = {k: getattr(module, k) for k in module.__all__}
    return sorted((k, v) for k, v in found.items() if inspect.isclass(v) and issubclass(v, base) and v is not base)


def class_table(module: ModuleType, base: type) -> Iterator[str]:
    """Yield a table of classes: how they are made, what they do, where from."""
    yield "| | |"
    yield "|---|---|"
    for name, each in classes(module, base):
        before, rest = sections(each.__doc__ or "")
        text = " ".join([*paragraphs(before), *paragraphs(rest.get("References", ""))])
        yield f"| `{name}{plain_signature(each)}` | {text.replace('|', chr(92) + '|')} |"
    yield ""


def plain_signature(made: Any) -> str:
    """Return the arguments with their defaults, without types."""
    found = inspect.signature(made)
    plain = [p.replace(annotation=p.empty) for p in found.parameters.values()]
    return str(inspect.Signature(plain))


def page() -> str:
    """Return the text of the page."""
    functions = functions_of_ops()
    lines = [HEAD]
    for title, module, base in (
        ("Layers", nn, nn.Layer),
        ("Losses", nn, nn.Loss),
        ("Update rules", optim, optim.Optimizer),
        ("Schedules of the learning rate", optim, optim.Schedule),
    ):
        lines += [f"## {title}", "", *class_table(module, base)]
    before, _ = sections(initializers.__doc__ or "")
    lines += ["## First weights", "", *paragraphs(before), "", *class_table(initializers, initializers.Initializer)]
    lsuv, notes = sections(initializers.lsuv.__doc__ or "")
    lines += [f"`nn.initializers.lsuv`: {' '.join([*paragraphs(lsuv), *paragraphs(notes['Notes'])])}", ""]
    lines += ["## Ops", ""]
    for name, op in schemas().items():
        lines += op_entry(op, functions.get(name, []))
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    """Write the page, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    options = parser.parse_args()
    text = page()
    if not options.check:
        PAGE.write_text(text, encoding="utf-8")
        print(PAGE.relative_to(ROOT))
        return 0
    if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    print(f"{PAGE.relative_to(ROOT)} is not up to date: python tools/ops_page.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
