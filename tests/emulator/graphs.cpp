// SPDX-License-Identifier: Apache-2.0
// Stream capture and graphs: a graph is a list of recorded work with the order that streams and events gave it,
// replayed in another order that they allow each time, so that a missing join shows.
#include <algorithm>
#include <unordered_set>

#include "tests/emulator/device_state.h"

namespace emulator {
namespace {

thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;

/// Everything that `ends` come after, themselves included.
std::unordered_set<const EmulatedGraphNode*> ancestors(std::vector<const EmulatedGraphNode*> ends) {
  std::unordered_set<const EmulatedGraphNode*> seen;
  while (!ends.empty()) {
    const EmulatedGraphNode* node = ends.back();
    ends.pop_back();
    if (seen.insert(node).second) ends.insert(ends.end(), node->after.begin(), node->after.end());
  }
  return seen;
}

void forget(const std::shared_ptr<Capture>& capture) {
  for (cudaStream_t stream : capture->streams) {
    if (!exists(stream) || stream->capture != capture) continue;
    stream->capture.reset();
    stream->frontier.clear();
  }
  std::erase(device().captures, capture);
}

cudaError_t replay(const std::vector<std::shared_ptr<EmulatedGraphNode>>& nodes, unsigned long long random) {
  std::unordered_set<const EmulatedGraphNode*> done;
  std::vector<const EmulatedGraphNode*> left;
  for (const auto& node : nodes) left.push_back(node.get());
  while (!left.empty()) {
    // The first or the last node that may run: what no event orders runs in both orders over the replays.
    const auto ready = [&](const EmulatedGraphNode* node) {
      return std::all_of(node->after.begin(), node->after.end(),
                         [&](const auto* before) { return done.count(before); });
    };
    random = random * 6364136223846793005u + 1442695040888963407u;
    const auto next = random >> 63 ? std::find_if(left.rbegin(), left.rend(), ready).base() - 1
                                   : std::find_if(left.begin(), left.end(), ready);
    const EmulatedGraphNode* node = *next;
    left.erase(next);
    done.insert(node);
    if (node->work.run) node->work.run();
    if (device().fault) break;
  }
  return device().fault;
}

}  // namespace

void lose(Capture& capture) { capture.valid = false; }

cudaError_t refuse_during_capture() {
  if (thread_mode == cudaStreamCaptureModeRelaxed) return cudaSuccess;
  bool refused = false;
  for (const auto& capture : device().captures) {
    const bool ours = capture->thread == std::this_thread::get_id();
    const bool forbids =
        capture->mode == cudaStreamCaptureModeGlobal || (capture->mode == cudaStreamCaptureModeThreadLocal && ours);
    if (!forbids || (!ours && thread_mode == cudaStreamCaptureModeThreadLocal)) continue;
    lose(*capture);
    refused = true;
  }
  return refused ? cudaErrorStreamCaptureUnsupported : cudaSuccess;
}

cudaError_t refuse_legacy_stream() {
  bool refused = false;
  for (const auto& capture : device().captures)
    for (cudaStream_t stream : capture->streams)
      if (stream->blocking) {
        lose(*capture);
        refused = true;
      }
  return refused ? cudaErrorStreamCaptureImplicit : cudaSuccess;
}

cudaError_t record_in_capture(cudaStream_t stream, Work work) {
  Capture& capture = *stream->capture;
  if (!capture.valid) return cudaErrorStreamCaptureInvalidated;
  auto node = std::make_shared<EmulatedGraphNode>();
  node->work = std::move(work);
  node->after = stream->frontier;
  stream->frontier = {node.get()};
  capture.graph->nodes.push_back(std::move(node));
  return cudaSuccess;
}

}  // namespace emulator

using namespace emulator;

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  Device& d = device();
  Lock lock(d.mutex);
  if (!exists(stream)) return answer(cudaErrorInvalidResourceHandle);
  if (resolve(stream) == &d.legacy) return answer(cudaErrorStreamCaptureUnsupported);
  if (stream->capture) return answer(cudaErrorIllegalState);
  auto capture = std::make_shared<Capture>();
  capture->graph = new EmulatedGraph;
  d.graphs.insert(capture->graph);
  capture->origin = stream;
  capture->mode = mode;
  capture->streams = {stream};
  stream->capture = capture;
  stream->frontier.clear();
  d.captures.push_back(std::move(capture));
  return answer(cudaSuccess);
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  Device& d = device();
  Lock lock(d.mutex);
  *graph = nullptr;
  if (!exists(stream)) return answer(cudaErrorInvalidResourceHandle);
  const std::shared_ptr<Capture> capture = resolve(stream)->capture;
  if (!capture) return answer(cudaErrorIllegalState);
  if (capture->origin != stream) {
    lose(*capture);
    return answer(cudaErrorStreamCaptureUnmatched);
  }
  const bool joined = ancestors(stream->frontier).size() == capture->graph->nodes.size();
  const bool good = capture->valid && joined;
  const cudaError_t error = !capture->valid ? cudaErrorStreamCaptureInvalidated
                            : joined        ? cudaSuccess
                                            : cudaErrorStreamCaptureUnjoined;
  lose(*capture);  // events recorded in it lead nowhere from now on
  forget(capture);
  if (good) {
    *graph = capture->graph;
  } else {
    d.graphs.erase(capture->graph);
    delete capture->graph;
  }
  return answer(error);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  Lock lock(device().mutex);
  if (!exists(stream)) return answer(cudaErrorInvalidResourceHandle);
  const auto& capture = resolve(stream)->capture;
  *status = !capture         ? cudaStreamCaptureStatusNone
            : capture->valid ? cudaStreamCaptureStatusActive
                             : cudaStreamCaptureStatusInvalidated;
  return answer(cudaSuccess);
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  std::swap(*mode, thread_mode);
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  Lock lock(device().mutex);
  if (!device().graphs.count(graph)) return answer(cudaErrorInvalidValue);
  *executable = new EmulatedGraphExec{graph->nodes};
  device().executables.insert(*executable);
  return answer(cudaSuccess);
}

cudaError_t cudaGraphUpload(cudaGraphExec_t executable, cudaStream_t stream) {
  Lock lock(device().mutex);
  return answer(device().executables.count(executable) && exists(stream) ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  Device& d = device();
  Lock lock(d.mutex);
  if (!d.executables.count(executable)) return answer(cudaErrorInvalidValue);
  const unsigned long long random = (d.work_number + 1 + d.seed) * 0x9e3779b97f4a7c15u;
  return answer(
      submit(stream, {cudaGraphNodeTypeGraph, [nodes = executable->nodes, random] { return replay(nodes, random); }}));
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  Lock lock(device().mutex);
  if (!device().graphs.erase(graph)) return answer(cudaErrorInvalidValue);
  delete graph;
  return answer(cudaSuccess);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  Lock lock(device().mutex);
  if (!device().executables.erase(executable)) return answer(cudaErrorInvalidValue);
  delete executable;
  return answer(cudaSuccess);
}

cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes, size_t* count) {
  Lock lock(device().mutex);
  if (!device().graphs.count(graph)) return answer(cudaErrorInvalidValue);
  if (nodes)
    for (size_t i = 0; i < *count; ++i) nodes[i] = i < graph->nodes.size() ? graph->nodes[i].get() : nullptr;
  if (!nodes || *count > graph->nodes.size()) *count = graph->nodes.size();
  return answer(cudaSuccess);
}

cudaError_t cudaGraphNodeGetType(cudaGraphNode_t node, cudaGraphNodeType* type) {
  Lock lock(device().mutex);
  *type = node->work.type;
  return answer(cudaSuccess);
}
