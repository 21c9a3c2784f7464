#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "bf/base/error.hpp"
#include "bf/data/decode.hpp"

#ifdef BF_HAVE_JPEG
#include <jerror.h>

#include "jpeg_errors.hpp"
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

/// A decompressor that a thread keeps: making one costs a tenth of decoding a face.
struct JpegDecoder {
    jpeg_decompress_struct info;
    JpegErrors errors;
    jpeg_progress_mgr progress{};
    std::vector<std::uint8_t> line;  ///< a row of CMYK
    bool used = false;

    JpegDecoder() { create(); }
    ~JpegDecoder() { jpeg_destroy_decompress(&info); }
    JpegDecoder(const JpegDecoder&) = delete;
    JpegDecoder& operator=(const JpegDecoder&) = delete;

    void renew() {
        jpeg_destroy_decompress(&info);
        create();
        used = false;
    }

  private:
    void create() {
        info.err = jpeg_std_error(&errors.base);
        errors.base.error_exit = jpeg_fail;
        errors.base.emit_message = jpeg_message;
        if (setjmp(errors.jump)) throw std::bad_alloc();  // nothing else can go wrong there
        jpeg_create_decompress(&info);
        progress.progress_monitor = jpeg_limit_scans;
        info.progress = &progress;
    }
};

/// Tables outlive an image in a decompressor. They are made useless, so that a file without tables of its own is found
/// out instead of being decoded with those of the file before.
void spoil_tables(jpeg_decompress_struct& info) {
    for (JQUANT_TBL* table : info.quant_tbl_ptrs)
        if (table) std::memset(table->quantval, 0, sizeof table->quantval);
    for (auto* tables : {info.dc_huff_tbl_ptrs, info.ac_huff_tbl_ptrs})
        for (int i = 0; i < NUM_HUFF_TBLS; ++i)
            if (tables[i]) std::memset(tables[i]->bits, 255, sizeof tables[i]->bits);
}

/// numerator / 8 of the size that `limits` allows.
unsigned jpeg_scale(const jpeg_decompress_struct& info, const DecodeLimits& limits) {
    const JDIMENSION side = std::min(info.image_width, info.image_height);
    unsigned scale = 8;
    while (limits.wanted_side > 0 && scale > 1 && side * (scale / 2) / 8 >= static_cast<unsigned>(limits.wanted_side))
        scale /= 2;
    return scale;
}

/// One row of CMYK as RGB. Adobe's files hold the paper that is left over rather than the ink.
void cmyk_to_rgb(const std::uint8_t* from, std::uint8_t* to, int width, bool inverted) {
    for (int x = 0; x < width; ++x, from += 4, to += 3)
        for (int c = 0; c < 3; ++c) {
            const int paper = inverted ? from[c] : 255 - from[c], black = inverted ? from[3] : 255 - from[3];
            to[c] = static_cast<std::uint8_t>((paper * black + 127) / 255);
        }
}

/// Returns false with a message in decoder.errors; nothing here has a destructor that longjmp would skip.
bool jpeg_attempt(JpegDecoder& decoder, Bytes bytes, const DecodeLimits& limits, Image& image) {
    jpeg_decompress_struct& info = decoder.info;
    const auto refuse = [&decoder](const std::string& why) {
        std::snprintf(decoder.errors.message, sizeof decoder.errors.message, "%s", why.c_str());
        jpeg_abort_decompress(&decoder.info);
        return false;
    };
    if (setjmp(decoder.errors.jump)) {
        jpeg_abort_decompress(&info);
        return false;
    }
    if (decoder.used) {
        jpeg_abort_decompress(&info);  // an exception may have left it half way
        spoil_tables(info);
    }
    const bool again = decoder.used;
    decoder.used = true;
    jpeg_mem_src(&info, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
    jpeg_read_header(&info, TRUE);
    const auto side = static_cast<JDIMENSION>(limits.max_side);
    if (info.image_width > side || info.image_height > side)
        return refuse(concat("image size; got ", info.image_width, " x ", info.image_height, ", want at most ",
                             limits.max_side, " a side"));
    const bool cmyk = info.jpeg_color_space == JCS_CMYK || info.jpeg_color_space == JCS_YCCK;
    info.out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    info.scale_num = jpeg_scale(info, limits);
    info.scale_denom = 8;
    jpeg_start_decompress(&info);
    image.resize(static_cast<int>(info.output_width), static_cast<int>(info.output_height));
    if (cmyk) decoder.line.resize(static_cast<std::size_t>(info.output_width) * 4);
    while (info.output_scanline < info.output_height) {
        std::uint8_t* to = image.at(0, static_cast<int>(info.output_scanline));
        JSAMPROW row = cmyk ? decoder.line.data() : to;
        jpeg_read_scanlines(&info, &row, 1);
        if (cmyk) cmyk_to_rgb(row, to, image.width, info.saw_Adobe_marker);
    }
    for (int c = 0; again && c < info.num_components; ++c)
        if (!info.comp_info[c].quant_table || info.comp_info[c].quant_table->quantval[0] == 0)
            return refuse("no quantization table");
    jpeg_finish_decompress(&info);
    return true;
}

void jpeg_to_rgb(Bytes bytes, const std::string& name, const DecodeLimits& limits, Image& image) {
    static thread_local JpegDecoder decoder;
    const bool again = decoder.used;
    if (jpeg_attempt(decoder, bytes, limits, image)) return;
    // a file may lean on what a new decompressor starts with (the usual Huffman tables of motion JPEG)
    if (again) {
        decoder.renew();
        if (jpeg_attempt(decoder, bytes, limits, image)) return;
    }
    bad(name, concat("damaged JPEG: ", decoder.errors.message));
}
#endif

#ifdef BF_HAVE_STB
void stb_to_rgb(Bytes bytes, const std::string& name, const DecodeLimits& limits, Image& image) {
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
    image.resize(width, height);
    std::memcpy(image.pixels.data(), pixels.get(), image.pixels.size());
}
#endif

/// Binary PGM (P5) and PPM (P6), 8 bits.
void netpbm_to_rgb(Bytes bytes, const std::string& name, const DecodeLimits& limits, Image& image) {
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
    image.resize(static_cast<int>(width), static_cast<int>(height));
    std::array<std::uint8_t, 256> level{};
    for (long v = 0; v < 256; ++v)
        level[static_cast<std::size_t>(v)] = static_cast<std::uint8_t>(std::min<long>(255, v * 255 / top));
    const auto* from = reinterpret_cast<const std::uint8_t*>(bytes.data()) + at;
    std::uint8_t* to = image.pixels.data();
    if (channels == 3)
        for (std::size_t i = 0; i < wanted; ++i) to[i] = level[from[i]];
    else
        for (std::size_t i = 0; i < wanted; ++i) std::memset(to + 3 * i, level[from[i]], 3);
}

}  // namespace

void decode_image(Bytes bytes, const std::string& name, Image& image, const DecodeLimits& limits) {
    if (bytes.empty()) bad(name, "the file is empty");
    if (bytes.size() > limits.max_file)
        bad(name, concat("file size; got ", bytes.size(), " bytes, want at most ", limits.max_file));
    std::array<int, 4> magic{};
    for (std::size_t i = 0; i < 4 && i < bytes.size(); ++i) magic[i] = std::to_integer<int>(bytes[i]);
    if (magic[0] == 0xFF && magic[1] == 0xD8) {
#ifdef BF_HAVE_JPEG
        return jpeg_to_rgb(bytes, name, limits, image);
#elif defined(BF_STB_JPEG)
        return stb_to_rgb(bytes, name, limits, image);
#else
        bad(name, "JPEG is not part of this build; hint: install libjpeg-turbo and configure again");
#endif
    }
    if (magic[0] == 0x89 && magic[1] == 'P' && magic[2] == 'N' && magic[3] == 'G') {
#ifdef BF_HAVE_STB
        return stb_to_rgb(bytes, name, limits, image);
#else
        bad(name, "PNG is not part of this build; hint: install stb_image (libstb-dev) and configure again");
#endif
    }
    if (magic[0] == 'P' && (magic[1] == '5' || magic[1] == '6')) return netpbm_to_rgb(bytes, name, limits, image);
    char text[64];
    std::snprintf(text, sizeof text, "%02x %02x %02x %02x", magic[0], magic[1], magic[2], magic[3]);
    bad(name, concat("not a JPEG, PNG, PGM or PPM image; got first bytes ", text));
}

Image decode_image(Bytes bytes, const std::string& name, const DecodeLimits& limits) {
    Image image;
    decode_image(bytes, name, image, limits);
    return image;
}

void read_image(const std::filesystem::path& path, Image& image, const DecodeLimits& limits) {
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
    struct stat facts {};
    if (!file || ::fstat(fileno(file.get()), &facts) != 0 || S_ISDIR(facts.st_mode))
        bad(path.string(), "cannot be read; hint: does the file exist?");
    const auto size = static_cast<std::size_t>(facts.st_size);
    if (size > limits.max_file)
        bad(path.string(), concat("file size; got ", size, " bytes, want at most ", limits.max_file));
    std::setvbuf(file.get(), nullptr, _IONBF, 0);  // one read of the whole
    std::vector<std::byte> bytes(size);
    if (std::fread(bytes.data(), 1, size, file.get()) != size) bad(path.string(), "reading failed");
    decode_image(bytes, path.string(), image, limits);
}

Image read_image(const std::filesystem::path& path, const DecodeLimits& limits) {
    Image image;
    read_image(path, image, limits);
    return image;
}

}  // namespace bf
