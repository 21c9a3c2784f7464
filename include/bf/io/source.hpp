#pragma once
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bf/base/error.hpp"

namespace bf {

/// Bytes that a reader of a format asks for by position: a file, or memory. Reading is safe from several threads.
class Source {
  public:
    virtual ~Source() = default;
    /// What errors call it: a path, or a made-up name.
    virtual const std::string& name() const = 0;
    /// Number of bytes.
    virtual std::uint64_t size() const = 0;

    /// Fills `out` with the bytes from `offset` on; a data Error names source and position if they are not all there.
    void read(std::uint64_t offset, std::span<std::byte> out) const {
        BF_CHECK_DATA(offset <= size() && out.size() <= size() - offset, name(), "ends early at byte ", size(),
                      "; want ", out.size(), " bytes from byte ", offset, "; hint: is the file cut?");
        fetch(offset, out);
    }
    /// The bytes [offset, offset + count); memory is taken only after the bounds are checked.
    std::vector<std::byte> bytes(std::uint64_t offset, std::uint64_t count) const {
        BF_CHECK_DATA(offset <= size() && count <= size() - offset, name(), "ends early at byte ", size(), "; want ",
                      count, " bytes from byte ", offset, "; hint: is the file cut?");
        std::vector<std::byte> out(static_cast<std::size_t>(count));
        fetch(offset, out);
        return out;
    }
    /// A little-endian number (integer or float) at `offset`.
    template <class T>
    T number(std::uint64_t offset) const {
        static_assert(std::endian::native == std::endian::little);
        T value;
        read(offset, std::as_writable_bytes(std::span(&value, 1)));
        return value;
    }

  protected:
    /// Like read(), inside the bounds.
    virtual void fetch(std::uint64_t offset, std::span<std::byte> out) const = 0;
};

/// A file, read by position (pread): nothing of it is held in memory, and a file that shrinks meanwhile is an error
/// rather than a signal.
class FileSource : public Source {
  public:
    /// Throws a data Error if there is no such file, a runtime Error if it cannot be opened.
    explicit FileSource(const std::filesystem::path& path) : name_(path.string()) {
        std::error_code ignored;
        BF_CHECK_DATA(std::filesystem::exists(path, ignored), name_, "cannot be read; hint: does the file exist?");
        BF_CHECK_DATA(std::filesystem::is_regular_file(path, ignored), name_, "is not a file");
        descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
        if (descriptor_ < 0) fail(ErrorCode::runtime, name_, "cannot be opened: ", std::strerror(errno));
        struct stat facts {};
        if (::fstat(descriptor_, &facts) == 0) size_ = static_cast<std::uint64_t>(facts.st_size);
    }
    ~FileSource() override { ::close(descriptor_); }
    FileSource(const FileSource&) = delete;
    FileSource& operator=(const FileSource&) = delete;
    const std::string& name() const override { return name_; }
    std::uint64_t size() const override { return size_; }

  private:
    void fetch(std::uint64_t offset, std::span<std::byte> out) const override {
        while (!out.empty()) {
            const ssize_t got = ::pread(descriptor_, out.data(), out.size(), static_cast<off_t>(offset));
            if (got < 0 && errno == EINTR) continue;
            if (got < 0) fail(ErrorCode::runtime, name_, "reading failed at byte ", offset, ": ", std::strerror(errno));
            BF_CHECK_DATA(got > 0, name_, "ends early at byte ", offset, ", but had ", size_,
                          " bytes when it was opened");
            offset += static_cast<std::uint64_t>(got);
            out = out.subspan(static_cast<std::size_t>(got));
        }
    }
    std::string name_;
    std::uint64_t size_ = 0;
    int descriptor_ = -1;
};

/// Bytes in memory, which must outlive it.
class MemorySource : public Source {
  public:
    MemorySource(std::span<const std::byte> bytes, std::string name) : bytes_(bytes), name_(std::move(name)) {}
    const std::string& name() const override { return name_; }
    std::uint64_t size() const override { return bytes_.size(); }

  private:
    void fetch(std::uint64_t offset, std::span<std::byte> out) const override {
        if (!out.empty()) std::memcpy(out.data(), bytes_.data() + offset, out.size());
    }
    std::span<const std::byte> bytes_;
    std::string name_;
};

}  // namespace bf
