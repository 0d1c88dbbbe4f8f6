// A plan: named values and step lists over them, checked and placed once; the executor then runs it without decisions.
//
// Values live in the scratch arena (placed here by lifetime) or in external memory bound by name: parameters, optimizer
// state, running statistics, data sets, results. Dimensions may be kBatch (the rows of this step) or kAny (the rows of
// a data set).
#pragma once
#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/arena.hpp"
#include "core/pace.hpp"
#include "ops/schema.hpp"

namespace pfn {

constexpr std::int64_t kBatch = -1;
constexpr std::int64_t kAny = -2;

// How an external value moves from one step of a run to the next; a record is a step that takes the other list.
enum class Advance { none, row, step, record };

struct Value {
  std::string name;
  std::string dtype;  // as in the schema: "T", "f64", "i64", "u8", "any"
  std::vector<std::int64_t> dims;
  bool external = false;
  Advance advance = Advance::none;
  int view_of = -1;                // >= 0: the memory of that value, read with other dims
  void* data = nullptr;            // external: bound memory
  DType bound_dtype = DType::f32;  // external `any`: dtype of the bound memory
  std::int64_t bound_rows = 0;     // external: first dimension of the bound memory
  std::int64_t bound_items = 0;    // external: elements of the bound memory
};

struct Step {
  OpId op = OpId::kCount;
  std::vector<int> inputs;  // value ids, -1 for an optional input left out
  std::vector<int> outputs;
  std::vector<double> attrs;
  int group = 0;      // row of hyper it reads
  int function = -1;  // >= 0: not the op, but a function of the caller's, by number
  bool foreign() const { return function >= 0; }
};

// Where the executor must put a moving pointer.
struct PointerSlot {
  int step;
  bool output;
  int arg;
  int value;
};

// The calls of a step list made ready for one batch size.
struct Prepared {
  std::int64_t rows = -1;
  std::int64_t version = -1;
  std::vector<OpCall> calls;
  std::int64_t shared_bytes = 0, local_bytes = 0;  // largest scratch and thread workspace of a call
  double cost = 0;                                 // of all calls on one core, ns
  double widest = -1;                              // cost of the largest phase that could be shared
};

struct StepList {
  std::string name;
  std::vector<Step> steps;
  std::vector<std::int64_t> offset;  // per value: byte offset in the arena, -1 if not a scratch value of this list
  std::int64_t scratch_bytes = 0;
  std::vector<PointerSlot> slots;     // external arguments
  Pace pace;                          // whether sharing its work pays at the moment
  Prepared full, tail;                // batch-size calls, and those of the last, smaller batch
  std::int64_t checked_version = -1;  // bindings that were found not to overlap
};

struct PlanOptions {
  std::int64_t max_batch = 1;
  DType float_type = DType::f32;
  bool reuse = true;    // share memory between values whose lifetimes do not overlap
  bool inplace = true;  // let elementwise steps write over an input that dies there
  bool poison = false;  // fill the scratch with NaN before every run, so that a read before a write shows
};

class Plan {
 public:
  // Checks every id, dimension and dtype and places the scratch values. Throws std::invalid_argument.
  Plan(std::vector<Value> values, std::vector<StepList> lists, const PlanOptions& options);

  int value_id(const std::string& name) const;  // throws std::invalid_argument
  StepList& list(const std::string& name);      // throws std::invalid_argument
  const std::vector<Value>& values() const { return values_; }
  const std::vector<StepList>& lists() const { return lists_; }
  const PlanOptions& options() const { return options_; }
  Value& value(int id) { return values_[static_cast<std::size_t>(id)]; }
  int root(int id) const {  // the value whose memory it is
    const int other = values_[static_cast<std::size_t>(id)].view_of;
    return other < 0 ? id : other;
  }
  Arena& scratch() { return scratch_; }

  DType dtype(int id) const;                   // as it is bound or computed
  View view(int id, std::int64_t rows) const;  // shape and dtype for a batch of `rows`; no pointer
  void prepare(const StepList& list, Prepared& prepared,
               std::int64_t rows) const;  // nothing to do if it was the last time
  bool is_prepared(const Prepared& prepared, std::int64_t rows) const {
    return prepared.rows == rows && prepared.version == version_;
  }

  // Remembers what is bound; the calls are made ready again only when a shape or dtype changed.
  void bind(int id, void* data, DType dtype, std::int64_t rows, std::int64_t items);
  std::int64_t bindings() const { return bindings_; }  // changes whenever other memory is bound

  std::atomic<bool> running{false};
  Arena local;     // per-thread workspaces
  Arena shared;    // OpCall::scratch of the step that runs
  Arena snapshot;  // copies of state taken at the start of a run
  const StepList* snapshot_of = nullptr;

 private:
  void check_views(std::int64_t rows) const;
  void check_foreign(const Step& step) const;
  void check(const StepList& list, std::int64_t rows) const;
  void place(StepList& list) const;

  std::vector<Value> values_;
  std::vector<StepList> lists_;
  PlanOptions options_;
  Arena scratch_;
  std::int64_t version_ = 0;
  std::int64_t bindings_ = 0;
  std::map<std::string, int> ids_;
};

}  // namespace pfn
