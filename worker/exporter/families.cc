// Metric families of jobs and of the worker; see families.h.
#include "worker/exporter/families.h"

#include <algorithm>
#include <cctype>
#include <functional>
#include <utility>

namespace sinkforge::worker {
namespace {

using base::GaugeFamily;
using Type = base::GaugeFamily::Type;

// "BALANCE_LOSS_CV" without "BALANCE_LOSS_", in lower case; "unknown" without the prefix.
std::string Lower(const std::string& name, const std::string& prefix) {
  if (name.compare(0, prefix.size(), prefix) != 0) return "unknown";
  std::string lower = name.substr(prefix.size());
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return lower;
}

// A family with one value for each job.
struct JobSeries {
  const char* name;
  const char* help;
  Type type;
  std::function<double(const RankView&)> value;
};

// The convention of PaLM's appendix B: attention counts as if it saw the whole row.
double ModelFlopsPerSecond(const RankView& rank) {
  const v1::JobSpec& spec = rank.desired.spec();
  const v1::ModelSpec& model = spec.model();
  const double width = model.width();
  const double table = model.vocab_size() * width;
  const double dense = 6 * (static_cast<double>(rank.desired.parameters()) - table);
  const double attention = 12.0 * model.layers() * width * spec.data().sequence_length();
  return (dense + attention) * rank.last_step.tokens_per_second();
}

const std::vector<JobSeries>& AllJobSeries() {
  static const std::vector<JobSeries> series = {
      {"sinkforge_job_loss_nats", "Base loss of the last step, nats per token.", Type::kGauge,
       [](const RankView& rank) { return rank.last_step.loss(); }},
      {"sinkforge_job_aux_loss_nats", "Head-balance loss of the last step, with its coefficient.",
       Type::kGauge, [](const RankView& rank) { return rank.last_step.aux_loss(); }},
      {"sinkforge_job_imbalance_ratio",
       "Mean over layers of the coefficient of variation of the heads' importance.", Type::kGauge,
       [](const RankView& rank) { return rank.last_step.imbalance(); }},
      {"sinkforge_job_step", "Optimizer steps done.", Type::kGauge,
       [](const RankView& rank) { return static_cast<double>(rank.last_step.step()); }},
      {"sinkforge_job_target_steps", "Optimizer steps that the job asks for.", Type::kGauge,
       [](const RankView& rank) {
         return static_cast<double>(rank.desired.spec().train().steps());
       }},
      // Not a counter: a restore takes it back, which a rate would take for a restart from 0.
      {"sinkforge_job_trained_tokens",
       "Tokens behind the present parameters; a restore takes it back.", Type::kGauge,
       [](const RankView& rank) { return static_cast<double>(rank.last_step.tokens_total()); }},
      {"sinkforge_job_tokens_per_second", "Tokens trained per second, of the last step.",
       Type::kGauge, [](const RankView& rank) { return rank.last_step.tokens_per_second(); }},
      {"sinkforge_job_model_flops_per_second",
       "Floating-point operations per second of the last step that the model needs, recomputation "
       "not counted: 6 for each token and parameter (the embedding table aside), 12 for each "
       "token, layer, channel and position of the row.",
       Type::kGauge, ModelFlopsPerSecond},
      {"sinkforge_job_checkpoint_step",
       "Step of the newest durable checkpoint of rank 0, or that the attempt was restored from.",
       Type::kGauge,
       [](const RankView& rank) { return static_cast<double>(rank.checkpoint_step); }},
      {"sinkforge_job_gradient_norm", "Norm of the gradient before clipping.", Type::kGauge,
       [](const RankView& rank) { return rank.last_step.gradient_norm(); }},
      {"sinkforge_job_learning_rate_scale", "Factor of the learning rates by the schedule.",
       Type::kGauge, [](const RankView& rank) { return rank.last_step.learning_rate_scale(); }},
      {"sinkforge_job_memory_bytes", "Resident memory of rank 0.", Type::kGauge,
       [](const RankView& rank) { return static_cast<double>(rank.last_step.memory_bytes()); }},
  };
  return series;
}

base::Labels LabelsOf(const RankView& rank) {
  return {{"sinkforge_namespace", rank.desired.spec().namespace_()},
          {"sinkforge_job", rank.key.job_id}};
}

base::Labels With(base::Labels labels, const std::string& name, const std::string& value) {
  labels[name] = value;
  return labels;
}

GaugeFamily Family(const std::string& name, const std::string& help) {
  GaugeFamily family;
  family.name = name;
  family.help = help;
  return family;
}

// The families whose labels go beyond the job, or that are not there for every job.
struct DetailFamilies {
  GaugeFamily layer_cv = Family("sinkforge_job_layer_cv_ratio",
                                "Coefficient of variation of the importance of a layer's heads.");
  GaugeFamily importance =
      Family("sinkforge_job_importance_ratio", "Importance of a head: mean of its gate values.");
  GaugeFamily importance_min =
      Family("sinkforge_job_importance_min_ratio", "Smallest importance of any head of the model.");
  GaugeFamily importance_max =
      Family("sinkforge_job_importance_max_ratio", "Largest importance of any head of the model.");
  GaugeFamily imbalance_mean =
      Family("sinkforge_job_imbalance_mean_ratio",
             "Mean of the imbalance over the last 50 steps; absent before there are as many.");
  GaugeFamily imbalance_least =
      Family("sinkforge_job_imbalance_least_ratio",
             "Least such mean of this attempt that is 100 steps old or older.");
  GaugeFamily validation = Family("sinkforge_job_validation_bits_per_byte",
                                  "Bits per byte of the last evaluation on the validation text.");
  GaugeFamily checkpoint_interval = Family("sinkforge_job_checkpoint_interval_steps",
                                           "Steps from one checkpoint to the next, as asked for.");
  GaugeFamily info = Family("sinkforge_job_info",
                            "Always 1; the labels say which attention, MLP and head-balance loss.");

  void Add(const RankView& rank, ImportanceSeries mode) {
    const base::Labels labels = LabelsOf(rank);
    const v1::StepRecord& step = rank.last_step;
    const v1::JobSpec& spec = rank.desired.spec();
    base::Labels variant =
        With(labels, "attention",
             Lower(v1::AttentionVariant_Name(spec.model().attention()), "ATTENTION_VARIANT_"));
    variant = With(variant, "mlp", Lower(v1::Mlp_Name(spec.model().mlp()), "MLP_"));
    variant = With(variant, "head_balance",
                   Lower(v1::BalanceLoss_Name(spec.head_balance().loss()), "BALANCE_LOSS_"));
    info.samples.push_back({variant, 1});
    if (spec.checkpoint().every_steps() > 0) {
      checkpoint_interval.samples.push_back(
          {labels, static_cast<double>(spec.checkpoint().every_steps())});
    }
    for (int layer = 0; layer < step.layer_cv_size(); ++layer) {
      layer_cv.samples.push_back(
          {With(labels, "layer", std::to_string(layer)), step.layer_cv(layer)});
    }
    if (rank.imbalance_mean) imbalance_mean.samples.push_back({labels, *rank.imbalance_mean});
    if (rank.imbalance_least) imbalance_least.samples.push_back({labels, *rank.imbalance_least});
    if (step.importance_size() > 0) {
      const auto [low, high] =
          std::minmax_element(step.importance().begin(), step.importance().end());
      importance_min.samples.push_back({labels, static_cast<double>(*low)});
      importance_max.samples.push_back({labels, static_cast<double>(*high)});
    }
    if (mode == ImportanceSeries::kEveryHead && step.heads() > 0) {
      for (int i = 0; i < step.importance_size(); ++i) {
        importance.samples.push_back({With(With(labels, "layer", std::to_string(i / step.heads())),
                                           "head", std::to_string(i % step.heads())),
                                      static_cast<double>(step.importance(i))});
      }
    }
    if (rank.status.progress().validation_step() > 0) {
      validation.samples.push_back({labels, rank.status.progress().validation_bits_per_byte()});
    }
  }
};

GaugeFamily Single(const std::string& name, const std::string& help, Type type, int64_t value) {
  GaugeFamily family = Family(name, help);
  family.type = type;
  family.samples.push_back({{}, static_cast<double>(value)});
  return family;
}

GaugeFamily Split(const std::string& name, const std::string& help, const std::string& label,
                  const std::map<std::string, int64_t>& values) {
  GaugeFamily family = Family(name, help);
  for (const auto& [key, value] : values) {
    family.samples.push_back({{{label, key}}, static_cast<double>(value)});
  }
  return family;
}

}  // namespace

std::vector<GaugeFamily> JobFamilies(const std::vector<RankView>& ranks,
                                     ImportanceSeries importance) {
  std::vector<const RankView*> shown;
  for (const RankView& rank : ranks) {
    const bool runs = rank.status.phase() != v1::RANK_PHASE_ENDED;
    if (rank.key.rank != 0 || !runs || rank.last_step.step() == 0) continue;
    // While an old attempt's trainer dies, only the newer attempt counts: a series may be there
    // once.
    if (!shown.empty() && shown.back()->key.job_id == rank.key.job_id) shown.pop_back();
    shown.push_back(&rank);
  }
  std::vector<GaugeFamily> families;
  for (const JobSeries& series : AllJobSeries()) {
    GaugeFamily family = Family(series.name, series.help);
    family.type = series.type;
    for (const RankView* rank : shown) {
      family.samples.push_back({LabelsOf(*rank), series.value(*rank)});
    }
    families.push_back(std::move(family));
  }
  DetailFamilies details;
  for (const RankView* rank : shown) details.Add(*rank, importance);
  for (GaugeFamily* family : {&details.layer_cv, &details.imbalance_mean, &details.imbalance_least,
                              &details.importance, &details.importance_min, &details.importance_max,
                              &details.validation, &details.checkpoint_interval, &details.info}) {
    families.push_back(std::move(*family));
  }
  return families;
}

std::vector<GaugeFamily> WorkerFamilies(const WorkerReadings& readings) {
  std::vector<GaugeFamily> families;
  GaugeFamily build = Family("sinkforge_worker_build_info", "Version of the worker; always 1.");
  build.samples.push_back({{{"version", readings.version}}, 1});
  families.push_back(std::move(build));
  families.push_back(
      Split("sinkforge_worker_slots", "Device slots by state.", "state",
            {{"busy", readings.slots_busy}, {"free", readings.slots - readings.slots_busy}}));
  families.push_back(Split("sinkforge_worker_spool_records",
                           "Records that the coordinator has not acknowledged.", "kind",
                           {{"steps", readings.steps.records}, {"logs", readings.logs.records}}));
  families.push_back(Split("sinkforge_worker_spool_bytes",
                           "Bytes that the coordinator has not acknowledged.", "kind",
                           {{"steps", readings.steps.bytes}, {"logs", readings.logs.bytes}}));
  families.push_back(Single("sinkforge_worker_checkpoint_bytes",
                            "Bytes of the checkpoint parts on this worker.", Type::kGauge,
                            readings.checkpoint_bytes));
  families.push_back(Single("sinkforge_worker_disk_free_bytes",
                            "Free bytes of the disk that holds the data folder.", Type::kGauge,
                            readings.disk_free_bytes));
  families.push_back(Single("sinkforge_worker_coordinator_connected",
                            "Whether the stream to the coordinator is open: 0 or 1.", Type::kGauge,
                            readings.coordinator_connected));
  families.push_back(Single("sinkforge_worker_databases_set_aside_total",
                            "Databases with damaged files that another one took the place of.",
                            Type::kCounter, readings.databases_set_aside));
  families.push_back(Single("sinkforge_worker_trainers_started_total", "Trainers started.",
                            Type::kCounter, readings.trainers_started));
  families.push_back(Single("sinkforge_worker_log_lines_dropped_total",
                            "Log lines dropped because the spool or the disk was full.",
                            Type::kCounter, readings.log_lines_dropped));
  GaugeFamily exits = Split("sinkforge_worker_trainer_exits_total",
                            "Ends of trainers by outcome, or by the reason of a failure.", "reason",
                            readings.trainer_exits);
  exits.type = Type::kCounter;
  families.push_back(std::move(exits));
  return families;
}

std::string ExitReason(const v1::RankStatus& status) {
  if (status.outcome() == v1::RANK_OUTCOME_FAILED) {
    return Lower(v1::Reason_Name(status.reason()), "REASON_");
  }
  return Lower(v1::RankOutcome_Name(status.outcome()), "RANK_OUTCOME_");
}

}  // namespace sinkforge::worker
