// RunClient: the client's command line in this process, with captured streams.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace sinkforge::client {

struct ClientRun {
  int code = 0;
  std::string out;
  std::string err;
};

struct ClientWorld {
  std::map<std::string, std::string> variables = {};
  bool terminal = false;
  int width = 100;
};

ClientRun RunClient(const std::vector<std::string>& arguments, const ClientWorld& world = {});

// A folder of the test's own, removed at the end.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  const std::string& path() const { return path_; }
  // Writes a file there and returns its path.
  std::string Write(const std::string& name, const std::string& content) const;

 private:
  std::string path_;
};

// Valid, and small.
extern const char kJobFile[];

}  // namespace sinkforge::client
