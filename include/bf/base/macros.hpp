#pragma once
// The only words the maths needs to be compiled by g++ for the host and by nvcc for both sides.
#if defined(__CUDACC__)
#define BF_HD __host__ __device__ __forceinline__
#else
#define BF_HD inline
#endif
