// SPDX-License-Identifier: Apache-2.0
// Decoding in parallel: every thread takes a contiguous part of the files and its own zip handles.
#include "src/data/decode_images.h"

#include <algorithm>
#include <exception>
#include <map>
#include <thread>

namespace cumeta {
namespace {

constexpr std::size_t longest_file = std::size_t{64} << 20;
constexpr std::size_t files_worth_a_thread = 256;

void decode_part(ImageTable& table, std::span<const ImageFile> files, std::size_t first, const Convert& convert) {
  const auto size = static_cast<std::size_t>(table.shape.size());
  std::map<const FileTree*, FileTree::Reader> readers;
  for (std::size_t i = 0; i < files.size(); ++i) {
    const ImageFile& file = files[i];
    FileTree::Reader& reader = readers.try_emplace(file.tree, *file.tree).first->second;
    const std::string where = file.tree->where(file.file);
    const PngImage png = decode_png(reader.read(file.file, longest_file), where);
    convert(png, where, {table.pixels.data() + (first + i) * size, size});
  }
}

}  // namespace

void decode_images(ImageTable& table, const std::vector<ImageFile>& files, const Convert& convert) {
  table.pixels.resize(files.size() * static_cast<std::size_t>(table.shape.size()));
  const std::size_t threads = std::clamp<std::size_t>(files.size() / files_worth_a_thread, 1,
                                                      std::max(1U, std::thread::hardware_concurrency()));
  std::vector<std::exception_ptr> failures(threads);
  std::vector<std::jthread> workers;
  const auto work = [&](std::size_t part) {
    const std::size_t begin = files.size() * part / threads, end = files.size() * (part + 1) / threads;
    try {
      decode_part(table, std::span(files).subspan(begin, end - begin), begin, convert);
    } catch (...) { failures[part] = std::current_exception(); }
  };
  for (std::size_t part = 1; part < threads; ++part) workers.emplace_back(work, part);
  work(0);
  workers.clear();  // joins
  for (const std::exception_ptr& failure : failures)
    if (failure) std::rethrow_exception(failure);
}

void add_class(ImageTable& table, std::vector<ImageFile>& files, const std::string& name,
               std::span<const ImageFile> of_class) {
  files.insert(files.end(), of_class.begin(), of_class.end());
  table.class_names.push_back(name);
  table.class_begin.push_back(static_cast<std::uint32_t>(files.size()));
}

}  // namespace cumeta
