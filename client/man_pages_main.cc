// sinkforge_man_pages FOLDER: writes the client's manual pages there. The build runs it.
#include <cstdio>

#include "base/files.h"
#include "client/commands.h"
#include "client/man_page.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: sinkforge_man_pages FOLDER\n");
    return 2;
  }
  using namespace sinkforge;
  const std::string folder = argv[1];
  absl::Status status = base::MakeFolder(folder);
  for (const auto& [name, text] : client::ManPages(client::RootCommand(), SINKFORGE_VERSION)) {
    if (status.ok()) status = base::WriteFileDurably(folder + "/" + name, text);
  }
  if (status.ok()) return 0;
  std::fprintf(stderr, "sinkforge_man_pages: %s\n", std::string(status.message()).c_str());
  return 1;
}
