//! Commits by `ducktide_commit_files`, compared with those of DuckLake, and raced against other clients.

mod equality;
mod pair;
mod races;
mod refusals;
