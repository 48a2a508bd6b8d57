//! Decodes arbitrary bytes as Avro: the first byte selects the schema, the others are the datum.

#![no_main]

use std::cell::RefCell;

use ducktide_fuzz::{FuzzTarget, SCHEMAS};
use ducktide_protocol::table::UnionAs;
use libfuzzer_sys::fuzz_target;

thread_local! {
    /// Each schema twice: unions as JSON, and as a STRUCT.
    static TARGETS: RefCell<Vec<FuzzTarget>> = {
        let both = |schema| [UnionAs::Json, UnionAs::Struct].map(|form| FuzzTarget::avro(schema, form));
        RefCell::new(SCHEMAS.iter().copied().flat_map(both).flatten().collect())
    };
}

fuzz_target!(|input: &[u8]| {
    let Some((&which, datum)) = input.split_first() else { return };
    TARGETS.with_borrow_mut(|targets| {
        let count = targets.len();
        targets[usize::from(which) % count].check_value(datum);
    });
});
