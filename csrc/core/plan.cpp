#include "core/plan.hpp"

#include <algorithm>
#include <stdexcept>
#include <tuple>

#include "ops/dispatch.hpp"
#include "ops/shapes.hpp"

namespace pfn {
namespace {

std::int64_t checked_bytes(const Value& value, const View& view) {
  std::int64_t bytes = item_size(view.dtype);
  for (int d = 0; d < view.ndim; ++d)
    if (__builtin_mul_overflow(bytes, view.shape[d], &bytes))
      throw std::invalid_argument("plan: value '" + value.name + "' is larger than 2**63 bytes");
  return bytes;
}

// Rough time of a function of the caller's, ns.
constexpr double kForeignCost = 20000;

// A scratch value, or a chain of values that take over each other's memory in place.
struct Block {
  std::int64_t bytes = 0;
  int first = 0, last = 0;
  std::vector<int> values;
};

}  // namespace

Plan::Plan(std::vector<Value> values, std::vector<StepList> lists, const PlanOptions& options)
    : values_(std::move(values)), lists_(std::move(lists)), options_(options) {
  if (options_.max_batch < 1) throw std::invalid_argument("plan: max_batch must be at least 1");
  for (std::size_t v = 0; v < values_.size(); ++v) {
    if (values_[v].dims.size() > kMaxDims)
      throw std::invalid_argument("plan: value '" + values_[v].name + "' has more than 4 dimensions");
    if (!ids_.emplace(values_[v].name, static_cast<int>(v)).second)
      throw std::invalid_argument("plan: two values are named '" + values_[v].name + "'");
  }
  check_views(options_.max_batch);
  check_views(options_.max_batch + 1);
  std::int64_t bytes = 0;
  for (StepList& steps : lists_) {
    // Shapes that agree for two batch sizes agree for all: dimensions are numbers or the batch.
    check(steps, options_.max_batch);
    check(steps, options_.max_batch + 1);
    place(steps);
    bytes = std::max(bytes, steps.scratch_bytes);
  }
  scratch_.reserve(bytes);
}

int Plan::value_id(const std::string& name) const {
  const auto found = ids_.find(name);
  if (found == ids_.end()) throw std::invalid_argument("plan: no value is named '" + name + "'");
  return found->second;
}

StepList& Plan::list(const std::string& name) {
  for (StepList& steps : lists_)
    if (steps.name == name) return steps;
  throw std::invalid_argument("plan: no step list is named '" + name + "'");
}

DType Plan::dtype(int id) const {
  const Value& value = values_[static_cast<std::size_t>(root(id))];
  if (value.dtype == "any") return value.bound_dtype;
  if (value.dtype == "f64") return DType::f64;
  if (value.dtype == "i64") return DType::i64;
  return value.dtype == "u8" ? DType::u8 : options_.float_type;
}

View Plan::view(int id, std::int64_t rows) const {
  const Value& value = values_[static_cast<std::size_t>(id)];
  const std::int64_t bound_rows = values_[static_cast<std::size_t>(root(id))].bound_rows;
  View view;
  view.dtype = dtype(id);
  view.ndim = static_cast<std::int32_t>(value.dims.size());
  for (std::size_t d = 0; d < value.dims.size(); ++d) {
    const std::int64_t dim = value.dims[d];
    view.shape[d] = dim == kBatch ? rows : dim == kAny ? bound_rows : dim;
  }
  return view;
}

void Plan::check_views(std::int64_t rows) const {
  const int count = static_cast<int>(values_.size());
  for (int v = 0; v < count; ++v) {
    const Value& value = values_[static_cast<std::size_t>(v)];
    if (value.view_of < 0) continue;
    const bool known = value.view_of < count && values_[static_cast<std::size_t>(value.view_of)].view_of < 0;
    const Value* const base = known ? &values_[static_cast<std::size_t>(value.view_of)] : nullptr;
    if (!known || base->dtype != value.dtype || base->external != value.external ||
        checked_bytes(value, view(v, rows)) != checked_bytes(*base, view(value.view_of, rows)))
      throw std::invalid_argument("plan: '" + value.name + "' is no view of another value with as many items");
  }
}

// A foreign step may have any arguments that exist; their shapes are what the values say.
void Plan::check_foreign(const Step& step) const {
  if (step.inputs.size() > kMaxArgs || step.outputs.size() > kMaxArgs || step.outputs.empty())
    throw std::invalid_argument("plan: a function has 0 to 8 inputs and 1 to 8 outputs");
  for (const std::vector<int>* ids : {&step.inputs, &step.outputs})
    for (int id : *ids)
      if (id < 0 || id >= static_cast<int>(values_.size()))
        throw std::invalid_argument("plan: a function has a bad id");
}

// Unifies every step's shapes for a batch of `rows` and compares what follows with what the values say.
void Plan::check(const StepList& steps, std::int64_t rows) const {
  const int count = static_cast<int>(values_.size());
  for (const Step& step : steps.steps) {
    if (step.foreign()) {
      check_foreign(step);
      continue;
    }
    const OpSchema& schema = op_schema(step.op);
    if (step.inputs.size() != schema.inputs.size() || step.outputs.size() != schema.outputs.size() ||
        step.attrs.size() != schema.attrs.size())
      throw std::invalid_argument("plan: " + schema.name + " has the wrong number of inputs, outputs or attributes");
    OpCall call;
    for (std::size_t i = 0; i < step.inputs.size(); ++i) {
      const int id = step.inputs[i];
      if (id < 0 && schema.inputs[i].optional) {
        call.in[i].ndim = -1;
        continue;
      }
      if (id < 0 || id >= count)
        throw std::invalid_argument("plan: " + schema.name + ": bad id of '" + schema.inputs[i].name + "'");
      call.in[i] = view(id, rows);
      const std::string& have = values_[static_cast<std::size_t>(id)].dtype;
      if (have != schema.inputs[i].dtype && schema.inputs[i].dtype != "any")
        throw std::invalid_argument("plan: " + schema.name + ": '" + schema.inputs[i].name + "' is " + have +
                                    ", expected " + schema.inputs[i].dtype);
    }
    std::copy(step.attrs.begin(), step.attrs.end(), call.attr);
    check_attrs(schema, call);
    infer_shapes(schema, call, options_.float_type);
    for (std::size_t o = 0; o < step.outputs.size(); ++o) {
      const int id = step.outputs[o];
      const ArgSchema& arg = schema.outputs[o];
      if (id < 0 || id >= count) throw std::invalid_argument("plan: " + schema.name + ": bad id of '" + arg.name + "'");
      if (arg.alias >= 0 && step.inputs[static_cast<std::size_t>(arg.alias)] != id)
        throw std::invalid_argument("plan: " + schema.name + ": '" + arg.name + "' must be updated in place");
      const View have = view(id, rows);
      const std::int64_t wanted = checked_bytes(values_[static_cast<std::size_t>(id)], call.out[o]);
      if (have.dtype != call.out[o].dtype || checked_bytes(values_[static_cast<std::size_t>(id)], have) != wanted)
        throw std::invalid_argument("plan: " + schema.name + ": '" + arg.name + "' has shape " + shape_text(have) +
                                    ", expected " + shape_text(call.out[o]));
    }
  }
}

// Lifetimes, chains of in-place steps, then greedy placement, largest block first at the lowest free offset.
void Plan::place(StepList& list) const {
  const int count = static_cast<int>(values_.size());
  std::vector<int> first(values_.size(), -1), last(values_.size(), -1), block_of(values_.size(), -1);
  for (int s = 0; s < static_cast<int>(list.steps.size()); ++s) {
    const Step& step = list.steps[static_cast<std::size_t>(s)];
    for (int id : step.inputs)
      if (id >= 0 && !values_[static_cast<std::size_t>(id)].external) {
        const auto v = static_cast<std::size_t>(root(id));
        if (first[v] < 0)
          throw std::invalid_argument("plan: step list '" + list.name + "' reads '" +
                                      values_[static_cast<std::size_t>(id)].name + "' before any step wrote it");
        last[v] = s;
      }
    for (int id : step.outputs)
      if (!values_[static_cast<std::size_t>(id)].external) {
        const auto v = static_cast<std::size_t>(root(id));
        if (first[v] < 0) first[v] = s;
        last[v] = std::max(last[v], s);
      }
  }

  std::vector<Block> blocks;
  const auto bytes_of = [&](int id) {
    return align_up(checked_bytes(values_[static_cast<std::size_t>(id)], view(id, options_.max_batch)));
  };
  for (int s = 0; s < static_cast<int>(list.steps.size()); ++s) {
    const Step& step = list.steps[static_cast<std::size_t>(s)];
    for (std::size_t o = 0; o < step.outputs.size(); ++o) {
      const int id = root(step.outputs[o]);
      const auto v = static_cast<std::size_t>(id);
      if (values_[v].external || first[v] != s || block_of[v] >= 0) continue;
      const int source = step.inputs.empty() || step.inputs[0] < 0 ? -1 : root(step.inputs[0]);
      const auto reads = std::count_if(step.inputs.begin(), step.inputs.end(),
                                       [&](int input) { return input >= 0 && root(input) == source; });
      const bool take_over = options_.inplace && o == 0 && !step.foreign() && op_schema(step.op).inplace &&
                             source >= 0 && block_of[static_cast<std::size_t>(source)] >= 0 &&
                             last[static_cast<std::size_t>(source)] == s && bytes_of(source) == bytes_of(id) &&
                             reads == 1;
      if (take_over) {
        Block& block = blocks[static_cast<std::size_t>(block_of[static_cast<std::size_t>(source)])];
        block.last = std::max(block.last, last[v]);
        block.values.push_back(id);
        block_of[v] = block_of[static_cast<std::size_t>(source)];
      } else {
        block_of[v] = static_cast<int>(blocks.size());
        blocks.push_back(Block{bytes_of(id), s, last[v], {id}});
      }
    }
  }

  std::sort(blocks.begin(), blocks.end(), [](const Block& a, const Block& b) {
    return std::tie(b.bytes, a.first, a.values.front()) < std::tie(a.bytes, b.first, b.values.front());
  });
  list.offset.assign(static_cast<std::size_t>(count), -1);
  std::vector<std::pair<std::int64_t, const Block*>> placed;  // offset, block
  for (const Block& block : blocks) {
    std::int64_t offset = 0;
    if (!options_.reuse) {
      offset = list.scratch_bytes;
    } else {
      for (bool moved = true; moved;) {
        moved = false;
        for (const auto& [at, other] : placed) {
          const bool together = other->first <= block.last && block.first <= other->last;
          if (together && at < offset + block.bytes && offset < at + other->bytes) {
            offset = at + other->bytes;
            moved = true;
          }
        }
      }
    }
    placed.emplace_back(offset, &block);
    for (int id : block.values) list.offset[static_cast<std::size_t>(id)] = offset;
    list.scratch_bytes = std::max(list.scratch_bytes, offset + block.bytes);
  }

  for (int v = 0; v < count; ++v)
    list.offset[static_cast<std::size_t>(v)] = list.offset[static_cast<std::size_t>(root(v))];

  for (int s = 0; s < static_cast<int>(list.steps.size()); ++s) {
    const Step& step = list.steps[static_cast<std::size_t>(s)];
    for (int i = 0; i < static_cast<int>(step.inputs.size()); ++i) {
      const int id = step.inputs[static_cast<std::size_t>(i)];
      if (id >= 0 && values_[static_cast<std::size_t>(id)].external) list.slots.push_back({s, false, i, root(id)});
    }
    for (int o = 0; o < static_cast<int>(step.outputs.size()); ++o) {
      const int id = step.outputs[static_cast<std::size_t>(o)];
      if (values_[static_cast<std::size_t>(id)].external) list.slots.push_back({s, true, o, root(id)});
    }
  }
}

void Plan::bind(int id, void* data, DType dtype, std::int64_t rows, std::int64_t items) {
  Value& bound = value(id);
  // How many records there is room for is no shape of a step.
  if (dtype != bound.bound_dtype || (rows != bound.bound_rows && bound.advance != Advance::record)) ++version_;
  if (data != bound.data || items != bound.bound_items) ++bindings_;
  bound.data = data;
  bound.bound_dtype = dtype;
  bound.bound_rows = rows;
  bound.bound_items = items;
}

void Plan::prepare(const StepList& list, Prepared& prepared, std::int64_t rows) const {
  if (is_prepared(prepared, rows)) return;
  prepared.calls.resize(list.steps.size());
  prepared.rows = rows;
  prepared.version = version_;
  prepared.shared_bytes = prepared.local_bytes = 0;
  prepared.cost = 0;
  prepared.widest = -1;
  char* base = scratch_.data();
  for (std::size_t s = 0; s < list.steps.size(); ++s) {
    const Step& step = list.steps[s];
    OpCall& call = prepared.calls[s];
    call = OpCall();
    const auto fill = [&](const std::vector<int>& ids, View* views) {
      for (std::size_t i = 0; i < ids.size(); ++i) {
        if (ids[i] < 0) {
          views[i].ndim = -1;
          continue;
        }
        views[i] = view(ids[i], rows);
        const std::int64_t offset = list.offset[static_cast<std::size_t>(ids[i])];
        if (offset >= 0) views[i].data = base + offset;
      }
    };
    fill(step.inputs, call.in);
    fill(step.outputs, call.out);
    std::copy(step.attrs.begin(), step.attrs.end(), call.attr);
    if (step.foreign()) {
      prepared.cost += kForeignCost;
      continue;
    }
    kernel(step.op, options_.float_type).prepare(call);
    prepared.shared_bytes = std::max(prepared.shared_bytes, call.scratch_bytes);
    prepared.local_bytes = std::max(prepared.local_bytes, align_up(call.local_bytes));
    for (int p = 0; p < call.phases; ++p) {
      const Phase& phase = call.phase[p];
      prepared.cost += phase.cost;
      if (phase.extent > phase.grain) prepared.widest = std::max(prepared.widest, phase.cost);
    }
  }
}

}  // namespace pfn
