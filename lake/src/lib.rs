//! What Ducktide's workers share: the DuckLake session, the commit protocol and its catalog tables.

pub mod position;
