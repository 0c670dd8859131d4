// Stream capture and graphs of the emulated device: what a capturing stream is given is kept, with
// its arguments as they are then, and done when the graph is launched.
//
// As in CUDA: a call that a capture does not allow fails, and ends the capture, which then gives no
// graph. Stricter than CUDA, where that goes wrong in silence: copies from and to the host's
// memory, which a graph would repeat at another time, are not allowed in a capture; work for
// another stream during a capture, and a graph that is launched when memory was freed since it was
// captured, end the program with a message. One capture a thread, of a stream that works on its
// caller's thread.
#pragma once

#include <functional>

#include "tests/cuda_emulation/streams.h"

namespace emulation {

struct Graph;
struct GraphExecutable;

// These return a cudaError_t.
int BeginCapture(Stream* stream);
int EndCapture(Stream* stream, Graph** graph);
int Instantiate(GraphExecutable** executable, const Graph* graph);
int LaunchGraph(const GraphExecutable& executable, Stream* stream);
void DestroyGraph(Graph* graph);
void DestroyExecutable(GraphExecutable* executable);

// For the calls that no capture allows: 0, or ends the calling thread's capture and gives the
// error.
int RefuseInCapture();
// Whether `stream` is capturing: it has `work` then, and `error` says whether it took it.
bool Captures(Stream* stream, const std::function<void()>& work, int* error);
void NoteFree();

// The launch of a kernel, whose error the calling thread asks for later.
void Launch(Stream* stream, const std::function<void()>& kernel);
int TakeLastError();

struct GraphCounts {
  int captured = 0;  // instantiated, since the start of the process
  int launched = 0;
  int alive = 0;  // executable
};
GraphCounts CountGraphs();

}  // namespace emulation
