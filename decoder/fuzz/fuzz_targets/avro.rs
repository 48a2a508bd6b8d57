//! Any bytes as Avro: the first says of which schema, the others are the datum.

#![no_main]

use std::cell::RefCell;

use ducktide_fuzz::{SCHEMAS, Target};
use ducktide_lake::table::UnionAs;
use libfuzzer_sys::fuzz_target;

thread_local! {
    /// Each schema twice: unions as JSON, and as a STRUCT.
    static TARGETS: RefCell<Vec<Target>> = {
        let both = |schema| [UnionAs::Json, UnionAs::Struct].map(|form| Target::avro(schema, form));
        RefCell::new(SCHEMAS.iter().copied().flat_map(both).flatten().collect())
    };
}

fuzz_target!(|input: &[u8]| {
    let Some((&which, datum)) = input.split_first() else { return };
    TARGETS.with_borrow_mut(|targets| {
        let count = targets.len();
        targets[usize::from(which) % count].meets(datum);
    });
});
