// sinkforge namespaces: who shares the slots, by which weights and up to which quotas.
#include <memory>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "client/commands.h"
#include "client/exit_code.h"
#include "client/format.h"
#include "client/session.h"
#include "client/table.h"

namespace sinkforge::client {
namespace {

struct SetOptions {
  std::string name;
  std::optional<double> weight;
  std::string cpu_slots;
  std::string cuda_slots;
};

// "3" or, with a quota, "3/8".
std::string UseText(int used, bool has_quota, int quota) {
  return has_quota ? absl::StrCat(used, "/", quota) : absl::StrCat(used);
}

absl::StatusOr<int> List(Session& session) {
  const auto list = session.coordinator().ListNamespaces();
  if (!list.ok()) return list.status();
  if (session.json()) {
    session.PrintJson(*list);
    return kExitOk;
  }
  Table table({{"NAMESPACE"},
               {"WEIGHT", Table::Align::kRight},
               {"CPU SLOTS", Table::Align::kRight},
               {"CUDA SLOTS", Table::Align::kRight},
               {"RUNNING", Table::Align::kRight},
               {"QUEUED", Table::Align::kRight}});
  for (const v1::Namespace& name : list->namespaces()) {
    table.AddRow({name.namespace_(), FormatExact(name.weight()),
                  UseText(name.cpu_slots_used(), name.has_cpu_slots(), name.cpu_slots()),
                  UseText(name.cuda_slots_used(), name.has_cuda_slots(), name.cuda_slots()),
                  absl::StrCat(name.jobs_running()), absl::StrCat(name.jobs_queued())});
  }
  const Environment& environment = session.environment();
  session.out() << table.Render(environment.out_is_terminal ? environment.screen_size().width : 0)
                << std::flush;
  return kExitOk;
}

// "none" is -1.
absl::StatusOr<int32_t> ParseQuota(const std::string& flag, const std::string& text) {
  int32_t slots = 0;
  if (text == "none") return -1;
  if (absl::SimpleAtoi(text, &slots) && slots >= 0) return slots;
  return UsageError(absl::StrCat(flag, ": '", text, "' is neither a number of slots nor `none`"));
}

absl::StatusOr<int> Set(Session& session, const SetOptions& options) {
  v1::UpdateNamespaceRequest request;
  request.set_namespace_(options.name);
  if (options.weight.has_value()) request.set_weight(*options.weight);
  if (!options.cpu_slots.empty()) {
    const auto slots = ParseQuota("--cpu-slots", options.cpu_slots);
    if (!slots.ok()) return slots.status();
    request.set_cpu_slots(*slots);
  }
  if (!options.cuda_slots.empty()) {
    const auto slots = ParseQuota("--cuda-slots", options.cuda_slots);
    if (!slots.ok()) return slots.status();
    request.set_cuda_slots(*slots);
  }
  if (!request.has_weight() && !request.has_cpu_slots() && !request.has_cuda_slots()) {
    return UsageError("give at least one of --weight, --cpu-slots, --cuda-slots");
  }
  const auto settings = session.coordinator().UpdateNamespace(request);
  if (!settings.ok()) return settings.status();
  if (session.json()) {
    session.PrintJsonLine(*settings);
    return kExitOk;
  }
  const auto quota = [](bool has, int slots) {
    return has ? absl::StrCat("at most ", slots) : std::string("no quota of");
  };
  session.out() << settings->namespace_() << ": weight " << FormatExact(settings->weight()) << ", "
                << quota(settings->has_cpu_slots(), settings->cpu_slots()) << " cpu slots, "
                << quota(settings->has_cuda_slots(), settings->cuda_slots()) << " cuda slots"
                << std::endl;
  return kExitOk;
}

Command SetNode() {
  auto options = std::make_shared<SetOptions>();
  Command command;
  command.name = "set";
  command.summary = "Set weight and quotas of a namespace";
  command.examples =
      "  sinkforge namespaces set research --weight 2 --cuda-slots 16\n"
      "  sinkforge namespaces set research --cuda-slots none";
  command.arguments = {{.name = "NAMESPACE", .help = "As in job files", .target = &options->name}};
  command.options = {
      {"--weight", "W", "Its share of the slots against the others' weights (1)", &options->weight},
      {"--cpu-slots", "N", "Slots that its jobs may use at a time; `none`: no quota",
       &options->cpu_slots},
      {"--cuda-slots", "N", "The same of cuda slots", &options->cuda_slots}};
  command.run = [options](Session& session) { return Set(session, *options); };
  return command;
}

}  // namespace

Command NamespacesCommand() {
  Command command;
  command.name = "namespaces";
  command.summary = "List namespaces with the slots they use and may use; `set` changes that";
  command.examples =
      "  sinkforge namespaces\n"
      "  sinkforge namespaces set research --weight 2 --cpu-slots 8";
  command.commands = {SetNode()};
  command.run = [](Session& session) { return List(session); };
  return command;
}

}  // namespace sinkforge::client
