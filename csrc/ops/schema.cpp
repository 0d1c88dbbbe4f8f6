// Parses the strings of ops.def, once, when first asked.
#include "ops/schema.hpp"

#include <limits>
#include <sstream>
#include <stdexcept>

namespace pfn {

static const char* const kHyperNames[] = {
#define PFN_HYPER(name) #name,
#include "ops/hyper.def"
#undef PFN_HYPER
};

const char* hyper_name(int field) { return kHyperNames[field]; }

std::int64_t item_size(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return 4;
    case DType::u8:
      return 1;
    default:
      return 8;
  }
}

const char* dtype_name(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "float32";
    case DType::f64:
      return "float64";
    case DType::u8:
      return "uint8";
    default:
      return "int64";
  }
}

static std::vector<std::string> words(const std::string& text, char separator) {
  std::vector<std::string> out;
  std::string word;
  std::istringstream stream(text);
  while (std::getline(stream, word, separator))
    if (!word.empty()) out.push_back(word);
  return out;
}

// name?:dtype<letter[dims]
static ArgSchema parse_arg(const std::string& text) {
  ArgSchema arg;
  const std::size_t open = text.find('[');
  std::string head = text.substr(0, open);
  arg.dims = words(text.substr(open + 1, text.size() - open - 2), ',');
  arg.dtype = "T";
  const std::size_t colon = head.find(':');
  if (colon != std::string::npos) {
    arg.dtype = head.substr(colon + 1);
    head.resize(colon);
    const std::size_t less = arg.dtype.find('<');
    if (less != std::string::npos) {
      arg.below = arg.dtype.substr(less + 1);
      arg.dtype.resize(less);
    }
  }
  arg.optional = head.back() == '?';
  if (arg.optional) head.pop_back();
  arg.name = head;
  return arg;
}

static OpSchema parse(OpId id, const char* name, const char* inputs, const char* outputs, const char* attrs,
                      const char* hyper, int flags) {
  OpSchema schema;
  schema.id = id;
  schema.name = name;
  schema.inplace = (flags & kInplace) != 0;
  schema.fetches_ahead = (flags & kFetchesAhead) != 0;
  for (const std::string& text : words(inputs, ' ')) schema.inputs.push_back(parse_arg(text));
  for (const std::string& text : words(outputs, ' ')) {
    ArgSchema arg = parse_arg(text);
    for (std::size_t i = 0; i < schema.inputs.size(); ++i)
      if (schema.inputs[i].name == arg.name) arg.alias = static_cast<int>(i);
    schema.outputs.push_back(std::move(arg));
  }
  for (const std::string& text : words(attrs, ' ')) {  // name=default, or name=default>=least
    const std::size_t equal = text.find('=');
    const std::size_t least = text.find(">=");
    schema.attrs.emplace_back(text.substr(0, equal), std::stod(text.substr(equal + 1)));
    schema.least.push_back(least == std::string::npos ? -std::numeric_limits<double>::infinity()
                                                      : std::stod(text.substr(least + 2)));
  }
  for (std::vector<ArgSchema>* args : {&schema.inputs, &schema.outputs})
    for (ArgSchema& arg : *args)
      for (const std::string& dim : arg.dims)
        arg.rules.push_back(is_expression(dim, schema.attrs) ? parse_dim(dim, schema.attrs) : DimRule());
  for (const std::string& text : words(hyper, ' ')) {
    int field = 0;
    while (field < kHyperFields && text != kHyperNames[field]) ++field;
    if (field == kHyperFields) throw std::logic_error("ops.def: " + schema.name + ": no hyper field " + text);
    schema.hyper.push_back(static_cast<HyperField>(field));
  }
  if (schema.inputs.size() > kMaxArgs || schema.outputs.size() > kMaxArgs || schema.attrs.size() > kMaxAttrs)
    throw std::logic_error("ops.def: " + schema.name + ": too many arguments or attributes");
  return schema;
}

const std::vector<OpSchema>& op_schemas() {
  static const std::vector<OpSchema> schemas = {
#define PFN_OP(name, inputs, outputs, attrs, hyper, flags) \
  parse(OpId::name, #name, inputs, outputs, attrs, hyper, flags),
#include "ops/ops.def"
#undef PFN_OP
  };
  return schemas;
}

const OpSchema& op_schema(OpId id) { return op_schemas()[static_cast<std::size_t>(id)]; }

const OpSchema& op_schema(const std::string& name) {
  for (const OpSchema& schema : op_schemas())
    if (schema.name == name) return schema;
  throw std::invalid_argument("no op is named '" + name + "'; pyfastnn._core.op_schemas() lists all");
}

}  // namespace pfn
