// Losses that are means over rows and outputs of a loss of prediction and target, with their gradients. d = y_pred -
// y_true; w = weights, 1 where left out.
//
//   loss = sum over rows of w * (sum over the row's elements of l) / (sum of w * elements of a row)
//
//   binary_cross_entropy  l = (1 - t) * log(1 + exp(s)) + a * t * log(1 + exp(-s)), a = pos_weight or 1
//                         ds = (1 - t) * sigmoid(s) - a * t * sigmoid(-s)
//   mean_squared_error    l = d^2                                         dy_pred = 2 * d
//   mean_absolute_error   l = |d|                                         dy_pred = sign of d
//   huber                 l = h * (d - h / 2), h = d clipped to +-delta   dy_pred = h
//   poisson               l = exp(y_pred) - y_true * y_pred               dy_pred = exp(y_pred) - y_true
//
// each slope times w / (sum of w * elements of a row). A row of weight 0 takes no part whatever it holds; where the
// weights sum to 0, and of no element, loss and gradient are 0. The slope of mean_absolute_error at 0 is 0.
// NaN in a prediction or target makes the loss and that element's gradient NaN.
// Terms are made in the float type, squares in double, and summed in double over blocks that the shape decides, in
// order. Max error of a term: mean_squared_error 3 * eps, mean_absolute_error eps / 2, huber 4 * eps, each of d
// relative to its size; binary_cross_entropy 4 * eps, poisson 2 * eps * (exp(y_pred) + |y_true * y_pred|). Sources:
// Huber, Ann. Math. Statist. 35 (1964) 73; McCullagh and Nelder, Generalized Linear Models (1989), ch. 2 and 6.
#include "kernels/loss_sums.hpp"
#include "kernels/sweep.hpp"
#include "kernels/vec_math.hpp"

namespace pfn::PFN_ISA {

// Elements of one partial sum, about.
constexpr std::int64_t kBlock = 4096;
// Rows of one output whose shares of the mean are made at once.
constexpr std::int64_t kShares = 64;

template <class T>
struct Piece {
  Vec<T> term;   // what `into` sums
  Vec<T> slope;  // times kSlope
};

// Terms that are summed as they are.
struct PlainSum {
  static VecD into(VecD sum, VecD term) { return sum + term; }
  static VecD into(VecD sum, VecD term, VecD weight) { return fma(weight, term, sum); }
};

template <class T>
struct SquaredError {
  static constexpr double kSlope = 2;
  Piece<T> operator()(Vec<T> p, Vec<T> t, Vec<T>) const {
    const Vec<T> d = p - t;
    return {d, d};
  }
  static VecD into(VecD sum, VecD d) { return fma(d, d, sum); }
  static VecD into(VecD sum, VecD d, VecD weight) { return fma(d * weight, d, sum); }
};

template <class T>
struct AbsoluteError : PlainSum {
  static constexpr double kSlope = 1;
  Piece<T> operator()(Vec<T> p, Vec<T> t, Vec<T>) const {
    const Vec<T> d = p - t;
    return {vabs<T>(d), d > T(0) ? splat(T(1)) : d < T(0) ? splat(T(-1)) : d};
  }
};

template <class T>
struct Huber : PlainSum {
  static constexpr double kSlope = 1;
  Vec<T> low, high;
  Piece<T> operator()(Vec<T> p, Vec<T> t, Vec<T>) const {
    const Vec<T> d = p - t;
    const Vec<T> h = vmin(high, vmax(low, d));
    return {h * (d - T(0.5) * h), h};
  }
};

template <class T>
struct PoissonTerm : PlainSum {
  static constexpr double kSlope = 1;
  Piece<T> operator()(Vec<T> p, Vec<T> t, Vec<T>) const {
    const Vec<T> e = vexp<T>(p);
    return {e - t * p, e - t};
  }
};

template <class T>
struct BinaryCrossEntropy : PlainSum {
  static constexpr double kSlope = 1;
  Piece<T> operator()(Vec<T> s, Vec<T> t, Vec<T> a) const {
    const Vec<T> zero = splat(T(0)), no = T(1) - t, yes = a * t;
    const Vec<T> e = exp_nonpositive<T>(-vabs<T>(s)), l = log1p_of_unit<T>(e);
    const Vec<T> near = T(1) / (e + T(1)), far = e * near;  // sigmoid of |s| and of -|s|
    const auto negative = s < T(0);
    return {no * (vmax(zero, s) + l) + yes * (vmax(zero, -s) + l),
            no * (negative ? far : near) - yes * (negative ? near : far)};
  }
};

static inline VecD halves(VecD v, VecD&) { return v; }
static inline VecD halves(VecF v, VecD& high) {
  float lane[kLanes<float>];
  store<float>(lane, v);
  high = widened(lane + kLanes<double>);
  return widened(lane);
}
template <class T, class F>
static inline VecD add_terms(const F&, VecD sum, Vec<T> term) {
  VecD high = splat(0.0);
  sum = F::into(sum, halves(term, high));
  return sizeof(T) == 4 ? F::into(sum, high) : sum;
}
template <class T, class F>
static inline VecD add_terms(const F&, VecD sum, Vec<T> term, Vec<T> weight) {
  VecD high = splat(0.0), weight_high = high;
  const VecD weight_low = halves(weight, weight_high);
  sum = F::into(sum, halves(term, high), weight_low);
  return sizeof(T) == 4 ? F::into(sum, high, weight_high) : sum;
}

// Whether neither weights nor pos_weight make a difference between rows: then elements are what is cut.
static inline bool is_flat(const View& weights, const View* pos_weight) {
  return !is_given(weights) && !(pos_weight && is_given(*pos_weight));
}

// How rows are cut: `each` elements of a row, of which runs of `run` begin at output 0.
struct Cut {
  std::int64_t rows, each, run, rows_per_block;

  std::int64_t blocks() const { return (rows + rows_per_block - 1) / rows_per_block; }
};

static inline Cut cut_of(const OpCall& call, const View* pos_weight) {
  const View& x = call.in[0];
  const std::int64_t rows = x.shape[0], each = rows > 0 ? x.size() / rows : 0;
  const bool by_output = pos_weight && is_given(*pos_weight);
  return {rows, each, by_output ? x.cols() : each, each < kBlock && each > 0 ? kBlock / each : 1};
}

static inline std::int64_t flat_blocks(std::int64_t size) { return (size + kBlock - 1) / kBlock; }

// Phases: the weights unless rows make no difference, then elements or rows, then the sums of blocks.
static inline void loss_prepare(OpCall& call, double ns_each, const View& weights, const View* pos_weight) {
  const std::int64_t size = call.in[0].size();
  const double cost = static_cast<double>(size) * ns_each;
  std::int64_t blocks = flat_blocks(size);
  call.phases = 2;
  if (is_flat(weights, pos_weight)) {
    call.phase[0] = Phase{size, kBlock, cost};
  } else {
    const Cut cut = cut_of(call, pos_weight);
    blocks = cut.blocks();
    call.phases = 3;
    call.phase[0] = Phase{1, 1, 0.2 * static_cast<double>(cut.rows)};
    call.phase[1] = Phase{cut.rows, cut.rows_per_block, cost};
  }
  call.phase[call.phases - 1] = Phase{1, 1, static_cast<double>(blocks)};
  call.scratch_bytes = (blocks + 1) * static_cast<std::int64_t>(sizeof(double));
}

// The first `count` lanes; the others 0.
template <class T>
static inline Vec<T> only(Vec<T> v, Whole) {
  return v;
}
template <class T>
static inline Vec<T> only(Vec<T> v, Part part) {
  return lane_index<T>() < static_cast<IntOf<T>>(part.count) ? v : splat(T(0));
}

template <class T, class F>
static inline double flat_block(const T* p, const T* t, T* dp, std::int64_t start, std::int64_t stop, Vec<T> scale,
                                const F& f) {
  constexpr std::int64_t L = kLanes<T>;
  const Vec<T> one = splat(T(1));
  VecD s0 = splat(0.0), s1 = s0;
  std::int64_t i = start;
  for (; i + 2 * L <= stop; i += 2 * L) {
    const Piece<T> a = f(load<T>(p + i), load<T>(t + i), one), b = f(load<T>(p + i + L), load<T>(t + i + L), one);
    store<T>(dp + i, a.slope * scale);
    store<T>(dp + i + L, b.slope * scale);
    s0 = add_terms<T>(f, s0, a.term);
    s1 = add_terms<T>(f, s1, b.term);
  }
  for (; i < stop; i += L) {
    const Part part = {stop - i < L ? stop - i : L};
    const Piece<T> a = f(load_at<T>(p + i, part), load_at<T>(t + i, part), one);
    store_at<T>(dp + i, a.slope * scale, part);
    s0 = add_terms<T>(f, s0, only<T>(a.term, part));
  }
  return reduce_add<double>(s0 + s1);
}

// One row, all of the same weight; pos_weight, if there is one, has `run` items.
template <class T, class F>
static inline VecD row_terms(const T* p, const T* t, const T* pos, T* dp, const Cut& cut, VecD sum, T weight, T share,
                             const F& f) {
  const Vec<T> w = splat(weight), scale = splat(share), one = splat(T(1));
  const auto one_vector = [&](std::int64_t i, std::int64_t j, auto part) {
    const Vec<T> a = pos ? load_at<T>(pos + j, part) : one;
    const Piece<T> piece = f(load_at<T>(p + i, part), load_at<T>(t + i, part), a);
    store_at<T>(dp + i, piece.slope * scale, part);
    sum = add_terms<T>(f, sum, only<T>(piece.term, part), w);
  };
  for (std::int64_t start = 0; start < cut.each; start += cut.run) {
    std::int64_t j = 0;
    for (; j + kLanes<T> <= cut.run; j += kLanes<T>) one_vector(start + j, j, Whole{});
    if (j < cut.run) one_vector(start + j, j, Part{cut.run - j});
  }
  return sum;
}

// Rows of one element, whose weights are as long as they are: at most kShares of them.
template <class T, class F>
static inline VecD column_terms(const T* p, const T* t, const T* weight, T* dp, std::int64_t count, VecD sum,
                                const T* share, const F& f) {
  constexpr std::int64_t L = kLanes<T>;
  const Vec<T> one = splat(T(1)), zero = splat(T(0));
  for (std::int64_t i = 0; i < count; i += L) {
    const Part part = {count - i < L ? count - i : L};
    const Piece<T> piece = f(load_at<T>(p + i, part), load_at<T>(t + i, part), one);
    const Vec<T> w = load_at<T>(weight + i, part);
    const auto unused = w == T(0);
    store_at<T>(dp + i, unused ? zero : piece.slope * load<T>(share + i), part);
    sum = add_terms<T>(f, sum, unused ? zero : piece.term, w);
  }
  return sum;
}

template <class T, class F>
static inline double row_block_sum(const OpCall& call, const Cut& cut, const RowWeights<T>& weights, const T* pos,
                                   std::int64_t begin, std::int64_t end, const F& f) {
  const T* p = call.in[0].as<const T>();
  const T* t = call.in[1].as<const T>();
  T* dp = call.out[1].as<T>();
  const double scale = F::kSlope / static_cast<double>(cut.each);
  VecD sum = splat(0.0);
  if (cut.each == 1 && !pos && weights.total != 0) {
    const double factor = weights.inverse * scale;
    for (std::int64_t i = begin; i < end; i += kShares) {
      const std::int64_t count = end - i < kShares ? end - i : kShares;
      const T* w = weights.weight + i;
      T share[kShares] = {};
      if (weights.inverts())
        for (std::int64_t k = 0; k < count; ++k) share[k] = static_cast<T>(static_cast<double>(w[k]) * factor);
      else
        for (std::int64_t k = 0; k < count; ++k) share[k] = static_cast<T>(weights.share(i + k) * scale);
      sum = column_terms<T>(p + i, t + i, w, dp + i, count, sum, share, f);
    }
    return reduce_add<double>(sum);
  }
  for (std::int64_t i = begin; i < end; ++i) {
    const std::int64_t at = i * cut.each;
    if (weights.total == 0 || weights.leaves_out(i)) {
      for (std::int64_t j = 0; j < cut.each; ++j) dp[at + j] = T(0);
      continue;
    }
    const T weight = weights.weight ? weights.weight[i] : T(1), share = static_cast<T>(weights.share(i) * scale);
    sum = row_terms<T>(p + at, t + at, pos, dp + at, cut, sum, weight, share, f);
  }
  return reduce_add<double>(sum);
}

static inline void finish(const OpCall& call, const double* block_sum, std::int64_t blocks, double divisor) {
  double total = 0;
  for (std::int64_t b = 0; b < blocks; ++b) total += block_sum[b];
  *call.out[0].as<double>() = divisor == 0 ? 0.0 : total / divisor;
}

template <class T, class F>
static inline void loss_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, const View& weight,
                            const View* pos_weight, const F& f) {
  double* total_weight = static_cast<double*>(call.scratch);
  double* block_sum = total_weight + 1;
  if (is_flat(weight, pos_weight)) {
    const std::int64_t size = call.in[0].size();
    if (phase == 1) return finish(call, block_sum, flat_blocks(size), static_cast<double>(size));
    const Vec<T> scale = splat(static_cast<T>(F::kSlope / static_cast<double>(size)));
    for (std::int64_t start = begin; start < end; start += kBlock) {
      const std::int64_t stop = end - start < kBlock ? end : start + kBlock;
      block_sum[start / kBlock] =
          flat_block<T>(call.in[0].as<const T>(), call.in[1].as<const T>(), call.out[1].as<T>(), start, stop, scale, f);
    }
    return;
  }
  const Cut cut = cut_of(call, pos_weight);
  const T* w = is_given(weight) ? weight.as<const T>() : nullptr;
  if (phase == 0) {
    *total_weight = w ? sum_of<T>(w, cut.rows) : static_cast<double>(cut.rows);
    return;
  }
  if (phase == 2) return finish(call, block_sum, cut.blocks(), *total_weight * static_cast<double>(cut.each));
  const RowWeights<T> weights(w, *total_weight);
  const T* pos = pos_weight && is_given(*pos_weight) ? pos_weight->as<const T>() : nullptr;
  for (std::int64_t start = begin; start < end; start += cut.rows_per_block) {
    const std::int64_t stop = end - start < cut.rows_per_block ? end : start + cut.rows_per_block;
    block_sum[start / cut.rows_per_block] = row_block_sum<T>(call, cut, weights, pos, start, stop, f);
  }
}

template <class T>
static void binary_cross_entropy_prepare(OpCall& call) {
  loss_prepare(call, 0.8 * (sizeof(T) / 4), call.in[3], &call.in[2]);
}
template <class T>
static void binary_cross_entropy_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void*) {
  loss_run<T>(call, phase, begin, end, call.in[3], &call.in[2], BinaryCrossEntropy<T>{});
}
PFN_KERNEL(binary_cross_entropy, binary_cross_entropy_prepare, binary_cross_entropy_run);

template <class T>
static void cheap_prepare(OpCall& call) {
  loss_prepare(call, 0.15 * (sizeof(T) / 4), call.in[2], nullptr);
}

template <class T>
static void mean_squared_error_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void*) {
  loss_run<T>(call, phase, begin, end, call.in[2], nullptr, SquaredError<T>{});
}
PFN_KERNEL(mean_squared_error, cheap_prepare, mean_squared_error_run);

template <class T>
static void mean_absolute_error_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void*) {
  loss_run<T>(call, phase, begin, end, call.in[2], nullptr, AbsoluteError<T>{});
}
PFN_KERNEL(mean_absolute_error, cheap_prepare, mean_absolute_error_run);

template <class T>
static void huber_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void*) {
  const Vec<T> delta = splat(static_cast<T>(call.attr[0]));
  loss_run<T>(call, phase, begin, end, call.in[2], nullptr, Huber<T>{{}, -delta, delta});
}
PFN_KERNEL(huber, cheap_prepare, huber_run);

template <class T>
static void poisson_prepare(OpCall& call) {
  loss_prepare(call, 0.4 * (sizeof(T) / 4), call.in[2], nullptr);
}
template <class T>
static void poisson_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void*) {
  loss_run<T>(call, phase, begin, end, call.in[2], nullptr, PoissonTerm<T>{});
}
PFN_KERNEL(poisson, poisson_prepare, poisson_run);

}  // namespace pfn::PFN_ISA
