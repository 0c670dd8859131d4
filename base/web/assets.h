// What the coordinator's page and the client's report are both made of, embedded at build time so
// that neither needs a network: Chart.js, the plots on top of it, and the style sheet.
#pragma once

#include <string_view>

namespace sinkforge::web {

extern const std::string_view kChartJs;   // Chart.js of Debian's libjs-chart.js, minified
extern const std::string_view kPlotsJs;   // plots.js: curves and heatmaps
extern const std::string_view kStyleCss;  // style.css: light, dark, narrow

}  // namespace sinkforge::web
