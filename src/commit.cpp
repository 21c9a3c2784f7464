#include "bf_commit.inc"
#include "reproduce.hpp"

namespace bf::program {

std::string commit() { return BF_COMMIT; }

}  // namespace bf::program
