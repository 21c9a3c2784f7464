// Whether cuDNN accepts how the CUDA backend describes convolutions to it. Needs the library, but no GPU.
#include <gtest/gtest.h>

#if defined(BF_HAVE_CUDA) && !defined(BF_EMULATED_DEVICE) && __has_include(<cudnn.h>)
#include "../../cuda/dnn_graph.hpp"

namespace {

using bf::ConvGeometry;
using bf::DType;
using namespace bf::cuda;

TEST(DnnGraph, EachPassIsDescribedAsTheLibraryWantsIt) {
    const ConvGeometry geometries[] = {{256, 64, 56, 56, 128, 3, 3, 2, 1, 1}, {2, 8, 9, 7, 24, 3, 5, 2, 1, 1},
                                       {3, 5, 7, 9, 11, 3, 2, 2, 1, 1},       {1, 1, 1, 1, 1, 1, 1, 1, 0, 1},
                                       {2, 8, 9, 9, 12, 3, 3, 1, 1, 2},       {2, 6, 9, 7, 6, 3, 3, 1, 1, 6}};
    for (const ConvGeometry& g : geometries)
        for (const DType dtype : {DType::f32, DType::bf16})
            for (const ConvPass pass : {ConvPass::forward, ConvPass::dx, ConvPass::dw}) {
                SCOPED_TRACE(str(pass, g, dtype));
                const Descriptor x = tensor_descriptor(1, {g.n, g.c_in, g.h, g.w}, dtype),
                                 w = tensor_descriptor(2, {g.c_out, g.c_in / g.groups, g.kernel_h, g.kernel_w}, dtype),
                                 y = tensor_descriptor(3, {g.n, g.c_out, g.h_out(), g.w_out()}, dtype),
                                 convolution = convolution_descriptor(g),
                                 operation = convolution_operation(pass, convolution, x, w, y),
                                 graph = operation_graph(nullptr, operation);
                std::int64_t engines = 0;
                graph.get(CUDNN_ATTR_OPERATIONGRAPH_ENGINE_GLOBAL_COUNT, CUDNN_TYPE_INT64, 1, &engines);
                EXPECT_GT(engines, 0);
            }
}

TEST(DnnGraph, WhatDoesNotFitIsAnError) {
    const ConvGeometry g{2, 8, 9, 7, 24, 3, 3, 1, 1, 1};
    const Descriptor x = tensor_descriptor(1, {g.n, g.c_in, g.h, g.w}, DType::f32),
                     w = tensor_descriptor(2, {g.c_out, g.c_in, g.kernel_h, g.kernel_w}, DType::f32),
                     y = tensor_descriptor(3, {g.n, g.c_out, g.h_out() + 1, g.w_out()}, DType::f32);
    EXPECT_THROW(convolution_operation(ConvPass::forward, convolution_descriptor(g), x, w, y), bf::Error);
}

}  // namespace
#else
TEST(DnnGraph, EachPassIsDescribedAsTheLibraryWantsIt) { GTEST_SKIP() << "this build has no CUDA backend"; }
#endif
