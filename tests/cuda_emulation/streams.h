// Streams and events of the emulated device. A stream does its work in order on a thread of its
// own, beside the caller and the other streams; an event is a place in a stream that another stream
// waits for.
//
// The default stream, which is nullptr here, does everything at once on the caller's thread, as the
// emulated kernels need it. Its events come after all that the ordinary streams were given before,
// as CUDA's legacy default stream has it; the streams of kNonBlocking know nothing of it. Streams
// of kImmediate work as the default stream does, and are the ones that can capture (capture.h).
#pragma once

#include <functional>

namespace emulation {

struct Stream;
struct Event;

enum class StreamKind { kOrdinary, kNonBlocking, kImmediate };

Stream* MakeStream(StreamKind kind);
void DestroyStream(Stream* stream);  // when its work is done
// Returns a cudaError_t, which only a capture makes other than success.
int Enqueue(Stream* stream, std::function<void()> work);
bool Idle(Stream* stream);
void WaitUntilIdle(Stream* stream);

Event* MakeEvent();
void DestroyEvent(Event* event);
// `event` happens when `stream` has done what it was given so far.
void Record(Event* event, Stream* stream);
// What `stream` is given from now on waits for what `event` was recorded for last.
void WaitForEvent(Stream* stream, const Event& event);

}  // namespace emulation
