// One shape rule for all ops, read from the table.
#include "ops/shapes.hpp"

#include <limits>
#include <stdexcept>

namespace pfn {
namespace {

// What a dimension letter stands for in this call, and which argument said so first.
struct Bound {
  const std::string* letter;
  std::int64_t extent;
  const ArgSchema* by;
  const View* view;
};

struct Star {
  bool set = false;
  int ndim = 0;
  std::int64_t shape[kMaxDims];
  const ArgSchema* by = nullptr;
  const View* view = nullptr;
};

struct Bindings {
  Bound letters[kMaxArgs * kMaxDims];
  int count = 0;
  Star star;

  const Bound* find(const std::string& letter) const {
    for (int i = 0; i < count; ++i)
      if (*letters[i].letter == letter) return &letters[i];
    return nullptr;
  }
};

bool is_number(const std::string& dim) { return dim[0] >= '0' && dim[0] <= '9'; }

bool has_star(const ArgSchema& arg) {
  for (const std::string& dim : arg.dims)
    if (dim == "*") return true;
  return false;
}

std::string tuple_text(const std::vector<std::string>& parts) {
  std::string text = "(";
  for (std::size_t i = 0; i < parts.size(); ++i) text += (i ? ", " : "") + parts[i];
  return text + (parts.size() == 1 ? ",)" : ")");
}

std::int64_t floor_divided(const OpSchema& schema, std::int64_t a, std::int64_t b) {
  if (b <= 0) throw std::invalid_argument(schema.name + ": a dimension is divided by " + std::to_string(b));
  return a >= 0 ? a / b : -((-a + b - 1) / b);
}

// The value of an expression; -1 if a letter of it is bound by no input that is there.
std::int64_t evaluate(const OpSchema& schema, const DimRule& rule, const Bindings& bindings, const OpCall& call) {
  constexpr std::int64_t kLargest = std::int64_t{1} << 40;
  std::int64_t stack[16];
  int top = 0;
  for (const DimToken& token : rule) {
    std::int64_t value = token.value;
    if (token.kind == DimToken::letter) {
      const Bound* bound = bindings.find(token.name);
      if (!bound) return -1;
      value = bound->extent;
    } else if (token.kind == DimToken::attr) {
      const double given = call.attr[token.value];
      value = static_cast<std::int64_t>(given);
      if (static_cast<double>(value) != given)
        throw std::invalid_argument(schema.name + ": '" + token.name + "' is " + std::to_string(given) +
                                    ", expected a whole number");
    } else if (token.kind != DimToken::number) {
      const std::int64_t b = stack[--top], a = stack[--top];
      value = token.kind == DimToken::plus    ? a + b
              : token.kind == DimToken::minus ? a - b
              : token.kind == DimToken::times ? a * b
                                              : floor_divided(schema, a, b);
    }
    if (value > kLargest || value < -kLargest)
      throw std::invalid_argument(schema.name + ": a dimension is larger than 2**40");
    stack[top++] = value;
  }
  return stack[0];
}

[[noreturn]] void mismatch(const OpSchema& schema, const ArgSchema& arg, const View& view, const Bindings& bindings) {
  std::vector<std::string> expected;
  std::string because;
  const ArgSchema* reason = nullptr;
  for (const std::string& dim : arg.dims) {
    if (dim == "*") {
      if (bindings.star.set) {
        for (int d = 0; d < bindings.star.ndim; ++d) expected.push_back(std::to_string(bindings.star.shape[d]));
        if (!reason && bindings.star.by != &arg) {
          reason = bindings.star.by;
          because = " because '" + reason->name + "' has shape " + shape_text(*bindings.star.view);
        }
      } else {
        expected.push_back("...");
      }
      continue;
    }
    const Bound* bound = bindings.find(dim);
    expected.push_back(is_number(dim) ? dim : bound ? std::to_string(bound->extent) : "*");
    if (bound && !reason && bound->by != &arg) {
      reason = bound->by;
      because = " because '" + reason->name + "' has shape " + shape_text(*bound->view);
    }
  }
  throw std::invalid_argument(schema.name + ": '" + arg.name + "' has shape " + shape_text(view) + ", expected " +
                              tuple_text(expected) + because);
}

void bind_input(const OpSchema& schema, const ArgSchema& arg, const View& view, Bindings& bindings) {
  const int fixed = static_cast<int>(arg.dims.size()) - (has_star(arg) ? 1 : 0);
  const int star_dims = view.ndim - fixed;
  if (star_dims < 0 || (star_dims > 0 && !has_star(arg))) mismatch(schema, arg, view, bindings);
  int d = 0;
  for (const std::string& dim : arg.dims) {
    if (dim == "*") {
      Star& star = bindings.star;
      if (!star.set) {
        star.set = true;
        star.ndim = star_dims;
        star.by = &arg;
        star.view = &view;
        for (int i = 0; i < star_dims; ++i) star.shape[i] = view.shape[d + i];
      } else {
        if (star.ndim != star_dims) mismatch(schema, arg, view, bindings);
        for (int i = 0; i < star_dims; ++i)
          if (star.shape[i] != view.shape[d + i]) mismatch(schema, arg, view, bindings);
      }
      d += star_dims;
      continue;
    }
    const std::int64_t extent = view.shape[d++];
    if (!arg.rules[static_cast<std::size_t>(&dim - arg.dims.data())].empty()) continue;  // known when all letters are
    if (is_number(dim)) {
      if (extent != std::stoll(dim)) mismatch(schema, arg, view, bindings);
    } else if (const Bound* bound = bindings.find(dim)) {
      if (bound->extent != extent) mismatch(schema, arg, view, bindings);
    } else {
      bindings.letters[bindings.count++] = Bound{&dim, extent, &arg, &view};
    }
  }
}

// Dimensions of an input that follow from those of others.
void check_expressions(const OpSchema& schema, const ArgSchema& arg, const View& view, const Bindings& bindings,
                       const OpCall& call) {
  int d = 0;
  for (std::size_t i = 0; i < arg.dims.size(); ++i) {
    if (arg.dims[i] == "*") {
      d += bindings.star.ndim;
      continue;
    }
    const std::int64_t extent = view.shape[d++];
    if (arg.rules[i].empty()) continue;
    const std::int64_t wanted = evaluate(schema, arg.rules[i], bindings, call);
    if (wanted != extent)
      throw std::invalid_argument(schema.name + ": '" + arg.name + "' has shape " + shape_text(view) + ", expected " +
                                  std::to_string(wanted) + " (" + arg.dims[i] + ") in place of " +
                                  std::to_string(extent));
  }
}

}  // namespace

std::string shape_text(const View& view) {
  std::vector<std::string> parts;
  for (int d = 0; d < view.ndim; ++d) parts.push_back(std::to_string(view.shape[d]));
  return tuple_text(parts);
}

DType arg_dtype(const ArgSchema& arg, DType float_type) {
  if (arg.dtype == "f64") return DType::f64;
  if (arg.dtype == "i64") return DType::i64;
  if (arg.dtype == "u8") return DType::u8;
  return float_type;
}

void check_attrs(const OpSchema& schema, const OpCall& call) {
  for (std::size_t a = 0; a < schema.attrs.size(); ++a)
    if (!(call.attr[a] >= schema.least[a]) && schema.least[a] > -std::numeric_limits<double>::infinity())
      throw std::invalid_argument(schema.name + ": '" + schema.attrs[a].first + "' is " + std::to_string(call.attr[a]) +
                                  ", expected " + std::to_string(schema.least[a]) + " or more");
}

void infer_shapes(const OpSchema& schema, OpCall& call, DType float_type) {
  Bindings bindings;
  for (std::size_t i = 0; i < schema.inputs.size(); ++i)
    if (call.in[i].ndim >= 0) bind_input(schema, schema.inputs[i], call.in[i], bindings);
  for (std::size_t i = 0; i < schema.inputs.size(); ++i)
    if (call.in[i].ndim >= 0) check_expressions(schema, schema.inputs[i], call.in[i], bindings, call);
  for (std::size_t o = 0; o < schema.outputs.size(); ++o) {
    const ArgSchema& arg = schema.outputs[o];
    View& view = call.out[o];
    view.dtype = arg_dtype(arg, float_type);
    int ndim = 0;
    for (std::size_t k = 0; k < arg.dims.size(); ++k) {
      const std::string& dim = arg.dims[k];
      if (dim == "*") {
        for (int i = 0; i < bindings.star.ndim; ++i) view.shape[ndim++] = bindings.star.shape[i];
      } else if (!arg.rules[k].empty()) {
        const std::int64_t extent = evaluate(schema, arg.rules[k], bindings, call);
        if (extent < 0)
          throw std::invalid_argument(schema.name + ": '" + arg.name + "' would have a dimension of " +
                                      std::to_string(extent) + " (" + dim + ")");
        view.shape[ndim++] = extent;
      } else if (is_number(dim)) {
        view.shape[ndim++] = std::stoll(dim);
      } else {
        const Bound* bound = bindings.find(dim);
        if (!bound)
          throw std::logic_error("ops.def: " + schema.name + ": dimension " + dim + " of '" + arg.name +
                                 "' stands in no input");
        view.shape[ndim++] = bound->extent;
      }
    }
    view.ndim = ndim;
  }
}

void check_values(const OpSchema& schema, const OpCall& call) {
  for (std::size_t i = 0; i < schema.inputs.size(); ++i) {
    const ArgSchema& arg = schema.inputs[i];
    if (arg.below.empty()) continue;
    std::int64_t limit = 0;
    for (std::size_t j = 0; j < schema.inputs.size(); ++j)
      for (std::size_t d = 0; call.in[j].ndim >= 0 && d < schema.inputs[j].dims.size(); ++d)
        if (schema.inputs[j].dims[d] == arg.below) limit = call.in[j].shape[d];
    for (std::size_t a = 0; a < schema.attrs.size(); ++a)
      if (schema.attrs[a].first == arg.below) limit = static_cast<std::int64_t>(call.attr[a]);
    const std::int64_t* values = call.in[i].as<const std::int64_t>();
    const std::int64_t count = call.in[i].size();
    std::int64_t low = 0;
    std::int64_t high = -1;
    for (std::int64_t k = 0; k < count; ++k) {
      low = values[k] < low ? values[k] : low;
      high = values[k] > high ? values[k] : high;
    }
    if (low < 0 || high >= limit)
      throw std::invalid_argument(schema.name + ": '" + arg.name + "' holds " + std::to_string(low < 0 ? low : high) +
                                  ", expected whole numbers from 0 to " + std::to_string(limit - 1));
  }
}

}  // namespace pfn
