#include <cctype>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "bf/base/error.hpp"
#include "bf/data/encode.hpp"
#include "bf/io/atomic_file.hpp"

#ifdef BF_HAVE_JPEG
#include "jpeg_errors.hpp"
#endif
#ifdef BF_HAVE_STB_WRITE
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#include <stb_image_write.h>
#pragma GCC diagnostic pop
#endif

namespace bf {
namespace {

std::string ending_of(const std::filesystem::path& path) {
    std::string ending = path.extension().string();
    for (char& c : ending) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return ending;
}

void check_image(const char* op, const Image& image) {
    BF_CHECK(image.width > 0 && image.height > 0 && image.width <= 65535 && image.height <= 65535 &&
                 (image.channels == 1 || image.channels == 3),
             op, "image; got ", image.width, " x ", image.height, ", ", image.channels,
             " channels, want 1..65535 a side, 1 or 3 channels");
}

std::vector<std::byte> copy_bytes(const void* data, std::size_t size) {
    const auto* from = static_cast<const std::byte*>(data);
    return {from, from + size};
}

#ifdef BF_HAVE_JPEG
/// Returns false with a message; nothing here has a destructor that longjmp would skip.
bool rgb_to_jpeg(const Image& image, int quality, unsigned char** bytes, unsigned long* size, char* message) {
    jpeg_compress_struct info;
    JpegErrors errors;
    info.err = jpeg_std_error(&errors.base);
    errors.base.error_exit = jpeg_fail;
    if (setjmp(errors.jump)) {
        std::memcpy(message, errors.message, JMSG_LENGTH_MAX);
        jpeg_destroy_compress(&info);
        return false;
    }
    jpeg_create_compress(&info);
    jpeg_mem_dest(&info, bytes, size);
    info.image_width = static_cast<JDIMENSION>(image.width);
    info.image_height = static_cast<JDIMENSION>(image.height);
    info.input_components = image.channels;
    info.in_color_space = image.channels == 3 ? JCS_RGB : JCS_GRAYSCALE;
    jpeg_set_defaults(&info);
    jpeg_set_quality(&info, quality, TRUE);
    const int sampling = image.channels == 3 && quality < 100 ? 2 : 1;
    info.comp_info[0].h_samp_factor = info.comp_info[0].v_samp_factor = sampling;
    jpeg_start_compress(&info, TRUE);
    while (info.next_scanline < info.image_height) {
        JSAMPROW row = const_cast<JSAMPROW>(image.at(0, static_cast<int>(info.next_scanline)));
        jpeg_write_scanlines(&info, &row, 1);
    }
    jpeg_finish_compress(&info);
    jpeg_destroy_compress(&info);
    return true;
}
#endif

}  // namespace

std::vector<std::byte> encode_jpeg(const Image& image, int quality) {
    check_image("encode_jpeg", image);
    BF_CHECK(quality >= 1 && quality <= 100, "encode_jpeg", "quality; got ", quality, ", want 1..100");
#ifdef BF_HAVE_JPEG
    unsigned char* bytes = nullptr;
    unsigned long size = 0;
    char message[JMSG_LENGTH_MAX] = "";
    const bool good = rgb_to_jpeg(image, quality, &bytes, &size, message);
    const std::unique_ptr<unsigned char, void (*)(void*)> owner(bytes, std::free);
    if (!good) fail(ErrorCode::runtime, "encode_jpeg", message);
    return copy_bytes(bytes, size);
#else
    check_can_encode("image.jpg");
    return {};
#endif
}

std::vector<std::byte> encode_png(const Image& image) {
    check_image("encode_png", image);
#ifdef BF_HAVE_STB_WRITE
    int size = 0;
    const std::unique_ptr<unsigned char, void (*)(void*)> bytes(
        stbi_write_png_to_mem(image.pixels.data(), image.width * image.channels, image.width, image.height,
                              image.channels, &size),
        std::free);
    if (!bytes) fail(ErrorCode::runtime, "encode_png", "out of memory");
    return copy_bytes(bytes.get(), static_cast<std::size_t>(size));
#else
    check_can_encode("image.png");
    return {};
#endif
}

void check_can_encode(const std::filesystem::path& path) {
    const std::string ending = ending_of(path);
    BF_CHECK(ending == ".jpg" || ending == ".jpeg" || ending == ".png" || ending == ".ppm" || ending == ".pgm",
             path.string(), "image ending; got \"", ending, "\", want .jpg, .jpeg, .png, .ppm or .pgm");
#ifndef BF_HAVE_JPEG
    BF_CHECK(ending != ".jpg" && ending != ".jpeg", path.string(),
             "JPEG cannot be written by this build; hint: install libjpeg-turbo (libjpeg62-turbo-dev) and configure "
             "again, or write .png");
#endif
#ifndef BF_HAVE_STB_WRITE
    BF_CHECK(ending != ".png", path.string(),
             "PNG cannot be written by this build; hint: install stb_image_write (libstb-dev) and configure again");
#endif
}

std::vector<std::byte> encode_image(const std::filesystem::path& path, const Image& image, int quality) {
    check_can_encode(path);
    const std::string ending = ending_of(path);
    if (ending == ".png") return encode_png(image);
    if (ending == ".jpg" || ending == ".jpeg") return encode_jpeg(image, quality);
    check_image("encode_image", image);
    const int channels = ending == ".ppm" ? 3 : 1;
    BF_CHECK(image.channels == channels, path.string(), "channels; got ", image.channels, ", want ", channels, " for ",
             ending);
    const std::string header = concat(channels == 3 ? "P6\n" : "P5\n", image.width, ' ', image.height, "\n255\n");
    std::vector<std::byte> out = copy_bytes(header.data(), header.size());
    const auto pixels = copy_bytes(image.pixels.data(), image.pixels.size());
    out.insert(out.end(), pixels.begin(), pixels.end());
    return out;
}

void write_image(const std::filesystem::path& path, const Image& image, int quality) {
    const auto bytes = encode_image(path, image, quality);
    AtomicFile file(path);
    file.write(bytes.data(), bytes.size());
    file.commit();
}

}  // namespace bf
