// SPDX-License-Identifier: Apache-2.0
// Streams are queues that run when somebody waits for them, as late as a GPU may: a host that reads a result or
// overwrites a source too early sees it. The legacy stream waits for all blocking streams and they wait for it.
#include "tests/emulator/device_state.h"

namespace emulator {

cudaStream_t resolve(cudaStream_t stream) { return stream ? stream : &device().legacy; }

bool exists(cudaStream_t stream) { return !stream || stream == &device().legacy || device().streams.count(stream); }

cudaError_t finish(cudaStream_t given, unsigned long long number) {
  EmulatedStream& stream = *resolve(given);
  while (!device().fault && !stream.queue.empty() && stream.queue.front().number <= number) {
    const Work work = std::move(stream.queue.front().work);
    stream.queue.pop_front();
    work.run();
  }
  return device().fault;
}

cudaError_t finish_all() {
  finish(nullptr);
  for (cudaStream_t stream : device().streams) finish(stream);
  return device().fault;
}

cudaError_t submit(cudaStream_t given, Work work) {
  Device& d = device();
  if (d.fault) return d.fault;
  if (!exists(given)) return cudaErrorInvalidResourceHandle;
  const cudaStream_t stream = resolve(given);
  if (stream->capture) return record_in_capture(stream, std::move(work));
  if (stream == &d.legacy) {
    if (const cudaError_t error = refuse_legacy_stream()) return error;
    for (cudaStream_t other : d.streams)
      if (other->blocking) finish(other);
  } else if (stream->blocking) {
    finish(&d.legacy);
  }
  stream->queue.push_back({++d.work_number, std::move(work)});
  constexpr size_t longest_queue = 1024;
  if (stream->queue.size() > longest_queue) finish(stream);
  return d.fault;
}

}  // namespace emulator

using namespace emulator;

cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, cudaStreamDefault); }

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned flags, int) {
  return cudaStreamCreateWithFlags(stream, flags);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  Lock lock(device().mutex);
  if (flags > cudaStreamNonBlocking) return answer(cudaErrorInvalidValue);
  *stream = new EmulatedStream;
  (*stream)->blocking = flags == cudaStreamDefault;
  device().streams.insert(*stream);
  return answer(cudaSuccess);
}

cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  Lock lock(device().mutex);
  if (!stream || !exists(stream)) return answer(cudaErrorInvalidResourceHandle);
  if (stream->capture) lose(*stream->capture);
  finish(stream);
  for (cudaEvent_t event : device().events)
    if (event->stream == stream) event->stream = nullptr;
  device().streams.erase(stream);
  delete stream;
  return answer(cudaSuccess);
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  Lock lock(device().mutex);
  if (!exists(stream)) return answer(cudaErrorInvalidResourceHandle);
  if (const auto& capture = resolve(stream)->capture) {
    lose(*capture);
    return answer(cudaErrorStreamCaptureUnsupported);
  }
  if (resolve(stream) == &device().legacy) {
    if (const cudaError_t error = refuse_legacy_stream()) return answer(error);
    for (cudaStream_t other : device().streams)
      if (other->blocking) finish(other);
  }
  return answer(finish(stream));
}

cudaError_t cudaStreamQuery(cudaStream_t stream) { return cudaStreamSynchronize(stream); }

cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void* data) {
  Lock lock(device().mutex);
  return answer(submit(stream, {cudaGraphNodeTypeHost, [=] {
                                  function(data);
                                  return cudaSuccess;
                                }}));
}

cudaError_t cudaEventCreate(cudaEvent_t* event, unsigned flags) { return cudaEventCreateWithFlags(event, flags); }

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  Lock lock(device().mutex);
  *event = new EmulatedEvent;
  (*event)->timed = !(flags & cudaEventDisableTiming);
  device().events.insert(*event);
  return answer(cudaSuccess);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  Lock lock(device().mutex);
  if (!device().events.count(event)) return answer(cudaErrorInvalidResourceHandle);
  if (event->stream) finish(event->stream, event->number);
  device().events.erase(event);
  delete event;
  return answer(cudaSuccess);
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t given) {
  Device& d = device();
  Lock lock(d.mutex);
  if (!d.events.count(event) || !exists(given)) return answer(cudaErrorInvalidResourceHandle);
  const cudaStream_t stream = resolve(given);
  event->recorded = true;
  event->capture = stream->capture;
  event->frontier = stream->frontier;
  if (stream->capture) return answer(stream->capture->valid ? cudaSuccess : cudaErrorStreamCaptureInvalidated);
  event->reached = false;
  // A record that is still queued belongs to this event's past: only the latest may mark it as reached.
  const unsigned long long number = d.work_number + 1;
  event->stream = stream;
  event->number = number;
  return answer(submit(given, {cudaGraphNodeTypeEmpty, [event, number] {
                                 if (!device().events.count(event) || event->number != number) return cudaSuccess;
                                 event->reached = true;
                                 event->time = std::chrono::steady_clock::now();
                                 return cudaSuccess;
                               }}));
}

cudaError_t cudaStreamWaitEvent(cudaStream_t given, cudaEvent_t event, unsigned) {
  Device& d = device();
  Lock lock(d.mutex);
  if (!d.events.count(event) || !exists(given)) return answer(cudaErrorInvalidResourceHandle);
  const cudaStream_t stream = resolve(given);
  if (event->capture) {
    // Joins the event's capture: the next node of this stream comes after what the event saw.
    if (!event->capture->valid) return answer(cudaErrorStreamCaptureInvalidated);
    if (stream == &d.legacy) {
      lose(*event->capture);
      return answer(cudaErrorStreamCaptureImplicit);
    }
    if (stream->capture && stream->capture != event->capture) {
      lose(*event->capture);
      lose(*stream->capture);
      return answer(cudaErrorStreamCaptureMerge);
    }
    if (!stream->capture) {
      stream->capture = event->capture;
      stream->frontier.clear();
      event->capture->streams.push_back(stream);
    }
    stream->frontier.insert(stream->frontier.end(), event->frontier.begin(), event->frontier.end());
    return answer(cudaSuccess);
  }
  if (stream->capture) {
    lose(*stream->capture);
    return answer(cudaErrorStreamCaptureIsolation);
  }
  if (!event->recorded || event->reached || !event->stream) return answer(cudaSuccess);
  return answer(submit(given, {cudaGraphNodeTypeEmpty, [source = event->stream, number = event->number] {
                                 return exists(source) ? finish(source, number) : cudaSuccess;
                               }}));
}

cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  Lock lock(device().mutex);
  if (!device().events.count(event)) return answer(cudaErrorInvalidResourceHandle);
  if (event->capture) {
    lose(*event->capture);
    return answer(cudaErrorCapturedEvent);
  }
  if (event->recorded && event->stream) finish(event->stream, event->number);
  return answer(cudaSuccess);
}

cudaError_t cudaEventQuery(cudaEvent_t event) { return cudaEventSynchronize(event); }

cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t end) {
  Lock lock(device().mutex);
  if (!device().events.count(start) || !device().events.count(end)) return answer(cudaErrorInvalidResourceHandle);
  if (!start->timed || !end->timed || !start->recorded || !end->recorded) return answer(cudaErrorInvalidResourceHandle);
  if (start->capture || end->capture) return answer(cudaErrorCapturedEvent);
  if (!start->reached || !end->reached) return answer(cudaErrorNotReady);
  *milliseconds = std::chrono::duration<float, std::milli>(end->time - start->time).count();
  return answer(cudaSuccess);
}
