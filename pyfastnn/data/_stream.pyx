# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Readers of data files that run without the GIL: CIFAR-10 records, numeric CSV, rows of binary files.

All use buffers that stay alive for the whole call (the memoryviews hold them) and write arrays of
the caller, so releasing the GIL is safe: no Python object is touched in between, except by the rare
exact conversion of long decimal numbers, which takes the GIL again.
"""

from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memchr, memcpy, strerror

cdef extern from "sys/types.h" nogil:
    ctypedef long off_t

cdef extern from "unistd.h" nogil:
    Py_ssize_t pread(int fd, void *buffer, size_t bytes, off_t offset)

cdef extern from *:
    """
    #include <sys/resource.h>
    // How often this thread has waited for a disk in the functions below; only Linux can tell.
    static __thread long long pfn_thread_waits = 0;
    static long long pfn_switches(void) {
    #ifdef RUSAGE_THREAD
      struct rusage used;
      if (getrusage(RUSAGE_THREAD, &used) == 0) return used.ru_nvcsw;
    #endif
      return 0;
    }
    """
    int64_t pfn_thread_waits
    int64_t pfn_switches() nogil

cdef extern from "Python.h":
    # Locale-independent and correctly rounded; overflow gives infinity when the last argument is
    # NULL. Needs the GIL.
    double PyOS_string_to_double(const char *text, char **end, void *overflow) except? -1.0

OK = 0
BAD_NUMBER = 1
TOO_FEW = 2
TOO_MANY = 3
BAD_QUOTES = 4

cdef enum:
    RECORD = 3073  # CIFAR-10: one label byte, then three planes of 32 x 32
    PLANE = 1024
    LONGEST = 511  # bytes of one number
    STATUS_OK = 0
    STATUS_BAD_NUMBER = 1
    STATUS_TOO_FEW = 2
    STATUS_TOO_MANY = 3
    STATUS_BAD_QUOTES = 4
    STATUS_FULL = 5

cdef int64_t LARGEST = <int64_t>1 << 61  # of a place in a file: sums of two do not overflow

cdef double[23] POWERS  # 10**0 .. 10**22, all exact in float64
cdef int _power
POWERS[0] = 1.0
for _power in range(1, 23):
    POWERS[_power] = POWERS[_power - 1] * 10.0

cdef struct Place:
    int status
    Py_ssize_t rows
    Py_ssize_t line
    Py_ssize_t column
    Py_ssize_t begin
    Py_ssize_t end


def decode_cifar(const unsigned char[::1] raw, unsigned char[:, :, :, ::1] images,
                 int64_t[::1] labels):
    """Decode CIFAR-10 binary records: planes of colour become NHWC pixels.

    Parameters
    ----------
    raw : buffer of uint8, shape (3073 * n,)
        Records of a label byte, then 1024 red, 1024 green and 1024 blue bytes, row by row.
    images : ndarray of uint8, shape (n, 32, 32, 3)
        Overwritten. C-contiguous.
    labels : ndarray of int64, shape (n,)
        Overwritten. Not checked for range.

    Raises
    ------
    ValueError
        If the shapes do not belong together.
    """
    cdef Py_ssize_t n = labels.shape[0]
    if (raw.shape[0] != n * RECORD or images.shape[0] != n or images.shape[1] != 32
            or images.shape[2] != 32 or images.shape[3] != 3):
        raise ValueError(
            f"decode_cifar: {raw.shape[0]} bytes, images for {images.shape[0]} and labels for {n} "
            f"records do not belong together (3073 bytes, 32 x 32 x 3 pixels a record)"
        )
    if n == 0:
        return
    with nogil:
        _decode_cifar(&raw[0], n, &images[0, 0, 0, 0], &labels[0])


cdef void _decode_cifar(const unsigned char *raw, Py_ssize_t n, unsigned char *pixel,
                        int64_t *labels) noexcept nogil:
    cdef Py_ssize_t i, k
    for i in range(n):
        labels[i] = raw[0]
        raw += 1
        for k in range(PLANE):
            pixel[0] = raw[k]
            pixel[1] = raw[PLANE + k]
            pixel[2] = raw[2 * PLANE + k]
            pixel += 3
        raw += 3 * PLANE


def read_runs(int fd, int64_t offset, int64_t row_bytes, const int64_t[::1] first,
              const int64_t[::1] count, unsigned char[::1] out):
    """Read runs of rows of a file one behind the other.

    Parameters
    ----------
    fd : int
        An open file; its position is neither used nor moved.
    offset, row_bytes : int
        Bytes before the first row, and of a row.
    first, count : ndarray of int64, shape (runs,)
        First row and number of rows of each run.
    out : ndarray of uint8, shape (bytes,)
        Overwritten from its beginning.

    Returns
    -------
    int
        Bytes read: fewer than asked for if the file ends before.

    Raises
    ------
    ValueError
        If a number is out of range, or the runs have more bytes than ``out``.
    OSError
        If the file cannot be read.
    """
    cdef Py_ssize_t i, runs = first.shape[0]
    cdef int64_t total = 0, got = 0, before
    cdef int error = 0
    if count.shape[0] != runs or not 0 <= offset < LARGEST or row_bytes < 1:
        raise ValueError("read_runs: 'first' and 'count' differ in length, or a number is out of range")
    for i in range(runs):
        if count[i] < 0 or not 0 <= first[i] < LARGEST // row_bytes:
            raise ValueError(f"read_runs: run {i} has {count[i]} rows from {first[i]} on")
        if count[i] > (out.shape[0] - total) // row_bytes:
            raise ValueError(f"read_runs: the runs have more than the {out.shape[0]} bytes of 'out'")
        total += count[i] * row_bytes
    if total == 0:
        return 0
    with nogil:
        before = pfn_switches()
        for i in range(runs):
            if not _read_run(fd, offset + first[i] * row_bytes, count[i] * row_bytes, &out[0], &got,
                             &error):
                break
        _count_waits(before)
    if error != 0:
        raise OSError(error, strerror(error).decode("utf-8", "replace"))
    return got


def copy_runs(const unsigned char[::1] rows, int64_t row_bytes, const int64_t[::1] first,
              const int64_t[::1] count, unsigned char[::1] out):
    """Copy runs of rows that lie in memory one behind the other.

    Parameters
    ----------
    rows : ndarray of uint8, shape (bytes,)
        The rows; a file mapped into memory is read where it is touched.
    row_bytes : int
        Bytes of a row.
    first, count : ndarray of int64, shape (runs,)
        First row and number of rows of each run.
    out : ndarray of uint8, shape (bytes,)
        Overwritten from its beginning.

    Raises
    ------
    ValueError
        If a number is out of range, or the runs have more bytes than ``out``.
    """
    cdef Py_ssize_t i, runs = first.shape[0]
    cdef int64_t held, before, total = 0
    if count.shape[0] != runs or row_bytes < 1:
        raise ValueError("copy_runs: 'first' and 'count' differ in length, or 'row_bytes' is under 1")
    held = rows.shape[0] // row_bytes
    for i in range(runs):
        if not 0 <= count[i] <= held or not 0 <= first[i] <= held - count[i]:
            raise ValueError(f"copy_runs: run {i} has {count[i]} rows from {first[i]} on, of {held}")
        if count[i] > (out.shape[0] - total) // row_bytes:
            raise ValueError(f"copy_runs: the runs have more than the {out.shape[0]} bytes of 'out'")
        total += count[i] * row_bytes
    if total == 0:
        return
    total = 0
    with nogil:
        before = pfn_switches()
        for i in range(runs):
            memcpy(&out[total], &rows[first[i] * row_bytes], <size_t>(count[i] * row_bytes))
            total += count[i] * row_bytes
        _count_waits(before)


def touch(const unsigned char[::1] rows, const int64_t[::1] at):
    """Look at some bytes, so that the pages of a mapped file they stand in are in memory.

    Parameters
    ----------
    rows : ndarray of uint8, shape (bytes,)
        The bytes.
    at : ndarray of int64, shape (n,)
        Which of them.

    Raises
    ------
    ValueError
        If there is no such byte.
    """
    cdef Py_ssize_t i
    cdef int64_t before
    cdef volatile unsigned char seen = 0
    for i in range(at.shape[0]):
        if not 0 <= at[i] < rows.shape[0]:
            raise ValueError(f"touch: there is no byte {at[i]} of {rows.shape[0]}")
    with nogil:
        before = pfn_switches()
        for i in range(at.shape[0]):
            seen = rows[at[i]]
        _count_waits(before)


def waits():
    """Return how often this thread has waited within `read_runs`, `copy_runs` and `touch`, which without the GIL means for a disk.

    Returns
    -------
    int
        0 where the system does not tell.
    """
    return pfn_thread_waits


cdef void _count_waits(int64_t before) noexcept nogil:
    global pfn_thread_waits
    pfn_thread_waits += pfn_switches() - before


cdef bint _read_run(int fd, int64_t at, int64_t bytes, unsigned char *out, int64_t *got,
                    int *error) noexcept nogil:
    """Read one run behind what was read before; false at the end of the file or an error."""
    cdef Py_ssize_t n
    while bytes > 0:
        n = pread(fd, out + got[0], <size_t>bytes, at)
        if n < 0:
            if errno == EINTR:
                continue
            error[0] = errno
            return False
        if n == 0:
            return False
        got[0] += n
        at += n
        bytes -= n
    return True


def count_csv_rows(const unsigned char[::1] raw, Py_ssize_t skip_lines):
    """Count the lines that are not blank.

    Parameters
    ----------
    raw : buffer of uint8
        Text with ``\\n`` line ends.
    skip_lines : int
        Lines at the start that do not count, blank or not.

    Returns
    -------
    int
        Lines with anything but spaces and tabs, after the skipped ones.
    """
    cdef Py_ssize_t n = raw.shape[0], pos = 0, stop, line = 0, rows = 0
    cdef const unsigned char *text
    if n == 0:
        return 0
    text = &raw[0]
    with nogil:
        while pos < n:
            stop = _line_end(text, pos, n)
            line += 1
            if line > skip_lines and not _blank(text, pos, stop):
                rows += 1
            pos = stop + 1
    return rows


def parse_csv_floats(const unsigned char[::1] raw, int delimiter, Py_ssize_t skip_lines,
                     Py_ssize_t target, bint text_target, double[:, ::1] features,
                     double[::1] targets, Py_ssize_t[:, ::1] spans):
    """Parse the rows of a numeric CSV text into arrays.

    A field is a decimal number with optional spaces and double quotes around it. Each value is the
    float64 nearest to the decimal. Blank lines are passed over.

    Parameters
    ----------
    raw : buffer of uint8
        Text with ``\\n`` line ends.
    delimiter : int
        Code of the separator, such as ``ord(",")``.
    skip_lines : int
        Lines to pass over at the start.
    target : int
        Column of the target, -1 when there is none.
    text_target : bool
        If true the target column is not parsed; ``spans`` says where its fields are.
    features : ndarray of float64, shape (rows, columns)
        Overwritten with all columns but the target. ``rows`` must be `count_csv_rows`.
    targets : ndarray of float64, shape (rows,)
        Overwritten with the target; shape (0,) when it is absent or text.
    spans : ndarray of intp, shape (rows, 2)
        Overwritten with begin and end of the target's field, quotes included; shape (0, 2) unless
        ``text_target``.

    Returns
    -------
    status : int
        ``OK``, ``BAD_NUMBER``, ``TOO_FEW``, ``TOO_MANY`` (fields in a line) or ``BAD_QUOTES``.
    line : int
        Line where parsing stopped, counted from 1 with all lines.
    column : int
        Field in that line, counted from 0; for ``TOO_FEW`` the number of fields found.
    begin, end : int
        Place of that field in ``raw``; of the line for ``TOO_FEW`` and ``TOO_MANY``.

    Raises
    ------
    ValueError
        If array sizes do not belong together.
    """
    cdef Py_ssize_t rows = features.shape[0]
    cdef Py_ssize_t columns = features.shape[1] + (1 if target >= 0 else 0)
    cdef Py_ssize_t want_targets = rows if target >= 0 and not text_target else 0
    cdef Py_ssize_t want_spans = rows if target >= 0 and text_target else 0
    cdef Place place
    if (target >= columns or target < -1 or targets.shape[0] != want_targets
            or spans.shape[0] != want_spans or spans.shape[1] != 2):
        raise ValueError("parse_csv_floats: target, features, targets and spans do not fit")
    place.status = STATUS_OK
    place.rows = place.line = place.column = place.begin = place.end = 0
    if raw.shape[0] > 0 and rows > 0:
        with nogil:
            _parse(&raw[0], raw.shape[0], <unsigned char>delimiter, skip_lines, target,
                   text_target, columns, features, targets, spans, &place)
    if place.status == STATUS_FULL or (place.status == STATUS_OK and place.rows != rows):
        raise ValueError("parse_csv_floats: 'features' has not one row for each line of text")
    return place.status, place.line, place.column, place.begin, place.end


cdef void _parse(const unsigned char *text, Py_ssize_t n, unsigned char delimiter,
                 Py_ssize_t skip_lines, Py_ssize_t target, bint text_target, Py_ssize_t columns,
                 double[:, ::1] features, double[::1] targets, Py_ssize_t[:, ::1] spans,
                 Place *place) noexcept nogil:
    cdef Py_ssize_t pos = 0, stop, i, end, column
    cdef double value = 0.0
    while pos < n:
        stop = _line_end(text, pos, n)
        place.line += 1
        if place.line <= skip_lines or _blank(text, pos, stop):
            pos = stop + 1
            continue
        if place.rows >= features.shape[0]:
            place.status = STATUS_FULL
            return
        i = pos
        column = 0
        while True:
            place.column = column
            end = _field_end(text, i, stop, delimiter)
            place.begin = i
            place.end = stop if end < 0 else end
            if end < 0:
                place.status = STATUS_BAD_QUOTES
                return
            if column >= columns:
                place.status = STATUS_TOO_MANY
                place.begin = pos
                place.end = stop
                return
            if column == target and text_target:
                spans[place.rows, 0] = i
                spans[place.rows, 1] = end
            else:
                if not _number(text, i, end, &value):
                    place.status = STATUS_BAD_NUMBER
                    return
                if column == target:
                    targets[place.rows] = value
                else:
                    features[place.rows, column - (1 if 0 <= target < column else 0)] = value
            column += 1
            if end >= stop:
                break
            i = end + 1
        if column < columns:
            place.status = STATUS_TOO_FEW
            place.column = column
            place.begin = pos
            place.end = stop
            return
        place.rows += 1
        pos = stop + 1


cdef inline Py_ssize_t _line_end(const unsigned char *text, Py_ssize_t pos,
                                 Py_ssize_t n) noexcept nogil:
    cdef const void *found = memchr(text + pos, 10, <size_t>(n - pos))
    if found == NULL:
        return n
    return <const unsigned char *>found - text


cdef inline bint _blank(const unsigned char *text, Py_ssize_t i, Py_ssize_t stop) noexcept nogil:
    while i < stop and (text[i] == 32 or text[i] == 9):
        i += 1
    return i >= stop


cdef inline Py_ssize_t _field_end(const unsigned char *text, Py_ssize_t i, Py_ssize_t stop,
                                  unsigned char delimiter) noexcept nogil:
    """Return where the field ends (a delimiter or the line end), -1 for quotes that do not pair."""
    while i < stop and text[i] == 32:
        i += 1
    if i < stop and text[i] == 34:
        i += 1
        while True:
            if i >= stop:
                return -1
            if text[i] == 34:
                if i + 1 < stop and text[i + 1] == 34:
                    i += 1
                else:
                    break
            i += 1
        i += 1
        while i < stop and text[i] == 32:
            i += 1
        return i if i >= stop or text[i] == delimiter else -1
    while i < stop and text[i] != delimiter:
        i += 1
    return i


cdef inline bint _number(const unsigned char *text, Py_ssize_t i, Py_ssize_t end,
                         double *value) noexcept nogil:
    """Parse ``[+-]digits[.digits][e[+-]digits]`` with spaces and one pair of quotes around it."""
    cdef bint quoted, negative = False, negative_exponent = False, exact = True
    cdef uint64_t mantissa = 0
    cdef Py_ssize_t begin, digits = 0, exponent = 0, shown = 0, exponent_digits = 0
    while i < end and (text[i] == 32 or text[i] == 9):
        i += 1
    while end > i and (text[end - 1] == 32 or text[end - 1] == 9):
        end -= 1
    quoted = end - i >= 2 and text[i] == 34 and text[end - 1] == 34
    if quoted:
        i += 1
        end -= 1
        while i < end and (text[i] == 32 or text[i] == 9):
            i += 1
        while end > i and (text[end - 1] == 32 or text[end - 1] == 9):
            end -= 1
    begin = i
    if end - begin > LONGEST:
        return False
    if i < end and (text[i] == 43 or text[i] == 45):
        negative = text[i] == 45
        i += 1
    while i < end and 48 <= text[i] <= 57:
        if digits < 18:
            mantissa = mantissa * 10 + (text[i] - 48)
            digits += mantissa != 0
        else:
            exact = False
        shown += 1
        i += 1
    if i < end and text[i] == 46:
        i += 1
        while i < end and 48 <= text[i] <= 57:
            if digits < 18:
                mantissa = mantissa * 10 + (text[i] - 48)
                digits += mantissa != 0
                exponent -= 1
            else:
                exact = False
            shown += 1
            i += 1
    if shown == 0:
        return False
    if i < end and (text[i] == 101 or text[i] == 69):
        i += 1
        if i < end and (text[i] == 43 or text[i] == 45):
            negative_exponent = text[i] == 45
            i += 1
        shown = 0
        while i < end and 48 <= text[i] <= 57:
            if shown < 100000:
                shown = shown * 10 + (text[i] - 48)
            exponent_digits += 1
            i += 1
        if exponent_digits == 0:
            return False
        exponent += -shown if negative_exponent else shown
    if i != end:
        return False
    # One exact integer and one exact power of ten: a single rounding, so the nearest float64
    # (W. Clinger, 1990). Everything else goes to the exact conversion.
    if exact and mantissa <= <uint64_t>1 << 53 and -22 <= exponent <= 22:
        value[0] = <double>mantissa
        if exponent < 0:
            value[0] /= POWERS[-exponent]
        else:
            value[0] *= POWERS[exponent]
        if negative:
            value[0] = -value[0]
        return True
    return _exact(text + begin, end - begin, value)


cdef bint _exact(const unsigned char *text, Py_ssize_t length, double *value) noexcept nogil:
    """Convert a checked number; false for infinity."""
    cdef char[512] buffer
    memcpy(buffer, text, <size_t>length)
    buffer[length] = 0
    with gil:
        try:
            value[0] = PyOS_string_to_double(buffer, NULL, NULL)
        except (ValueError, MemoryError):
            return False
    return -1.7976931348623157e308 <= value[0] <= 1.7976931348623157e308
