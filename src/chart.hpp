#pragma once
#include <string>
#include <utility>
#include <vector>

namespace bf::program {

/// Text as it stands in HTML and SVG.
std::string escape(const std::string& text);
/// A number with that many digits after the point.
std::string fixed(double value, int digits);

/// A line of a chart.
struct Series {
    std::string name;
    int colour = 0;
    std::vector<std::pair<double, double>> points;
    bool faint = false;
};

/// How a chart is drawn.
struct Chart {
    std::string title, x_label, y_label;
    bool log_x = false;
    std::vector<Series> series = {};
    bool log_y = false;  ///< on a logarithmic axis points that are not above 0 are left out
};

/// An SVG of the chart with axes, ticks, grid and legend; colours follow the page's light or dark scheme.
std::string draw(const Chart& chart);

/// The same as a whole SVG file with colours of its own; empty if no series has a point.
std::string draw_file(const Chart& chart);
/// Charts beside and below each other in one SVG file; those without a point are left out.
std::string draw_file(const std::vector<Chart>& charts);

}  // namespace bf::program
