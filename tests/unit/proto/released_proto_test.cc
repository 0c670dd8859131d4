// The wire protocol never breaks: everything in proto/released/sinkforge_v1.textproto is still in
// the compiled protocol with the same number, type and label, or is reserved. After an addition,
// bring the file up to date with proto/released/update.sh.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "sinkforge/v1/checkpoint_service.pb.h"
#include "sinkforge/v1/job_service.pb.h"
#include "sinkforge/v1/log_service.pb.h"
#include "sinkforge/v1/metrics.pb.h"
#include "sinkforge/v1/rendezvous.pb.h"
#include "sinkforge/v1/trainer_service.pb.h"
#include "sinkforge/v1/worker_service.pb.h"

namespace sinkforge {
namespace {

namespace pb = google::protobuf;

// Collects what of `released` is not in `current` any more, one line each.
class BreakingChanges {
 public:
  explicit BreakingChanges(const pb::DescriptorPool& current) : current_(current) {}

  void CheckFile(const pb::FileDescriptor& file) {
    for (int i = 0; i < file.message_type_count(); ++i) CheckMessage(*file.message_type(i));
    for (int i = 0; i < file.enum_type_count(); ++i) CheckEnum(*file.enum_type(i));
    for (int i = 0; i < file.service_count(); ++i) CheckService(*file.service(i));
  }
  const std::string& text() const { return text_; }

 private:
  void Add(const std::string& name, const std::string& what) { text_ += name + ": " + what + "\n"; }

  void CheckMessage(const pb::Descriptor& released) {
    const pb::Descriptor* now = current_.FindMessageTypeByName(released.full_name());
    if (now == nullptr) return Add(released.full_name(), "message is gone");
    for (int i = 0; i < released.field_count(); ++i) CheckField(*released.field(i), *now);
    for (int i = 0; i < released.nested_type_count(); ++i) CheckMessage(*released.nested_type(i));
    for (int i = 0; i < released.enum_type_count(); ++i) CheckEnum(*released.enum_type(i));
  }

  void CheckField(const pb::FieldDescriptor& released, const pb::Descriptor& message) {
    const pb::FieldDescriptor* now = message.FindFieldByNumber(released.number());
    if (now == nullptr) {
      if (!message.IsReservedNumber(released.number()) ||
          !message.IsReservedName(released.name())) {
        Add(released.full_name(), "field is gone and not reserved");
      }
      return;
    }
    if (now->name() != released.name()) Add(released.full_name(), "renamed to " + now->name());
    if (now->type() != released.type() || now->label() != released.label() ||
        now->has_presence() != released.has_presence()) {
      Add(released.full_name(), "changed its type, label or presence");
    }
    if (released.message_type() != nullptr && now->message_type() != nullptr &&
        released.message_type()->full_name() != now->message_type()->full_name()) {
      Add(released.full_name(), "is another message now");
    }
    if (released.enum_type() != nullptr && now->enum_type() != nullptr &&
        released.enum_type()->full_name() != now->enum_type()->full_name()) {
      Add(released.full_name(), "is another enum now");
    }
  }

  void CheckEnum(const pb::EnumDescriptor& released) {
    const pb::EnumDescriptor* now = current_.FindEnumTypeByName(released.full_name());
    if (now == nullptr) return Add(released.full_name(), "enum is gone");
    for (int i = 0; i < released.value_count(); ++i) {
      const pb::EnumValueDescriptor& value = *released.value(i);
      const pb::EnumValueDescriptor* found = now->FindValueByNumber(value.number());
      if (found == nullptr || found->name() != value.name()) {
        Add(value.full_name(), "value is gone or has another number");
      }
    }
  }

  void CheckService(const pb::ServiceDescriptor& released) {
    const pb::ServiceDescriptor* now = current_.FindServiceByName(released.full_name());
    if (now == nullptr) return Add(released.full_name(), "service is gone");
    for (int i = 0; i < released.method_count(); ++i) {
      const pb::MethodDescriptor& method = *released.method(i);
      const pb::MethodDescriptor* found = now->FindMethodByName(method.name());
      if (found == nullptr ||
          found->input_type()->full_name() != method.input_type()->full_name() ||
          found->output_type()->full_name() != method.output_type()->full_name() ||
          found->client_streaming() != method.client_streaming() ||
          found->server_streaming() != method.server_streaming()) {
        Add(method.full_name(), "method is gone or has another signature");
      }
    }
  }

  const pb::DescriptorPool& current_;
  std::string text_;
};

pb::FileDescriptorSet ReadReleased() {
  const std::string path =
      std::string(std::getenv("SINKFORGE_SOURCE_DIR")) + "/proto/released/sinkforge_v1.textproto";
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  pb::FileDescriptorSet set;
  EXPECT_TRUE(pb::TextFormat::ParseFromString(text.str(), &set)) << path;
  return set;
}

std::string ChangesBetween(const pb::FileDescriptorSet& released,
                           const pb::DescriptorPool& current) {
  pb::DescriptorPool pool;
  BreakingChanges changes(current);
  for (const pb::FileDescriptorProto& file : released.file()) {
    const pb::FileDescriptor* built = pool.BuildFile(file);
    EXPECT_NE(built, nullptr) << file.name();
    if (built != nullptr && built->package() == "sinkforge.v1") changes.CheckFile(*built);
  }
  return changes.text();
}

// Linking the generated services in is what puts their files into the generated pool.
TEST(ReleasedProtoTest, NothingReleasedIsBroken) {
  v1::SubmitJobRequest::descriptor();
  v1::WorkerSnapshot::descriptor();
  v1::TrainerReport::descriptor();
  v1::CheckpointData::descriptor();
  v1::LogLine::descriptor();
  v1::PutRendezvousRequest::descriptor();
  EXPECT_EQ(ChangesBetween(ReadReleased(), *pb::DescriptorPool::generated_pool()), "");
}

pb::FileDescriptorSet SetOf(const std::string& file_text) {
  pb::FileDescriptorSet set;
  EXPECT_TRUE(pb::TextFormat::ParseFromString(file_text, set.add_file()));
  return set;
}

// The check itself must see what it is there for.
TEST(ReleasedProtoTest, SeesRemovedRenumberedAndRetypedFields) {
  const char* released = R"(name: "a.proto" package: "sinkforge.v1" syntax: "proto3"
    message_type { name: "M"
      field { name: "kept" number: 1 type: TYPE_INT32 label: LABEL_OPTIONAL }
      field { name: "gone" number: 2 type: TYPE_INT32 label: LABEL_OPTIONAL }
      field { name: "retyped" number: 3 type: TYPE_INT32 label: LABEL_OPTIONAL }
      field { name: "retired" number: 4 type: TYPE_INT32 label: LABEL_OPTIONAL } }
    enum_type { name: "E" value { name: "ZERO" number: 0 } value { name: "ONE" number: 1 } })";
  const char* current = R"(name: "a.proto" package: "sinkforge.v1" syntax: "proto3"
    message_type { name: "M"
      field { name: "kept" number: 1 type: TYPE_INT32 label: LABEL_OPTIONAL }
      field { name: "retyped" number: 3 type: TYPE_STRING label: LABEL_OPTIONAL }
      reserved_range { start: 4 end: 5 } reserved_name: "retired" }
    enum_type { name: "E" value { name: "ZERO" number: 0 } })";
  pb::DescriptorPool pool;
  ASSERT_NE(pool.BuildFile(SetOf(current).file(0)), nullptr);
  const std::string changes = ChangesBetween(SetOf(released), pool);
  EXPECT_NE(changes.find("M.gone: field is gone"), std::string::npos) << changes;
  EXPECT_NE(changes.find("M.retyped: changed"), std::string::npos) << changes;
  EXPECT_NE(changes.find("ONE: value is gone"), std::string::npos) << changes;
  EXPECT_EQ(changes.find("kept"), std::string::npos) << changes;
  EXPECT_EQ(changes.find("retired"), std::string::npos) << changes;
}

}  // namespace
}  // namespace sinkforge
