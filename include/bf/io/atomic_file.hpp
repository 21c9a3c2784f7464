#pragma once
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>

#include "bf/base/error.hpp"

namespace bf {

/// Writes a file so that its name always shows either the old content or the whole new one: a temporary file beside
/// it, fsync, rename, fsync of the folder. Any failure throws a runtime Error and leaves the old file as it was.
class AtomicFile {
  public:
    explicit AtomicFile(std::filesystem::path path) : path_(std::move(path)) {
        temporary_ = path_.string() + ".tmp-" + std::to_string(::getpid());
        descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        if (descriptor_ < 0) give_up("cannot be created");
    }
    ~AtomicFile() { discard(); }
    AtomicFile(const AtomicFile&) = delete;
    AtomicFile& operator=(const AtomicFile&) = delete;

    void write(const void* data, std::size_t size) {
        const char* from = static_cast<const char*>(data);
        while (size > 0) {
            const ssize_t done = ::write(descriptor_, from, size);
            if (done < 0 && errno == EINTR) continue;
            if (done <= 0) give_up("cannot be written");
            from += done;
            written_ += static_cast<std::size_t>(done);
            size -= static_cast<std::size_t>(done);
        }
    }
    void write(std::string_view text) { write(text.data(), text.size()); }

    /// Puts the new content in place. Without `sync` nothing waits for the disk: a killed program still leaves a whole
    /// file, but a power failure may leave an empty one; for many small files that can be made again.
    void commit(bool sync = true) {
        if (sync && ::fsync(descriptor_) != 0 && errno != EINVAL) give_up("cannot be synced");
        const int descriptor = descriptor_;
        descriptor_ = -1;
        if (::close(descriptor) != 0) give_up("cannot be closed");
        if (::rename(temporary_.c_str(), path_.c_str()) != 0) give_up("cannot be renamed");
        temporary_.clear();
        if (!sync) return;
        const std::filesystem::path folder = path_.has_parent_path() ? path_.parent_path() : ".";
        if (const int d = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); d >= 0) {
            ::fsync(d);
            ::close(d);
        }
    }

  private:
    [[noreturn]] void give_up(const char* what) {
        const int error = errno;
        discard();
        fail(ErrorCode::runtime, path_.string(), what, " after ", written_, " bytes: ", std::strerror(error),
             "; hint: ",
             error == ENOSPC                     ? "free some disk space; the previous file is intact"
             : error == EDQUOT || error == EFBIG ? "raise the quota or the file size limit; the previous file is intact"
                                                 : "check the folder and its permissions");
    }
    void discard() {
        if (descriptor_ >= 0) ::close(descriptor_);
        descriptor_ = -1;
        if (!temporary_.empty()) ::unlink(temporary_.c_str());
        temporary_.clear();
    }

    std::filesystem::path path_;
    std::string temporary_;
    int descriptor_ = -1;
    std::size_t written_ = 0;
};

/// Writes a whole text file atomically.
inline void write_file(const std::filesystem::path& path, std::string_view text) {
    AtomicFile file(path);
    file.write(text);
    file.commit();
}

}  // namespace bf
