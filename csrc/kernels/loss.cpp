// Losses over classes with their gradients. Sums over a batch are made in double over blocks that the shape decides, in
// order.
//
//   softmax_cross_entropy  m = max of the row, s = sum of exp(x - m), p = exp(x - m) / s, e = label_smoothing,
//                          q_j = (1 - e) * [j == label] + e / c, u = class_weights, w = weights (1 where left out)
//                          loss of a row = sum over j of q_j * u_j * (log(s) + m - x_j)
//                          loss = sum of w * loss of the row / S, S = sum of w * u[label]
//                          dscores_k = w / S * (p_k * (sum over j of q_j * u_j) - q_k * u_k)
//   multiclass_hinge       m_j = x_j - x[label] + margin for every other class j
//                          loss = sum of w * (sum over j of max(m_j, 0)) / sum of w
//                          dscores_j = w / sum of w where m_j > 0, else 0; dscores[label] = minus their sum
//   correct                rows, of those whose weight is not 0, whose first maximum is at the label
//
// A row of weight 0 takes no part whatever it holds; where S is 0, loss and gradient are 0.
// NaN: under softmax a row with a NaN or +inf, or of -inf alone, has NaN loss and gradients; its first NaN counts
// as its maximum, as in NumPy. A margin of the hinge that is NaN makes the row's loss and the two gradients NaN. A
// label outside [0, c) is never used as an index and makes the loss NaN. An empty batch has loss 0. Max error: loss 2 *
// eps * (1 + its mean magnitude); softmax (4 + |x - m| / 2) * eps relative. Sources: log-sum-exp after Blanchard,
// Higham and Higham, IMA J. Numer. Anal. 41 (2021) 2311; label smoothing Szegedy et al., CVPR 2016, with class weights
// as PyTorch combines the two; hinge Weston and Watkins, ESANN 1999.
#include "kernels/hinge_rows.hpp"
#include "kernels/softmax_rows.hpp"

namespace pfn::PFN_ISA {

// The scratch of a weighted call begins with this.
struct Totals {
  double weight;   // what the loss is divided by
  double classes;  // sum of the class weights
};

static inline RowBlockSum* block_sums(const OpCall& call) {
  return reinterpret_cast<RowBlockSum*>(static_cast<char*>(call.scratch) + sizeof(Totals));
}

// Phases: the weights if `weighted`, then the rows, then the sums of blocks.
static inline void class_loss_prepare(OpCall& call, double ns_row, double ns_weight, bool weighted) {
  const std::int64_t n = call.in[0].rows(), blocks = (n + kRowBlock - 1) / kRowBlock;
  int phase = 0;
  if (weighted) call.phase[phase++] = Phase{1, 1, ns_weight * static_cast<double>(n)};
  call.phase[phase++] = Phase{n, kRowBlock, ns_row * static_cast<double>(n)};
  call.phase[phase++] = Phase{1, 1, static_cast<double>(blocks)};
  call.phases = phase;
  call.scratch_bytes =
      static_cast<std::int64_t>(sizeof(Totals)) + blocks * static_cast<std::int64_t>(sizeof(RowBlockSum));
}

static inline void finish(const OpCall& call, double divisor) {
  const std::int64_t n = call.in[0].rows();
  const RowBlockSum* block_sum = block_sums(call);
  RowBlockSum total = {0, 0};
  for (std::int64_t b = 0; b * kRowBlock < n; ++b) {
    total.loss += block_sum[b].loss;
    total.correct += block_sum[b].correct;
  }
  *call.out[0].as<double>() = divisor == 0 ? 0.0 : total.loss / divisor;
  *call.out[1].as<double>() = total.correct;
}

// The labels of a block with -1 in rows that take no part: those are never right, and what is made of them is dropped.
template <class T>
static inline void labels_in_use(const std::int64_t* label, const RowWeights<T>& weights, std::int64_t first,
                                 std::int64_t rows, std::int64_t* used) {
  for (std::int64_t r = 0; r < rows; ++r) used[r] = weights.leaves_out(first + r) ? -1 : label[first + r];
}

template <class T>
static void softmax_cross_entropy_prepare(OpCall& call) {
  const double c = static_cast<double>(call.in[0].cols());
  const bool weighted = is_given(call.in[2]) || is_given(call.in[3]) || call.attr[0] != 0;
  const double each = (c <= kFewClasses ? 1.0 : 0.4) * (sizeof(T) / 4);
  class_loss_prepare(call, 5.0 + (weighted ? 5.0 + 1.2 * each * c : each * c), 2.0, weighted);
}

// Class weights and label smoothing of one call.
template <class T>
struct Classes {
  const T* weight;  // may be null
  double all;       // sum of the class weights
  double smoothing;
  std::int64_t count;

  double operator[](std::int64_t label) const {
    if (label < 0 || label >= count) return __builtin_nan("");
    return weight ? static_cast<double>(weight[label]) : 1.0;
  }
};

// Sum over the classes of weight * (top - score).
template <class T>
static inline double weighted_distance(const T* x, const T* weight, T top, std::int64_t c) {
  constexpr std::int64_t L = kLanes<T>;
  const Vec<T> high = splat(top), one = splat(T(1));
  Vec<T> sum = splat(T(0));
  std::int64_t j = 0;
  for (; j + L <= c; j += L) sum = fma(weight ? load<T>(weight + j) : one, high - load<T>(x + j), sum);
  if (j < c) {
    const Vec<T> last = (weight ? load_partial(weight + j, c - j) : one) * (high - load_partial(x + j, c - j));
    sum = sum + (lane_index<T>() < static_cast<IntOf<T>>(c - j) ? last : splat(T(0)));
  }
  return static_cast<double>(reduce_add<T>(sum));
}

// dx = a * dx - b * weight over the classes; dx holds p - onehot.
template <class T>
static inline void weigh_gradient(T* dx, const T* weight, T a, T b, std::int64_t c) {
  constexpr std::int64_t L = kLanes<T>;
  const Vec<T> one = splat(T(1));
  std::int64_t j = 0;
  for (; j + L <= c; j += L) store<T>(dx + j, load<T>(dx + j) * a - (weight ? load<T>(weight + j) : one) * b);
  if (j < c) {
    const Vec<T> u = weight ? load_partial(weight + j, c - j) : one;
    store_partial(dx + j, load_partial(dx + j, c - j) * a - u * b, c - j);
  }
}

template <class T>
static RowBlockSum weighted_softmax_block(const T* x, const std::int64_t* label, T* dx, std::int64_t first,
                                          std::int64_t rows, const RowWeights<T>& weights, const Classes<T>& classes) {
  const std::int64_t c = classes.count;
  std::int64_t used[kRowBlock];
  labels_in_use(label, weights, first, rows, used);
  RowTerms<T> terms = {};
  RowBlockSum total = softmax_block<T, true>(x + first * c, used, dx + first * c, rows, c, T(1), &terms);
  total.loss = 0;
  const double smooth = classes.smoothing / static_cast<double>(c);
  for (std::int64_t r = 0; r < rows; ++r) {
    T* slope = dx + (first + r) * c;
    if (weights.total == 0 || weights.leaves_out(first + r)) {
      for (std::int64_t j = 0; j < c; ++j) slope[j] = T(0);
      continue;
    }
    const double own = classes[used[r]], share = weights.share(first + r);
    double all = (1 - classes.smoothing) * own, loss = all * static_cast<double>(terms.loss[r]);
    double pull = 0;
    T at_label = T(0);
    if (classes.smoothing != 0) {
      all += smooth * classes.all;
      loss += smooth * (classes.all * static_cast<double>(terms.log_sum[r]) +
                        weighted_distance<T>(x + (first + r) * c, classes.weight, terms.top[r], c));
      pull = smooth * (classes.all - own);
      // p_k * all - q_k * u_k at the label, where p - 1 must keep its digits.
      if (used[r] >= 0 && used[r] < c)
        at_label = slope[used[r]] * static_cast<T>(share * all) + static_cast<T>(share * pull);
      weigh_gradient<T>(slope, classes.weight, static_cast<T>(share * all), static_cast<T>(share * smooth), c);
      if (used[r] >= 0 && used[r] < c) slope[used[r]] = at_label;
    } else {
      const T a = static_cast<T>(share * all);
      for (std::int64_t j = 0; j < c; ++j) slope[j] *= a;
    }
    total.loss += weights[first + r] * loss;
  }
  return total;
}

template <class T>
static void softmax_cross_entropy_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void*) {
  const std::int64_t n = call.in[0].rows(), c = call.in[0].cols();
  const T* x = call.in[0].as<const T>();
  const std::int64_t* label = call.in[1].as<const std::int64_t>();
  T* dx = call.out[2].as<T>();
  RowBlockSum* block_sum = block_sums(call);
  if (call.phases == 2) {
    if (phase == 1) return finish(call, static_cast<double>(n));
    const T inv_n = static_cast<T>(1.0 / static_cast<double>(n));
    for (std::int64_t b = begin; b < end; b += kRowBlock) {
      const std::int64_t rows = end - b < kRowBlock ? end - b : kRowBlock;
      block_sum[b / kRowBlock] = softmax_block<T, false>(x + b * c, label + b, dx + b * c, rows, c, inv_n, nullptr);
    }
    return;
  }
  Totals* totals = static_cast<Totals*>(call.scratch);
  const T* class_weight = is_given(call.in[2]) ? call.in[2].as<const T>() : nullptr;
  const T* weight = is_given(call.in[3]) ? call.in[3].as<const T>() : nullptr;
  Classes<T> classes = {class_weight, static_cast<double>(c), call.attr[0], c};
  if (phase == 0) {
    if (class_weight) classes.all = sum_of<T>(class_weight, c);
    const RowWeights<T> rows(weight, 1);
    totals->classes = classes.all;
    totals->weight =
        sum_in_order(n, [&](std::int64_t i) { return rows.leaves_out(i) ? 0 : rows[i] * classes[label[i]]; });
    return;
  }
  if (phase == 2) return finish(call, totals->weight);
  classes.all = totals->classes;
  const RowWeights<T> weights(weight, totals->weight);
  for (std::int64_t b = begin; b < end; b += kRowBlock) {
    const std::int64_t rows = end - b < kRowBlock ? end - b : kRowBlock;
    block_sum[b / kRowBlock] = weighted_softmax_block<T>(x, label, dx, b, rows, weights, classes);
  }
}
PFN_KERNEL(softmax_cross_entropy, softmax_cross_entropy_prepare, softmax_cross_entropy_run);

template <class T>
static void multiclass_hinge_prepare(OpCall& call) {
  const double c = static_cast<double>(call.in[0].cols());
  const double each = (c <= kFewClasses ? 0.7 : 0.15) * (sizeof(T) / 4);
  class_loss_prepare(call, 5.0 + each * c, 1.0, is_given(call.in[2]));
}
template <class T>
static void multiclass_hinge_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void*) {
  const std::int64_t n = call.in[0].rows(), c = call.in[0].cols();
  const T* weight = is_given(call.in[2]) ? call.in[2].as<const T>() : nullptr;
  Totals* totals = static_cast<Totals*>(call.scratch);
  if (weight && phase == 0) {
    totals->weight = sum_of<T>(weight, n);
    return;
  }
  const RowWeights<T> weights(weight, weight ? totals->weight : static_cast<double>(n));
  if (phase + 1 == call.phases) return finish(call, weights.total);
  const T* x = call.in[0].as<const T>();
  T* dx = call.out[2].as<T>();
  const T margin = static_cast<T>(call.attr[0]);
  for (std::int64_t b = begin; b < end; b += kRowBlock) {
    const std::int64_t rows = end - b < kRowBlock ? end - b : kRowBlock;
    std::int64_t used[kRowBlock];
    labels_in_use(call.in[1].as<const std::int64_t>(), weights, b, rows, used);
    T share[kRowBlock] = {}, loss[kRowBlock] = {};
    for (std::int64_t r = 0; r < rows; ++r) share[r] = static_cast<T>(weights.share(b + r));
    RowBlockSum total = {0, 0};
    total.correct = hinge_block<T>(x + b * c, used, dx + b * c, rows, c, margin, share, loss);
    for (std::int64_t r = 0; r < rows; ++r)
      if (!weights.leaves_out(b + r)) total.loss += weights[b + r] * static_cast<double>(loss[r]);
    block_sums(call)[b / kRowBlock] = total;
  }
}
PFN_KERNEL(multiclass_hinge, multiclass_hinge_prepare, multiclass_hinge_run);

}  // namespace pfn::PFN_ISA
