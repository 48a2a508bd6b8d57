//! `ducktide dead-letters`: shows, retries and discards records that could not be decoded.

mod discard;
mod hex_dump;
mod list;
mod pages;
mod resolver;
mod retry;
mod selection;
mod show;
mod time;
mod topic_table;

use clap::{Args, Subcommand};

use crate::failure::Failure;

const EXAMPLES: &str = "\
Examples:
  # records that could not be decoded, with the errors
  ducktide dead-letters list

  # the complete record, its error and the remedy
  ducktide dead-letters show --topic events --partition 2 --offset 7

  # after the schema was registered, or the table altered: move them to the table
  ducktide dead-letters retry --class unknown_schema

  # give up those that can never be decoded
  ducktide dead-letters discard --class truncated --yes";

/// Shows records that could not be decoded, moves them to their table, or discards them.
///
/// Consumers keep such records complete in the table `<table>_dead_letters`, in the commit of their batch.
/// Nothing is ever deleted there: a retry or discard adds a second row. docs/dead-letters.md explains each
/// error class.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct DeadLettersArgs {
    /// Command to run.
    #[command(subcommand)]
    pub verb: DeadLettersVerb,
}

/// Commands for dead letters.
#[derive(Clone, Debug, Subcommand)]
pub enum DeadLettersVerb {
    List(list::ListArgs),
    Show(show::ShowArgs),
    Retry(Box<retry::RetryArgs>),
    Discard(discard::DiscardArgs),
}

pub(crate) fn run(args: DeadLettersArgs) -> Result<(), Failure> {
    match args.verb {
        DeadLettersVerb::List(args) => list::run(&args),
        DeadLettersVerb::Show(args) => show::run(&args),
        DeadLettersVerb::Retry(args) => retry::run(&args),
        DeadLettersVerb::Discard(args) => discard::run(&args),
    }
}
