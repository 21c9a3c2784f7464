#pragma once
// Eigen for the CPU kernels. Its own threads stay off: kernels are cut into tasks of the pool, and a program that is
// compiled with -fopenmp would otherwise start a team of threads inside each task.
#ifndef EIGEN_DONT_PARALLELIZE
#define EIGEN_DONT_PARALLELIZE
#endif
#include <Eigen/Core>
