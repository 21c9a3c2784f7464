#include <array>
#include <cctype>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <vector>

#include "bf/base/error.hpp"
#include "bf/data/decode.hpp"

#ifdef BF_HAVE_JPEG
#include <jerror.h>
#include <jpeglib.h>
#endif
#ifdef BF_HAVE_STB
namespace {
/// Bytes that stb_image may still take for the image being decoded: it believes the lengths that a file states, and
/// inflates whatever a file holds.
thread_local std::size_t stb_budget = 0;
void* stb_reallocate(void* old, std::size_t before, std::size_t bytes) {
    if (bytes > before && bytes - before > stb_budget) return nullptr;
    void* p = std::realloc(old, bytes);
    if (p) stb_budget -= bytes > before ? bytes - before : 0;
    return p;
}
}  // namespace
#define STBI_MALLOC(bytes) stb_reallocate(nullptr, 0, bytes)
#define STBI_REALLOC_SIZED(p, before, bytes) stb_reallocate(p, before, bytes)
#define STBI_FREE(p) std::free(p)
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_NO_STDIO
#define STBI_ONLY_PNG
#ifdef BF_STB_JPEG
#define STBI_ONLY_JPEG
#endif
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb_image.h>
#pragma GCC diagnostic pop
#endif

namespace bf {
namespace {

using Bytes = std::span<const std::byte>;

[[noreturn]] void bad(const std::string& name, const std::string& what) { fail(ErrorCode::data, name, what); }

void check_size(const std::string& name, long width, long height, const DecodeLimits& limits) {
    if (width < 1 || height < 1 || width > limits.max_side || height > limits.max_side)
        bad(name, concat("image size; got ", width, " x ", height, ", want 1..", limits.max_side, " a side"));
}

#ifdef BF_HAVE_JPEG
struct JpegErrors {
    jpeg_error_mgr base;
    std::jmp_buf jump;
    char message[JMSG_LENGTH_MAX];
};

void jpeg_fail(j_common_ptr info) {
    auto* errors = reinterpret_cast<JpegErrors*>(info->err);
    info->err->format_message(info, errors->message);
    std::longjmp(errors->jump, 1);
}
// A warning (a cut file, damaged entropy data) would leave a half-grey image: it is an error here. Bytes between
// segments and odd versions in headers harm no pixel, and cameras write them.
void jpeg_message(j_common_ptr info, int level) {
    const int code = info->err->msg_code;
    if (level < 0 && code != JWRN_EXTRANEOUS_DATA && code != JWRN_JFIF_MAJOR && code != JWRN_ADOBE_XFORM)
        jpeg_fail(info);
}
// Each scan of a progressive file goes over the whole image: a small file of many scans would take hours.
void jpeg_limit_scans(j_common_ptr info) {
    constexpr int most = 100;
    if (reinterpret_cast<j_decompress_ptr>(info)->input_scan_number <= most) return;
    auto* errors = reinterpret_cast<JpegErrors*>(info->err);
    std::snprintf(errors->message, sizeof errors->message, "more than %d scans", most);
    std::longjmp(errors->jump, 1);
}

/// Returns false with a message; nothing here has a destructor that longjmp would skip.
bool jpeg_to_rgb(Bytes bytes, const DecodeLimits& limits, Image* image, char* message) {
    jpeg_decompress_struct info;
    JpegErrors errors;
    info.err = jpeg_std_error(&errors.base);
    errors.base.error_exit = jpeg_fail;
    errors.base.emit_message = jpeg_message;
    if (setjmp(errors.jump)) {
        std::memcpy(message, errors.message, JMSG_LENGTH_MAX);
        jpeg_destroy_decompress(&info);
        return false;
    }
    jpeg_create_decompress(&info);
    jpeg_progress_mgr progress{};
    progress.progress_monitor = jpeg_limit_scans;
    info.progress = &progress;
    jpeg_mem_src(&info, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
    jpeg_read_header(&info, TRUE);
    const auto side = static_cast<JDIMENSION>(limits.max_side);
    if (info.image_width > side || info.image_height > side) {
        std::snprintf(message, JMSG_LENGTH_MAX, "image size; got %u x %u, want at most %d a side", info.image_width,
                      info.image_height, limits.max_side);
        jpeg_destroy_decompress(&info);
        return false;
    }
    info.out_color_space = JCS_RGB;
    jpeg_start_decompress(&info);
    *image = Image(static_cast<int>(info.output_width), static_cast<int>(info.output_height));
    while (info.output_scanline < info.output_height) {
        JSAMPROW row = image->at(0, static_cast<int>(info.output_scanline));
        jpeg_read_scanlines(&info, &row, 1);
    }
    jpeg_finish_decompress(&info);
    jpeg_destroy_decompress(&info);
    return true;
}
#endif

#ifdef BF_HAVE_STB
Image stb_to_rgb(Bytes bytes, const std::string& name, const DecodeLimits& limits) {
    const auto* data = reinterpret_cast<const stbi_uc*>(bytes.data());
    const int size = static_cast<int>(bytes.size());
    int width = 0, height = 0, channels = 0;
    stb_budget = std::size_t{1} << 18;
    if (!stbi_info_from_memory(data, size, &width, &height, &channels))
        bad(name, concat("damaged image: ", stbi_failure_reason()));
    check_size(name, width, height, limits);
    // what a sound file needs: its own data, rows as they are stored (up to 16 bits, four channels), and copies of them
    const std::size_t rows = static_cast<std::size_t>(width) * static_cast<std::size_t>(height) * 8;
    stb_budget = 2 * bytes.size() + 6 * rows + (std::size_t{1} << 18);
    const std::unique_ptr<stbi_uc, void (*)(void*)> pixels(
        stbi_load_from_memory(data, size, &width, &height, &channels, 3), stbi_image_free);
    if (!pixels) bad(name, concat("damaged image: ", stbi_failure_reason()));
    Image image(width, height);
    std::memcpy(image.pixels.data(), pixels.get(), image.pixels.size());
    return image;
}
#endif

/// Binary PGM (P5) and PPM (P6), 8 bits.
Image netpbm_to_rgb(Bytes bytes, const std::string& name, const DecodeLimits& limits) {
    std::size_t at = 2;
    const auto number = [&]() -> long {
        for (; at < bytes.size(); ++at) {
            const int c = std::to_integer<int>(bytes[at]);
            if (c == '#')
                while (at < bytes.size() && bytes[at] != std::byte{'\n'}) ++at;
            else if (!std::isspace(c))
                break;
        }
        long value = 0, digits = 0;
        for (; at < bytes.size() && std::isdigit(std::to_integer<int>(bytes[at])) && digits < 7; ++at, ++digits)
            value = value * 10 + (std::to_integer<int>(bytes[at]) - '0');
        if (digits == 0) bad(name, "damaged PGM/PPM header");
        return value;
    };
    const int channels = bytes[1] == std::byte{'6'} ? 3 : 1;
    const long width = number(), height = number(), top = number();
    check_size(name, width, height, limits);
    if (top < 1 || top > 255) bad(name, concat("PGM/PPM depth; got maximum ", top, ", want 1..255"));
    ++at;
    const std::size_t wanted = static_cast<std::size_t>(width * height * channels);
    if (bytes.size() < at + wanted)
        bad(name, concat("file ends early; got ", bytes.size(), " bytes, want ", at + wanted));
    Image image(static_cast<int>(width), static_cast<int>(height));
    for (std::size_t i = 0; i < image.pixels.size(); ++i)
        image.pixels[i] = static_cast<std::uint8_t>(
            std::min<long>(255, std::to_integer<long>(bytes[at + (channels == 3 ? i : i / 3)]) * 255 / top));
    return image;
}

}  // namespace

Image decode_image(Bytes bytes, const std::string& name, const DecodeLimits& limits) {
    if (bytes.empty()) bad(name, "the file is empty");
    if (bytes.size() > limits.max_file)
        bad(name, concat("file size; got ", bytes.size(), " bytes, want at most ", limits.max_file));
    std::array<int, 4> magic{};
    for (std::size_t i = 0; i < 4 && i < bytes.size(); ++i) magic[i] = std::to_integer<int>(bytes[i]);
    if (magic[0] == 0xFF && magic[1] == 0xD8) {
#ifdef BF_HAVE_JPEG
        Image image;
        char message[JMSG_LENGTH_MAX] = "";
        if (!jpeg_to_rgb(bytes, limits, &image, message)) bad(name, concat("damaged JPEG: ", message));
        return image;
#elif defined(BF_STB_JPEG)
        return stb_to_rgb(bytes, name, limits);
#else
        bad(name, "JPEG is not part of this build; hint: install libjpeg-turbo and configure again");
#endif
    }
    if (magic[0] == 0x89 && magic[1] == 'P' && magic[2] == 'N' && magic[3] == 'G') {
#ifdef BF_HAVE_STB
        return stb_to_rgb(bytes, name, limits);
#else
        bad(name, "PNG is not part of this build; hint: install stb_image (libstb-dev) and configure again");
#endif
    }
    if (magic[0] == 'P' && (magic[1] == '5' || magic[1] == '6')) return netpbm_to_rgb(bytes, name, limits);
    char text[64];
    std::snprintf(text, sizeof text, "%02x %02x %02x %02x", magic[0], magic[1], magic[2], magic[3]);
    bad(name, concat("not a JPEG, PNG, PGM or PPM image; got first bytes ", text));
}

Image read_image(const std::filesystem::path& path, const DecodeLimits& limits) {
    std::ifstream in(path, std::ios::binary | std::ios::ate);
    if (!in || std::filesystem::is_directory(path)) bad(path.string(), "cannot be read; hint: does the file exist?");
    const auto size = static_cast<std::size_t>(in.tellg());
    if (size > limits.max_file)
        bad(path.string(), concat("file size; got ", size, " bytes, want at most ", limits.max_file));
    std::vector<std::byte> bytes(size);
    in.seekg(0);
    in.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(size));
    if (!in) bad(path.string(), "reading failed");
    return decode_image(bytes, path.string(), limits);
}

}  // namespace bf
