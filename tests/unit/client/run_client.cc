// RunClient and temporary folders.
#include "tests/unit/client/run_client.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/check.h"
#include "client/cli.h"

namespace sinkforge::client {

const char kJobFile[] =
    "name: tiny\n"
    "model: {layers: 2, width: 32, heads: 4, attention: gated}\n"
    "head_balance: {loss: cv}\n"
    "data: {train: [a.txt], validation: [b.txt], sequence_length: 32}\n"
    "train: {steps: 20, batch_tokens: 128, micro_batch: 4}\n";

ClientRun RunClient(const std::vector<std::string>& arguments, const ClientWorld& world) {
  std::ostringstream out;
  std::ostringstream err;
  Environment environment;
  environment.out = &out;
  environment.err = &err;
  environment.out_is_terminal = world.terminal;
  environment.err_is_terminal = false;
  environment.screen_size = [&world] { return ScreenSize{world.width, 24}; };
  environment.variable = [&world](const std::string& name) -> std::string {
    const auto found = world.variables.find(name);
    return found == world.variables.end() ? "" : found->second;
  };
  environment.program_folder = "/nonexistent";
  environment.working_folder = "/";
  ClientRun run;
  run.code = RunCommandLine(arguments, environment);
  run.out = out.str();
  run.err = err.str();
  return run;
}

TempFolder::TempFolder() {
  std::string name = std::filesystem::temp_directory_path() / "sinkforge-client-XXXXXX";
  SINKFORGE_REQUIRE(mkdtemp(name.data()) != nullptr);
  path_ = name;
}

TempFolder::~TempFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string TempFolder::Write(const std::string& name, const std::string& content) const {
  const std::string path = path_ + "/" + name;
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

}  // namespace sinkforge::client
