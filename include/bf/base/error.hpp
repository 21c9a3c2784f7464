#pragma once
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

namespace bf {

/// What kind of failure an Error is; the values are the exit codes of the `bf` program.
enum class ErrorCode {
    runtime = 1,   ///< a failure while running (memory, device, file system)
    usage = 2,     ///< a wrong argument, option or configuration
    data = 3,      ///< bad input data: a file, an image, a record
    diverged = 4,  ///< training produced a number that is not finite
    stopped = 75,  ///< stopped by a signal, with a checkpoint written
};

/// The one exception type of the engine: `op: what; got ..., want ...; hint: ...`.
class Error : public std::runtime_error {
  public:
    Error(ErrorCode code, std::string op, const std::string& message)
        : std::runtime_error(op + ": " + message), code_(code), op_(std::move(op)) {}

    ErrorCode code() const { return code_; }
    /// Name of the operation, file or option that failed.
    const std::string& op() const { return op_; }

  private:
    ErrorCode code_;
    std::string op_;
};

/// Joins anything that streams into one string; used to build error messages.
template <class... Parts>
std::string concat(const Parts&... parts) {
    std::ostringstream out;
    (out << ... << parts);
    return out.str();
}

/// Throws an Error of the given code whose message is all parts joined.
template <class... Parts>
[[noreturn]] void fail(ErrorCode code, const std::string& op, const Parts&... parts) {
    throw Error(code, op, concat(parts...));
}

}  // namespace bf

/// Throws a usage Error (a caller's mistake: shapes, sizes, options) unless `condition` holds.
#define BF_CHECK(condition, op, ...)                                           \
    do {                                                                       \
        if (!(condition)) ::bf::fail(::bf::ErrorCode::usage, op, __VA_ARGS__); \
    } while (0)

/// Throws a data Error (a bad file, image or record) unless `condition` holds.
#define BF_CHECK_DATA(condition, op, ...)                                     \
    do {                                                                      \
        if (!(condition)) ::bf::fail(::bf::ErrorCode::data, op, __VA_ARGS__); \
    } while (0)
