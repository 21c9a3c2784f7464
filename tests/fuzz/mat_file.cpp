#include "bf/io/mat_file.hpp"

#include "fuzz.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    return fuzz::reader(data, size, [](const bf::Source& source) {
        constexpr std::string_view fields[] = {"relative_im_path", "class"};
        bf::read_mat_structs(source, "annotations", fields, [](const std::vector<bf::MatValue>&) {});
    });
}
