#include "ops/dim_rule.hpp"

#include <cctype>
#include <stdexcept>

namespace pfn {
namespace {

bool in_name(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

// sum = product {(+|-) product};  product = atom {(*|/) atom};  atom = number | letter | attribute | (sum)
class Parser {
 public:
  Parser(const std::string& text, const AttrList& attrs) : text_(text), attrs_(attrs) {}

  DimRule parse() {
    sum();
    if (at_ != text_.size()) fail();
    return std::move(out_);
  }

 private:
  void sum() {
    product();
    while (peek('+') || peek('-')) {
      const char op = text_[at_++];
      product();
      out_.push_back(DimToken{static_cast<DimToken::Kind>(op), 0, {}});
    }
  }
  void product() {
    atom();
    while (peek('*') || peek('/')) {
      const char op = text_[at_++];
      atom();
      out_.push_back(DimToken{static_cast<DimToken::Kind>(op), 0, {}});
    }
  }
  void atom() {
    if (peek('(')) {
      ++at_;
      sum();
      if (!peek(')')) fail();
      ++at_;
      return;
    }
    std::size_t end = at_;
    while (end < text_.size() && in_name(text_[end])) ++end;
    if (end == at_) fail();
    const std::string name = text_.substr(at_, end - at_);
    at_ = end;
    if (std::isdigit(static_cast<unsigned char>(name[0])) != 0) {
      out_.push_back(DimToken{DimToken::number, std::stoll(name), {}});
      return;
    }
    for (std::size_t a = 0; a < attrs_.size(); ++a)
      if (attrs_[a].first == name) {
        out_.push_back(DimToken{DimToken::attr, static_cast<std::int64_t>(a), name});
        return;
      }
    out_.push_back(DimToken{DimToken::letter, 0, name});
  }
  bool peek(char c) const { return at_ < text_.size() && text_[at_] == c; }
  [[noreturn]] void fail() const { throw std::logic_error("ops.def: cannot read the dimension " + text_); }

  const std::string& text_;
  const AttrList& attrs_;
  std::size_t at_ = 0;
  DimRule out_;
};

}  // namespace

bool is_expression(const std::string& dim, const AttrList& attrs) {
  if (dim == "*") return false;
  for (char c : dim)
    if (!in_name(c)) return true;
  for (const auto& [name, value] : attrs)
    if (name == dim) return true;
  return false;
}

DimRule parse_dim(const std::string& dim, const AttrList& attrs) { return Parser(dim, attrs).parse(); }

}  // namespace pfn
