#pragma once
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "bf/core/tensor.hpp"

/// Named arrays of a golden file: a line `name count`, then the numbers.
class Golden {
  public:
    explicit Golden(const std::string& path) {
        std::ifstream in(path);
        std::string name;
        std::size_t count = 0;
        while (in >> name >> count) {
            auto& values = arrays_[name];
            values.resize(count);
            for (double& v : values) in >> v;
        }
        if (arrays_.empty()) throw std::runtime_error(path + " is missing or empty");
    }
    const std::vector<double>& operator[](const std::string& name) const { return arrays_.at(name); }
    bf::Tensor tensor(const std::string& name, const bf::Shape& shape, bf::DType dtype = bf::DType::f64) const {
        const bf::Tensor wide = bf::Tensor::from<double>(arrays_.at(name), shape);
        if (dtype == bf::DType::f64) return wide;
        const bf::Tensor t = bf::Tensor::empty(shape);
        for (std::int64_t i = 0; i < t.numel(); ++i) t.data<float>()[i] = static_cast<float>(wide.data<double>()[i]);
        return t;
    }
    bf::Tensor labels(const std::string& name) const {
        std::vector<std::int64_t> values;
        for (const double v : arrays_.at(name)) values.push_back(static_cast<std::int64_t>(v));
        return bf::Tensor::from<std::int64_t>(values, {static_cast<std::int64_t>(values.size())});
    }

  private:
    std::map<std::string, std::vector<double>> arrays_;
};
