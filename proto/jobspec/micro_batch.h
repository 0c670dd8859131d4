// What train.micro_batch: auto may become. The proto writes `auto` as 0 rows; the ranks of a job's
// first attempt choose among these by the memory that they find.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "sinkforge/v1/job.pb.h"

namespace sinkforge::jobspec {

// Whether the ranks choose. Of a resolved job.
bool IsAutoMicroBatch(const v1::TrainSpec& train);

// Rows, ascending: the divisors of a step's rows that give each of resources.ranks a row and keep
// to the limits of validate.h. Empty where there is none, or where a number that they follow from
// is out of its limits.
std::vector<int64_t> MicroBatchChoices(const v1::JobSpec& spec);

// "1 row", "8 rows".
std::string RowsText(int64_t rows);

// ", a whole step", or which limit of validate.h there is: why `auto` takes no more than `rows`
// however much memory there is. Empty where it might.
std::string NoMoreRowsText(const v1::JobSpec& spec, int64_t rows);

}  // namespace sinkforge::jobspec
