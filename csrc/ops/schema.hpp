// The op table as data: ids, and the schema of each op parsed from its strings in ops.def.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "ops/dim_rule.hpp"
#include "ops/op_call.hpp"

namespace pfn {

enum OpFlags : int { kNone = 0, kInplace = 1, kFetchesAhead = 2 };

enum class OpId : int {
#define PFN_OP(name, inputs, outputs, attrs, hyper, flags) name,
#include "ops/ops.def"
#undef PFN_OP
  kCount
};
constexpr int kOpCount = static_cast<int>(OpId::kCount);

struct ArgSchema {
  std::string name;
  std::string dtype;              // "T", "f64", "i64", "u8" or "any"
  std::string below;              // dimension letter that bounds the values of an i64 array, or empty
  std::vector<std::string> dims;  // letters, numbers, "*", or expressions
  std::vector<DimRule> rules;     // for each of dims: how to compute it; empty unless it is an expression
  bool optional = false;
  int alias = -1;  // outputs: index of the input that is updated in place
};

struct OpSchema {
  OpId id;
  std::string name;
  std::vector<ArgSchema> inputs;
  std::vector<ArgSchema> outputs;
  std::vector<std::pair<std::string, double>> attrs;
  std::vector<double> least;  // for each of attrs: the smallest value allowed
  std::vector<HyperField> hyper;
  bool inplace = false;        // out[0] may be the memory of in[0]
  bool fetches_ahead = false;  // reads OpCall::ahead
};

const std::vector<OpSchema>& op_schemas();
const OpSchema& op_schema(OpId id);
const OpSchema& op_schema(const std::string& name);  // throws std::invalid_argument
const char* hyper_name(int field);

std::int64_t item_size(DType dtype);
const char* dtype_name(DType dtype);

}  // namespace pfn
