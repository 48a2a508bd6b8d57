//! Properties of every state, and situations that some states must reach.

use ducktide_protocol::commit::ProgressDelta;
use ducktide_protocol::commit_state::{CommitState, commit_state};
use ducktide_protocol::invariants;
use ducktide_protocol::position::Position;
use stateright::Property;

use crate::calm;
use crate::catalog::FileName;
use crate::design;
use crate::protocol::Protocol;
use crate::system::System;
use crate::worker::{Attempt, Committing, PartitionState};

type Properties = Vec<Property<Protocol>>;

/// Guarantee, and the invariants that it depends on.
pub(crate) fn guarantee() -> Properties {
    vec![
        Property::always("no_loss", |protocol: &Protocol, s: &System| {
            invariants::no_loss(&protocol.records, &s.rows(), &s.catalog.progress).is_ok()
        }),
        Property::always("no_duplicate", |_, s: &System| {
            invariants::no_duplicate(&s.rows()).is_ok()
        }),
        Property::always("rows_conserved", |_, s: &System| {
            invariants::rows_conserved(&s.catalog.ledger, &s.rows()).is_ok()
        }),
        Property::always("nothing_beyond_progress", |_, s: &System| {
            invariants::nothing_beyond_progress(&s.rows(), &s.catalog.progress).is_ok()
        }),
        Property::always("counts_add_up", |_, s: &System| {
            invariants::counts_add_up(&s.catalog.ledger).is_ok()
        }),
        Property::always("epoch_and_offset_move_only_by_cas", |_, s: &System| {
            let (ledger, progress) = (&s.catalog.ledger, &s.catalog.progress);
            invariants::epoch_and_offset_move_only_by_cas(ledger, progress).is_ok()
        }),
        Property::always("no_file_registered_twice", |_, s: &System| {
            let names = s.catalog.files.iter().map(|file| file.name);
            invariants::no_file_registered_twice(names).is_ok()
        }),
        Property::always("no_live_file_is_missing", |_, s: &System| {
            let names = s.catalog.live_files().map(|file| file.name);
            invariants::no_live_file_is_missing(names, |name| !s.deleted.contains(name)).is_ok()
        }),
        Property::always("progress_confirms_a_successful_commit", |_, s: &System| {
            let ok = s.committing().filter(|committing| committing.attempt == Attempt::Succeeded);
            let moved =
                |it: &Committing| has_moved(&it.batch.steps, &s.catalog.found(&it.batch.steps));
            ok.into_iter().all(moved)
        }),
    ]
}

/// Returns true if progress is at or beyond the end of a commit.
fn has_moved(steps: &[ProgressDelta], found: &[Option<Position>]) -> bool {
    steps.iter().zip(found).all(|(step, now)| {
        now.is_some_and(|now| {
            now.epoch > step.epoch || now.epoch == step.epoch && now.next_offset >= step.range.to
        })
    })
}

/// Situations that the guarantee covers; each must be reached.
pub(crate) fn situations() -> Properties {
    vec![
        Property::sometimes("everything is in the lake", |protocol: &Protocol, s: &System| {
            s.rows().len() == protocol.records.len()
        }),
        Property::sometimes("two workers read one partition", |_, s: &System| {
            let reads = |state: &PartitionState| matches!(state, PartitionState::Reading(_));
            let [first, second] = &s.workers;
            first
                .partitions
                .iter()
                .zip(&second.partitions)
                .any(|(one, other)| reads(one) && reads(other))
        }),
        Property::sometimes("a commit is applied and its answer lost", |_, s: &System| {
            failed_at(s, CommitState::Applied)
                .any(|it| it.batch.file().is_some_and(|name| s.catalog.is_registered(name)))
        }),
        Property::sometimes("a failed commit was not applied so far", |_, s: &System| {
            failed_at(s, CommitState::NotApplied).next().is_some()
        }),
        Property::sometimes("a worker is fenced", |_, s: &System| {
            failed_at(s, CommitState::Superseded).next().is_some()
        }),
        Property::sometimes("another worker's commit ends where a failed one would", |_, s| {
            failed_at(s, CommitState::Applied)
                .any(|it| it.batch.file().is_some_and(|name| !s.catalog.is_registered(name)))
        }),
        Property::sometimes("one partition of a commit is fenced, the other is not", |_, s| {
            failed_at(s, CommitState::Superseded).any(|it| {
                let found = s.catalog.found(&it.batch.steps);
                let mut steps = it.batch.steps.iter().zip(found);
                steps.any(|(step, now)| now == Some(step.before()))
            })
        }),
        Property::sometimes("a request arrives after its worker abandoned it", |_, s: &System| {
            s.requests.iter().any(|request| {
                let steps = &request.batch.steps;
                request.awaited_by.is_none()
                    && commit_state(steps, &s.catalog.found(steps)) == CommitState::NotApplied
                    && s.committing().all(|it| it.batch.name != request.batch.name)
            })
        }),
        Property::sometimes("a request is on its way twice", |_, s: &System| {
            s.requests.windows(2).any(|pair| pair[0].batch.name == pair[1].batch.name)
        }),
        Property::sometimes("a replay precedes an outstanding commit", |_, s: &System| {
            s.requests.iter().any(|request| {
                let found = s.catalog.found(&request.batch.steps);
                let mut steps = request.batch.steps.iter().zip(found);
                steps.any(|(step, now)| now.is_some_and(|now| now.epoch > step.epoch))
            })
        }),
        Property::sometimes("a replay cuts a file in two", |_, s: &System| {
            s.catalog.live_files().any(|file| matches!(file.name, FileName::Retained { .. }))
        }),
    ]
}

/// Properties of recovery: a disturbance causes delay only.
pub(crate) fn recovery() -> Properties {
    vec![
        Property::always(
            "everything is committed once more records arrive",
            |protocol: &Protocol, s: &System| {
                calm::commits_everything(protocol.design, &design::LATER, s)
            },
        ),
        Property::always(
            "everything is committed without more records",
            |protocol: &Protocol, s: &System| {
                calm::commits_everything(protocol.design, &protocol.bounds, s)
            },
        ),
    ]
}

/// Properties without disturbances: no worker is fenced.
pub(crate) fn calm() -> Properties {
    vec![
        Property::always("an undisturbed worker is never fenced", |_, s: &System| {
            s.committing().all(|it| it.attempt != Attempt::Failed)
        }),
        Property::sometimes("everything is in the lake", |protocol: &Protocol, s: &System| {
            s.rows().len() == protocol.records.len()
        }),
    ]
}

fn failed_at(system: &System, wanted: CommitState) -> impl Iterator<Item = &Committing> {
    let failed = system.committing().filter(|it| it.attempt == Attempt::Failed);
    failed.filter(move |it| {
        commit_state(&it.batch.steps, &system.catalog.found(&it.batch.steps)) == wanted
    })
}
