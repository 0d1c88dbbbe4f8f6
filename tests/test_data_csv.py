"""The CSV reader: styles it takes, rules it follows, what it refuses and where."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from pyfastnn.data import DataError, load, load_features
from pyfastnn.data._stream import BAD_NUMBER, OK, count_csv_rows, parse_csv_floats


def csv(tmp_path, text, name="t.csv"):
    path = tmp_path / name
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


def refused(path, *words, read=load, **options):
    with pytest.raises(DataError) as caught:
        read(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    return message


@pytest.mark.parametrize("delimiter", [",", ";", "\t"], ids=["comma", "semicolon", "tab"])
@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
@pytest.mark.parametrize("start", ["", "\ufeff", "\n \n"], ids=["plain", "bom", "blank"])
def test_csv_styles(tmp_path, delimiter, name, end, start):
    rows = [['"width"', "height, total", "kind"], ["1", " 2.5 ", "cat"], ["-3e2", '"4"', "dog"]]
    if delimiter == ",":
        rows[0][1] = '"height, total"'
    text = start + end.join(delimiter.join(row) for row in rows) + end * 2
    data = load(csv(tmp_path, text, name))
    assert data.name == "t"
    np.testing.assert_array_equal(data.X_train, [[1, 2.5], [-300, 4]])
    assert data.X_train.dtype == np.float64
    assert data.y_train.tolist() == ["cat", "dog"]
    assert data.classes == ["cat", "dog"]
    assert data.feature_names == ["width", "height, total"]
    assert data.target_name == "kind"
    assert data.task == "classification"


@pytest.mark.parametrize(
    ("text", "header", "rows"),
    [
        ("1,2,3\n4,5,6\n", False, 2),
        ("a,b,c\n4,5,6\n", True, 1),
        ("0,1,label\n4,5,6\n", True, 1),
        ("label,1,2\n4,5,6\n", True, 1),
        ("1.5,2,cat\n4,5,dog\n", False, 2),
        ("1,2,cat\n4,5,dog\n", False, 2),
        ("a,b,kind\n4,5,dog\n", True, 1),
        ("nan,b,c\n1,2,3\n", True, 1),
        ("1,2,3", False, 1),
    ],
)
def test_csv_header(tmp_path, text, header, rows):
    data = load(csv(tmp_path, text))
    assert (data.feature_names is not None) == header
    assert data.X_train.shape == (rows, 2)


@pytest.mark.parametrize(
    ("labels", "task", "kind"),
    [
        (["0", "1", "1"], "classification", "i"),
        (["0.0", "1.0", "1.0"], "classification", "i"),
        (["0.5", "1", "1"], "regression", "f"),
        ([str(k) for k in range(50)], "classification", "i"),
        ([str(k) for k in range(51)], "regression", "f"),
        (["yes", "no", "no"], "classification", "U"),
    ],
    ids=["ints", "whole", "half", "50", "51", "text"],
)
def test_csv_task(tmp_path, labels, task, kind):
    data = load(csv(tmp_path, "".join(f"1,2,{label}\n" for label in labels)))
    assert data.task == task
    assert data.y_train.dtype.kind == ("f" if task == "regression" else "U" if "y" in labels[0] else "i")


def test_csv_target(tmp_path):
    path = csv(tmp_path, "a,b,c\n1,2,3.5\n4,5,6.5\n")
    assert load(path, target="b").feature_names == ["a", "c"]
    assert load(path, target="b").target_name == "b"
    np.testing.assert_array_equal(load(path, target=0).X_train, [[2, 3.5], [5, 6.5]])
    np.testing.assert_array_equal(load(path, target="1").y_train, [2, 5])
    np.testing.assert_array_equal(load(path, target=-3).y_train, [1, 4])
    refused(path, "'t.csv'"[-6:], "unknown target column 'B2'", "did you mean 'b'", target="B2")
    refused(path, "target 3 does not exist", target=3)
    refused(csv(tmp_path, "1,2\n3,4\n"), "no header", "0 to 1", target="b")
    refused(csv(tmp_path, "a,a,b\n1,2,3\n"), "2 columns are named 'a'", target="a")
    text = csv(tmp_path, "kind,b\ncat,2\n'dog;,5\n")
    assert load(text, target="kind").y_train.tolist() == ["cat", "'dog;"]


def test_csv_quoted_labels(tmp_path):
    text = 'a,kind\n1,"x, y"\n2," say ""hi"" "\n3,\u00e9t\u00e9\n4,z\n'
    assert load(csv(tmp_path, text)).y_train.tolist() == ["x, y", 'say "hi"', "\u00e9t\u00e9", "z"]


def test_csv_mixed_labels(tmp_path):
    path = csv(tmp_path, "a,kind\n1,0\n2,1\n\n3,other\n")
    refused(path, "line 5", "'other' is not a number", "task='classification'")
    assert load(path, task="classification").y_train.tolist() == ["0", "1", "other"]


def test_csv_count_line(tmp_path):
    path = csv(tmp_path, "3,2,setosa,virginica\n1,2,0\n3,4,1\n5,6,1\n")
    data = load(path)
    assert data.X_train.shape == (3, 2)
    assert data.class_names == ["setosa", "virginica"]
    refused(csv(tmp_path, "4,2,setosa,virginica\n1,2,0\n3,4,1\n"), "line 1 has 4 fields")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["empty"]),
        ("\n \n", ["empty"]),
        ("a,b,c\n", ["no rows"]),
        ("a,b,c\n1,2,3\n4,x,6\n", ["line 3", "column 1 ('b')", "'x' is not a number"]),
        ("1,2,3\n4,x,6\n", ["line 2", "column 1", "'x'"]),
        ("1,abc,3\n4,5,6\n", ["line 1", "'abc'", "no header"]),
        ("a,b,c\n1,,3\n", ["line 2", "column 1 ('b')", "missing"]),
        ("a,b,c\n1,2,3\n1,NaN,3\n", ["line 3", "column 1 ('b')", "missing ('NaN')"]),
        ("a,b,c\n1,2,3\n1,2,\n", ["line 3", "column 2 ('c')", "missing"]),
        ("a,b,c\n1,2,x\n1,2,\n", ["line 3", "column 2 ('c')", "label is missing"]),
        ("a,b,c\n1,2,x\n1,2,NA\n", ["line 3", "label is missing ('NA')"]),
        ("a,b,c\n1,inf,3\n", ["line 2", "'inf' is not a finite number"]),
        ("a,b,c\n1,1e999,3\n", ["'1e999' is not a finite number"]),
        ("a,b,c\n1,2,-inf\n", ["column 2", "'-inf' is not a finite number"]),
        ("a,b,c\n1,2,3\n4,5\n", ["line 3", "2 fields, expected 3"]),
        ("a,b,c\n1,2,3\n4,5,6,7,8\n", ["line 3", "5 fields, expected 3"]),
        ("a,b\n1,2,3\n1,2,3\n", ["2 names", "3 fields"]),
        ("a;b;c\n1,5;2;3\n", ["'1,5' is not a number", "decimal point"]),
        ('a,b,c\n1,2,3\n1,"2,3\n4,5,6\n', ["line 3", "column 1 ('b')", "quotes"]),
        ('a,b,c\n1,2,3\n1,"2"x,3\n', ["line 3", "column 1 ('b')", "quotes"]),
        ('a,b,c\n1,"2,3\n4,5,6\n', ["3 names", "line 2 has 2 fields"]),
        ("1\n2\n3\n", ["1 column", "comma"]),
        ("a b c\n1 2 3\n4 5 6\n", ["1 column"]),
        ("1,0x10,2\n3,4,5\n", ["0x10"]),
        ("1,1_0,3\n1,1_0,3\n", ["'1_0'"]),
        ("1,\u0661,3\n1,2,3\n", ["line 1"]),
        (b"\xff\xfea\0,\0", ["UTF-16"]),
        (b"PK\x03\x04\0\0\0\0", ["not text"]),
        (b"a,b\n1,\xe9\n", ["not UTF-8"]),
        ("1," + "9" * 600 + ",3\n", ["999..."]),
    ],
)
def test_csv_refuses(tmp_path, text, words):
    refused(csv(tmp_path, text), "t.csv", *words)


def test_csv_refuses_damaged_gzip(tmp_path):
    path = csv(tmp_path, "1,2\n" * 1000, "t.csv.gz")
    path.write_bytes(path.read_bytes()[:-10])
    refused(path, "t.csv.gz", "cut off or damaged")


def test_csv_features(tmp_path):
    path = csv(tmp_path, "a,b,c\n1,2,x\n4,5,y\n")
    X, y = load_features(path, 2)
    assert (X.tolist(), y.tolist()) == ([[1, 2], [4, 5]], ["x", "y"])
    plain = csv(tmp_path, "a,b\n1,2\n4,5\n", "p.csv")
    X, y = load_features(plain, 2, target="c")
    assert (X.tolist(), y) == ([[1, 2], [4, 5]], None)
    X, y = load_features(plain, 2, target=2)
    assert y is None
    one = csv(tmp_path, "1\n2\n", "o.csv")
    assert load_features(one, 1)[0].tolist() == [[1], [2]]
    assert load_features(plain)[1].tolist() == [2, 5]
    refused(path, "3 columns", "5 features", read=load_features, feature_count=5)
    refused(plain, "2 columns", read=load_features, feature_count=2, target="b")


def test_parser_rounds_like_python():
    rng = np.random.default_rng(5)
    values = rng.standard_normal(4000) * 10.0 ** rng.integers(-30, 30, 4000)
    texts = [repr(v) for v in values[:1000].tolist()]
    texts += [f"{v:.6g}" for v in values[1000:2000].tolist()]
    texts += [f"{v:.25e}" for v in values[2000:3000].tolist()]
    texts += [f"{v:.3f}" for v in values[3000:].tolist()]
    texts += [
        "0", "-0", "+1", ".5", "5.", "1e5", "1E-5", "1e+22", "1e23", "9007199254740993",
        "9007199254740992", "18446744073709551616", "0.1", "5e-324", "2.4703282292062328e-324",
        "1.7976931348623157e308", "1" + "0" * 300, "0." + "0" * 300 + "1", "000000000000000000001",
        "123456789012345678", "1234567890123456789", "0.000000000000000000000123", "1e-400",
        "8.5e-22", "1e-99999999999999999999", "0e99999999999999999999",
    ]  # fmt: skip
    raw = "\n".join(texts).encode()
    assert count_csv_rows(raw, 0) == len(texts)
    out = np.full((len(texts), 1), np.nan)
    none, spans = np.empty(0), np.empty((0, 2), np.intp)
    result = parse_csv_floats(raw, ord(","), 0, -1, False, out, none, spans)
    assert result[0] == OK
    expected = np.array([float(t) for t in texts])
    np.testing.assert_array_equal(out[:, 0].view(np.int64), expected.view(np.int64))


def test_parser_says_where():
    raw = b"skip\n1,2,3\n\n4, 5x ,6\n"
    out = np.empty((2, 2))
    y, spans = np.empty(2), np.empty((0, 2), np.intp)
    status, line, column, begin, end = parse_csv_floats(raw, ord(","), 1, 2, False, out, y, spans)
    assert (status, line, column, raw[begin:end]) == (BAD_NUMBER, 4, 1, b" 5x ")


@pytest.mark.parametrize("rows", [1, 3])
def test_parser_checks_sizes(rows):
    raw, spans = b"1,2\n3,4\n", np.empty((0, 2), np.intp)
    with pytest.raises(ValueError, match="one row for each line"):
        parse_csv_floats(raw, ord(","), 0, -1, False, np.empty((rows, 2)), np.empty(0), spans)
    with pytest.raises(ValueError, match="do not fit"):
        parse_csv_floats(raw, ord(","), 0, 2, False, np.empty((2, 1)), np.empty(2), spans)
