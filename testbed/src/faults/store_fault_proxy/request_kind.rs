//! Kinds of requests to an object store, as their prices distinguish them.

use std::{collections::BTreeMap, fmt};

/// Kind of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequestKind {
    /// PUT of an object.
    Put,
    /// PUT of a part of an upload.
    Part,
    /// POST: begins or completes an upload, or deletes several objects.
    Post,
    /// GET of an object.
    Get,
    /// HEAD of an object.
    Head,
    /// GET that lists objects or uploads.
    List,
    /// DELETE of an object or upload.
    Delete,
}

impl RequestKind {
    /// Returns the kind of a request by its method and target.
    pub(super) fn of(method: &str, target: &str) -> Self {
        let query = target.split_once('?').map_or("", |(_, query)| query);
        let has = |name: &str| {
            query.split('&').any(|pair| pair.split('=').next().is_some_and(|found| found == name))
        };
        match method {
            "PUT" if has("partNumber") => Self::Part,
            "PUT" => Self::Put,
            "POST" => Self::Post,
            "HEAD" => Self::Head,
            "DELETE" => Self::Delete,
            _ if has("list-type") || has("uploads") => Self::List,
            _ => Self::Get,
        }
    }

    /// Returns true for PUT and POST.
    pub(super) const fn writes(self) -> bool {
        matches!(self, Self::Put | Self::Part | Self::Post)
    }

    /// Returns the name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Put => "PUT",
            Self::Part => "PUT part",
            Self::Post => "POST",
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::List => "LIST",
            Self::Delete => "DELETE",
        }
    }
}

/// Number of requests of each kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestCounts(BTreeMap<RequestKind, u64>);

impl RequestCounts {
    pub(super) fn add(&mut self, kind: RequestKind) {
        *self.0.entry(kind).or_default() += 1;
    }

    /// Returns the number of requests of a kind.
    #[must_use]
    pub fn of(&self, kind: RequestKind) -> u64 {
        self.0.get(&kind).copied().unwrap_or(0)
    }

    /// Returns the number of all requests.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Returns the kinds with requests, and their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (RequestKind, u64)> {
        self.0.iter().map(|(kind, count)| (*kind, *count))
    }
}

impl fmt::Display for RequestCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.iter().map(|(kind, count)| format!("{count} {}", kind.name()));
        f.write_str(&counts.collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_distinguishes_requests_of_one_method() {
        let kind = RequestKind::of;
        assert_eq!(kind("GET", "/bucket/lake/f.parquet"), RequestKind::Get);
        assert_eq!(kind("GET", "/bucket?prefix=lake&list-type=2"), RequestKind::List);
        assert_eq!(kind("GET", "/bucket?uploads=&prefix=lake"), RequestKind::List);
        assert_eq!(kind("PUT", "/bucket/f?partNumber=1&uploadId=u"), RequestKind::Part);
        assert_eq!(kind("PUT", "/bucket/f"), RequestKind::Put);
        assert_eq!(kind("POST", "/bucket?delete"), RequestKind::Post);
    }

    #[test]
    fn counts_are_printed_with_their_kinds() {
        let mut counts = RequestCounts::default();
        for kind in [RequestKind::Get, RequestKind::Put, RequestKind::Put] {
            counts.add(kind);
        }
        assert_eq!(counts.to_string(), "2 PUT, 1 GET");
        assert_eq!(counts.total(), 3);
    }
}
