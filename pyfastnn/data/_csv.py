"""Reader of CSV files: numeric features and one column of labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from pyfastnn.data._files import read_all
from pyfastnn.data._parts import Parts, label_column
from pyfastnn.data.errors import DataError

__all__ = ["read_csv"]

DELIMITERS = ("\t", ";", ",")
SAMPLE_LINES = 20
MISSING = frozenset(["", "?", "na", "n/a", "nan", "null"])


@dataclass
class Layout:
    """How a CSV text is written, found from its first lines."""

    delimiter: str
    columns: int
    names: list[str] | None
    skip_lines: int
    class_names: list[str] | None = None


def read_csv(path: str, target: str | int | None, features: int | None, *, any_label: bool = False) -> Parts:
    """Read a CSV file, gzip or not, as UTF-8.

    Parameters
    ----------
    path : str
        The file.
    target : str, int or None
        Name or number of the label column; None is the last one.
    features : int or None
        Expected number of features when labels are optional; None when they are required.
    any_label : bool
        If true, labels that are partly numbers and partly text are all taken as text.

    Notes
    -----
    The delimiter is the tab, semicolon or comma (first one that fits) that splits the first lines
    into equally many fields. The first line is a header when none of its fields is a number but
    some field below is, or when it is one name, first or last, over a column of numbers and the
    other fields count on from 0 or 1. A first line ``rows,features,name,name,...`` whose
    counts fit the file is scikit-learn's style and gives class names.
    """
    raw = _read_text(path)
    layout = _find_layout(path, raw)
    label = label_column(path, layout.columns, layout.names, target, features)
    rows = _rows(raw, layout)
    if rows == 0:
        raise DataError(f"'{path}' has a header line but no rows")
    X = np.empty((rows, layout.columns - (label >= 0)), np.float64)
    y, spans, failed = _parse(raw, layout, label, X, as_text=False)
    text_label = failed is not None and failed[0] == 1 and failed[2] == label and _is_text(raw, failed)
    if text_label:
        y, spans, failed = _parse(raw, layout, label, X, as_text=True)
    if failed is not None:
        _refuse(path, raw, layout, failed)
    parts = Parts(X, class_names=layout.class_names, labels_from_table=True)
    if layout.names is not None:
        parts.feature_names = [n for i, n in enumerate(layout.names) if i != label]
        parts.target_name = layout.names[label] if label >= 0 else None
    if text_label:
        parts.y = _text_labels(path, raw, layout, label, spans, any_label)
    elif label >= 0:
        parts.y = y
    return parts


def _read_text(path: str) -> bytes:
    raw = read_all(path)
    if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(f"'{path}' is UTF-16 text, expected UTF-8; save it again as UTF-8")
    if raw[:3] == b"\xef\xbb\xbf":
        raw = raw[3:]
    if b"\r" in raw:
        raw = raw.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if not raw.strip():
        raise DataError(f"'{path}' is empty")
    if b"\0" in raw[:4096]:
        raise DataError(f"'{path}' is not text: it has zero bytes; expected a CSV file")
    return raw


def _fields(path: str, lines: list[str], delimiter: str) -> list[list[str]]:
    """Split lines into fields; a quoted field must end on its line."""
    import csv

    try:
        made = []
        for line in lines:  # one reader a line: open quotes must not swallow the next lines
            for row in csv.reader([line], delimiter=delimiter, skipinitialspace=True):
                made.append([field.strip() for field in row])
        return made
    except csv.Error as e:
        raise DataError(f"'{path}' is not a CSV file: {e}") from e


def _find_layout(path: str, raw: bytes) -> Layout:
    """Find delimiter, header and number of columns."""
    sample: list[str] = []
    numbers: list[int] = []
    for number, line in enumerate(raw[: 1 << 22].split(b"\n")):
        if line.strip(b" \t"):
            sample.append(line.decode("utf-8", "replace"))
            numbers.append(number)
        if len(sample) > SAMPLE_LINES:
            break
    below = sample[1:] or sample
    for delimiter in DELIMITERS:
        counts = {len(row) for row in _fields(path, below, delimiter)}
        if len(counts) == 1 and counts != {1}:
            break
    else:
        # No delimiter fits every line: take the one seen most, the parser names the bad line.
        delimiter = max(reversed(DELIMITERS), key=lambda d: sum(line.count(d) for line in below))
    first = _fields(path, sample[:1], delimiter)[0]
    rest = _fields(path, sample[1:], delimiter)
    columns = len(rest[0]) if rest else len(first)
    layout = Layout(delimiter, columns, None, 0)
    if _is_count_line(first, columns, raw, numbers[0]):
        layout.skip_lines = numbers[0] + 1
        layout.class_names = first[2:]
    elif _is_header(first, rest):
        layout.skip_lines = numbers[0] + 1
        if len(first) != columns:
            raise DataError(
                f"'{path}': the header has {len(first)} names but line {numbers[1] + 1} has {columns} fields"
            )
        layout.names = first
    elif rest and len(first) != columns:
        raise DataError(
            f"'{path}': line {numbers[0] + 1} has {len(first)} fields but line {numbers[1] + 1} has {columns}"
        )
    return layout


def _is_header(first: list[str], rest: list[list[str]]) -> bool:
    text = [not _is_number(field) for field in first]
    if not any(text):
        return False
    if not rest:
        return all(text)
    number_below = [any(_is_number(f) for f in column) for column in zip(*rest, strict=False)]
    if all(text):
        return any(number_below)
    # Numbered columns beside one name, as table programs write them: "0,1,2,label".
    for name, counts in ((0, first[1:]), (-1, first[:-1])):
        counting = any(counts == [str(k + s) for k in range(len(counts))] for s in (0, 1))
        if text[name] and len(counts) > 1 and counting:
            return len(first) == len(number_below) and number_below[name]
    return False


def _is_count_line(first: list[str], columns: int, raw: bytes, line: int) -> bool:
    """Recognise ``rows,features,class name,...`` by checking both counts.

    Two class names are required: no row of a numeric table with one label looks like that.
    """
    if len(first) < 4 or not (first[0].isdecimal() and first[1].isdecimal()):
        return False
    if first[1] != str(columns - 1) or any(_is_number(name) for name in first[2:]):
        return False
    from pyfastnn.data._stream import count_csv_rows

    return first[0] == str(count_csv_rows(raw, line + 1))


def _is_number(text: str) -> bool:
    """Say whether the field is a decimal number in the sense of the parser."""
    try:
        float(text)
    except ValueError:
        return False
    return any(c.isdecimal() for c in text) and "_" not in text and text.isascii()


def _rows(raw: bytes, layout: Layout) -> int:
    from pyfastnn.data._stream import count_csv_rows

    return count_csv_rows(raw, layout.skip_lines)


Failure = tuple[int, int, int, int, int]


def _parse(
    raw: bytes, layout: Layout, label: int, X: npt.NDArray[np.float64], *, as_text: bool
) -> tuple[npt.NDArray[np.float64], npt.NDArray[Any], Failure | None]:
    """Run the native parser; return labels, places of text labels, and what failed."""
    from pyfastnn.data._stream import OK, parse_csv_floats

    rows = X.shape[0]
    y = np.empty(rows if label >= 0 and not as_text else 0, np.float64)
    spans = np.empty((rows if as_text else 0, 2), np.intp)
    result = parse_csv_floats(raw, ord(layout.delimiter), layout.skip_lines, label, as_text, X, y, spans)
    return y, spans, None if result[0] == OK else result


def _show(raw: bytes, begin: int, end: int) -> str:
    text = raw[begin:end].decode("utf-8", "backslashreplace").strip().strip('"').strip()
    return text if len(text) <= 40 else text[:37] + "..."


def _column_name(layout: Layout, column: int) -> str:
    if layout.names is not None and column < len(layout.names):
        return f"column {column} ('{layout.names[column]}')"
    return f"column {column}"


def _line(raw: bytes, position: int) -> int:
    return raw.count(b"\n", 0, position) + 1


def _is_text(raw: bytes, failed: Failure) -> bool:
    """Say whether a refused label is a word, not a missing or infinite number."""
    text = _show(raw, failed[3], failed[4])
    return text.lower() not in MISSING and not _is_number(text) and text.lower()[-3:] != "inf"


def _refuse(path: str, raw: bytes, layout: Layout, failed: Failure) -> NoReturn:
    """Raise the error for what the parser found."""
    from pyfastnn.data import _stream

    status, line, column, begin, end = failed
    text = _show(raw, begin, end)
    if status in (_stream.TOO_FEW, _stream.TOO_MANY):
        whole = raw[begin:end].decode("utf-8", "replace")
        found = len(_fields(path, [whole], layout.delimiter)[0])
        raise DataError(f"'{path}', line {line}: {found} fields, expected {layout.columns}")
    where = f"'{path}', line {line}, {_column_name(layout, column)}"
    if status == _stream.BAD_QUOTES:
        raise DataError(f"{where}: quotes that do not pair: {text}")
    if text.lower() in MISSING:
        shown = f"the value is missing ('{text}')" if text else "the value is missing"
        raise DataError(f"{where}: {shown}; fill or remove such rows first")
    hint = ""
    if text.count(",") == 1 and _is_number(text.replace(",", ".")):
        hint = " with a decimal point"
    elif layout.skip_lines == 0 and line == 1:
        hint = " (line 1 is no header: some of its fields are numbers)"
    kind = "finite number" if _is_number(text) or text.lower()[-3:] == "inf" else "number"
    raise DataError(f"{where}: '{text}' is not a {kind}; expected numeric features{hint}")


def _text_labels(
    path: str, raw: bytes, layout: Layout, label: int, spans: npt.NDArray[Any], any_label: bool
) -> npt.NDArray[Any]:
    """Cut out the label fields and unquote them."""
    try:
        fields = [raw[begin:end].decode("utf-8") for begin, end in spans.tolist()]
    except UnicodeDecodeError as e:
        raise DataError(f"'{path}': the labels are not UTF-8 text ({e})") from e
    # A blank field would vanish from the reader as an empty line.
    labels = [row[0] if row else "" for row in _fields(path, fields, layout.delimiter)]
    name = _column_name(layout, label)
    numbers = 0
    for row, text in enumerate(labels):
        if text.lower() in MISSING:
            raise DataError(
                f"'{path}', line {_line(raw, spans[row, 0])}, {name}: the label is missing ('{text}'); remove such rows"
            )
        numbers += _is_number(text)
    if numbers and not any_label:
        row = next(i for i, text in enumerate(labels) if not _is_number(text))
        raise DataError(
            f"'{path}', line {_line(raw, spans[row, 0])}, {name}: the label '{labels[row]}' is "
            f"not a number but {numbers} others are; if all are class names pass "
            "task='classification'"
        )
    return np.array(labels, np.str_)
