"""The C functions of exported headers, as text.

``@`` stands for the prefix of all names, ``REAL`` for the float type and ``~`` for the suffix of its constants and functions. Conditions
are written so that NaN passes through.
"""

from __future__ import annotations

import math

__all__ = ["FUNCTIONS", "needed"]

_ELEMENTWISE = """\
static inline void @NAME(const REAL *x, REAL *y, int nMORE)
{
    for (int i = 0; i < n; i++) {
        const REAL v = x[i];
        y[i] = VALUE;
    }
}
"""

# v * p, but 0 where p is: -infinity * 0 would be NaN.
_TIMES = """\
static inline REAL @NAME_of(REAL v)
{
    const REAL p = VALUE;
    return p == 0.0~ ? p : v * p;
}
"""


def _elementwise(name: str, value: str, more: str = "") -> str:
    return _ELEMENTWISE.replace("NAME", name).replace("VALUE", value).replace("MORE", more)


def _times(name: str, value: str) -> str:
    return _TIMES.replace("NAME", name).replace("VALUE", value) + "\n" + _elementwise(name, f"@{name}_of(v)")


_ROOT = math.sqrt(8 / math.pi)

FUNCTIONS: dict[str, str] = {
    # exp of negative numbers alone: it cannot overflow, and keeps the digits of both tails.
    "logistic": """\
static inline REAL @logistic(REAL v)
{
    const REAL t = exp~(-fabs~(v));
    return v < 0.0~ ? t / (1.0~ + t) : 1.0~ / (1.0~ + t);
}
""",
    "copy": _elementwise("copy", "v"),
    "relu": _elementwise("relu", "v <= 0.0~ ? 0.0~ : v"),
    "leaky_relu": _elementwise("leaky_relu", "v > 0.0~ ? v : slope * v", ", REAL slope"),
    "elu": _elementwise("elu", "v > 0.0~ ? v : alpha * expm1~(v)", ", REAL alpha"),
    "selu": _elementwise(
        "selu", f"v > 0.0~ ? 1.0507009873554805~ * v : {1.0507009873554805 * 1.6732632423543772!r}~ * expm1~(v)"
    ),
    "sigmoid": _elementwise("sigmoid", "@logistic(v)"),
    "tanh": _elementwise("tanh", "tanh~(v)"),
    "exp": _elementwise("exp", "exp~(v)"),
    "softplus": _elementwise("softplus", "(v > 0.0~ ? v : 0.0~) + log1p~(exp~(-fabs~(v)))"),
    "silu": _times("silu", "@logistic(v)"),
    "gelu": _times("gelu", f"0.5~ * erfc~(-{math.sqrt(0.5)!r}~ * v)"),
    "gelu_tanh": _times("gelu_tanh", f"@logistic(v * ({_ROOT!r}~ + {0.044715 * _ROOT!r}~ * (v * v)))"),
    "prelu": """\
static inline void @prelu(const REAL *x, REAL *y, const REAL *slope, int n, int channels)
{
    for (int i = 0; i < n; i++)
        y[i] = x[i] > 0.0~ ? x[i] : slope[i % channels] * x[i];
}
""",
    "affine": """\
static inline void @affine(const REAL *x, REAL *y, const REAL *shift, const REAL *scale, int n)
{
    for (int i = 0; i < n; i++)
        y[i] = (x[i] - shift[i]) * scale[i];
}
""",
    "linear": """\
static inline void @linear(const REAL *x, REAL *y, const REAL *w, const REAL *b, int n, int m)
{
    for (int j = 0; j < m; j++)
        y[j] = b ? b[j] : 0.0~;
    for (int i = 0; i < n; i++, w += m) {
        const REAL v = x[i];
        for (int j = 0; j < m; j++)
            y[j] += v * w[j];
    }
}
""",
    "maxout": """\
static inline void @maxout(const REAL *x, REAL *y, int n, int pieces)
{
    for (int j = 0; j < n; j++, x += pieces) {
        REAL most = x[0];
        for (int k = 1; k < pieces; k++)
            if (x[k] > most || x[k] != x[k])
                most = x[k];
        y[j] = most;
    }
}
""",
    "softmax": """\
static inline void @softmax(const REAL *x, REAL *y, int rows, int n)
{
    for (; rows > 0; rows--, x += n, y += n) {
        REAL most = x[0], total = 0.0~;
        for (int i = 1; i < n; i++)
            if (x[i] > most)
                most = x[i];
        for (int i = 0; i < n; i++) {
            y[i] = exp~(x[i] - most);
            total += y[i];
        }
        for (int i = 0; i < n; i++)
            y[i] /= total;
    }
}
""",
    "log_softmax": """\
static inline void @log_softmax(const REAL *x, REAL *y, int rows, int n)
{
    for (; rows > 0; rows--, x += n, y += n) {
        REAL most = x[0], total = 0.0~;
        for (int i = 1; i < n; i++)
            if (x[i] > most)
                most = x[i];
        for (int i = 0; i < n; i++)
            total += exp~(x[i] - most);
        total = log~(total);
        for (int i = 0; i < n; i++)
            y[i] = (x[i] - most) - total;
    }
}
""",
    "batch_norm": """\
static inline void @batch_norm(const REAL *x, REAL *y, const REAL *scale, const REAL *mean, const REAL *beta, int rows, int n)
{
    for (; rows > 0; rows--, x += n, y += n)
        for (int i = 0; i < n; i++)
            y[i] = (x[i] - mean[i]) * scale[i] + beta[i];
}
""",
    # Distances to the first value are summed: a far-off row loses no digits.
    "layer_norm": """\
static inline void @layer_norm(const REAL *x, REAL *y, const REAL *gamma, const REAL *beta, int rows, int n, REAL eps)
{
    for (; rows > 0; rows--, x += n, y += n) {
        const REAL first = x[0];
        REAL mean = 0.0~, var = 0.0~, rstd;
        for (int i = 0; i < n; i++)
            mean += x[i] - first;
        mean /= (REAL)n;
        for (int i = 0; i < n; i++) {
            const REAL d = (x[i] - first) - mean;
            var += d * d;
        }
        rstd = 1.0~ / sqrt~(var / (REAL)n + eps);
        for (int i = 0; i < n; i++)
            y[i] = ((x[i] - first) - mean) * rstd * gamma[i] + beta[i];
    }
}
""",
    "conv2d": """\
static inline void @conv2d(const REAL *x, REAL *y, const REAL *w, const REAL *b, int height, int width, int channels,
    int out_h, int out_w, int out_c, int kernel_h, int kernel_w, int stride_h, int stride_w, int dilation_h, int dilation_w,
    int top, int left, int groups)
{
    const int in_g = channels / groups, out_g = out_c / groups;
    for (int p = 0; p < out_h * out_w; p++, y += out_c) {
        for (int j = 0; j < out_c; j++)
            y[j] = b ? b[j] : 0.0~;
        for (int k = 0; k < kernel_h * kernel_w; k++) {
            const int r = p / out_w * stride_h + k / kernel_w * dilation_h - top;
            const int c = p % out_w * stride_w + k % kernel_w * dilation_w - left;
            if (r < 0 || r >= height || c < 0 || c >= width)
                continue;
            for (int i = 0; i < channels; i++) {
                const REAL v = x[(r * width + c) * channels + i];
                const int first = i / in_g * out_g;
                const REAL *row = w + (k * in_g + i % in_g) * out_c + first;
                for (int j = 0; j < out_g; j++)
                    y[first + j] += v * row[j];
            }
        }
    }
}
""",
    "max_pool": """\
static inline void @max_pool(const REAL *x, REAL *y, int height, int width, int channels, int out_h, int out_w,
    int kernel_h, int kernel_w, int stride_h, int stride_w, int top, int left)
{
    for (int p = 0; p < out_h * out_w; p++, y += channels) {
        int seen = 0;
        for (int k = 0; k < kernel_h * kernel_w; k++) {
            const int r = p / out_w * stride_h + k / kernel_w - top, c = p % out_w * stride_w + k % kernel_w - left;
            if (r < 0 || r >= height || c < 0 || c >= width)
                continue;
            for (int i = 0; i < channels; i++) {
                const REAL v = x[(r * width + c) * channels + i];
                if (!seen || v > y[i] || v != v)
                    y[i] = v;
            }
            seen = 1;
        }
    }
}
""",
    "avg_pool": """\
static inline void @avg_pool(const REAL *x, REAL *y, int height, int width, int channels, int out_h, int out_w,
    int kernel_h, int kernel_w, int stride_h, int stride_w, int top, int left, int count_pad)
{
    for (int p = 0; p < out_h * out_w; p++, y += channels) {
        int seen = 0;
        for (int i = 0; i < channels; i++)
            y[i] = 0.0~;
        for (int k = 0; k < kernel_h * kernel_w; k++) {
            const int r = p / out_w * stride_h + k / kernel_w - top, c = p % out_w * stride_w + k % kernel_w - left;
            if (r < 0 || r >= height || c < 0 || c >= width)
                continue;
            for (int i = 0; i < channels; i++)
                y[i] += x[(r * width + c) * channels + i];
            seen++;
        }
        for (int i = 0; i < channels; i++)
            y[i] /= (REAL)(count_pad ? kernel_h * kernel_w : seen);
    }
}
""",
    "global_avg_pool": """\
static inline void @global_avg_pool(const REAL *x, REAL *y, int pixels, int channels)
{
    for (int i = 0; i < channels; i++) {
        REAL total = 0.0~;
        for (int p = 0; p < pixels; p++)
            total += x[p * channels + i];
        y[i] = total / (REAL)pixels;
    }
}
""",
    "argmax": """\
static inline int @argmax(const REAL *x, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        if (x[i] > x[best] || (x[i] != x[i] && x[best] == x[best]))
            best = i;
    return best;
}
""",
}


def needed(functions: set[str]) -> list[str]:
    """Return the texts of functions and of those they call, in an order that C takes."""
    wanted = {name for name in FUNCTIONS if name in functions}
    if any("@logistic" in FUNCTIONS[name] for name in wanted):
        wanted.add("logistic")
    return [text for name, text in FUNCTIONS.items() if name in wanted]
