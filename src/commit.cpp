#if __has_include("bf_commit.inc")
#include "bf_commit.inc"  // made by the build (cmake/BfCommit.cmake)
#else
#define BF_COMMIT "unknown"
#endif
#include "reproduce.hpp"

namespace bf::program {

std::string commit() { return BF_COMMIT; }

}  // namespace bf::program
