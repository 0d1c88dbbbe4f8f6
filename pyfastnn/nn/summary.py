"""What a model is made of, as rows and as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyfastnn.nn.model import Model

COLUMNS = ("layer", "settings", "output", "parameters")
"""What a printed summary says of each call of a layer."""


def summary_rows(model: Model) -> list[dict[str, Any]]:
    """Return a row for every call of a layer.

    Parameters
    ----------
    model : Model
        Built or not.

    Returns
    -------
    list of dict
        ``layer``, ``settings`` (the call that makes it), ``output`` (shape of a row, None before the model is built), ``parameters`` (how
        many numbers are learned; 0 where the layer was called before) and ``frozen``.
    """
    shapes = model.value_shapes(model.input_shapes) if model.built else None
    arrays = model.arrays() if model.built else {}
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    for place, call in enumerate(model.network.calls):
        mine = [k for k in arrays if k.startswith(call.layer + ".") and model.declared[k].learned]
        rows.append(
            {
                "layer": call.layer,
                "settings": repr(model.layers[call.layer]),
                "output": None if shapes is None else shapes[len(model.network.inputs) + place],
                "parameters": 0 if call.layer in seen else sum(arrays[k].size for k in mine),
                "frozen": call.layer in model.frozen and bool(mine),
            }
        )
        seen.add(call.layer)
    return rows


def summary_cells(model: Model) -> tuple[list[tuple[str, ...]], str]:
    """Return the rows as text, under `COLUMNS`, and the sum of the parameters in words."""
    found = summary_rows(model)
    rows: list[tuple[str, ...]] = []
    for row in found:
        shape = "?" if row["output"] is None else str(row["output"])
        rows.append(
            (row["layer"], row["settings"], shape, f"{row['parameters']}{' (frozen)' if row['frozen'] else ''}")
        )
    return rows, f"total parameters: {sum(row['parameters'] for row in found)}"


def summary_table(model: Model) -> str:
    """Return the rows as a table, with the sum of the parameters."""
    cells, total = summary_cells(model)
    rows = [COLUMNS, *cells]
    widths = [max(len(r[i]) for r in rows) for i in range(4)]
    lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows]
    return "\n".join([*lines, total])


def summary_html(model: Model) -> str:
    """Return the rows as a table for notebooks, with the sum of the parameters."""
    from pyfastnn.report.html import table

    rows, total = summary_cells(model)
    return table(COLUMNS, rows, caption=total)
