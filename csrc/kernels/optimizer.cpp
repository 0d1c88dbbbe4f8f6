// Update rules, one pass over the parameters, in place; as PyTorch defines them.
// lr, mu, wd, b1, b2, rho, eps, correction1 and correction2 are hyper fields.
//
//   sgd       p -= lr * (g + wd * p)                              Robbins and Monro 1951
//   momentum  v = mu * v + (g + wd * p),  p -= lr * v             Polyak 1964
//   nesterov  g' = g + wd * p,  v = mu * v + g'
//             p -= lr * (g' + mu * v)                             Sutskever et al. 2013
//   adam      g' = g + wd * p
//             m = b1 * m + (1 - b1) * g',  v = b2 * v + (1 - b2) * g'^2
//             p -= lr / correction1 * m / (sqrt(v) / sqrt(correction2) + eps)
//                                                                 Kingma and Ba 2015
//   adamw     p *= 1 - lr * wd, then adam with g' = g             Loshchilov and Hutter 2019
//   adagrad   g' = g + wd * p,  v = v + g'^2
//             p -= lr * g' / (sqrt(v) + eps)                      Duchi, Hazan and Singer 2011
//   rmsprop   g' = g + wd * p,  v = rho * v + (1 - rho) * g'^2,  d = g' / (sqrt(v) + eps)
//             p -= lr * d, or u = mu * u + d,  p -= lr * u        Tieleman and Hinton 2012
//
// wd = 0 leaves g alone whatever p holds; NaN and inf spread as the formulas say.
// Scalars are made in double and rounded once; square root and division are rounded once; in
// float32 with AVX-512 the division is within 2 ULP unless eps is below 1e-30. Max error:
// 6 * eps times the sum of the magnitudes of the terms.
#include "kernels/kernel.hpp"
#include "kernels/sweep.hpp"
#include "kernels/vec_math.hpp"

namespace pfn::PFN_ISA {

constexpr std::int64_t kGrain = 4096;

template <class T>
static void light_prepare(OpCall& call) {
  one_phase(call, call.out[0].size(), 0.15 * (sizeof(T) / 4), kGrain);
}
template <class T>
static void adam_prepare(OpCall& call) {
  one_phase(call, call.out[0].size(), 0.3 * (sizeof(T) / 4), kGrain);
}

template <class T>
static inline Vec<T> hyper(const OpCall& call, HyperField field) {
  return splat(static_cast<T>(call.hyper[field]));
}

// g + wd * p, or g alone.
template <class T, bool kDecay>
static inline Vec<T> decayed(Vec<T> g, Vec<T> p, Vec<T> wd) {
  return kDecay ? fma(wd, p, g) : g;
}

template <class T, bool kDecay>
static inline void sgd_loop(const OpCall& call, std::int64_t begin, std::int64_t end) {
  const T* p = call.in[0].as<const T>();
  const T* g = call.in[1].as<const T>();
  T* out = call.out[0].as<T>();
  const Vec<T> minus_lr = -hyper<T>(call, kHyper_learning_rate), wd = hyper<T>(call, kHyper_weight_decay);
  sweep(out, begin, end, [=](std::int64_t i, auto part) {
    const Vec<T> pi = load_at(p + i, part);
    store_at(out + i, fma(minus_lr, decayed<T, kDecay>(load_at(g + i, part), pi, wd), pi), part);
  });
}
template <class T>
static void sgd_step_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  if (call.hyper[kHyper_weight_decay] != 0)
    sgd_loop<T, true>(call, begin, end);
  else
    sgd_loop<T, false>(call, begin, end);
}
PFN_KERNEL(sgd_step, light_prepare, sgd_step_run);

template <class T, bool kNesterov, bool kDecay>
static inline void momentum_loop(const OpCall& call, std::int64_t begin, std::int64_t end) {
  const T* p = call.in[0].as<const T>();
  const T* g = call.in[1].as<const T>();
  const T* v = call.in[2].as<const T>();
  T* p_out = call.out[0].as<T>();
  T* v_out = call.out[1].as<T>();
  const Vec<T> minus_lr = -hyper<T>(call, kHyper_learning_rate), wd = hyper<T>(call, kHyper_weight_decay);
  const Vec<T> mu = hyper<T>(call, kHyper_momentum);
  sweep(p_out, begin, end, [=](std::int64_t i, auto part) {
    const Vec<T> pi = load_at(p + i, part), gi = decayed<T, kDecay>(load_at(g + i, part), pi, wd);
    const Vec<T> vi = fma(mu, load_at(v + i, part), gi);
    store_at(p_out + i, fma(minus_lr, kNesterov ? fma(mu, vi, gi) : vi, pi), part);
    store_at(v_out + i, vi, part);
  });
}
template <class T, bool kNesterov>
static inline void momentum_any(const OpCall& call, std::int64_t begin, std::int64_t end) {
  if (call.hyper[kHyper_weight_decay] != 0)
    momentum_loop<T, kNesterov, true>(call, begin, end);
  else
    momentum_loop<T, kNesterov, false>(call, begin, end);
}
template <class T>
static void momentum_step_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  momentum_any<T, false>(call, begin, end);
}
PFN_KERNEL(momentum_step, light_prepare, momentum_step_run);

template <class T>
static void nesterov_step_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  momentum_any<T, true>(call, begin, end);
}
PFN_KERNEL(nesterov_step, light_prepare, nesterov_step_run);

// What is added to or multiplied with a vector of each array, the same for all elements.
template <class T>
struct AdamScalars {
  Vec<T> b1, one_minus_b1, b2, one_minus_b2, minus_step, root_scale, eps, wd, shrink;
};

template <class T>
static inline AdamScalars<T> adam_scalars(const OpCall& call) {
  const double* h = call.hyper;
  AdamScalars<T> s;
  s.b1 = splat(static_cast<T>(h[kHyper_beta1]));
  s.one_minus_b1 = splat(static_cast<T>(1.0 - h[kHyper_beta1]));
  s.b2 = splat(static_cast<T>(h[kHyper_beta2]));
  s.one_minus_b2 = splat(static_cast<T>(1.0 - h[kHyper_beta2]));
  s.minus_step = splat(static_cast<T>(-h[kHyper_learning_rate] / h[kHyper_correction1]));
  s.root_scale = splat(static_cast<T>(1.0 / __builtin_sqrt(h[kHyper_correction2])));
  s.eps = splat(static_cast<T>(h[kHyper_eps]));
  s.wd = splat(static_cast<T>(h[kHyper_weight_decay]));
  s.shrink = splat(static_cast<T>(1.0 - h[kHyper_learning_rate] * h[kHyper_weight_decay]));
  return s;
}

template <class T, bool kDecoupled, bool kDecay, bool kTinyEps>
static inline void adam_step_of(const AdamScalars<T>& s, Vec<T>& p, Vec<T> g, Vec<T>& m, Vec<T>& v) {
  if (kDecoupled)
    p = p * s.shrink;
  else
    g = decayed<T, kDecay>(g, p, s.wd);
  m = fma(s.b1, m, s.one_minus_b1 * g);
  v = fma(s.b2, v, s.one_minus_b2 * g * g);
  const Vec<T> root = fma(vsqrt(v), s.root_scale, s.eps);
  p = fma(s.minus_step, kTinyEps ? m / root : quotient(m, root), p);
}

template <class T, bool kDecoupled, bool kDecay, bool kTinyEps>
static inline void adam_loop(const OpCall& call, std::int64_t begin, std::int64_t end) {
  const T* p = call.in[0].as<const T>();
  const T* g = call.in[1].as<const T>();
  const T* m = call.in[2].as<const T>();
  const T* v = call.in[3].as<const T>();
  T* p_out = call.out[0].as<T>();
  T* m_out = call.out[1].as<T>();
  T* v_out = call.out[2].as<T>();
  const AdamScalars<T> s = adam_scalars<T>(call);
  sweep(p_out, begin, end, [=](std::int64_t i, auto part) {
    Vec<T> pi = load_at(p + i, part), mi = load_at(m + i, part), vi = load_at(v + i, part);
    adam_step_of<T, kDecoupled, kDecay, kTinyEps>(s, pi, load_at(g + i, part), mi, vi);
    store_at(p_out + i, pi, part);
    store_at(m_out + i, mi, part);
    store_at(v_out + i, vi, part);
  });
}

template <class T, bool kDecoupled, bool kDecay>
static inline void adam_any(const OpCall& call, std::int64_t begin, std::int64_t end) {
  if (call.hyper[kHyper_eps] >= 1e-30)
    adam_loop<T, kDecoupled, kDecay, false>(call, begin, end);
  else
    adam_loop<T, kDecoupled, kDecay, true>(call, begin, end);
}

template <class T>
static void adam_step_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  if (call.hyper[kHyper_weight_decay] != 0)
    adam_any<T, false, true>(call, begin, end);
  else
    adam_any<T, false, false>(call, begin, end);
}
PFN_KERNEL(adam_step, adam_prepare, adam_step_run);

template <class T>
static void adamw_step_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  adam_any<T, true, false>(call, begin, end);
}
PFN_KERNEL(adamw_step, adam_prepare, adamw_step_run);

// Both divide the gradient by a root of its squares; kForget makes the sum of the squares a running mean.
template <class T, bool kForget, bool kMomentum, bool kDecay, bool kTinyEps>
static inline void scaled_loop(const OpCall& call, std::int64_t begin, std::int64_t end) {
  const T* p = call.in[0].as<const T>();
  const T* g = call.in[1].as<const T>();
  const T* v = call.in[2].as<const T>();
  const T* u = kMomentum ? call.in[3].as<const T>() : nullptr;
  T* p_out = call.out[0].as<T>();
  T* v_out = call.out[1].as<T>();
  T* u_out = kMomentum ? call.out[2].as<T>() : nullptr;
  const Vec<T> minus_lr = -hyper<T>(call, kHyper_learning_rate), wd = hyper<T>(call, kHyper_weight_decay);
  const Vec<T> rho = hyper<T>(call, kHyper_rho), eps = hyper<T>(call, kHyper_eps);
  const Vec<T> one_minus_rho = splat(static_cast<T>(1.0 - call.hyper[kHyper_rho]));
  const Vec<T> mu = hyper<T>(call, kHyper_momentum);
  sweep(p_out, begin, end, [=](std::int64_t i, auto part) {
    const Vec<T> pi = load_at(p + i, part), gi = decayed<T, kDecay>(load_at(g + i, part), pi, wd);
    const Vec<T> old = load_at(v + i, part);
    const Vec<T> vi = kForget ? fma(rho, old, one_minus_rho * gi * gi) : fma(gi, gi, old);
    const Vec<T> root = vsqrt(vi) + eps;
    Vec<T> d = kTinyEps ? gi / root : quotient(gi, root);
    if (kMomentum) {
      d = fma(mu, load_at(u + i, part), d);
      store_at(u_out + i, d, part);
    }
    store_at(p_out + i, fma(minus_lr, d, pi), part);
    store_at(v_out + i, vi, part);
  });
}

template <class T, bool kForget, bool kMomentum, bool kDecay>
static inline void scaled_any(const OpCall& call, std::int64_t begin, std::int64_t end) {
  if (call.hyper[kHyper_eps] >= 1e-30)
    scaled_loop<T, kForget, kMomentum, kDecay, false>(call, begin, end);
  else
    scaled_loop<T, kForget, kMomentum, kDecay, true>(call, begin, end);
}

template <class T, bool kForget, bool kMomentum>
static void scaled_run(const OpCall& call, int, std::int64_t begin, std::int64_t end, void*) {
  if (call.hyper[kHyper_weight_decay] != 0)
    scaled_any<T, kForget, kMomentum, true>(call, begin, end);
  else
    scaled_any<T, kForget, kMomentum, false>(call, begin, end);
}

template <class T>
static void adagrad_step_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void* local) {
  scaled_run<T, false, false>(call, phase, begin, end, local);
}
PFN_KERNEL(adagrad_step, adam_prepare, adagrad_step_run);

template <class T>
static void rmsprop_step_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end, void* local) {
  scaled_run<T, true, false>(call, phase, begin, end, local);
}
PFN_KERNEL(rmsprop_step, adam_prepare, rmsprop_step_run);

template <class T>
static void rmsprop_momentum_step_run(const OpCall& call, int phase, std::int64_t begin, std::int64_t end,
                                      void* local) {
  scaled_run<T, true, true>(call, phase, begin, end, local);
}
PFN_KERNEL(rmsprop_momentum_step, adam_prepare, rmsprop_momentum_step_run);

}  // namespace pfn::PFN_ISA
