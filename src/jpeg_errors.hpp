#pragma once
#include <jpeglib.h>

#include <csetjmp>
#include <cstdio>

// libjpeg's way to fail: error_exit must not return, so it jumps; jpeglib.h wants <cstdio> before it where it is old.

namespace bf {

/// The error manager of a (de)compressor, with where to jump to and what to say there.
struct JpegErrors {
    jpeg_error_mgr base;
    std::jmp_buf jump;
    char message[JMSG_LENGTH_MAX];
};

/// For jpeg_error_mgr::error_exit.
inline void jpeg_fail(j_common_ptr info) {
    auto* errors = reinterpret_cast<JpegErrors*>(info->err);
    info->err->format_message(info, errors->message);
    std::longjmp(errors->jump, 1);
}

}  // namespace bf
