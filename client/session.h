// Session: what a running command sees of the world: its streams, the terminal, the environment's
// variables, and the coordinator. Tests make an Environment of their own.
#pragma once

#include <google/protobuf/message.h>

#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <string>

#include "client/coordinator.h"
#include "client/screen_size.h"
#include "client/style.h"

namespace sinkforge::client {

struct Environment {
  std::ostream* out = nullptr;  // data
  std::ostream* err = nullptr;  // messages
  bool out_is_terminal = false;
  bool err_is_terminal = false;
  ReadScreenSize screen_size = [] { return ScreenSize(); };
  std::function<std::string(const std::string& name)> variable;  // empty where it is not set
  std::string program_folder;  // holds sinkforge-coordinator and sinkforge-worker
  std::string working_folder;
};

struct GlobalOptions {
  std::string coordinator;
  std::string format = "table";
  std::optional<double> retry_seconds;
  base::TlsFiles tls;
};

class Session {
 public:
  Session(Environment environment, GlobalOptions options);
  ~Session();

  const Environment& environment() const { return environment_; }
  // As the options say, else the variables.
  CoordinatorOptions ConnectionTo(std::string address, std::string source) const;
  std::ostream& out() const { return *environment_.out; }
  std::ostream& err() const { return *environment_.err; }
  bool json() const { return options_.format == "json"; }
  const std::string& format() const { return options_.format; }
  const GlobalOptions& options() const { return options_; }
  Style out_style() const;

  // Connects at the first call. Not before a command that handles Ctrl-C has made its StopSignal:
  // the channel's threads take over the signal mask of the thread that makes them.
  Coordinator& coordinator();
  // Of $TRACEPARENT, which whoever called may have set: the submission then belongs to that trace.
  // Empty where it is not set or no W3C trace context.
  std::string trace_id() const;
  // Local state: ${XDG_STATE_HOME:-$HOME/.local/state}/sinkforge/local.
  std::string default_state_folder() const;

  // One JSON document (fields named as in the .proto files), with line breaks for people.
  void PrintJson(const google::protobuf::Message& message) const;
  // One line, for streams of them.
  void PrintJsonLine(const google::protobuf::Message& message) const;
  // One line on stderr where the coordinator's last answer said that its store cannot be written.
  void WarnOfStore();
  // "sinkforge: " and the message, on stderr.
  void Say(const std::string& message) const;

 private:
  Environment environment_;
  GlobalOptions options_;
  std::unique_ptr<Coordinator> coordinator_;
};

}  // namespace sinkforge::client
