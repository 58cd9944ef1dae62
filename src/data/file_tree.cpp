// SPDX-License-Identifier: Apache-2.0
// Files of a folder (std::filesystem) or of a zip (libzip).
#include "src/data/file_tree.h"

#include <fmt/format.h>
#include <zip.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "cumeta/error.h"

namespace cumeta {
namespace {

namespace fs = std::filesystem;

constexpr int deepest = 16;  // a folder that links to one above it would never end

fs::file_type type_of(const std::string& path) {
  std::error_code failure;
  const fs::file_type type = fs::status(path, failure).type();
  if (type == fs::file_type::none)
    throw FileError(
        fmt::format("{}: cannot be read ({}); name another, or allow it to be read", path, failure.message()));
  return type;
}

bool is_hidden(const std::string& name) {
  return name.starts_with('.') || name.find("/.") != std::string::npos || name.starts_with("__MACOSX");
}

zip_t* open_zip(const std::string& path, int flags) {
  int code = 0;
  zip_t* archive = zip_open(path.c_str(), ZIP_RDONLY | flags, &code);
  if (archive != nullptr) return archive;
  zip_error_t error;
  zip_error_init_with_code(&error, code);
  const std::string why = zip_error_strerror(&error);
  zip_error_fini(&error);
  throw FileError(fmt::format("{}: cannot be read as a zip ({}); is it missing, truncated or damaged?", path, why));
}

}  // namespace

bool is_folder(const std::string& path) { return type_of(path) == fs::file_type::directory; }
bool is_there(const std::string& path) { return type_of(path) != fs::file_type::not_found; }

struct FileTree::Archive {
  explicit Archive(const std::string& path, int flags = 0) : handle(open_zip(path, flags)) {}
  Archive(const Archive&) = delete;
  Archive& operator=(const Archive&) = delete;
  ~Archive() { zip_discard(handle); }
  zip_t* handle;
};

FileTree FileTree::folder(const std::string& path) {
  FileTree tree(path, false);
  try {
    const auto options = fs::directory_options::follow_directory_symlink;
    for (auto entry = fs::recursive_directory_iterator(path, options); entry != fs::recursive_directory_iterator();
         ++entry) {
      if (entry.depth() > deepest) throw FileError(fmt::format("{}: folders are nested deeper than {}", path, deepest));
      std::string name = fs::path(entry->path()).lexically_relative(path).generic_string();
      if (is_hidden(name)) {
        entry.disable_recursion_pending();
        continue;
      }
      if (!entry->is_directory()) tree.names_.push_back(std::move(name));
    }
  } catch (const fs::filesystem_error& failure) {
    throw FileError(fmt::format("{}: cannot be listed ({})", path, failure.code().message()));
  }
  std::sort(tree.names_.begin(), tree.names_.end());
  return tree;
}

FileTree FileTree::zip(const std::string& path) {
  FileTree tree(path, true);
  // Compares the zip's directory with the entries: a damaged name would silently put an image into another class.
  const Archive archive(path, ZIP_CHECKCONS);
  const zip_int64_t entries = zip_get_num_entries(archive.handle, 0);
  for (zip_int64_t i = 0; i < entries; ++i) {
    const char* name = zip_get_name(archive.handle, static_cast<zip_uint64_t>(i), 0);
    if (name == nullptr) throw FileError(fmt::format("{}: entry {} has no name; the zip is damaged", path, i));
    std::string text = name;
    if (!text.empty() && !text.ends_with('/') && !is_hidden(text)) tree.names_.push_back(std::move(text));
  }
  std::sort(tree.names_.begin(), tree.names_.end());
  const auto twice = std::adjacent_find(tree.names_.begin(), tree.names_.end());
  if (twice != tree.names_.end())
    throw FileError(fmt::format("{}: {} is there twice; the zip is damaged", path, *twice));
  return tree;
}

std::string FileTree::where(std::size_t file) const { return path_ + (is_zip_ ? ": " : "/") + names_[file]; }

FileTree::Reader::Reader(const FileTree& tree) : tree_(tree) {
  if (tree.is_zip_) archive_ = std::make_unique<Archive>(tree.path_);
}
FileTree::Reader::~Reader() = default;

std::vector<std::byte> FileTree::Reader::read(std::size_t file, std::size_t most) {
  const auto refuse = [&](const std::string& why) { throw FileError(fmt::format("{}: {}", tree_.where(file), why)); };
  std::vector<std::byte> bytes;
  if (archive_ == nullptr) {
    const fs::path path = fs::path(tree_.path_) / tree_.names_[file];
    std::error_code failure;
    const auto size = fs::file_size(path, failure);
    if (failure) refuse(fmt::format("cannot be read ({})", failure.message()));
    if (size > most) refuse(fmt::format("{} bytes are more than the {} that are read", size, most));
    bytes.resize(size);
    std::ifstream stream(path, std::ios::binary);
    if (!stream.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(size)))
      refuse("cannot be read");
    return bytes;
  }
  zip_stat_t facts;
  if (zip_stat(archive_->handle, tree_.names_[file].c_str(), 0, &facts) != 0 || (facts.valid & ZIP_STAT_SIZE) == 0)
    refuse("is not in the zip any more");
  if (facts.size > most) refuse(fmt::format("{} bytes are more than the {} that are read", facts.size, most));
  // Deflate makes at most 1032 bytes of one: a forged size must not ask for memory that no data will fill.
  if ((facts.valid & ZIP_STAT_COMP_SIZE) != 0 && facts.size / 1032 > facts.comp_size)
    refuse(fmt::format("states {} bytes in {}; the zip is damaged", facts.size, facts.comp_size));
  zip_file_t* stream = zip_fopen_index(archive_->handle, facts.index, 0);
  if (stream == nullptr) refuse(fmt::format("cannot be unpacked ({})", zip_strerror(archive_->handle)));
  // One byte more than the entry states: only a read that meets the end has its checksum compared.
  bytes.resize(facts.size + 1);
  const zip_int64_t got = zip_fread(stream, bytes.data(), bytes.size());
  const zip_int64_t rest = got >= 0 ? zip_fread(stream, bytes.data() + facts.size, 1) : -1;
  const std::string why = zip_file_strerror(stream);
  zip_fclose(stream);
  if (got != static_cast<zip_int64_t>(facts.size) || rest != 0)
    refuse(fmt::format("cannot be unpacked ({}); the zip is damaged", why));
  bytes.resize(facts.size);
  return bytes;
}

}  // namespace cumeta
