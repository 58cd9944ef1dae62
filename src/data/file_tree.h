// SPDX-License-Identifier: Apache-2.0
// The files below a folder, on disk or inside a zip, behind one interface.
#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

namespace cumeta {

/// Whether there is a folder, or anything, of that name. FileError where the system cannot say.
bool is_folder(const std::string& path);
bool is_there(const std::string& path);

class FileTree {
 public:
  /// Everything below a folder on disk; hidden files (".name") are left out.
  static FileTree folder(const std::string& path);
  /// Everything in a zip; hidden files and what other systems add (__MACOSX) are left out. FileError when it is not
  /// a whole zip.
  static FileTree zip(const std::string& path);

  const std::string& path() const { return path_; }
  const std::vector<std::string>& names() const { return names_; }  ///< relative, '/' between parts, sorted
  std::string where(std::size_t file) const;                        ///< for messages

  struct Archive;  // an open zip

  /// Reads files; one reader per thread, because a zip handle belongs to one.
  class Reader {
   public:
    explicit Reader(const FileTree& tree);
    ~Reader();
    Reader(const Reader&) = delete;
    Reader& operator=(const Reader&) = delete;
    /// The whole file; FileError when it is damaged or longer than `most` bytes.
    std::vector<std::byte> read(std::size_t file, std::size_t most);

   private:
    const FileTree& tree_;
    std::unique_ptr<Archive> archive_;
  };

 private:
  FileTree(std::string path, bool is_zip) : path_(std::move(path)), is_zip_(is_zip) {}

  std::string path_;
  bool is_zip_;
  std::vector<std::string> names_;
};

}  // namespace cumeta
