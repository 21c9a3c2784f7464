#pragma once
#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "bf/base/error.hpp"

namespace bf::program {

/// Holds a run's folder for one process. Without it a second trainer would write over the first one's files.
class FolderLock {
  public:
    explicit FolderLock(const std::filesystem::path& folder) {
        descriptor_ = ::open(file(folder).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        if (descriptor_ < 0) fail(ErrorCode::runtime, folder.string(), "cannot be written: ", std::strerror(errno));
        if (!refused(descriptor_)) return;
        ::close(descriptor_);
        fail(ErrorCode::usage, folder.string(),
             "is being trained in by another process; hint: wait for it, or --output names another folder");
    }
    ~FolderLock() { ::close(descriptor_); }
    FolderLock(const FolderLock&) = delete;
    FolderLock& operator=(const FolderLock&) = delete;

    /// Does another process hold this folder?
    static bool held(const std::filesystem::path& folder) {
        const int descriptor = ::open(file(folder).c_str(), O_RDWR | O_CLOEXEC);
        if (descriptor < 0) return false;
        const bool is = refused(descriptor);
        ::close(descriptor);
        return is;
    }

  private:
    static std::filesystem::path file(const std::filesystem::path& folder) { return folder / ".lock"; }
    /// Tries to lock; file systems that know no locks are used without.
    static bool refused(int descriptor) { return ::flock(descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK; }

    int descriptor_ = -1;
};

}  // namespace bf::program
