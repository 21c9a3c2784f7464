#pragma once
#include <algorithm>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "bf/core/dtype.hpp"
#include "bf/core/shape.hpp"
#include "bf/core/storage.hpp"

namespace bf {

/// Order of a tensor's elements in memory. A shape is always written N, C, H, W; `nhwc` says that an image
/// tensor of rank 4 keeps its channels innermost. Everything else is `plain` (row-major).
enum class Format : std::uint8_t { plain, nhwc };

/// What a new tensor is made of.
struct TensorOptions {
    DType dtype = DType::f32;
    Device device = cpu_device;
    Format format = Format::plain;
};

/// Numbers on a device, without a graph. Copying a Tensor shares its storage; the elements are always dense.
class Tensor {
  public:
    Tensor() = default;

    /// A new tensor with unspecified contents.
    static Tensor empty(const Shape& shape, const TensorOptions& options = {}) {
        BF_CHECK(options.format == Format::plain || shape.rank() == 4, "tensor", "nhwc wants rank 4; got ", shape);
        Tensor t;
        t.shape_ = shape;
        t.dtype_ = options.dtype;
        t.format_ = options.format;
        t.storage_ =
            std::make_shared<Storage>(static_cast<std::size_t>(shape.numel()) * size_of(options.dtype), options.device);
        return t;
    }
    /// A tensor over memory that someone else owns, dense, of at least the shape's bytes; `owner` is held as long as a
    /// tensor shares it. With an empty owner the caller keeps the memory alive.
    static Tensor over(void* data, const Shape& shape, const TensorOptions& options, std::shared_ptr<void> owner = {}) {
        BF_CHECK(options.format == Format::plain || shape.rank() == 4, "tensor", "nhwc wants rank 4; got ", shape);
        Tensor t;
        t.shape_ = shape;
        t.dtype_ = options.dtype;
        t.format_ = options.format;
        t.storage_ = std::make_shared<Storage>(data, static_cast<std::size_t>(shape.numel()) * size_of(options.dtype),
                                               options.device, std::move(owner));
        return t;
    }
    /// A new tensor of zero bytes.
    static Tensor zeros(const Shape& shape, const TensorOptions& options = {}) {
        Tensor t = empty(shape, options);
        device_memory(options.device).zero(t.raw(), t.bytes(), options.device.index);
        return t;
    }
    /// A new host tensor holding a copy of `values` in row-major order.
    template <class T>
    static Tensor from(std::span<const T> values, const Shape& shape) {
        BF_CHECK(static_cast<std::int64_t>(values.size()) == shape.numel(), "tensor", "value count differs; got ",
                 values.size(), ", want ", shape.numel(), " for ", shape);
        Tensor t = empty(shape, {.dtype = dtype_of<T>});
        std::copy(values.begin(), values.end(), t.data<T>());
        return t;
    }
    template <class T>
    static Tensor from(const std::vector<T>& values, const Shape& shape) {
        return from(std::span<const T>(values), shape);
    }

    bool defined() const { return storage_ != nullptr; }
    const Shape& shape() const { return shape_; }
    int rank() const { return shape_.rank(); }
    std::int64_t dim(int i) const { return shape_[i]; }
    std::int64_t numel() const { return shape_.numel(); }
    std::size_t bytes() const { return static_cast<std::size_t>(numel()) * size_of(dtype_); }
    DType dtype() const { return dtype_; }
    Format format() const { return format_; }
    Device device() const { return storage_ ? storage_->device() : cpu_device; }
    TensorOptions options() const { return {dtype_, device(), format_}; }
    /// True when nothing else shares the storage, so that it may be overwritten.
    bool unique() const { return storage_.use_count() == 1; }
    bool shares_storage(const Tensor& other) const { return storage_ && storage_ == other.storage_; }

    /// Device pointer to the first element.
    void* raw() const { return static_cast<char*>(storage_->data()) + offset_; }
    /// Host pointer; an error if the tensor lives elsewhere.
    void* host() const {
        BF_CHECK(defined(), "tensor", "undefined; hint: was it made, or is it a gradient before backward()?");
        BF_CHECK(device().type == DeviceType::cpu, "tensor", "not in host memory; got ", str(),
                 "; hint: copy it to the cpu first");
        return raw();
    }
    /// Host pointer to elements of type T; an error if the dtype differs.
    template <class T>
    T* data() const {
        BF_CHECK(dtype_of<T> == dtype_, "tensor", "dtype differs; got ", name_of(dtype_), ", want ",
                 name_of(dtype_of<T>));
        return static_cast<T*>(host());
    }
    template <class T>
    std::span<T> span() const {
        return {data<T>(), static_cast<std::size_t>(numel())};
    }
    /// The only element of an f32 or f64 tensor, as double. On a device it waits for the value.
    double item() const {
        BF_CHECK(numel() == 1, "item", "want one element; got ", str());
        const Tensor t = to(cpu_device);
        return dtype_ == DType::f64 ? *t.data<double>() : static_cast<double>(*t.data<float>());
    }

    /// The same elements under another shape. Only for plain tensors, or when N, C, H, W stay as they are.
    Tensor reshape(const Shape& shape) const {
        BF_CHECK(shape.numel() == numel(), "reshape", "element count differs; got ", str(), ", want ", shape);
        BF_CHECK(format_ == Format::plain || shape == shape_, "reshape", "want a plain tensor; got ", str(),
                 "; hint: flatten() or to_format(x, Format::plain) first");
        Tensor t = *this;
        t.shape_ = shape;
        return t;
    }
    /// View of the memory as [rows, C] with the channels innermost: an nhwc image as [N*H*W, C], a plain [.., C]
    /// as [product of the rest, C].
    Tensor channel_rows() const {
        Tensor t = *this;
        const std::int64_t c = format_ == Format::nhwc ? shape_[1] : shape_[-1];
        std::int64_t rows = 1;
        for (int i = 0; i < rank(); ++i)
            if (i != (format_ == Format::nhwc ? 1 : rank() - 1)) rows *= shape_[i];
        t.shape_ = {rows, c};
        t.format_ = Format::plain;
        return t;
    }
    /// View of rows [begin, end) of dimension 0.
    Tensor rows(std::int64_t begin, std::int64_t end) const {
        BF_CHECK(rank() >= 1 && 0 <= begin && begin <= end && end <= shape_[0], "rows", "range [", begin, ", ", end,
                 ") does not fit ", str());
        Tensor t = *this;
        const std::int64_t row = shape_[0] ? numel() / shape_[0] : 0;
        t.shape_[0] = end - begin;
        t.offset_ += static_cast<std::size_t>(begin * row) * size_of(dtype_);
        return t;
    }
    /// A copy with its own storage.
    Tensor clone() const {
        Tensor t = empty(shape_, options());
        t.copy_from(*this);
        return t;
    }
    /// Overwrites the elements with those of `source`: same shape, dtype and format, any device.
    void copy_from(const Tensor& source) const {
        BF_CHECK(source.shape_ == shape_ && source.dtype_ == dtype_ && source.format_ == format_, "copy",
                 "tensors differ; got ", source.str(), ", want ", str());
        if (numel() == 0) return;
        const Device here = device(), there = source.device();
        BF_CHECK(here.type == DeviceType::cpu || there.type == DeviceType::cpu || here == there, "copy",
                 "tensors lie on two devices; got ", source.str(), ", want ", str(), "; hint: copy through the cpu");
        const CopyKind kind = here == there                  ? CopyKind::on_device
                              : here.type == DeviceType::cpu ? CopyKind::to_host
                                                             : CopyKind::to_device;
        const Device owner = here.type == DeviceType::cpu ? there : here;
        device_memory(owner).copy(raw(), source.raw(), bytes(), kind, owner.index);
    }
    /// The same elements on another device; this tensor itself when it is there already.
    Tensor to(Device where) const {
        if (!defined() || device() == where) return *this;
        Tensor t = empty(shape_, {dtype_, where, format_});
        t.copy_from(*this);
        return t;
    }
    /// "[64, 3, 112, 112] f32 cpu".
    std::string str() const {
        if (!defined()) return "(undefined)";
        return shape_.str() + " " + name_of(dtype_) + " " + device().name() + (format_ == Format::nhwc ? " nhwc" : "");
    }

  private:
    std::shared_ptr<Storage> storage_;
    std::size_t offset_ = 0;
    Shape shape_;
    DType dtype_ = DType::f32;
    Format format_ = Format::plain;
};

/// A tensor of one repeated value (f32 or f64).
inline Tensor full(const Shape& shape, double value, DType dtype = DType::f32, Device device = cpu_device) {
    Tensor t = Tensor::empty(shape, {.dtype = dtype});
    visit_real(dtype, "full", [&]<class T>() { std::fill_n(t.data<T>(), t.numel(), static_cast<T>(value)); });
    return t.to(device);
}

}  // namespace bf
