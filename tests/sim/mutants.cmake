# Mutants: the product with one mistake each, which the simulator must find. A mutant is a copy of one source file with one
# replacement; it is linked before the library that has the original, which then stays out. A replacement that no longer
# fits its file is an error here, so that no mutant silently becomes the product.
function(sinkforge_mutate name)
  cmake_parse_arguments(A "" "FILE;FROM;TO" "" ${ARGN})
  set(original ${CMAKE_SOURCE_DIR}/${A_FILE})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${original})
  file(READ ${original} source)
  string(FIND "${source}" "${A_FROM}" at)
  if(at EQUAL -1)
    message(FATAL_ERROR "mutant ${name}: ${A_FILE} has no \"${A_FROM}\" any more; bring the mutant up to date")
  endif()
  string(REPLACE "${A_FROM}" "${A_TO}" source "${source}")
  set(mutated ${CMAKE_CURRENT_BINARY_DIR}/mutants/${name}.cc)
  file(CONFIGURE OUTPUT ${mutated} CONTENT "${source}" @ONLY)
  set(mutated ${mutated} PARENT_SCOPE)
endfunction()

# One that sim_run must find within 200 seeds.
function(sinkforge_mutant name)
  sinkforge_mutate(${name} ${ARGN})
  sinkforge_binary(sim_mutant_${name} SOURCES sim_run.cc ${mutated} PRIVATE sinkforge_sim absl::strings)
  target_compile_options(sim_mutant_${name} PRIVATE -Wno-unused-parameter)  # the mistake may be that
  add_test(NAME SimMutants.${name} COMMAND sim_mutant_${name} --find 1 200)
  set_tests_properties(SimMutants.${name} PROPERTIES LABELS "unit" TIMEOUT 600)
endfunction()

sinkforge_mutant(no_fence_on_old_attempts FILE server/state/model.cc
  FROM "key.attempt != job.attempt() || " TO "")
sinkforge_mutant(lease_not_reset FILE server/state/worker_link.cc
  FROM "  worker.lease_end = now.monotonic + state->options.lease" TO "  worker.lease_end = Monotonic{0}")
sinkforge_mutant(commit_with_a_missing_slice FILE server/state/commits.cc
  FROM "(parts.size()) == world_size" TO "(parts.size()) >= world_size - 1")
sinkforge_mutant(drop_later_attempts FILE server/state/model.cc
  FROM "if (record->adoption.has_value() && " TO "if (false && ")
sinkforge_mutant(take_parts_of_other_jobs FILE server/state/model.cc
  FROM "part.job_uid().empty() || part.job_uid() == job.uid()" TO "true")
sinkforge_mutant(commit_before_the_copy FILE server/state/commits.cc
  FROM "< deadline) return Verdict::kWait" TO "< deadline) return Verdict::kNotCopied")
sinkforge_mutant(slot_given_twice FILE server/state/call.cc
  FROM "  if (IsBeingLeft(worker, slot)) return false" TO "  ")
sinkforge_mutant(start_on_an_unfit_worker FILE server/scheduler/scheduler.cc
  FROM "if (elsewhere < job.min_ranks) return false" TO "if (elsewhere >= 0) return false")

# What only a power loss shows.
sinkforge_mutate(acknowledge_before_sync FILE server/store/kv_job_store.cc
  FROM "base::Durability::kSynced" TO "base::Durability::kLogged")
sinkforge_binary(sim_mutant_acknowledge_before_sync
  SOURCES power_loss_test.cc lossy_disk.cc ${mutated}
  PRIVATE sinkforge_server_engine sinkforge_server_store absl::strings GTest::gmock GTest::gtest_main)
add_test(NAME SimMutants.acknowledge_before_sync COMMAND sim_mutant_acknowledge_before_sync)
set_tests_properties(SimMutants.acknowledge_before_sync PROPERTIES
  LABELS "unit" TIMEOUT 600 PASS_REGULAR_EXPRESSION "was acknowledged and is lost")
