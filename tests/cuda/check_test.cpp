// The texts of failed library calls, from made-up statuses; needs the CUDA libraries but no GPU.
#if defined(BF_HAVE_CUDA) && !defined(BF_EMULATED_DEVICE)
#include <gtest/gtest.h>

#include "cuda/handle.hpp"

namespace {

template <class Call>
bf::Error error_of(const Call& call) {
    try {
        call();
    } catch (const bf::Error& e) {
        return e;
    }
    return {bf::ErrorCode::stopped, "none", "no error"};
}
/// A library call that ends with this status.
template <class Status>
Status cudaFake(Status status) {
    return status;
}

TEST(CudaCheck, SuccessMakesNoText) {
    int made = 0;
    const auto count = [&] { return ++made; };
    BF_CUDA(cudaFake(cudaSuccess), "n ", count());
    BF_CUDA(cudaFake(CUBLAS_STATUS_SUCCESS));
    BF_CUDA(cudaFake(CUDNN_STATUS_SUCCESS));
    EXPECT_EQ(made, 0);
}

TEST(CudaCheck, TheErrorHoldsCallNameMeaningSizesAndHint) {
    const bf::Error e = error_of([] { BF_CUDA(cudaFake(cudaErrorMemoryAllocation), "bytes ", 8); });
    EXPECT_EQ(e.op(), "cudaFake");
    EXPECT_EQ(e.code(), bf::ErrorCode::runtime);
    EXPECT_EQ(std::string(e.what()).find("cudaFake: cudaErrorMemoryAllocation (out of memory); got bytes 8; call "
                                         "cudaFake(cudaErrorMemoryAllocation); hint: a smaller batch"),
              0u)
        << e.what();
    EXPECT_EQ(std::string(error_of([] { BF_CUDA(cudaFake(cudaErrorInvalidValue)); }).what()).find("got"),
              std::string::npos);
}

TEST(CudaCheck, ErrorsThatStaySaySo) {
    for (const cudaError_t status : {cudaErrorIllegalAddress, cudaErrorLaunchFailure, cudaErrorAssert}) {
        const std::string text = error_of([&] { BF_CUDA(cudaFake(status)); }).what();
        EXPECT_NE(text.find("it stays"), std::string::npos) << text;
        EXPECT_NE(text.find("compute-sanitizer"), std::string::npos) << text;
    }
    EXPECT_EQ(std::string(error_of([] { BF_CUDA(cudaFake(cudaErrorInvalidValue)); }).what()).find("it stays"),
              std::string::npos);
}

TEST(CudaCheck, AMissingGpuIsAMatterOfUse) {
    for (const cudaError_t status : {cudaErrorNoDevice, cudaErrorInsufficientDriver}) {
        const bf::Error e = error_of([&] { BF_CUDA(cudaFake(status)); });
        EXPECT_EQ(e.code(), bf::ErrorCode::usage);
        EXPECT_NE(std::string(e.what()).find("bf doctor"), std::string::npos) << e.what();
    }
}

TEST(CudaCheck, CublasAndCudnn) {
    const std::string blas = error_of([] { BF_CUDA(cudaFake(CUBLAS_STATUS_INVALID_VALUE), "m ", 3); }).what();
    EXPECT_NE(blas.find("CUBLAS_STATUS_INVALID_VALUE"), std::string::npos) << blas;
    EXPECT_NE(blas.find("got m 3"), std::string::npos) << blas;
    const std::string dnn = error_of([] { BF_CUDA(cudaFake(CUDNN_STATUS_NOT_SUPPORTED_SHAPE), "n ", 3); }).what();
    EXPECT_NE(dnn.find("CUDNN_STATUS_NOT_SUPPORTED_SHAPE"), std::string::npos) << dnn;
    EXPECT_NE(dnn.find("not supported"), std::string::npos) << dnn;
}

int destroyed = 0;
int destroy(int*) { return ++destroyed; }

TEST(CudaHandle, IsDestroyedOnceByItsLastOwner) {
    int thing = 0;
    {
        bf::cuda::Owned<int*, destroy> a(&thing), b;
        b = std::move(a);
        EXPECT_EQ(b.get(), &thing);
        EXPECT_EQ(a.get(), nullptr);
        bf::cuda::Owned<int*, destroy> c(std::move(b));
        EXPECT_EQ(destroyed, 0);
    }
    EXPECT_EQ(destroyed, 1);
    bf::cuda::Owned<int*, destroy> kept(&thing);
    EXPECT_EQ(kept.release(), &thing);
    EXPECT_EQ(destroyed, 1);
}

}  // namespace
#endif
