// The one shape rule: the dimension letters of a schema are unified over the inputs, the outputs follow.
#pragma once
#include "ops/schema.hpp"

namespace pfn {

// Checks attributes against the least values of the table. Throws std::invalid_argument.
void check_attrs(const OpSchema& schema, const OpCall& call);

// Checks the shapes of call.in (absent optional inputs have ndim -1) and writes the shapes and dtypes of call.out;
// call.attr is read where a dimension is an expression.
// Throws std::invalid_argument naming op, argument, found, expected and the argument it disagrees with.
void infer_shapes(const OpSchema& schema, OpCall& call, DType float_type);

// Checks what shapes cannot say: every value of an `i64<c` array lies in [0, c). Throws std::invalid_argument.
void check_values(const OpSchema& schema, const OpCall& call);

// The dtype an argument must have in a call of the given float type; `any` is not resolved here.
DType arg_dtype(const ArgSchema& arg, DType float_type);

std::string shape_text(const View& view);

}  // namespace pfn
