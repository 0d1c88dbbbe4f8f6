// Dimensions that are computed: whole-number arithmetic over letters and attributes, such as `(h+top-kh)/stride_h+1`.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace pfn {

// One token of an expression in postfix order.
struct DimToken {
  enum Kind : char { number, letter, attr, plus = '+', minus = '-', times = '*', over = '/' };
  Kind kind;
  std::int64_t value = 0;  // the number, or the position of the attribute
  std::string name;        // of the letter or attribute
};
using DimRule = std::vector<DimToken>;

using AttrList = std::vector<std::pair<std::string, double>>;

// Whether a dimension of the table is an expression: the name of an attribute, or arithmetic.
bool is_expression(const std::string& dim, const AttrList& attrs);

// Division rounds down. Throws std::logic_error where the table is wrong.
DimRule parse_dim(const std::string& dim, const AttrList& attrs);

}  // namespace pfn
