#include "core/executor.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "core/run.hpp"
#include "ops/dispatch.hpp"
#include "ops/shapes.hpp"

namespace pfn {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kPollEvery{20};

// Steps shorter than this look at the clock only now and then: a look takes 30 ns.
constexpr double kShortStepNs = 20000.0;

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch()).count();
}

// Memory two values would share without saying so, one of them written.
void check_overlap(const Plan& plan, const StepList& list) {
  const auto bytes = [](const Value& v) { return v.bound_items * item_size(v.bound_dtype); };
  for (const PointerSlot& written : list.slots) {
    if (!written.output) continue;
    const Value& a = plan.values()[static_cast<std::size_t>(written.value)];
    for (const PointerSlot& other : list.slots) {
      const Value& b = plan.values()[static_cast<std::size_t>(other.value)];
      if (other.value == written.value || a.data == nullptr || b.data == nullptr) continue;
      const auto* a0 = static_cast<const char*>(a.data);
      const auto* b0 = static_cast<const char*>(b.data);
      if (a0 < b0 + bytes(b) && b0 < a0 + bytes(a))
        throw std::invalid_argument("plan: the arrays bound to '" + a.name + "' and '" + b.name + "' overlap");
    }
  }
}

void check_bound(const Plan& plan, const StepList& list, const RunRequest& request, std::int64_t steps) {
  for (const PointerSlot& slot : list.slots) {
    const Value& value = plan.values()[static_cast<std::size_t>(slot.value)];
    if (value.data == nullptr && request.rows > 0)
      throw std::invalid_argument("plan: '" + value.name + "' is not bound to an array");
    std::int64_t wanted = 0;
    if (value.advance == Advance::row)
      wanted = request.rows;
    else if (value.advance == Advance::step)
      wanted = steps;
    else if (value.advance == Advance::record)
      wanted = request.records(steps);
    else if (!value.dims.empty() && value.dims[0] == kBatch)
      wanted = std::min(request.batch, request.rows);
    if (value.bound_rows < wanted)
      throw std::invalid_argument("plan: '" + value.name + "' has " + std::to_string(value.bound_rows) +
                                  " rows, expected " + std::to_string(wanted));
  }
}

// The numbers of a bound index are checked before the first step; those a step computes are checked by the kernel.
void check_indices(const Plan& plan, const StepList& list, const RunRequest& request) {
  for (const Step& step : list.steps) {
    if (step.foreign()) continue;
    const OpSchema& schema = op_schema(step.op);
    for (std::size_t i = 0; i < schema.inputs.size(); ++i) {
      if (schema.inputs[i].below != "m") continue;
      const Value& index = plan.values()[static_cast<std::size_t>(step.inputs[i])];
      const Value& data = plan.values()[static_cast<std::size_t>(step.inputs[0])];
      if (!index.external || !data.external || request.rows == 0) continue;
      const auto* values = static_cast<const std::int64_t*>(index.data);
      const auto [low, high] = std::minmax_element(values, values + std::min(request.rows, index.bound_rows));
      if (*low < 0 || *high >= data.bound_rows)
        throw std::invalid_argument("plan: '" + index.name + "' holds " + std::to_string(*low < 0 ? *low : *high) +
                                    ", expected row numbers from 0 to " + std::to_string(data.bound_rows - 1));
    }
  }
}

// All that must hold before the first step.
void check_list(const Plan& plan, StepList& list, const RunRequest& request, std::int64_t steps) {
  for (const Step& step : list.steps) {
    if (step.foreign() && request.foreign == nullptr)
      throw std::invalid_argument("plan: '" + list.name + "' holds a function, which cannot be called here");
    if (!step.foreign() && !op_schema(step.op).hyper.empty() &&
        (request.hyper == nullptr || step.group >= request.hyper_groups ||
         (request.hyper_steps != 1 && request.hyper_steps < steps)))
      throw std::invalid_argument("plan: " + op_schema(step.op).name + " reads hyper row " +
                                  std::to_string(step.group) + ", and 'hyper' has too few steps or groups");
  }
  check_bound(plan, list, request, steps);
  if (list.checked_version != plan.bindings()) {
    check_overlap(plan, list);
    list.checked_version = plan.bindings();
  }
  check_indices(plan, list, request);
}

void set_pointers(const Plan& plan, const StepList& list, Prepared& prepared, std::int64_t step, std::int64_t record,
                  std::int64_t batch, bool moving_only) {
  for (const PointerSlot& slot : list.slots) {
    const Value& value = plan.values()[static_cast<std::size_t>(slot.value)];
    if (moving_only && value.advance == Advance::none) continue;
    OpCall& call = prepared.calls[static_cast<std::size_t>(slot.step)];
    View& view = slot.output ? call.out[slot.arg] : call.in[slot.arg];
    std::int64_t skip = 0;
    const std::int64_t row_items = value.bound_rows > 0 ? value.bound_items / value.bound_rows : 0;
    if (value.advance == Advance::row)
      skip = step * batch * row_items;
    else if (value.advance == Advance::record)
      skip = record * row_items;
    else if (value.advance == Advance::step)
      skip = step;
    view.data = static_cast<char*>(value.data) + skip * item_size(view.dtype);
  }
}

// Which step gathers rows that lie beyond the caches, and which one fetches the next ones meanwhile.
struct FetchAhead {
  // Below these, memory keeps up with the gather, or the processor's own prefetch does.
  static constexpr std::int64_t kFewBytes = 4 << 20, kShortRow = 1024;
  int by = -1;
  Ahead first;

  FetchAhead(const Plan& plan, StepList& list) {
    double most = 0;
    for (std::size_t s = 0; s < list.steps.size(); ++s) {
      const Step& step = list.steps[s];
      OpCall& call = list.full.calls[s];
      call.ahead = Ahead();  // what a run that was stopped may have left
      if (step.foreign()) continue;
      if (step.op == OpId::gather_rows) {
        const Value& data = plan.values()[static_cast<std::size_t>(step.inputs[0])];
        const Value& index = plan.values()[static_cast<std::size_t>(step.inputs[1])];
        if (!data.external || !index.external || index.advance != Advance::row || data.bound_rows == 0) continue;
        const std::int64_t bytes = data.bound_items * item_size(data.bound_dtype);
        const std::int64_t row_bytes = bytes / data.bound_rows;
        if (bytes < kFewBytes || row_bytes < kShortRow) continue;
        first = Ahead{static_cast<const char*>(data.data), static_cast<const std::int64_t*>(index.data), 0, row_bytes};
      } else if (op_schema(step.op).fetches_ahead) {
        double cost = 0;
        for (int phase = 0; phase < call.phases; ++phase) cost += call.phase[phase].cost;
        if (cost < most) continue;
        most = cost;
        by = static_cast<int>(s);
      }
    }
    if (first.data == nullptr) by = -1;
  }

  // What step k of `steps` should fetch.
  Ahead after(std::int64_t k, std::int64_t steps, std::int64_t batch, std::int64_t tail_rows) const {
    if (k + 1 >= steps) return Ahead();
    return Ahead{first.data, first.index + (k + 1) * batch, k + 2 == steps ? tail_rows : batch, first.row_bytes};
  }
};

// The loop over steps: inside it nothing is allocated, checked or decided but when to stop.
struct Loop {
  Plan& plan;
  StepList& list;
  const RunRequest& request;
  std::int64_t steps, tail_rows, local_stride;
  RunResult result;

  void run(Team& team);
};

void Loop::run(Team& team) {
  double limit = request.limit;
  Clock::time_point next_poll = Clock::now() + kPollEvery;
  const FetchAhead main_fetch(plan, list), other_fetch(plan, request.also == nullptr ? list : *request.also);
  std::int64_t record = 0;
  bool main_placed = false;
  const std::int64_t poll_steps = list.full.cost < kShortStepNs ? 16 : 1;
  for (std::int64_t k = 0; k < steps; ++k) {
    const bool is_tail = k + 1 == steps && tail_rows != list.full.rows;
    const bool other = request.takes_other(k);
    StepList& now = other ? *request.also : list;
    const FetchAhead& fetch = other ? other_fetch : main_fetch;
    Prepared& prepared = is_tail ? now.tail : now.full;
    set_pointers(plan, now, prepared, k, record, request.batch, main_placed && !other && !is_tail);
    if (other)
      ++record;
    else
      main_placed = true;
    if (fetch.by >= 0 && !is_tail)
      prepared.calls[static_cast<std::size_t>(fetch.by)].ahead = fetch.after(k, steps, request.batch, tail_rows);
    const double* hyper = request.hyper == nullptr ? nullptr
                                                   : request.hyper + (request.hyper_steps == 1 ? 0 : k) *
                                                                         request.hyper_groups * kHyperFields;
    const bool paced = team.size() > 1 && !is_tail && !other;
    const std::int64_t begun = paced ? now_ns() : 0;
    if (paced) team.set_alone(list.pace.alone());
    for (std::size_t s = 0; s < now.steps.size(); ++s) {
      OpCall& call = prepared.calls[s];
      const Step& step = now.steps[s];
      call.scratch = plan.shared.data();
      if (hyper != nullptr) call.hyper = hyper + step.group * kHyperFields;
      const bool timed = !other && (request.step_ns != nullptr || request.hook != nullptr);
      const std::int64_t start = timed ? now_ns() : 0;
      if (!step.foreign()) {
        run_call(call, kernel(step.op, plan.options().float_type), team, plan.local.data(), local_stride);
      } else if (!request.foreign->call(step.function, static_cast<int>(step.inputs.size()),
                                        static_cast<int>(step.outputs.size()), call)) {
        result.reason = StopReason::interrupted;
        return;
      }
      if (!timed) continue;
      const std::int64_t spent = now_ns() - start;
      if (request.step_ns != nullptr) request.step_ns[s] += spent;
      if (request.hook != nullptr) request.hook->after(s, call, spent);
    }
    if (paced) list.pace.record(now_ns() - begun);
    result.steps = k + 1;
    if (request.watch >= 0) {
      const double seen = static_cast<const double*>(plan.value(request.watch).data)[k];
      if (!std::isfinite(seen)) {
        result.reason = StopReason::nonfinite;
        break;
      }
      if (k == 0 && request.limit_factor > 0) limit = request.limit_factor * seen;
      if (seen > limit) {
        result.reason = StopReason::limit;
        break;
      }
    }
    if (request.poll != nullptr && k % poll_steps == 0 && Clock::now() >= next_poll) {
      if (!request.poll->keep_going(result.steps)) {
        result.reason = StopReason::interrupted;
        break;
      }
      next_poll = Clock::now() + kPollEvery;
    }
  }
}

}  // namespace

const char* stop_name(StopReason reason) {
  switch (reason) {
    case StopReason::nonfinite:
      return "nonfinite";
    case StopReason::limit:
      return "limit";
    case StopReason::interrupted:
      return "interrupted";
    default:
      return "finished";
  }
}

double expected_cost(const Plan& plan, const StepList& list, const RunRequest& request) {
  if (request.rows < 1 || request.batch < 1) return 0;
  if (!plan.is_prepared(list.full, std::min(request.batch, request.rows)))
    return std::numeric_limits<double>::infinity();
  return list.full.cost * static_cast<double>((request.rows + request.batch - 1) / request.batch);
}

RunResult run(Plan& plan, StepList& list, const RunRequest& request) {
  if (request.batch < 1 || request.batch > plan.options().max_batch)
    throw std::invalid_argument("plan: batch is " + std::to_string(request.batch) + ", expected 1 to " +
                                std::to_string(plan.options().max_batch));
  const std::int64_t steps = (request.rows + request.batch - 1) / request.batch;
  const std::int64_t tail_rows = request.rows - (steps - 1) * request.batch;
  if (request.also != nullptr && (request.also == &list || request.every < 1 || request.offset < 0))
    throw std::invalid_argument("plan: 'also' must be another list, 'every' at least 1 and 'offset' at least 0");
  StepList* const lists[] = {&list, request.also};
  for (StepList* each : lists)
    if (each != nullptr) check_list(plan, *each, request, steps);

  if (request.rows == 0) return RunResult();

  // All memory is taken here; the loop below allocates nothing.
  std::int64_t shared = 0, local = 0;
  double widest = -1;
  const auto make_ready = [&](const StepList& each, Prepared& prepared, std::int64_t rows) {
    plan.prepare(each, prepared, rows);
    shared = std::max(shared, prepared.shared_bytes);
    local = std::max(local, prepared.local_bytes);
    widest = std::max(widest, prepared.widest);
  };
  for (StepList* each : lists) {
    if (each == nullptr) continue;
    make_ready(*each, each->full, std::min(request.batch, request.rows));
    if (tail_rows != each->full.rows) make_ready(*each, each->tail, tail_rows);
  }
  plan.shared.reserve(shared);
  plan.local.reserve(local * request.threads);
  if (plan.options().poison) std::memset(plan.scratch().data(), 0xff, static_cast<std::size_t>(plan.scratch().bytes()));

  Loop loop{plan, list, request, steps, tail_rows, local, RunResult()};
  with_team(
      widest >= parallel_cost() ? request.threads : 1,
      [](void* context, Team& team) { static_cast<Loop*>(context)->run(team); }, &loop);
  return loop.result;
}

}  // namespace pfn
