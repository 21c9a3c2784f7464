#pragma once
#include <string>
#include <vector>

#include "bf/io/json.hpp"
#include "chart.hpp"

namespace bf::program {

/// A run whose queue is drawn.
struct DriftRun {
    std::string name;  ///< in the legend; empty: there is no other run
    int number = 0;    ///< of its colours
    const std::vector<Json>* records;
};

/// Steps whose queue record has errors by age, ascending.
std::vector<double> drift_steps(const std::vector<DriftRun>& runs);
/// Charts of the queue's rows, stored and compensated, against the same inputs encoded now: error and cosine by age at
/// each of these steps.
std::vector<Chart> charts_by_age(const std::vector<DriftRun>& runs, const std::vector<double>& steps);
/// The mean error over the steps of training.
Chart chart_of_error(const std::vector<DriftRun>& runs);
/// Identities that the classifier sees in a step, with the queue and by the batch alone.
Chart chart_of_identities(const std::vector<DriftRun>& runs);

}  // namespace bf::program
